package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/tritond/triton/test/images"
)

func TestInitForwardsSignalsAndReaps(t *testing.T) {
	u := shared(t)
	// A shell that waits for nobody leaves zombies where nobody reaps: its orphans end at once.
	name := u.detached(t, "--init", images.Busybox, "sh", "-c",
		"trap 'exit 44' TERM; for i in 1 2 3; do (sleep 0.01 & ); done; echo armed; while :; do sleep 0.02; done")
	eventually(t, 10*time.Second, "trap is set", func() bool { return u.runs(t, name) == 1 })
	matches(t, "first process", u.ok(t, "exec", name, "cat", "/proc/1/cmdline"), `^/sbin/docker-init\x00--\x00sh\x00-c`)
	matches(t, "top", u.ok(t, "top", name), `docker-init -- sh -c`)
	eventually(t, 20*time.Second, "no zombie is left", func() bool {
		return !strings.Contains(u.ok(t, "exec", name, "sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null; true"), ") Z ") // some end before they are read
	})
	equal(t, "inspect", u.inspect(t, name, "{{.HostConfig.Init}} {{.Path}}"), "true sh")
	u.ok(t, "stop", name)
	equal(t, "exit code", u.inspect(t, name, "{{.State.ExitCode}}"), "44")
}

func TestInitPassesTheExitCodeOn(t *testing.T) {
	u := shared(t)
	for code, args := range map[int][]string{
		7: {"sh", "-c", "exit 7"}, 143: {"sh", "-c", "kill -TERM $$"}, 127: {"nosuch"}, 126: {"/etc/passwd"},
	} {
		if res := u.docker(t, append([]string{"run", "--rm", "--init", images.Busybox}, args...)...); res.Code != code {
			t.Errorf("%q: exit code %d, want %d: %s", args, res.Code, code, res.Stderr)
		}
	}
	equal(t, "as another user", u.ok(t, "run", "--rm", "--init", "--user", "1000", "--read-only", images.Busybox, "id", "-u"), "1000")
	equal(t, "no init by default", u.ok(t, "run", "--rm", images.Busybox, "sh", "-c", "echo $$"), "1")
	x := u.terminal(t, 24, 80, "run", "--rm", "-it", "--init", images.Busybox, "sh", "-c", "tty; echo pid $$")
	x.expect("/dev/pts/0")
	x.expect("pid ")
}
