package shim

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// testShim is the shim under test, built once as it is for users.
var testShim string

// testLayer is a directory with a statically linked busybox and its applets: the one image layer of the tests.
var testLayer string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "shimtest")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o755)
	}
	if err == nil {
		testShim = filepath.Join(dir, "triton-shim")
		err = command("go", "build", "-tags", "seccomp", "-ldflags", "-s -w", "-o", testShim, "../../cmd/triton-shim")
	}
	if err == nil {
		err = command("../../cmd/triton-enter/build", filepath.Join(dir, EnterName))
	}
	if err == nil {
		testLayer = filepath.Join(dir, "layer")
		err = makeLayer(testLayer)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

func makeLayer(dir string) error {
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", "root", "data"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	busybox := filepath.Join(dir, "bin/busybox")
	if err := command("cp", "/usr/bin/busybox", busybox); err != nil {
		return err
	}
	if err := command(busybox, "--install", "-s", filepath.Join(dir, "bin")); err != nil {
		return err
	}
	// --install links to the path it was called by; in the container that is /bin/busybox.
	entries, err := os.ReadDir(filepath.Join(dir, "bin"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		link := filepath.Join(dir, "bin", e.Name())
		if e.Type()&os.ModeSymlink != 0 {
			if err := os.Remove(link); err != nil {
				return err
			}
			if err := os.Symlink("/bin/busybox", link); err != nil {
				return err
			}
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/notexec"), []byte("data"), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n"), 0o644)
}
