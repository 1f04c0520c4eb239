package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/test/images"
)

// TestReadOnlyBindsAndTheMountsBelow: a read-only bind is read-only as a whole, unless the mounts below are left as they are.
func TestReadOnlyBindsAndTheMountsBelow(t *testing.T) {
	u := shared(t)
	top := t.TempDir()
	below := filepath.Join(top, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", below, "tmpfs", 0, "mode=0777"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(below, 0); err != nil {
			t.Error(err)
		}
	})
	bind := "type=bind,src=" + top + ",dst=/b,readonly"
	for _, c := range []struct{ options, path, want string }{
		{"", "/b/x", "Read-only file system"},
		{"", "/b/below/x", "Read-only file system"},
		{",bind-recursive=readonly,bind-propagation=rprivate", "/b/below/x", "Read-only file system"},
		{",bind-recursive=writable", "/b/x", "Read-only file system"},
	} {
		u.fails(t, 1, c.want, "run", "--rm", "--mount", bind+c.options, images.Busybox, "touch", c.path)
	}
	name := u.detached(t, "--mount", bind+",bind-recursive=writable", images.Busybox, "sleep", "1000")
	u.ok(t, "exec", name, "touch", "/b/below/x")
	equal(t, "inspect", u.inspect(t, name, "{{range .HostConfig.Mounts}}{{json .BindOptions}}{{end}}"), `{"ReadOnlyNonRecursive":true}`)
	u.ok(t, "cp", name+":/b/below/x", filepath.Join(top, "copy"))
	u.ok(t, "cp", filepath.Join(top, "copy"), name+":/b/below/y")
	u.fails(t, 1, "read-only", "cp", filepath.Join(top, "copy"), name+":/b/y")
	if _, err := os.Stat(filepath.Join(below, "y")); err != nil {
		t.Error(err)
	}
}
