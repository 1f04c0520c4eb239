package e2e

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tritond/triton/test/images"
)

// volume makes up a name for a volume, which is removed after the test and after its containers.
func (u *under) volume(t *testing.T) string {
	t.Helper()
	name := "v" + randomHex()
	t.Cleanup(func() {
		if r, err := u.api.Do(t.Context(), http.MethodDelete, "/v1.41/volumes/"+name+"?force=1", "", nil); err == nil && r.Status >= 400 {
			t.Errorf("remove volume %s: %d %s", name, r.Status, r.Body)
		}
	})
	return name
}

// imageWithData has files at /data with owners of their own, and declares /data and /log as volumes.
func imageWithData(t *testing.T, u *under) string {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	add := func(h tar.Header, content []byte) {
		h.Size = int64(len(content))
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Name: "bin/busybox", Mode: 0o755}, busybox)
	for _, applet := range []string{"sh", "ls", "cat", "stat", "sleep", "readlink", "touch"} {
		add(tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil)
	}
	add(tar.Header{Name: "data/", Typeflag: tar.TypeDir, Mode: 0o1770, Uid: 7, Gid: 8}, nil)
	add(tar.Header{Name: "data/sub/", Typeflag: tar.TypeDir, Mode: 0o755, Uid: 7, Gid: 8}, nil)
	add(tar.Header{Name: "data/file", Mode: 0o644, Uid: 7, Gid: 8}, []byte("from image\n"))
	add(tar.Header{Name: "data/again", Typeflag: tar.TypeLink, Linkname: "data/file", Mode: 0o644, Uid: 7, Gid: 8}, nil)
	add(tar.Header{Name: "data/link", Typeflag: tar.TypeSymlink, Linkname: "sub"}, nil)
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	ref := "withdata" + randomHex() + ":latest"
	res := u.dockerIn(t, &buf, "import", "-c", `VOLUME ["/data","/log"]`, "-c", `CMD ["sh"]`, "-c", "ENV PATH=/bin", "-", ref)
	if res.Code != 0 {
		t.Fatal(res.Stderr)
	}
	t.Cleanup(func() { u.docker(t, "rmi", "-f", ref) })
	return ref
}

func TestNamedVolumeOutlivesItsContainers(t *testing.T) {
	u := shared(t)
	v := u.volume(t)
	u.ok(t, "run", "--rm", "-v", v+":/data", images.Busybox, "sh", "-c", "echo kept >/data/file; chown 5:6 /data/file")
	out := u.ok(t, "run", "--rm", "-v", v+":/data:ro", images.Busybox, "sh", "-c", "cat /data/file; stat -c %u:%g /data/file /data; touch /data/x 2>&1 || true")
	matches(t, "the next container", out, `^kept\n5:6\n0:0\n.*Read-only file system$`)
	user := u.ok(t, "run", "--rm", "-v", v+":/data", "--user", "5:6", images.Busybox, "sh", "-c", "echo more >>/data/file && cat /data/file")
	equal(t, "as the owner", user, "kept\nmore")

	name := u.detached(t, "-v", v+":/data", images.Busybox, "sleep", "1000")
	mounts := u.inspect(t, name, "{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.Driver}} {{.Mode}} {{.RW}}{{end}}")
	equal(t, "Mounts", mounts, "volume "+v+" /data local z true")
	equal(t, "Binds", u.inspect(t, name, "{{.HostConfig.Binds}}"), "["+v+":/data]")
	equal(t, "ps", u.ok(t, "ps", "--filter", "volume="+v, "--format", "{{.Mounts}}"), v)
	id := u.inspect(t, name, "{{.Id}}")
	u.fails(t, 1, "remove "+v+": volume is in use - \\["+id+"\\]", "volume", "rm", v)
	u.fails(t, 1, "volume is in use", "volume", "rm", "-f", v)
	u.ok(t, "rm", "-f", "-v", name)
	equal(t, "removed at last", u.ok(t, "volume", "rm", v), v)
	u.fails(t, 1, "get "+v+": no such volume", "volume", "inspect", v)
	u.fails(t, 1, "get "+v+": no such volume", "volume", "rm", v)
	u.ok(t, "volume", "rm", "-f", v)
}

