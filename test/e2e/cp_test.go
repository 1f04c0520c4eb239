package e2e

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tritond/triton/test/images"
)

// cpSource makes a folder to copy: dir/{file,sub/deep,link -> file}.
func cpSource(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "dir")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "sub"), 0o755), os.WriteFile(filepath.Join(dir, "file"), []byte("hello\n"), 0o640),
		os.WriteFile(filepath.Join(dir, "sub", "deep"), []byte("deep\n"), 0o600), os.Symlink("file", filepath.Join(dir, "link")),
		os.Chown(filepath.Join(dir, "file"), 7, 8),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// copyTargets are a container that runs and one that does not, both with a volume at /vol.
func copyTargets(t *testing.T, u *under) []string {
	t.Helper()
	v := u.volume(t)
	running := u.detached(t, "-v", v+":/vol", "--tmpfs", "/tmpfs", images.Busybox, "sleep", "1000")
	stopped := u.name(t)
	u.ok(t, "create", "--name", stopped, "-v", u.volume(t)+":/vol", images.Busybox, "sleep", "1000")
	return []string{running, stopped}
}

// listIn shows what is in a container, running or not.
func (u *under) listIn(t *testing.T, name, path string) string {
	t.Helper()
	var list []string
	tr := tar.NewReader(strings.NewReader(u.docker(t, "cp", name+":"+path, "-").Stdout))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, h.Name)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// TestCopyFollowsDockersRules goes through the table of `docker cp`'s documentation, for containers that run and that do not.
func TestCopyFollowsDockersRules(t *testing.T) {
	u := shared(t)
	src := cpSource(t)
	for _, name := range copyTargets(t, u) {
		in := func(from, to string) { t.Helper(); u.ok(t, "cp", filepath.Join(src, "")+"/"+from, name+":"+to) }
		in("dir", "/new") // the destination does not exist: it is the copy
		equal(t, "to a new name", u.listIn(t, name, "/new"), "new/ new/file new/link new/sub/ new/sub/deep")
		in("dir", "/tmp") // it exists: the copy is in it
		equal(t, "into a directory", u.listIn(t, name, "/tmp/dir"), "dir/ dir/file dir/link dir/sub/ dir/sub/deep")
		in("dir/.", "/vol") // the contents
		equal(t, "contents into a volume", u.listIn(t, name, "/vol/."), "./ ./file ./link ./sub/ ./sub/deep")
		in("dir/file", "/etc/renamed")
		in("dir/file", "/tmp/")
		equal(t, "a file", u.listIn(t, name, "/etc/renamed")+" "+u.listIn(t, name, "/tmp/file"), "renamed file")
		u.fails(t, 1, "not a directory|no such directory|must be a directory", "cp", src+"/dir/file", name+":/nosuch/")
		u.fails(t, 1, "cannot copy directory", "cp", src+"/dir", name+":/etc/renamed")
		u.fails(t, 1, "Could not find the file /nosuch in container "+name, "cp", name+":/nosuch", "-")

		out := t.TempDir()
		u.ok(t, "cp", name+":/vol/sub", out)
		u.ok(t, "cp", name+":/vol/link", out)                   // the link itself
		u.ok(t, "cp", "-L", name+":/vol/link", out+"/followed") // what it leads to
		if b, err := os.ReadFile(out + "/sub/deep"); err != nil || string(b) != "deep\n" {
			t.Errorf("out of the volume: %q %v", b, err)
		}
		if to, err := os.Readlink(out + "/link"); err != nil || to != "file" {
			t.Errorf("the link: %q %v", to, err)
		}
		if b, err := os.ReadFile(out + "/followed"); err != nil || string(b) != "hello\n" {
			t.Errorf("-L: %q %v", b, err)
		}
	}
}

func TestCopyMapsOwners(t *testing.T) {
	u := shared(t)
	src := cpSource(t)
	name := u.detached(t, "-v", u.volume(t)+":/vol", "--user", "worker", images.Busybox, "sleep", "1000")
	for _, to := range []string{"/", "/vol/"} {
		u.ok(t, "cp", src+"/dir", name+":"+to)
		equal(t, "as they were", u.ok(t, "exec", name, "stat", "-c", "%u:%g %a", to+"dir/file"), "7:8 640")
		u.ok(t, "cp", "-a", src+"/dir/file", name+":"+to)
		equal(t, "-a: the container's user", u.ok(t, "exec", name, "stat", "-c", "%u %a", to+"file"), "1000 640")
		u.ok(t, "exec", "--user", "root", name, "chown", "1000:1000", to+"dir/file")
		equal(t, "out again", fmt.Sprint(u.headerOf(t, name, to+"dir/file").Uid), "1000")
	}
}

