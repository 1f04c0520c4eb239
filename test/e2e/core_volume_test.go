package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/tritond/triton/test/images"
)

// TestCoresOnAFullVolume: the store's volume is full, the daemon's is not: a crash still leaves its record and the stacks,
// the next one in the place of the oldest; where there is nothing to remove, the loss is told and counted. Containers do
// not notice.
func TestCoresOnAFullVolume(t *testing.T) {
	u := taking(t, "socket", "--min-free", "1048576")
	// The daemon made an empty store; it has a volume of its own from the next start on.
	if err := u.tritond.Stop(); err != nil {
		t.Fatal(err)
	}
	volume := filepath.Join(u.tritond.DataRoot, "cores")
	if err := syscall.Mount("tecores", volume, "tmpfs", 0, "size=48m,mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.tritond.Stop(); err != nil {
			t.Error(err)
		}
		if err := syscall.Unmount(volume, 0); err != nil {
			t.Error(err)
		}
	})
	u.restart(t)
	u.awaitTaken(t, "socket")
	lives := u.detached(t, images.Programs, "lines", "0", "50", "0")
	pid := u.pid(t, lives)
	crashes := func() (name string) {
		name = u.name(t)
		u.fails(t, 139, "", "run", "--name", name, images.Programs, "crash", "big", "256", "4")
		return name
	}

	fillVolume(t, filepath.Join(volume, "fill1"))
	first := crashes()
	r := u.onlyCore(t, first)
	equal(t, "body", r.Body, "mini")
	equal(t, "cut", r.Cut, "disk full")
	if len(r.Threads) != 3 {
		t.Errorf("%d threads", len(r.Threads))
	}
	matches(t, "triton cores show", u.triton(t, "cores", "show", r.ID), "the volume of the core dumps is full")
	core := filepath.Join(t.TempDir(), "core")
	u.triton(t, "cores", "pull", "-mini", "-o", core, r.ID)
	if pcs := gdbPCs(t, core); len(pcs) != 3 {
		t.Errorf("gdb finds %v", pcs)
	}

	fillVolume(t, filepath.Join(volume, "fill2"))
	second := crashes()
	r = u.onlyCore(t, second)
	equal(t, "cut of the second", r.Cut, "disk full")
	if len(r.Threads) != 3 || r.Body != "mini" && r.Body != "none" {
		t.Errorf("body %s, %d threads, missing %q", r.Body, len(r.Threads), r.Missing)
	}
	if out := u.triton(t, "cores", "ls"); strings.Contains(out, first) {
		t.Errorf("the oldest is still there:\n%s", out)
	}

	u.triton(t, "cores", "rm", r.ID)
	fillVolume(t, filepath.Join(volume, "fill3"))
	third := crashes()
	if out := u.triton(t, "cores", "ls"); strings.Contains(out, third) {
		t.Errorf("listed without a record:\n%s", out)
	}
	matches(t, "log", read(t, u.tritond.LogPath()), `core dump not taken.*no space left`)
	_, metrics := get(t, "http://"+u.tritond.HTTP+"/metrics", "")
	for _, want := range []string{`triton_core_dumps_total\{result="lost"\} 1`, `triton_core_dumps_cut_total\{reason="disk full"\} 2`} {
		if !regexp.MustCompile(want).MatchString(metrics) {
			t.Errorf("metrics have no %s:\n%s", want, regexp.MustCompile(`(?m)^triton_core.*$`).FindAllString(metrics, -1))
		}
	}

	equal(t, "pid of one that did not crash", fmt.Sprint(u.pid(t, lives)), fmt.Sprint(pid))
	equal(t, "run", u.ok(t, "run", "--rm", images.Busybox, "echo", "well"), "well")
	u.ok(t, "stop", lives)
	u.complete(t, lives, 0)
	for _, n := range []string{"fill1", "fill2", "fill3"} {
		if err := os.Remove(filepath.Join(volume, n)); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, "body with room again", u.onlyCore(t, crashes()).Body, "truncated")
}