func TestVolumeObjects(t *testing.T) {
	u := shared(t)
	v, other := u.volume(t), u.volume(t)
	equal(t, "create", u.ok(t, "volume", "create", "--label", "app="+v, v), v)
	equal(t, "create again", u.ok(t, "volume", "create", v), v)
	u.ok(t, "volume", "create", other)
	equal(t, "inspect", u.ok(t, "volume", "inspect", "-f", "{{.Name}} {{.Driver}} {{.Scope}} {{.Labels}} {{.Options}}", v), v+" local local map[app:"+v+"] map[]")
	for filter, want := range map[string]string{"label=app=" + v: v, "name=" + v[2:]: v, "name=" + other: other} {
		equal(t, filter, u.ok(t, "volume", "ls", "-q", "--filter", filter), want)
	}
	dangling := strings.Fields(u.ok(t, "volume", "ls", "-q", "--filter", "dangling=true"))
	if !slices.Contains(dangling, v) {
		t.Errorf("%s is not dangling: %v", v, dangling)
	}
	u.fails(t, 1, "includes invalid characters for a local volume name", "volume", "create", "a/b")
	u.fails(t, 1, "too short", "volume", "create", "a")
	u.fails(t, 1, `invalid option: "nosuch"`, "volume", "create", "-o", "nosuch=1", u.volume(t))
	u.fails(t, 1, `missing required option: "device"`, "volume", "create", "-o", "type=tmpfs", u.volume(t))
	u.fails(t, 1, `plugin "nosuch" not found|plugin nosuch`, "volume", "create", "-d", "nosuch", u.volume(t))
}

func TestNewVolumesGetTheImagesFiles(t *testing.T) {
	u := shared(t)
	ref := imageWithData(t, u)
	look := "stat -c '%n %u:%g %a %h' . file; readlink link; cat again"
	want := ". 7:8 1770 3\nfile 7:8 644 2\nsub\nfrom image"
	v := u.volume(t)
	created := u.name(t)
	u.ok(t, "create", "--name", created, "-v", v+":/data", ref) // the files come with the container, before its start
	equal(t, "with a name", u.ok(t, "run", "--rm", "-v", v+":/v", "-w", "/v", images.Busybox, "sh", "-c", look), want)
	equal(t, "without one", u.ok(t, "run", "--rm", "-w", "/data", ref, "sh", "-c", look), want)
	equal(t, "nocopy", u.ok(t, "run", "--rm", "-v", u.volume(t)+":/data:nocopy", ref, "ls", "-A", "/data"), "")
	equal(t, "volume-nocopy", u.ok(t, "run", "--rm", "--mount", "type=volume,dst=/data,volume-nocopy", ref, "ls", "-A", "/data"), "")
	full := u.volume(t)
	u.ok(t, "run", "--rm", "-v", full+":/v", images.Busybox, "touch", "/v/own")
	equal(t, "has files already", u.ok(t, "run", "--rm", "-v", full+":/data", ref, "ls", "-A", "/data"), "own")
	u.fails(t, 125, "cannot mount volume over existing file, file exists /bin/busybox|not a directory", "run", "--rm", "-v", "/bin/busybox", images.Busybox, "true")
}

func TestAnonymousVolumesGoWithTheirContainer(t *testing.T) {
	u := shared(t)
	ref := imageWithData(t, u)
	anonymous := func(name string) []string {
		return strings.Fields(u.inspect(t, name, `{{range .Mounts}}{{.Name}} {{end}}`))
	}
	there := func(names []string) (n int) {
		for _, name := range names {
			if u.docker(t, "volume", "inspect", name).Code == 0 {
				n++
			}
		}
		return n
	}
	name := u.detached(t, "-v", "/mine", ref, "sleep", "1000")
	made := anonymous(name)
	equal(t, "made", fmt.Sprint(len(made)), "3")
	u.ok(t, "rm", "-f", name)
	equal(t, "left by rm", fmt.Sprint(there(made)), "3")
	u.ok(t, append([]string{"volume", "rm"}, made...)...)

	name = u.detached(t, "-v", "/mine", ref, "sleep", "1000")
	made = anonymous(name)
	second := u.detached(t, "--volumes-from", name, images.Busybox, "sleep", "1000")
	u.ok(t, "rm", "-f", "-v", name)
	equal(t, "left by rm -v while another uses them", fmt.Sprint(there(made)), "3")
	u.ok(t, "rm", "-f", "-v", second)
	equal(t, "left by rm -v", fmt.Sprint(there(made)), "0")

	name = u.detached(t, "--rm", ref, "sleep", "1000")
	made = anonymous(name)
	u.ok(t, "kill", name)
	eventually(t, 20*time.Second, "--rm removes anonymous volumes", func() bool { return there(made) == 0 })
}