// headerOf is the header of a path's first entry.
func (u *under) headerOf(t *testing.T, name, path string) *tar.Header {
	t.Helper()
	h, err := tar.NewReader(strings.NewReader(u.ok(t, "cp", name+":"+path, "-"))).Next()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestCopyStreams(t *testing.T) {
	u := shared(t)
	name := copyTargets(t, u)[0]
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	var in bytes.Buffer
	tw := tar.NewWriter(&in)
	for _, h := range []*tar.Header{{Name: "big", Mode: 0o644, Size: int64(len(big))}, {Name: "d/", Typeflag: tar.TypeDir, Mode: 0o700}} {
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := tw.Write(big); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if res := u.dockerIn(t, bytes.NewReader(in.Bytes()), "cp", "-", name+":/tmp"); res.Code != 0 {
		t.Fatal(res.Stderr)
	}
	equal(t, "in", u.ok(t, "exec", name, "sh", "-c", "wc -c </tmp/big; md5sum </tmp/big; stat -c %a /tmp/d"), "1048576\n"+u.ok(t, "exec", name, "sh", "-c", "i=0; while [ $i -lt 65536 ]; do echo -n 0123456789abcdef; i=$((i+1)); done | md5sum")+"\n700")
	tr := tar.NewReader(strings.NewReader(u.docker(t, "cp", name+":/tmp/big", "-").Stdout))
	if _, err := tr.Next(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(tr); err != nil || !bytes.Equal(got, big) {
		t.Errorf("out: %d bytes, %v", len(got), err)
	}
	// A tar that ends too early, and one with a kind in the place of another.
	put := func(path, query string, body []byte) (int, string) {
		t.Helper()
		r, err := u.api.Do(t.Context(), http.MethodPut, "/v1.44/containers/"+name+"/archive?path="+path+query, "application/x-tar", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if r.Status == http.StatusOK {
			return r.Status, ""
		}
		return r.Status, message(t, r)
	}
	if status, text := put("/tmp", "", in.Bytes()[:5000]); status < 400 {
		t.Errorf("a tar that was cut: %d %s", status, text)
	}
	u.ok(t, "exec", name, "sh", "-c", "rm -rf /tmp/d /tmp/big; mkdir /tmp/big; echo file >/tmp/d")
	if status, text := put("/tmp", "&noOverwriteDirNonDir=1", in.Bytes()); status < 400 || !strings.Contains(text, "cannot overwrite") {
		t.Errorf("a file over a directory: %d %s", status, text)
	}
	if status, text := put("/tmp", "", in.Bytes()); status != 200 {
		t.Errorf("the same where it may: %d %s", status, text)
	}
	equal(t, "kinds", u.ok(t, "exec", name, "stat", "-c", "%F", "/tmp/big", "/tmp/d"), "regular file\ndirectory")
	if status, _ := put("/nosuch", "", in.Bytes()); status != 404 {
		t.Errorf("to nowhere: %d, want 404", status)
	}
}

func TestCopyRespectsReadOnly(t *testing.T) {
	u := shared(t)
	src := cpSource(t)
	v := u.volume(t)
	u.ok(t, "volume", "create", v)
	for _, start := range []bool{true, false} {
		name := u.name(t)
		u.ok(t, "create", "--name", name, "--read-only", "-v", v+":/ro:ro", "-v", u.volume(t)+":/rw", images.Busybox, "sleep", "1000")
		if start {
			u.ok(t, "start", name)
		}
		u.fails(t, 1, "container rootfs is marked read-only", "cp", src+"/dir/file", name+":/etc")
		u.fails(t, 1, "mounted volume is marked read-only", "cp", src+"/dir/file", name+":/ro")
		u.ok(t, "cp", src+"/dir/file", name+":/rw")
		equal(t, "out of it", u.listIn(t, name, "/rw/file"), "file")
	}
}

// A container's links are its own: none leads to the host's files, neither out nor in.
func TestCopyDoesNotLeaveTheContainer(t *testing.T) {
	u := shared(t)
	dir := bindDir(t)
	if err := os.WriteFile(dir+"/secret", []byte("host"), 0o644); err != nil {
		t.Fatal(err)
	}
	src := cpSource(t)
	name := u.detached(t, images.Busybox, "sh", "-c", "ln -s "+dir+" /out; ln -s ../../../../.."+dir+" /up; ln -s /proc/1/root /magic; sleep 1000")
	u.ok(t, "exec", name, "ls", "/magic/")
	for _, link := range []string{"/out/secret", "/up/secret", "/magic" + dir + "/secret"} {
		u.fails(t, 1, "(?i)could not find the file|no such", "cp", name+":"+link, "-")
	}
	for _, link := range []string{"/out", "/up"} {
		u.docker(t, "cp", src+"/dir/file", name+":"+link+"/x") // it may fail: the directory is not in the container
	}
	if _, err := os.Stat(dir + "/x"); err == nil {
		t.Error("a copy into the container came to the host")
	}
	equal(t, "the secret", u.ok(t, "exec", name, "sh", "-c", "ls "+dir+" 2>/dev/null || echo none"), "none")
}

func TestExportHasAllFilesButMounts(t *testing.T) {
	u := shared(t)
	for _, start := range []bool{true, false} {
		name := u.name(t)
		u.ok(t, "create", "--name", name, "-v", u.volume(t)+":/vol", images.Busybox, "sleep", "1000")
		if start {
			u.ok(t, "start", name)
		}
		src := cpSource(t)
		u.ok(t, "cp", src+"/dir/file", name+":/vol/in-volume")
		u.ok(t, "cp", src+"/dir/file", name+":/in-layer")
		var names []string
		tr := tar.NewReader(strings.NewReader(u.docker(t, "export", name).Stdout))
		for {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, h.Name)
		}
		for want, is := range map[string]bool{"in-layer": true, "bin/busybox": true, "vol/": true, "vol/in-volume": false, "proc/version": false} {
			if slices.Contains(names, want) != is {
				t.Errorf("started %t: export has %s: %t, want %t", start, want, !is, is)
			}
		}
	}
}
