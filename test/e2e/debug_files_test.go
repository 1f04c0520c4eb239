package e2e

import (
	"debug/elf"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/backtrace"
	"github.com/tritond/triton/test/images"
)

// parted is a program without debug information, and where that is.
type parted struct{ exe, debug, id string }

// part compiles a program and parts it from its debug information, as distributions do.
func part(t *testing.T, name string, flags ...string) parted {
	t.Helper()
	whole := build(t, name, slices.Concat([]string{"cc", "-O2", "-g", "-gz", "-static", "-Wl,--build-id", "-fomit-frame-pointer", "-pthread", "testdata/stacks/stacks.c"}, flags)...)
	p := parted{exe: whole + ".stripped", debug: whole + ".debug"}
	for _, args := range [][]string{{"--only-keep-debug", whole, p.debug}, {"--strip-all", whole, p.exe}} {
		if out, err := exec.CommandContext(t.Context(), "objcopy", args...).CombinedOutput(); err != nil {
			t.Fatalf("objcopy: %v\n%s", err, out)
		}
	}
	f, err := elf.Open(whole)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	note, err := f.Section(".note.gnu.build-id").Data()
	if err != nil {
		t.Fatal(err)
	}
	p.id = hex.EncodeToString(note[16:]) // behind the head and "GNU"
	return p
}

// crashWith crashes a program that lies in its container's own files, with whatever put makes at the place of its debug file there.
func (u *under) crashWith(t *testing.T, p parted, put func(place string) error, flags ...string) (name string) {
	t.Helper()
	root, name := t.TempDir(), u.name(t)
	place := filepath.Join(root, "usr/lib/debug/.build-id", p.id[:2], p.id[2:]+".debug")
	if err := errors.Join(os.Chmod(root, 0o755), os.MkdirAll(filepath.Dir(place), 0o755), copyFile(p.exe, filepath.Join(root, "program"), 0o755), put(place)); err != nil {
		t.Fatal(err)
	}
	u.ok(t, slices.Concat([]string{"create", "--name", name, "--label", "triton.core=full"}, flags, []string{images.Busybox, "/program", "null"})...)
	u.ok(t, "cp", root+"/.", name+":/")
	u.fails(t, 139, "", "start", "-a", name)
	return name
}

func copyFile(from, to string, mode os.FileMode) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, mode)
}

// TestSeparateDebugFiles: what the image has of a program's debug information by its build id is read, and is in the bundle; what is not
// of that build id is not, and nothing is opened outside of the container's files or that the process may not read.
func TestSeparateDebugFiles(t *testing.T) {
	u := taking(t, "socket")
	p, another := part(t, "program"), part(t, "another", "-O1")
	for _, c := range []struct {
		name  string
		put   func(place string) error
		flags []string
		read  bool
	}{
		{"at its place", func(place string) error { return copyFile(p.debug, place, 0o644) }, nil, true},
		{"by a link that is meant for the container", func(place string) error {
			at := filepath.Join(place, "../../../../../../else.debug")
			return errors.Join(copyFile(p.debug, at, 0o644), os.Symlink("/else.debug", place))
		}, nil, true},
		{"of another program", func(place string) error { return copyFile(another.debug, place, 0o644) }, nil, false},
		{"by a link that leads out", func(place string) error { return os.Symlink(strings.Repeat("../", 20)+p.debug, place) }, nil, false},
		{"by a link to a file of the host in the daemon's root", func(place string) error { return os.Symlink("/proc/1/root"+p.debug, place) }, nil, false},
		{"in a volume", func(place string) error { return os.Symlink("/volume/program.debug", place) }, []string{"-v", filepath.Dir(p.debug) + ":/volume:ro"}, false},
		{"a pipe", func(place string) error { return unix.Mkfifo(place, 0o644) }, nil, false},
		{"that the process may not read", func(place string) error { return copyFile(p.debug, place, 0o600) }, []string{"--user", "1000"}, false},
		{"that others may not read, but the process", func(place string) error { return copyFile(p.debug, place, 0o600) }, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, b, text := u.stacksOf(t, u.crashWith(t, p, c.put, c.flags...))
			lines := slices.ContainsFunc(b.Threads[0].Frames, func(f backtrace.Frame) bool {
				return f.Func == "call_null" && strings.HasSuffix(f.File, "stacks.c") && f.Line > 0
			})
			if lines != c.read {
				t.Errorf("read: %v, want %v:\n%s", lines, c.read, text)
			}
			if kept := slices.ContainsFunc(u.identities(t)[r.ID].Kept, func(k keptFile) bool { return k.DebugOf == p.id && k.Object != "" }); kept != c.read {
				t.Errorf("kept: %v, want %v", kept, c.read)
			}
			if gdb := u.triton(t, "cores", "gdb", r.ID, "-batch", "-ex", "bt"); strings.Contains(gdb, "stacks.c:") != c.read {
				t.Errorf("gdb reads of the bundle\n%s", gdb)
			}
		})
	}
}
