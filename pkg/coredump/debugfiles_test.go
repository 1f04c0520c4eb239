package coredump

import (
	"bytes"
	"debug/elf"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/procfs"
)

// TestBuildIDOfASeparateDebugFile: it is that of the whole file, whose note the linker wrote.
func TestBuildIDOfASeparateDebugFile(t *testing.T) {
	dir := t.TempDir()
	source, whole, debug := filepath.Join(dir, "m.c"), filepath.Join(dir, "m"), filepath.Join(dir, "m.debug")
	if err := os.WriteFile(source, []byte("int main(void) { return 1; }"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"cc", "-g", "-Wl,--build-id=sha1", "-o", whole, source}, {"objcopy", "--only-keep-debug", whole, debug}} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
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
	const behindName = 16
	want := hex.EncodeToString(note[behindName:])
	for _, path := range []string{whole, debug} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := fileBuildID(bytes.NewReader(b)); got != want || len(want) != 40 {
			t.Errorf("the build id of %s is %q, want %q", path, got, want)
		}
	}
}

func FuzzFileBuildID(f *testing.F) {
	head := make([]byte, 64+64+36)
	copy(head, "\x7fELF\x02\x01\x01")
	head[40], head[58], head[60] = 64, 64, 1          // a section header behind this one
	head[64+4], head[64+24], head[64+32] = 7, 128, 36 // of a note behind it
	copy(head[128:], "\x04\x00\x00\x00\x14\x00\x00\x00\x03\x00\x00\x00GNU\x00aaaaaaaaaaaaaaaaaaaa")
	if fileBuildID(bytes.NewReader(head)) == "" {
		f.Fatal("the seed has no build id")
	}
	f.Add(head)
	f.Fuzz(func(t *testing.T, b []byte) {
		if id := fileBuildID(bytes.NewReader(b)); len(id) > 2*maxBuildID || id != "" && !bytes.HasPrefix(b, []byte(elf.ELFMAG)) {
			t.Errorf("%q of %d bytes", id, len(b))
		}
	})
}

// TestDebugFilesAreLookedUpInTheProcesssRoot, with its rights, whatever links lead elsewhere.
func TestDebugFilesAreLookedUpInTheProcesssRoot(t *testing.T) {
	const nobody = 65534
	root := t.TempDir()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, debugDir)
	for _, err := range []error{
		os.Chmod(filepath.Dir(root), 0o755), os.Chmod(root, 0o755), os.WriteFile(filepath.Join(root, "busybox"), busybox, 0o755),
		os.MkdirAll(filepath.Join(dir, "aa"), 0o755), os.WriteFile(filepath.Join(root, "else"), []byte("else"), 0o644),
		os.WriteFile(filepath.Join(dir, "aa/file.debug"), []byte("file"), 0o644), os.WriteFile(filepath.Join(dir, "aa/secret.debug"), []byte("secret"), 0o600),
		os.Symlink("/else", filepath.Join(dir, "aa/within.debug")), os.Symlink("/etc/passwd", filepath.Join(dir, "aa/without.debug")),
		os.Symlink(strings.Repeat("../", 20)+"etc/passwd", filepath.Join(dir, "aa/above.debug")),
		unix.Mkfifo(filepath.Join(dir, "aa/fifo.debug"), 0o644), os.Mkdir(filepath.Join(dir, "aa/folder.debug"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "/busybox", "cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	cmd.Dir = "/"
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	d, err := procfs.Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	files, err := (&procDir{d}).debugFiles([]string{"aafile", "aasecret", "aawithin", "aawithout", "aaabove", "aafifo", "aafolder", "aanone", "bbnone"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range files {
		b, err := io.ReadAll(f)
		if err != nil {
			t.Error(err)
		}
		got[f.id+" "+f.path] = string(b)
		f.Close()
	}
	want := map[string]string{"aafile /" + debugDir + "/aa/file.debug": "file", "aawithin /" + debugDir + "/aa/within.debug": "else"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := os.ReadFile(filepath.Join(dir, "aa/secret.debug")); err != nil {
		t.Errorf("this process has lost its rights: %v", err)
	}
}
