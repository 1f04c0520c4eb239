package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/tritond/triton/test/images"
)

// TestImageMountsOutliveTheDaemon: what a container mounts of an image stays while the image is removed and the daemon is
// killed, and is on no disk once the container is gone. own looks for mounts that are left.
func TestImageMountsOutliveTheDaemon(t *testing.T) {
	t.Parallel()
	u := own(t)
	u.ok(t, "tag", images.Programs, "shown")
	u.ok(t, "run", "-d", "--name", "shows", "--mount", "type=image,source=shown,target=/img", "--mount", "type=image,source=shown,target=/bin2,image-subpath=bin",
		images.Busybox, "sleep", "1000")
	u.fails(t, 1, "container [0-9a-f]{12} is using its referenced image", "rmi", images.Programs, "shown")
	u.ok(t, "create", "--name", "gone", "--mount", "type=image,source=shown,target=/img", images.Busybox, "true")
	layers := func() string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(u.tritond.DataRoot, "containerd", "rw", "default", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return strconv.Itoa(len(found))
	}
	equal(t, "layers of two containers and three mounts", layers(), "5")
	u.ok(t, "rm", "gone")
	eventually(t, 10*time.Second, "one container's layers are gone", func() bool { return layers() == "3" })
	sees := func(when string) {
		t.Helper()
		u.ok(t, "exec", "shows", "test", "-x", "/img/bin/httpd80", "-a", "-x", "/bin2/httpd80")
		u.fails(t, 1, "Read-only file system", "exec", "shows", "touch", "/img/x")
		to := filepath.Join(t.TempDir(), when)
		u.ok(t, "cp", "shows:/bin2/httpd80", to)
		if info, err := os.Stat(to); err != nil || info.Size() == 0 {
			t.Errorf("copied %s: %v %v", when, info, err)
		}
	}
	sees("before")
	u.kill(t)
	u.restart(t)
	sees("after a crash")
	u.ok(t, "restart", "-t", "0", "shows")
	sees("after a restart")
	u.ok(t, "stop", "-t", "0", "shows")
	to := filepath.Join(t.TempDir(), "stopped")
	u.ok(t, "cp", "shows:/img/bin/httpd80", to)
	u.ok(t, "rm", "-f", "shows")
	eventually(t, 10*time.Second, "all layers are gone", func() bool { return layers() == "0" })
}
