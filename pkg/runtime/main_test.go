package runtime

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/tritond/triton/pkg/shim"
)

// testShim is the shim that the kernel tests use, built once as it is for users.
var testShim string

// testLayer is a directory with a statically linked busybox and its applets: the one image layer of the tests.
var testLayer string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "runtimetest")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o711)
	}
	if err == nil {
		testShim = filepath.Join(dir, "triton-shim")
		err = command("go", "build", "-tags", "seccomp", "-ldflags", "-s -w", "-o", testShim, "../../cmd/triton-shim")
	}
	if err == nil {
		err = command("../../cmd/triton-enter/build", filepath.Join(dir, shim.EnterName))
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
	for _, name := range []string{
		"sh", "cat", "id", "sleep", "true", "stat", "ls", "env",
		"hostname", "seq", "grep", "kill", "head", "touch", "mount", "sed", "tail", "readlink",
		"tr", "stty", "tty", "wc", "mknod",
	} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/group"), []byte("root:x:0:\nlogs:x:1002:user\n"), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"), 0o644)
}