func TestVolumesFrom(t *testing.T) {
	u := shared(t)
	v := u.volume(t)
	dir := bindDir(t)
	from := u.detached(t, "-v", v+":/named", "-v", "/anon", "-v", dir+":/bound", images.Busybox, "sh", "-c", "echo n >/named/f; echo a >/anon/f; echo b >/bound/f; sleep 1000")
	eventually(t, 20*time.Second, "the files", func() bool { return u.docker(t, "exec", from, "cat", "/bound/f").Code == 0 })
	equal(t, "all", u.ok(t, "run", "--rm", "--volumes-from", from, images.Busybox, "cat", "/named/f", "/anon/f", "/bound/f"), "n\na\nb")
	u.fails(t, 1, "Read-only file system", "run", "--rm", "--volumes-from", from+":ro", images.Busybox, "touch", "/named/x")
	equal(t, "own mounts win", u.ok(t, "run", "--rm", "--volumes-from", from, "-v", u.volume(t)+":/named", images.Busybox, "ls", "-A", "/named"), "")
	u.fails(t, 125, "No such container: nosuch", "run", "--rm", "--volumes-from", "nosuch", images.True)
	name := u.detached(t, "--volumes-from", from, images.Busybox, "sleep", "1000")
	equal(t, "inspect", u.inspect(t, name, "{{.HostConfig.VolumesFrom}} {{len .Mounts}} {{.HostConfig.Binds}}"), "["+from+"] 3 []")
}

func TestVolumeOptions(t *testing.T) {
	u := shared(t)
	memory, bound := u.volume(t), u.volume(t)
	u.ok(t, "volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,mode=750", memory)
	first := u.detached(t, "-v", memory+":/m", images.Busybox, "sleep", "1000")
	out := u.ok(t, "run", "--rm", "-v", memory+":/m", images.Busybox, "sh", "-c", "echo shared >/m/f; stat -c %a /m; df -k /m | tail -1 | awk '{print $2}'")
	equal(t, "a tmpfs", out, "750\n1024")
	equal(t, "is shared while in use", u.ok(t, "exec", first, "cat", "/m/f"), "shared")
	u.ok(t, "rm", "-f", first)
	equal(t, "and new afterwards", u.ok(t, "run", "--rm", "-v", memory+":/m", images.Busybox, "ls", "-A", "/m"), "")

	dir := bindDir(t)
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	u.ok(t, "volume", "create", "-o", "type=none", "-o", "device="+dir, "-o", "o=bind", bound)
	equal(t, "a bind", u.ok(t, "run", "--rm", "-v", bound+":/b", images.Busybox, "sh", "-c", "cat /b/f; stat -c %u /b/f; touch /b/made"), "host\n0")
	u.ok(t, "volume", "rm", bound)
	if _, err := os.Stat(filepath.Join(dir, "made")); err != nil {
		t.Errorf("removing the volume removed what it showed: %v", err)
	}
	missing := u.volume(t)
	u.ok(t, "volume", "create", "-o", "type=none", "-o", "device="+dir+"/nosuch", "-o", "o=bind", missing)
	u.fails(t, anyFailure, "failed to mount local volume: mount "+dir+"/nosuch", "run", "--rm", "-v", missing+":/b", images.True)
	made := u.volume(t)
	u.ok(t, "run", "--rm", "--mount", "type=volume,src="+made+",dst=/m,volume-label=a=b,volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs", images.True)
	equal(t, "made by a mount", u.ok(t, "volume", "inspect", "-f", "{{.Labels}} {{.Options}}", made), "map[a:b] map[device:tmpfs type:tmpfs]")
}

