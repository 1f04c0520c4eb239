package volume

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tritond/triton/pkg/triton"
)

func open(t *testing.T) *Store {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(Config{Root: filepath.Join(dir, "volumes"), Run: filepath.Join(dir, "run"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Reconcile(context.Background(), func(triton.VolumeKey) bool { return true }); err != nil {
			t.Error(err)
		}
	})
	return s
}

var key = triton.VolumeKey{Tenant: "acme", Name: "data"}

// used makes a volume of plain files.
func used(t *testing.T, s *Store, k triton.VolumeKey, user string) string {
	t.Helper()
	dir, err := s.Use(k, &triton.VolumeSpec{}, user)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, parts ...string) {
	t.Helper()
	path := filepath.Join(parts...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func reconcile(t *testing.T, s *Store, wanted ...triton.VolumeKey) {
	t.Helper()
	if err := s.Reconcile(t.Context(), func(k triton.VolumeKey) bool { return slices.Contains(wanted, k) }); err != nil {
		t.Fatal(err)
	}
}

func TestRemovalIsFinishedOrTakenBackByTheNextStart(t *testing.T) {
	for _, stillWanted := range []bool{true, false} {
		s := open(t)
		write(t, used(t, s, key, "c"), "file")
		if _, err := s.Remove(key); err != nil { // and here the daemon was killed
			t.Fatal(err)
		}
		var wanted []triton.VolumeKey
		if stillWanted {
			wanted = append(wanted, key)
		}
		reconcile(t, s, wanted...)
		if got := exists(filepath.Join(s.dir(key), dataDir, "file")); got != stillWanted {
			t.Errorf("wanted %t: file exists: %t", stillWanted, got)
		}
		if left, err := os.ReadDir(filepath.Join(s.cfg.Root, trashDir)); err != nil || len(left) > 0 {
			t.Errorf("wanted %t: the trash has %v %v", stillWanted, left, err)
		}
	}
}

func TestRemovalDoesNotTouchTheVolumeMadeAgainSince(t *testing.T) {
	s := open(t)
	write(t, used(t, s, key, "c"), "old")
	if _, err := s.Remove(key); err != nil {
		t.Fatal(err)
	}
	write(t, used(t, s, key, "c"), "new")
	reconcile(t, s, key)
	if dir := filepath.Join(s.dir(key), dataDir); !exists(filepath.Join(dir, "new")) || exists(filepath.Join(dir, "old")) {
		t.Error("the removed volume came back over the new one")
	}
}

func TestFilesWithoutARecordAreKept(t *testing.T) {
	s := open(t)
	full, empty := key, triton.VolumeKey{Tenant: "acme", Name: "empty"}
	write(t, used(t, s, full, "c"), "file")
	used(t, s, empty, "c")
	write(t, s.dir(empty), copyDir, "half", "copied")
	reconcile(t, s)
	if !exists(filepath.Join(s.dir(full), dataDir, "file")) {
		t.Error("files that no record owns were removed")
	}
	if exists(s.dir(empty)) {
		t.Error("an empty directory that no record owns was kept")
	}
}

func TestPopulateCopiesOwnersModesAndLinks(t *testing.T) {
	s := open(t)
	from := t.TempDir()
	write(t, from, "sub", "file")
	for _, err := range []error{
		os.Symlink("sub/file", filepath.Join(from, "link")), os.Link(filepath.Join(from, "sub", "file"), filepath.Join(from, "again")),
		os.Chown(filepath.Join(from, "sub"), 7, 8), os.Chmod(from, 0o1777), os.Chown(from, 9, 10),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	look := func(path string) string {
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%d:%d %o %d", st.Uid, st.Gid, st.Mode, st.Nlink)
	}
	for _, users := range []int{1, 2} { // two: the directory is somebody's mount by now, and must stay
		k := triton.VolumeKey{Tenant: "acme", Name: fmt.Sprint("users", users)}
		var dir string
		for i := range users {
			dir = used(t, s, k, fmt.Sprint(i))
		}
		opened, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer opened.Close()
		if err := s.Populate(k, dir, func() (string, error) { return from + "/.", nil }); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{".", "sub", "sub/file", "link", "again"} {
			if got, want := look(filepath.Join(dir, name)), look(filepath.Join(from, name)); got != want {
				t.Errorf("%d users: %s is %s, want %s", users, name, got, want)
			}
		}
		if names, _ := opened.Readdirnames(-1); users == 2 && len(names) != 3 {
			t.Errorf("who had mounted it sees %v", names)
		}
		if exists(filepath.Join(s.dir(k), copyDir)) {
			t.Errorf("%d users: the copy is left", users)
		}
	}
}

func TestPopulateLeavesFilesAlone(t *testing.T) {
	s := open(t)
	dir := used(t, s, key, "c")
	write(t, dir, "own")
	err := s.Populate(key, dir, func() (string, error) {
		t.Error("the image is looked at")
		return t.TempDir(), nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestKernelOptionsAreMountedWhileInUse(t *testing.T) {
	s := open(t)
	spec := &triton.VolumeSpec{Options: map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=700"}}
	mounted := func() bool {
		b, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(b), s.mountPoint(key)+" ")
	}
	for _, user := range []string{"a", "b"} {
		dir, err := s.Use(key, spec, user)
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, user)
	}
	if size, err := s.Size(t.Context(), key); size != 0 || err != nil {
		t.Errorf("size %d %v, want 0: the bytes are elsewhere", size, err)
	}
	if err := s.Release(key, "a"); err != nil || !mounted() {
		t.Errorf("unmounted under its second user: %v", err)
	}
	s.users = map[triton.VolumeKey]map[string]bool{} // another daemon
	s.Hold(key, "b")
	reconcile(t, s, key)
	if !mounted() || !exists(filepath.Join(s.mountPoint(key), "a")) {
		t.Error("unmounted under a container that ran on")
	}
	if err := s.Release(key, "b"); err != nil || mounted() || exists(s.mountPoint(key)) {
		t.Errorf("still mounted without a user: %v", err)
	}
	if _, err := s.Use(key, &triton.VolumeSpec{Options: map[string]string{"type": "nosuchfs", "device": "x"}}, "a"); err == nil || exists(s.mountPoint(key)) {
		t.Errorf("an unknown file system: %v", err)
	}
}

func TestSubpathStaysWithinTheVolume(t *testing.T) {
	s := open(t)
	dir := used(t, s, key, "c")
	write(t, dir, "sub", "file")
	for link, to := range map[string]string{"out": "/etc", "up": "../..", "in": "sub", "abs": "/sub"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []string{"out", "up", "abs", "nosuch", "../data", "sub/../../x"} {
		if f, err := OpenSubpath(dir, bad); err == nil {
			f.Close()
			t.Errorf("%s is opened", bad)
		}
	}
	p, err := s.Expose(dir, "in", "user", 0)
	if err != nil {
		t.Fatal(err)
	}
	if !exists(filepath.Join(p.Path, "file")) {
		t.Error("the part does not show its file")
	}
	reconcile(t, s, key) // a daemon that was killed does not call Close
	if exists(p.Path) || !exists(filepath.Join(dir, "sub", "file")) {
		t.Error("the part is still mounted, or its files are gone")
	}
}

func TestNamesAndOptionsAreDockers(t *testing.T) {
	for _, bad := range []string{"", "a", "a/b", "..", ".hidden", "-x", "a b", "a\x00b", strings.Repeat("a", 256)} {
		if CheckName(bad) == nil {
			t.Errorf("name %q is accepted", bad)
		}
	}
	for _, good := range []string{"ab", "A.b_c-d", "0x", strings.Repeat("a", 255)} {
		if err := CheckName(good); err != nil {
			t.Errorf("name %q: %v", good, err)
		}
	}
	for want, opts := range map[string]map[string]string{
		`invalid option: "x"`:                       {"x": "1"},
		`missing required option: "device"`:         {"type": "tmpfs"},
		`missing required option: "type"`:           {"device": "tmpfs"},
		`quota size requested but no quota support`: {"size": "1m"},
		`option "o" has a zero byte`:                {"type": "a", "device": "b", "o": "c\x00"},
		"":                                          {"type": "nfs", "device": ":/x", "o": "addr=1.2.3.4"},
	} {
		err := CheckOptions(opts)
		if err == nil && want != "" || err != nil && err.Error() != want {
			t.Errorf("%v: got %v, want %q", opts, err, want)
		}
	}
}

func FuzzOptions(f *testing.F) {
	f.Add("data", "tmpfs", "tmpfs", "size=1m")
	f.Add("a", "none", "/etc", "bind,ro")
	f.Add("../x", "nfs", ":/export", "addr=localhost,,=")
	f.Fuzz(func(t *testing.T, name, typ, device, o string) {
		k := triton.VolumeKey{Tenant: "acme", Name: name}
		s := &Store{cfg: Config{Root: "/root", Run: "/run"}}
		if checkKey(k) == nil && filepath.Dir(s.dir(k)) != "/root/acme" {
			t.Errorf("name %q leads to %s", name, s.dir(k))
		}
		if CheckOptions(map[string]string{"type": typ, "device": device, "o": o}) != nil {
			return
		}
		if strings.ContainsRune(typ+device+o, 0) {
			t.Error("a zero byte is accepted")
		}
		if got, err := resolveAddr("tmpfs", o); err != nil || got != o {
			t.Errorf("options of a tmpfs became %q, %v", got, err)
		}
	})
}
