package image_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/image"
	"github.com/tritond/triton/pkg/image/imagetest"
	"github.com/tritond/triton/pkg/triton"
)

// mountOverlay mounts a container's file system, without its id shift, until the test ends.
func mountOverlay(t *testing.T, r image.Rootfs) string {
	t.Helper()
	dir := t.TempDir()
	opts := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", strings.Join(r.Lower, ":"), r.Upper, r.Work)
	if err := unix.Mount("overlay", dir, "overlay", unix.MS_NODEV, opts); err != nil {
		t.Fatalf("mount overlay: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// describe says what a file is: type, permissions, owner, links, content.
func describe(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err.Error()
	}
	kind := map[uint32]string{unix.S_IFREG: "file", unix.S_IFDIR: "dir", unix.S_IFLNK: "link", unix.S_IFCHR: "char", unix.S_IFIFO: "fifo"}[st.Mode&unix.S_IFMT]
	text := fmt.Sprintf("%s %04o %d:%d", kind, st.Mode&0o7777, st.Uid, st.Gid)
	switch kind {
	case "file":
		b, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		text += fmt.Sprintf(" x%d %q", st.Nlink, b)
	case "link":
		target, err := os.Readlink(path)
		if err != nil {
			t.Error(err)
		}
		text += " -> " + target
	case "char":
		text += fmt.Sprintf(" %d,%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	return text
}

func TestKernelLayersUnpackAsTheyWereMade(t *testing.T) {
	dir := func(name string, mode int64, uid, gid int) imagetest.Entry {
		return imagetest.Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode, Uid: uid, Gid: gid}}
	}
	reg := func(name string, mode int64, uid, gid int, body string) imagetest.Entry {
		return imagetest.Entry{Header: tar.Header{Name: name, Mode: mode, Uid: uid, Gid: gid}, Body: []byte(body)}
	}
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // cap_net_bind_service, version 2
	im := imagetest.Image{Layers: []imagetest.Layer{
		{Tar: imagetest.Tar(
			dir("./", 0o751, 7, 8),
			reg("kept", 0o644, 0, 0, "kept"), reg("gone", 0o644, 0, 0, "gone"), reg("changed", 0o644, 0, 0, "old"),
			dir("opaque/", 0o755, 0, 0), reg("opaque/below", 0o644, 0, 0, "below"),
			dir("merged/", 0o700, 0, 0), reg("merged/below", 0o644, 0, 0, "below"),
			dir("removed/", 0o755, 0, 0), reg("removed/x", 0o644, 0, 0, "x"),
		)},
		{Tar: imagetest.Tar(
			reg(".wh.gone", 0, 0, 0, ""), reg("changed", 0o600, 1000, 100, "new"), reg(".wh.removed", 0, 0, 0, ""),
			dir("opaque/", 0o755, 0, 0), reg("opaque/.wh..wh..opq", 0, 0, 0, ""), reg("opaque/above", 0o644, 0, 0, "above"),
			dir("merged/", 0o711, 5, 6), reg("merged/above", 0o644, 0, 0, "above"),
			reg("setuid", 0o4755, 0, 0, "s"), reg("setgid", 0o2755, 3, 4, "g"), dir("sticky/", 0o1777, 0, 0),
			reg("hard", 0o640, 9, 9, "hard"), imagetest.Entry{Header: tar.Header{Name: "hard2", Typeflag: tar.TypeLink, Linkname: "hard", Mode: 0o640, Uid: 9, Gid: 9}},
			imagetest.Entry{Header: tar.Header{Name: "soft", Typeflag: tar.TypeSymlink, Linkname: "/etc/../x", Uid: 11, Gid: 12, Mode: 0o777}},
			imagetest.Entry{Header: tar.Header{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o620}},
			imagetest.Entry{Header: tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666}},
			imagetest.Entry{Header: tar.Header{Name: "attr", Mode: 0o755, PAXRecords: map[string]string{
				"SCHILY.xattr.user.colour": "blue", "SCHILY.xattr.security.capability": capability,
			}}, Body: []byte("a")},
			imagetest.Entry{Header: tar.Header{Name: "old", Mode: 0o644, ModTime: time.Unix(1_000_000_000, 0)}},
			reg("no/parents/here", 0o644, 0, 0, "deep"),
		)},
	}}
	s := open(t, image.Config{})
	load(t, s, imagetest.Docker(im))
	r, err := s.Prepare(t.Context(), newKey(), im.ID(), noIDs)
	if err != nil {
		t.Fatal(err)
	}
	root := mountOverlay(t, r)
	const missing = "no such file or directory"
	for name, want := range map[string]string{
		".": "dir 0751 7:8", "kept": `file 0644 0:0 x1 "kept"`, "gone": missing, "changed": `file 0600 1000:100 x1 "new"`, "removed": missing,
		"opaque/below": missing, "opaque/above": `file 0644 0:0 x1 "above"`,
		"merged": "dir 0711 5:6", "merged/below": `file 0644 0:0 x1 "below"`, "merged/above": `file 0644 0:0 x1 "above"`,
		"setuid": `file 4755 0:0 x1 "s"`, "setgid": `file 2755 3:4 x1 "g"`, "sticky": "dir 1777 0:0",
		"hard": `file 0640 9:9 x2 "hard"`, "hard2": `file 0640 9:9 x2 "hard"`, "soft": "link 0777 11:12 -> /etc/../x",
		"pipe": "fifo 0620 0:0", "null": "char 0666 0:0 1,3", "no/parents/here": `file 0644 0:0 x1 "deep"`,
	} {
		if got := describe(t, filepath.Join(root, name)); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	for attr, want := range map[string]string{"user.colour": "blue", "security.capability": capability} {
		b := make([]byte, 100)
		if n, err := unix.Getxattr(filepath.Join(root, "attr"), attr, b); err != nil || string(b[:n]) != want {
			t.Errorf("attribute %s: got %q, %v", attr, b[:max(n, 0)], err)
		}
	}
	if fi, err := os.Stat(filepath.Join(root, "old")); err != nil || fi.ModTime().Unix() != 1_000_000_000 {
		t.Errorf("time of old: %v, %v", fi, err)
	}
	// The image itself is not written to.
	if err := os.WriteFile(filepath.Join(root, "kept"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := describe(t, filepath.Join(r.Lower[1], "kept")); got != `file 0644 0:0 x1 "kept"` {
		t.Errorf("the layer's file became %s", got)
	}
}

func TestKernelPrepareShiftsTheTopDirectory(t *testing.T) {
	s := open(t, image.Config{})
	top := tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o1750, Uid: 5, Gid: 6}
	im := imagetest.Image{Layers: []imagetest.Layer{{Tar: imagetest.Tar(imagetest.Entry{Header: top})}}}
	load(t, s, imagetest.Docker(im))
	for base, want := range map[uint32]string{0: "dir 1750 5:6", 0x10000000: "dir 1750 268435461:268435462"} {
		r, err := s.Prepare(t.Context(), newKey(), im.ID(), triton.IDRange{Base: base, Size: 65536})
		if err != nil {
			t.Fatal(err)
		}
		if got := describe(t, r.Upper); got != want {
			t.Errorf("base %d: got %s, want %s", base, got, want)
		}
	}
}

func TestKernelPrepareAnImageWithoutLayers(t *testing.T) {
	s := open(t, image.Config{})
	im := imagetest.Image{Tags: []string{"scratch:1"}}
	load(t, s, imagetest.Docker(im))
	r, err := s.Prepare(t.Context(), newKey(), im.ID(), noIDs)
	if err != nil {
		t.Fatal(err)
	}
	if names, err := os.ReadDir(mountOverlay(t, r)); err != nil || len(names) != 0 {
		t.Errorf("got %v, %v, want an empty file system", names, err)
	}
}

func TestKernelLayersLiveAsLongAsTheLastContainer(t *testing.T) {
	root := t.TempDir()
	s := open(t, image.Config{Root: root})
	im := small("a", "a:1")
	im.Layers = append(im.Layers, imagetest.Layer{Tar: imagetest.Files(map[string]string{"b": "b"})})
	empty := leftovers(t, s, root)
	load(t, s, imagetest.Docker(im))
	one, two := newKey(), newKey()
	for _, k := range []triton.ContainerKey{one, two} {
		if _, err := s.Prepare(t.Context(), k, im.ID(), noIDs); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Remove(t.Context(), tenant, "a:1", true); err != nil {
		t.Fatal(err)
	}
	if err := s.Discard(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	if err := s.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := s.Rootfs(t.Context(), two)
	if err != nil {
		t.Fatalf("rootfs after the image went: %v", err)
	}
	if got := describe(t, filepath.Join(mountOverlay(t, r), "a")); got != `file 0755 0:0 x1 "a"` {
		t.Errorf("file of the removed image: %s", got)
	}
	if _, err := s.Prepare(t.Context(), newKey(), im.ID(), noIDs); !errdefs.IsNotFound(err) {
		t.Errorf("prepare on the removed image: got %v, want not found", err)
	}
	// Loaded again, the image finds its layers, and the container stays on them.
	load(t, s, imagetest.Docker(im))
	if _, err := s.Remove(t.Context(), tenant, "a:1", true); err != nil {
		t.Fatal(err)
	}
	if err := s.Discard(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	empty = append(empty, "rw/"+string(tenant))
	if diff := cmp.Diff(sorted(empty), sorted(leftovers(t, s, root))); diff != "" {
		t.Errorf("left behind (-want +got):\n%s", diff)
	}
}

// The collection that a discard triggers by itself, without Collect.
func TestKernelDiscardOfTheLastContainerFreesTheLayers(t *testing.T) {
	root := t.TempDir()
	s := open(t, image.Config{Root: root})
	im := small("a", "a:1")
	load(t, s, imagetest.Docker(im))
	key := newKey()
	r, err := s.Prepare(t.Context(), key, im.ID(), noIDs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), tenant, "a:1", true); err != nil {
		t.Fatal(err)
	}
	if err := s.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Discard(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		_, upper := os.Stat(r.Upper)
		_, lower := os.Stat(r.Lower[0])
		trash, err := os.ReadDir(filepath.Join(root, "rw", ".trash"))
		if os.IsNotExist(upper) && os.IsNotExist(lower) && err == nil && len(trash) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still there: upper %v, lower %v, trash %v", upper, lower, trash)
		}
	}
}

func sorted(paths []string) map[string]bool {
	set := map[string]bool{}
	for _, p := range paths {
		set[p] = true
	}
	return set
}

// Prepare and Discard against removes, loads and collections of the same image: a container either gets all layers or
// an error that the image is not there.
func TestKernelPrepareRacesWithRemoveAndCollect(t *testing.T) {
	s := open(t, image.Config{})
	im := small("a", "a:1")
	archive := imagetest.Docker(im)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(stop)
		for range 8 {
			if _, err := s.Load(t.Context(), tenant, bytes.NewReader(archive), nil); err != nil {
				t.Errorf("load: %v", err)
			}
			if _, err := s.Remove(t.Context(), tenant, "a:1", true); err != nil {
				t.Errorf("remove: %v", err)
			}
			if err := s.Collect(t.Context()); err != nil {
				t.Errorf("collect: %v", err)
			}
		}
	})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				key := newKey()
				r, err := s.Prepare(t.Context(), key, im.ID(), noIDs)
				if errdefs.IsNotFound(err) {
					continue
				}
				if err != nil {
					t.Errorf("prepare: %v", err)
					continue
				}
				if _, err := os.Stat(filepath.Join(r.Lower[0], "a")); err != nil {
					t.Errorf("a prepared container's layer: %v", err)
				}
				if err := s.Discard(t.Context(), key); err != nil {
					t.Errorf("discard: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

func TestKernelContainersAreFoundAgainAfterARestart(t *testing.T) {
	root := t.TempDir()
	cfg := image.Config{Root: root}
	s, err := image.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	im := small("a", "a:1")
	load(t, s, imagetest.Docker(im))
	key := newKey()
	want, err := s.Prepare(t.Context(), key, im.ID(), noIDs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), tenant, "a:1", true); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// What a crash in the middle of Prepare and Discard leaves.
	for _, d := range []string{"rw/.new/1/fs", "rw/.trash/2/fs/x"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}

	s = open(t, cfg)
	if err := s.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := s.Rootfs(t.Context(), key)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("rootfs: %v (-before +after):\n%s", err, diff)
	}
	if _, err := os.Stat(filepath.Join(got.Lower[0], "a")); err != nil {
		t.Errorf("the layer: %v", err)
	}
	keys, err := s.Snapshots(t.Context())
	if diff := cmp.Diff([]triton.ContainerKey{key}, keys); err != nil || diff != "" {
		t.Errorf("snapshots: %v (-want +got):\n%s", err, diff)
	}
	for _, d := range []string{"rw/.new", "rw/.trash"} {
		if names, err := os.ReadDir(filepath.Join(root, d)); err != nil || len(names) != 0 {
			t.Errorf("%s: %v, %v, want nothing", d, names, err)
		}
	}
}

func TestKernelPrepareRefusesKeysThatAreNotIDs(t *testing.T) {
	s := open(t, image.Config{})
	im := small("a")
	load(t, s, imagetest.Docker(im))
	for _, key := range []triton.ContainerKey{
		{Tenant: tenant, ID: "../../x"}, {Tenant: tenant}, {Tenant: "../x", ID: triton.NewID()}, {Tenant: ".new", ID: triton.NewID()}, {ID: triton.NewID()},
	} {
		if _, err := s.Prepare(t.Context(), key, im.ID(), noIDs); !errdefs.IsInvalidArgument(err) {
			t.Errorf("prepare %+v: got %v, want invalid argument", key, err)
		}
		if err := s.Discard(t.Context(), key); !errdefs.IsInvalidArgument(err) {
			t.Errorf("discard %+v: got %v, want invalid argument", key, err)
		}
	}
	for _, id := range []string{"", "a", "sha256:" + triton.NewID(), "docker.io/library/a:1"} {
		if _, err := s.Prepare(t.Context(), newKey(), id, noIDs); !errdefs.IsNotFound(err) {
			t.Errorf("prepare on %q: got %v, want not found", id, err)
		}
	}
}

func TestKernelBelowTheFloorOnlyRemovingWorks(t *testing.T) {
	root := t.TempDir()
	s, err := image.Open(t.Context(), image.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	im := small("a", "a:1")
	load(t, s, imagetest.Docker(im))
	key := newKey()
	if _, err := s.Prepare(t.Context(), key, im.ID(), noIDs); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, image.Config{Root: root, MinFree: 1 << 60})
	if _, err := s.Prepare(t.Context(), newKey(), im.ID(), noIDs); !errdefs.IsResourceExhausted(err) {
		t.Errorf("prepare: got %v, want resource exhausted", err)
	}
	if _, err := s.Load(t.Context(), tenant, bytes.NewReader(imagetest.Docker(im)), nil); !errdefs.IsResourceExhausted(err) {
		t.Errorf("load: got %v, want resource exhausted", err)
	}
	if _, err := s.Import(t.Context(), tenant, bytes.NewReader(im.Layers[0].Tar), triton.ImportRequest{}); !errdefs.IsResourceExhausted(err) {
		t.Errorf("import: got %v, want resource exhausted", err)
	}
	if _, err := s.Rootfs(t.Context(), key); err != nil {
		t.Errorf("rootfs: %v", err)
	}
	if err := s.Discard(t.Context(), key); err != nil {
		t.Errorf("discard: %v", err)
	}
	if _, err := s.Remove(t.Context(), tenant, "a:1", false); err != nil {
		t.Errorf("remove: %v", err)
	}
	if err := s.Collect(t.Context()); err != nil {
		t.Errorf("collect: %v", err)
	}
	var layers []string
	err = filepath.WalkDir(filepath.Join(root, "snapshots", "snapshots"), func(p string, _ fs.DirEntry, err error) error {
		layers = append(layers, p)
		return err
	})
	if err != nil || len(layers) != 1 {
		t.Errorf("layers on disk: %v, %v, want none", layers, err)
	}
}

// The image's part of `docker run`. On ext4 it is metadata only: nothing is synced.
func BenchmarkPrepareAndDiscard(b *testing.B) {
	s := open(b, image.Config{MinFree: 1})
	im := imagetest.Image{Tags: []string{"a:1"}}
	for i := range 8 {
		im.Layers = append(im.Layers, imagetest.Layer{Tar: imagetest.Files(map[string]string{fmt.Sprint(i): "x"})})
	}
	load(b, s, imagetest.Docker(im))
	for b.Loop() {
		key := newKey()
		if _, err := s.Prepare(b.Context(), key, im.ID(), noIDs); err != nil {
			b.Fatal(err)
		}
		if err := s.Discard(b.Context(), key); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkInspectAmongFiftyImages(b *testing.B) {
	s := open(b, image.Config{})
	var all []imagetest.Image
	for i := range 50 {
		all = append(all, small(fmt.Sprint(i), fmt.Sprintf("i%d:1", i)))
	}
	load(b, s, imagetest.Docker(all...))
	for b.Loop() {
		if _, err := s.Inspect(b.Context(), tenant, "i25:1"); err != nil {
			b.Fatal(err)
		}
	}
}