func TestVolumeSubpath(t *testing.T) {
	u := shared(t)
	v := u.volume(t)
	u.ok(t, "run", "--rm", "-v", v+":/v", images.Busybox, "sh", "-c", "mkdir -p /v/sub/dir; echo x >/v/file; ln -s /etc /v/out")
	mount := func(subpath string) string { return "type=volume,src=" + v + ",dst=/m,volume-subpath=" + subpath }
	equal(t, "a directory", u.ok(t, "run", "--rm", "--mount", mount("sub"), images.Busybox, "ls", "/m"), "dir")
	equal(t, "a file", u.ok(t, "run", "--rm", "--mount", mount("file"), images.Busybox, "cat", "/m"), "x")
	u.fails(t, 1, "Read-only", "run", "--rm", "--mount", mount("sub")+",readonly", images.Busybox, "touch", "/m/x")
	u.fails(t, anyFailure, "subpath|escape|cannot access", "run", "--rm", "--mount", mount("out"), images.True)
	u.fails(t, anyFailure, "cannot access path", "run", "--rm", "--mount", mount("nosuch"), images.True)
	u.fails(t, anyFailure, "relative path", "run", "--rm", "--mount", mount("../x"), images.True)
}

func TestVolumeEvents(t *testing.T) {
	u := shared(t)
	v := u.volume(t)
	u.ok(t, "run", "--rm", "-v", v+":/v:ro", images.True)
	u.ok(t, "volume", "rm", v)
	list := func() string {
		return u.past(t, 4, "--filter", "volume="+v, "--format", `{{.Action}} {{index .Actor.Attributes "driver"}} {{index .Actor.Attributes "destination"}} {{index .Actor.Attributes "read/write"}}`)
	}
	equal(t, "events", list(), "create local  \nmount local /v false\nunmount local  \ndestroy local")
}

func TestPruneVolumes(t *testing.T) {
	u := own(t)
	v := u.volume(t)
	u.ok(t, "run", "--rm", "-v", v+":/v", images.Busybox, "sh", "-c", "head -c 5000 /dev/zero >/v/f")
	inUse := u.detached(t, "-v", "/in-use", images.Busybox, "sleep", "1000")
	gone := u.name(t)
	u.ok(t, "run", "--name", gone, "-v", "/gone", images.Busybox, "sh", "-c", "head -c 3000 /dev/zero >/gone/f")
	anonymous := u.inspect(t, gone, "{{(index .Mounts 0).Name}}")
	u.ok(t, "rm", gone)
	out := u.ok(t, "volume", "prune", "-f")
	matches(t, "prune", out, `(?s)^Deleted Volumes:\n`+anonymous+`\n\nTotal reclaimed space: 3kB$`)
	matches(t, "prune -a", u.ok(t, "volume", "prune", "-af"), `(?s)^Deleted Volumes:\n`+v+`\n\nTotal reclaimed space: 5kB$`)
	equal(t, "left", fmt.Sprint(len(strings.Fields(u.ok(t, "volume", "ls", "-q")))), "1")
	u.ok(t, "rm", "-f", "-v", inUse)
	u.fails(t, 1, "invalid filter 'until'", "volume", "prune", "-f", "--filter", "until=1h")
	left, err := filepath.Glob(filepath.Join(u.tritond.DataRoot, "volumes", "*", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("directories left: %v %v", left, err)
	}
}

func TestVolumesSurviveKills(t *testing.T) {
	u := own(t)
	v, memory := u.volume(t), u.volume(t)
	u.ok(t, "volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", memory)
	name := u.detached(t, "-v", v+":/v", "-v", memory+":/m", "-v", "/anon", images.Busybox, "sh", "-c", "echo kept | tee /v/f /m/f >/anon/f; sleep 1000")
	eventually(t, 20*time.Second, "the files", func() bool { return u.docker(t, "exec", name, "cat", "/anon/f").Code == 0 })
	if err := u.tritond.Kill(); err != nil {
		t.Fatal(err)
	}
	u = startOwn(t, u.tritond)
	equal(t, "files", u.ok(t, "exec", name, "cat", "/v/f", "/m/f", "/anon/f"), "kept\nkept\nkept")
	equal(t, "one tmpfs", u.ok(t, "run", "--rm", "-v", memory+":/m", images.Busybox, "cat", "/m/f"), "kept")
	u.fails(t, 1, "volume is in use", "volume", "rm", v)
	u.ok(t, "rm", "-f", "-v", name)
	equal(t, "left", fmt.Sprint(len(strings.Fields(u.ok(t, "volume", "ls", "-q")))), "2")

	// Killed while volumes come and go: each is there as a whole or not at all, and nothing else is.
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 1000 {
			path := fmt.Sprintf("/v1.44/volumes/many%d", i)
			if _, err := u.api.Do(t.Context(), http.MethodPost, "/v1.44/volumes/create", "application/json", strings.NewReader(fmt.Sprintf(`{"Name":"many%d"}`, i))); err != nil {
				return
			}
			if _, err := u.api.Do(t.Context(), http.MethodDelete, path, "", nil); i%3 > 0 && err != nil {
				return
			}
		}
	}()
	seen := func() string {
		return u.docker(t, "events", "--since", "1m", "--until", "0s", "--filter", "volume=many20").Stdout
	}
	eventually(t, 30*time.Second, "the twentieth volume", func() bool { return seen() != "" })
	if err := u.tritond.Kill(); err != nil {
		t.Fatal(err)
	}
	<-done
	u = startOwn(t, u.tritond)
	listed := strings.Fields(u.ok(t, "volume", "ls", "-q"))
	dirs, err := os.ReadDir(filepath.Join(u.tritond.DataRoot, "volumes", "default"))
	if err != nil {
		t.Fatal(err)
	}
	var onDisk []string
	for _, d := range dirs {
		onDisk = append(onDisk, d.Name())
	}
	slices.Sort(listed)
	equal(t, "directories and records", strings.Join(onDisk, " "), strings.Join(listed, " "))
	if trash, err := os.ReadDir(filepath.Join(u.tritond.DataRoot, "volumes", ".trash")); err != nil || len(trash) > 0 {
		t.Errorf("trash left: %v %v", trash, err)
	}
}

