package e2e

import (
	"archive/tar"
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/tritond/triton/test/images"
)

func TestLoadNamesTheImage(t *testing.T) {
	u := shared(t)
	f, err := os.Open(all.images.True)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	res := u.dockerIn(t, f, "load")
	matches(t, "load from stdin", res.Stdout, "Loaded image: "+images.True)
	matches(t, "load of a file", u.ok(t, "load", "-i", all.images.True), "Loaded image: "+images.True)
}

func TestImagesListsAndInspects(t *testing.T) {
	u := shared(t)
	equal(t, "format", u.ok(t, "images", "--format", "{{.Repository}}:{{.Tag}}", images.Busybox), images.Busybox)
	id := u.ok(t, "inspect", "--type", "image", "-f", "{{.Id}}", images.Busybox)
	matches(t, "id", id, "^sha256:[0-9a-f]{64}$")
	equal(t, "images -q --no-trunc", u.ok(t, "images", "-q", "--no-trunc", images.Busybox), id)
	for format, want := range map[string]string{
		"{{json .Config.Cmd}}":    `["sh"]`,
		"{{.Os}}":                 "linux",
		"{{.RootFS.Type}}":        "layers",
		"{{len .RootFS.Layers}}":  "1",
		"{{index .Config.Env 0}}": "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	} {
		equal(t, format, u.ok(t, "image", "inspect", "-f", format, images.Busybox), want)
	}
	matches(t, "RepoTags", u.ok(t, "image", "inspect", "-f", "{{json .RepoTags}}", images.Busybox), `"busybox:latest"`)
	equal(t, "two layers", u.ok(t, "image", "inspect", "-f", "{{len .RootFS.Layers}}", images.Programs), "2")
	equal(t, "by prefix", u.ok(t, "image", "inspect", "-f", "{{.Id}}", strings.TrimPrefix(id, "sha256:")[:12]), id)
	equal(t, "filter by reference", u.ok(t, "images", "--filter", "reference=prog*", "--format", "{{.Repository}}"), "programs")
	u.fails(t, 1, "(?i)no such image", "image", "inspect", "nosuch:1")
}

func TestTagAndRmi(t *testing.T) {
	u := shared(t)
	ref := "copy" + randomHex() + ":v1"
	u.ok(t, "tag", images.Busybox, ref)
	equal(t, "same id", u.ok(t, "image", "inspect", "-f", "{{.Id}}", ref), u.ok(t, "image", "inspect", "-f", "{{.Id}}", images.Busybox))
	equal(t, "run the copy", u.ok(t, "run", "--rm", ref, "echo", "hi"), "hi")
	equal(t, "rmi of one name", u.ok(t, "rmi", ref), "Untagged: "+ref)
	u.fails(t, 1, "(?i)no such image", "rmi", ref)
	u.fails(t, 1, "(?i)no such image", "tag", "nosuch:1", "other:1")
	u.fails(t, 1, "(?i)invalid reference|is not a valid repository", "tag", images.Busybox, "Upper:Case")
}

func TestImportMakesAnImageOfATar(t *testing.T) {
	u := shared(t)
	ref := "imported" + randomHex() + ":latest"
	archive := programTar(t)
	res := u.dockerIn(t, bytes.NewReader(archive), "import", "-c", `CMD ["/true"]`, "-c", "ENV A=b", "-m", "by test", "-", ref)
	matches(t, "import", res.Stdout+res.Stderr, "sha256:[0-9a-f]{64}")
	equal(t, "command", u.ok(t, "image", "inspect", "-f", "{{json .Config.Cmd}} {{json .Config.Env}} {{.Comment}}", ref), `["/true"] ["A=b"] by test`)
	if code := u.docker(t, "run", "--rm", ref).Code; code != 0 {
		t.Errorf("run: got exit code %d, want 0", code)
	}

	name := u.name(t)
	u.ok(t, "create", "--name", name, ref)
	id := u.ok(t, "image", "inspect", "-f", "{{.Id}}", ref)
	u.fails(t, 1, "(?i)conflict.*(unable to|container)", "rmi", ref)
	u.ok(t, "rm", name)
	out := u.ok(t, "rmi", ref)
	matches(t, "rmi", out, "Untagged: "+ref)
	matches(t, "rmi", out, "Deleted: "+id)
}

func TestRmiForceUntagsAnImageInUse(t *testing.T) {
	u := shared(t)
	ref := "forced" + randomHex() + ":latest"
	u.dockerIn(t, bytes.NewReader(programTar(t)), "import", "-c", `CMD ["/true"]`, "-", ref)
	name := u.name(t)
	u.ok(t, "create", "--name", name, ref)
	matches(t, "rmi -f", u.ok(t, "rmi", "-f", ref), "Untagged: "+ref)
	// What the container needs is still there.
	equal(t, "start", u.ok(t, "start", name), name)
	equal(t, "exit code", u.ok(t, "wait", name), "0")
}

// programTar is a root file system with /true, different on each call.
func programTar(t *testing.T) []byte {
	t.Helper()
	program, err := os.ReadFile(all.images.Bin + "/true")
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, f := range []struct {
		name string
		data []byte
	}{{"true", program}, {"unique", []byte(randomHex())}} {
		if err := tw.WriteHeader(&tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
