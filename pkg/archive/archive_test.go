package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// viewOf shows a directory as a container's root.
func viewOf(t testing.TB, dir string) *View {
	t.Helper()
	v, err := Assemble(Layout{At: t.TempDir(), Mounted: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

// tree makes a directory: "dir/", "file", "link -> target".
func tree(t testing.TB, entries ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, e := range entries {
		name, target, isLink := strings.Cut(e, " -> ")
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		switch {
		case isLink:
			err = errors.Join(err, os.Symlink(target, path))
		case strings.HasSuffix(name, "/"):
			err = errors.Join(err, os.MkdirAll(path, 0o755))
		default:
			err = errors.Join(err, os.WriteFile(path, []byte("content of "+name), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// entries lists a tar: names with a mark of the kind.
func entries(t *testing.T, b []byte) []string {
	t.Helper()
	var list []string
	for tr := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(list)
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		e := h.Name
		if h.Linkname != "" {
			e += fmt.Sprintf(" %c %s", h.Typeflag, h.Linkname)
		}
		list = append(list, e)
	}
}

func pack(v *View, name string) ([]byte, Stat, error) {
	var buf bytes.Buffer
	var st Stat
	err := v.Pack(context.Background(), name, func(s Stat) error { st = s; return nil }, &buf)
	return buf.Bytes(), st, err
}

func TestPackNamesAsDockerDoes(t *testing.T) {
	v := viewOf(t, tree(t, "dir/sub/file", "dir/link -> sub", "top", "out -> /dir", "dangling -> /no/where", "abs -> /etc/../dir/sub/file"))
	for name, want := range map[string][]string{
		"/dir":          {"dir/", "dir/link 2 sub", "dir/sub/", "dir/sub/file"},
		"dir":           {"dir/", "dir/link 2 sub", "dir/sub/", "dir/sub/file"},
		"/dir/":         {"dir/", "dir/link 2 sub", "dir/sub/", "dir/sub/file"},
		"/dir/.":        {"./", "./link 2 sub", "./sub/", "./sub/file"},
		"/top":          {"top"},
		"/out":          {"out 2 /dir"},
		"/out/":         {"out/", "out/link 2 sub", "out/sub/", "out/sub/file"},
		"/out/.":        {"./", "./link 2 sub", "./sub/", "./sub/file"},
		"/dir/link/.":   {"./", "./file"},
		"/dir/../top":   {"top"},
		"../../../top":  {"top"},
		"/dir/sub/..":   nil, // its name is "..": checked below
		"/dangling":     {"dangling 2 /no/where"},
		"/out/sub/file": {"file"},
	} {
		b, _, err := pack(v, name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(want, entries(t, b)); diff != "" && want != nil {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	whole, _, err := pack(v, "/")
	if err != nil || !slices.Contains(entries(t, whole), "/dir/sub/file") {
		t.Errorf("/: %v %v", entries(t, whole), err)
	}
	for name, want := range map[string]error{"/no": fs.ErrNotExist, "/top/": syscall.ENOTDIR, "/dangling/.": fs.ErrNotExist, "/top/x": syscall.ENOTDIR} {
		_, _, err := pack(v, name)
		var at *fs.PathError
		if !errors.Is(err, want) || !errors.As(err, &at) || at.Op != "lstat" {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
	for name, target := range map[string]string{"/out": "/dir", "/dangling": "/no/where", "/abs": "/dir/sub/file", "/dir": "", "/out/": ""} {
		if _, st, err := pack(v, name); err != nil || st.LinkTarget != target {
			t.Errorf("%s leads to %q, want %q (%v)", name, st.LinkTarget, target, err)
		}
	}
}

func TestExportHasEachFileOnce(t *testing.T) {
	dir := tree(t, "a/file", "b/")
	if err := os.Link(filepath.Join(dir, "a", "file"), filepath.Join(dir, "b", "again")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	if err := unix.Bind(socket, &unix.SockaddrUnix{Name: filepath.Join(dir, "socket")}); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := viewOf(t, dir).Export(t.Context(), &buf); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(entries(t, buf.Bytes()), ", ")
	if got != "a/, a/file, b/, b/again 1 a/file, fifo" && got != "a/, a/file 1 b/again, b/, b/again, fifo" {
		t.Errorf("got %s", got)
	}
}

// tarOf writes a tar of headers; "content" is what regular files have.
func tarOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range headers {
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if h.Typeflag == 0 || h.Typeflag == tar.TypeReg {
			h.Size = int64(len("content"))
		}
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(tw, "content"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func unpack(v *View, dir string, b []byte, opt UnpackOptions) error {
	return v.Unpack(context.Background(), dir, bytes.NewReader(b), opt)
}

func TestUnpackKeepsOwnersModesAndTimes(t *testing.T) {
	dir := tree(t, "to/")
	at := time.Unix(1500000000, 123456789)
	b := tarOf(t,
		tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o2750, Uid: 5, Gid: 6, ModTime: at, Format: tar.FormatPAX},
		tar.Header{Name: "d/file", Mode: 0o4755, Uid: 7, Gid: 8, ModTime: at, Format: tar.FormatPAX,
			PAXRecords: map[string]string{xattrRecord + "user.note": "hi", xattrRecord + capabilityXattr: "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}},
		tar.Header{Name: "d/link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd", Uid: 9, Gid: 9, ModTime: at, Format: tar.FormatPAX},
		tar.Header{Name: "d/again", Typeflag: tar.TypeLink, Linkname: "d/file"},
		tar.Header{Name: "d/fifo", Typeflag: tar.TypeFifo, Mode: 0o600, ModTime: at},
		tar.Header{Name: "missing/parents/file", ModTime: at},
	)
	v := viewOf(t, dir)
	if err := unpack(v, "/to", b, UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"d": "5:6 42750 1500000000", "d/file": "7:8 104755 1500000000", "d/link": "9:9 120777 1500000000", "d/again": "7:8 104755 1500000000",
		"d/fifo": "0:0 10600 1500000000", "missing/parents/file": "0:0 100644 1500000000",
	} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, "to", name), &st); err != nil {
			t.Error(name, err)
		} else if got := fmt.Sprintf("%d:%d %o %d", st.Uid, st.Gid, st.Mode, st.Mtim.Sec); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	back, _, err := pack(v, "/to/d/file")
	if err != nil {
		t.Fatal(err)
	}
	h, err := tar.NewReader(bytes.NewReader(back)).Next()
	if err != nil || len(h.PAXRecords[xattrRecord+capabilityXattr]) != capSize2 {
		t.Errorf("capabilities did not come back: %+v %v", h, err)
	}
	if err := unpack(v, "/to", b, UnpackOptions{Owner: &Owner{3, 4}}); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(dir, "to/d/link"), &st); err != nil || st.Uid != 3 || st.Gid != 4 {
		t.Errorf("with an owner: %d:%d %v", st.Uid, st.Gid, err)
	}
}

func TestUnpackReplacesKindsUnlessToldNotTo(t *testing.T) {
	overDir := tarOf(t, tar.Header{Name: "dir"})
	overFile := tarOf(t, tar.Header{Name: "file/", Typeflag: tar.TypeDir, Mode: 0o755})
	dir := tree(t, "dir/deep/er/file", "file", "link -> file")
	v := viewOf(t, dir)
	for _, b := range [][]byte{overDir, overFile} {
		if err := unpack(v, "/", b, UnpackOptions{KeepKinds: true}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "cannot overwrite") {
			t.Errorf("got %v, want a refusal", err)
		}
		if err := unpack(v, "/", b, UnpackOptions{}); err != nil {
			t.Error(err)
		}
	}
	if err := unpack(v, "/", tarOf(t, tar.Header{Name: "link"}), UnpackOptions{KeepKinds: true}); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]fs.FileMode{"dir": 0, "file": fs.ModeDir, "link": 0} {
		if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || info.Mode().Type() != want {
			t.Errorf("%s: %v %v, want %v", name, info.Mode(), err, want)
		}
	}
}

func TestUnpackRefusesWhereItMayNotWrite(t *testing.T) {
	dir, bound := tree(t, "file", "bound/"), tree(t, "x")
	v, err := Assemble(Layout{At: t.TempDir(), Mounted: dir, ReadOnly: true, Binds: []Bind{
		{Source: bound, Target: "/bound", ReadOnly: true}, {Source: filepath.Join(bound, "x"), Target: "/file"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	b := tarOf(t, tar.Header{Name: "new"})
	for path, want := range map[string]string{
		"/": "container rootfs is marked read-only", "/bound": "mounted volume is marked read-only", "/file": "extraction point is not a directory",
	} {
		if err := unpack(v, path, b, UnpackOptions{}); !errdefs.IsInvalidArgument(err) || err.Error() != want {
			t.Errorf("%s: got %v, want %s", path, err, want)
		}
	}
	var at *fs.PathError
	if err := unpack(v, "/nosuch", b, UnpackOptions{}); !errors.As(err, &at) || at.Op != "lstat" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("/nosuch: %v", err)
	}
	if got, _, err := pack(v, "/bound"); err != nil || !slices.Contains(entries(t, got), "bound/x") {
		t.Errorf("the bind is not seen: %v", err)
	}
}

// hostile are tars that try to get out, and whether they must be refused. What they write must be within the root.
func hostile(t testing.TB, outside string) map[string]struct {
	tar     []byte
	refused bool
} {
	type c = struct {
		tar     []byte
		refused bool
	}
	link := func(name, to string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
	}
	return map[string]c{
		"dots":                     {tarOf(t, tar.Header{Name: "../../canary"}), true},
		"dots within":              {tarOf(t, tar.Header{Name: "a/../../../canary"}), true},
		"absolute":                 {tarOf(t, tar.Header{Name: outside + "/canary"}), false},
		"link to a directory":      {tarOf(t, link("l", outside), tar.Header{Name: "l/canary"}), true},
		"relative link":            {tarOf(t, link("l", strings.Repeat("../", 40)+outside), tar.Header{Name: "l/canary"}), true},
		"link to the file":         {tarOf(t, link("canary", outside+"/canary"), tar.Header{Name: "canary"}), false},
		"hard link":                {tarOf(t, tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: outside + "/canary"}), true},
		"hard link by dots":        {tarOf(t, tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "../../" + outside + "/canary"}), true},
		"hard link through a link": {tarOf(t, link("l", outside), tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "l/canary"}), true},
		"magic link":               {tarOf(t, tar.Header{Name: "proc/self/cwd/canary"}), false},
		"trusted attribute": {tarOf(t, tar.Header{Name: "x", Format: tar.FormatPAX,
			PAXRecords: map[string]string{xattrRecord + "trusted.overlay.opaque": "y"}}), true},
		"unknown kind": {tarOf(t, tar.Header{Name: "x", Typeflag: 'Z'}), true},
		"cut":          {tarOf(t, tar.Header{Name: "x"})[:512+3], true},
		"garbage":      {bytes.Repeat([]byte("garbage!"), 200), true},
		"negative id":  {tarOf(t, tar.Header{Name: "x", Uid: -5, Format: tar.FormatGNU}), true},
	}
}

func TestHostileTarsStayWithinTheRoot(t *testing.T) {
	outside := tree(t, "canary")
	for name, tc := range hostile(t, outside) {
		root := tree(t, "to/")
		err := unpack(viewOf(t, root), "/to", tc.tar, UnpackOptions{})
		if (err != nil) != tc.refused {
			t.Errorf("%s: got %v, refused: %t", name, err, tc.refused)
		}
		if b, err := os.ReadFile(filepath.Join(outside, "canary")); err != nil || string(b) != "content of canary" {
			t.Fatalf("%s: wrote outside of the root: %q %v", name, b, err)
		}
		if names, err := os.ReadDir(outside); err != nil || len(names) != 1 {
			t.Fatalf("%s: made %v outside of the root", name, names)
		}
		if name == "cut" {
			if _, err := os.Lstat(filepath.Join(root, "to", "x")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("half a file is left: %v", err)
			}
		}
	}
}

func TestDeepDirectoriesAreAnError(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range maxDepth + 10 {
		if err := unix.Mkdirat(fd, "d", 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, "d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		unix.Close(fd)
		if err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	unix.Close(fd)
	v := viewOf(t, dir)
	if _, _, err := pack(v, "/d"); err == nil || !strings.Contains(err.Error(), "nested deeper") {
		t.Errorf("pack: %v", err)
	}
	if err := unpack(v, "/", tarOf(t, tar.Header{Name: "d"}), UnpackOptions{}); err == nil || !strings.Contains(err.Error(), "nested deeper") {
		t.Errorf("replace: %v", err)
	}
}

func TestViewsLeaveNothing(t *testing.T) {
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	v, err := Assemble(Layout{At: at, Mounted: tree(t, "file")})
	if err != nil {
		t.Fatal(err)
	}
	during, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(during), at) {
		t.Errorf("the view is seen among the mounts: %v", err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Count(string(after), "\n") > strings.Count(string(before), "\n") {
		t.Errorf("mounts are left: %v", err)
	}
	if _, err := Assemble(Layout{At: at, Mounted: "/nosuch"}); err == nil {
		t.Error("a root that is not there is shown")
	}
}

func FuzzUnpack(f *testing.F) {
	outside := tree(f, "canary")
	for _, tc := range hostile(f, outside) {
		f.Add(tc.tar, false)
	}
	f.Add(tarOf(f, tar.Header{Name: "d/", Typeflag: tar.TypeDir}, tar.Header{Name: "d/f"}, tar.Header{Name: "d/l", Typeflag: tar.TypeLink, Linkname: "d/f"}), true)
	f.Fuzz(func(t *testing.T, b []byte, keep bool) {
		root := tree(t, "to/dir/file", "to/link -> dir", "secret")
		v := viewOf(t, root)
		if err := unpack(v, "/to", b, UnpackOptions{KeepKinds: keep}); err == nil {
			if _, _, err := pack(v, "/to"); err != nil {
				t.Errorf("what was unpacked cannot be packed: %v", err)
			}
		}
		if got, err := os.ReadFile(filepath.Join(outside, "canary")); err != nil || string(got) != "content of canary" {
			t.Fatalf("wrote outside of the root: %q %v", got, err)
		}
	})
}

func TestChangesAreDockers(t *testing.T) {
	bottom := tree(t, "same/file", "changed", "removed", "dir/old", "dir/gone", "etc/passwd")
	middle := tree(t, "removed-before/")
	upper := tree(t, "changed", "new/deep/file", "dir/new", "etc/", "dev/", "proc/", "same/")
	for _, err := range []error{
		os.WriteFile(filepath.Join(bottom, "hidden"), nil, 0o644),
		unix.Mknod(filepath.Join(middle, "hidden"), unix.S_IFCHR, 0), // removed by the image itself
		os.WriteFile(filepath.Join(upper, "hidden"), nil, 0o644),
		unix.Mknod(filepath.Join(upper, "removed"), unix.S_IFCHR, 0), unix.Mknod(filepath.Join(upper, "dir", "gone"), unix.S_IFCHR, 0),
		os.WriteFile(filepath.Join(upper, "etc", "hosts"), nil, 0o644), os.Symlink("/etc", filepath.Join(upper, "link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	at := time.Unix(1500000000, 0)
	for _, dir := range []string{bottom + "/same", upper + "/same", bottom + "/dir", upper + "/dir"} {
		if err := os.Chtimes(dir, at, at); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Changes(upper, []string{middle, bottom})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, ch := range got {
		lines = append(lines, "CAD"[ch.Kind:ch.Kind+1]+" "+ch.Path)
	}
	want := []string{"C /changed", "C /dir", "D /dir/gone", "A /dir/new", "A /hidden", "A /link", "A /new", "A /new/deep", "A /new/deep/file", "D /removed"}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	size, err := Size(upper)
	if want := len("content of changed") + len("content of new/deep/file") + len("content of dir/new"); err != nil || size != int64(want) {
		t.Errorf("size %d %v, want %d", size, err, want)
	}
}

func TestPathsAreTakenAsTheyAreWritten(t *testing.T) {
	for name, want := range map[string]string{
		"": "/", "/": "/", ".": "/.", "/.": "/.", "a": "/a", "/a/": "/a/", "/a/.": "/a/.", "/link/..": "/", "/link/../": "/", "/link/../.": "/.",
		"/link/../b": "/b", "../../b/": "/b/", "/a/..b": "/a/..b", "/a/./b//c/..": "/a/b",
	} {
		if got := written(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}