func TestTenantsHaveVolumesOfTheirOwn(t *testing.T) {
	u, acme, globex, _ := withTenants(t)
	acme.ok(t, "run", "--rm", "-v", "data:/d", images.Busybox, "sh", "-c", "echo acme >/d/f")
	equal(t, "the same name", globex.ok(t, "run", "--rm", "-v", "data:/d", images.Busybox, "ls", "-A", "/d"), "")
	equal(t, "acme's", acme.ok(t, "run", "--rm", "-v", "data:/d", images.Busybox, "cat", "/d/f"), "acme")
	acme.ok(t, "volume", "create", "secret")
	globex.fails(t, 1, "no such volume", "volume", "inspect", "secret")
	globex.fails(t, 1, "no such volume", "volume", "rm", "secret")
	globex.ok(t, "volume", "prune", "-af")
	equal(t, "after the other's prune", acme.ok(t, "volume", "ls", "-q"), "data\nsecret")
	acme.fails(t, 1, "tenant acme may not use a volume of type", "volume", "create", "-o", "type=none", "-o", "device=/etc", "-o", "o=bind", "etc")
	var mounts []struct{ Source string }
	const name = "user"
	acme.ok(t, "run", "-d", "--name", name, "-v", "data:/d", images.Busybox, "sleep", "1000")
	globex.fails(t, 125, "No such container", "run", "--rm", "--volumes-from", acme.inspect(t, name, "{{.Id}}"), images.True)
	if err := json.Unmarshal([]byte(acme.inspect(t, name, "{{json .Mounts}}")), &mounts); err != nil || len(mounts) != 1 {
		t.Fatal(mounts, err)
	}
	matches(t, "Source", mounts[0].Source, "/volumes/acme/data/_data$")
	acme.ok(t, "rm", "-f", name)
	res := u.client(t, nil, "-H", u.tritond.Host, "tenant", "rm", "acme")
	if res.Code == 0 || !strings.Contains(res.Stderr, "2 volumes") {
		t.Errorf("a tenant with volumes was removed, or why not is not said: %s", res.Stderr)
	}
}

// A create that is refused leaves nothing of the volumes that it had planned.
func TestRefusedCreateLeavesNoVolumes(t *testing.T) {
	t.Parallel()
	u := own(t)
	anonymous, named := "type=volume,dst=/one", "type=volume,src=planned,dst=/two"
	u.fails(t, 1, "(?i)invalid option", "create", "--mount", anonymous, "--mount", named,
		"--mount", "type=volume,src=wrong,dst=/three,volume-opt=bogus=1", images.Busybox)
	u.fails(t, 1, "(?i)no such", "create", "--name", "kept", "--mount", anonymous, "--mount", named, "--network", "container:nosuch", images.Busybox)
	u.ok(t, "create", "--name", "kept", images.Busybox)
	u.fails(t, 1, "(?i)already in use", "create", "--name", "kept", "--mount", anonymous, "--mount", named, images.Busybox)
	equal(t, "volumes", u.ok(t, "volume", "ls", "-q"), "")
	left, err := filepath.Glob(filepath.Join(u.tritond.DataRoot, "volumes", "default", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
