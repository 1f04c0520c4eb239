package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

// restart starts a daemon again that was stopped or killed.
func (u *under) restart(t *testing.T) {
	t.Helper()
	u.api.Close()
	startOwn(t, u.tritond)
}

// kill ends the daemon by SIGKILL.
func (u *under) kill(t *testing.T) {
	t.Helper()
	if err := u.tritond.Kill(); err != nil {
		t.Fatal(err)
	}
}

// shimOf returns the parent of a container's first process.
func (u *under) shimOf(t *testing.T, name string) int {
	t.Helper()
	shim, err := engine.Parent(u.pid(t, name))
	if err != nil {
		t.Fatal(err)
	}
	if shim == u.tritond.Pid() || shim <= 1 {
		t.Fatalf("parent of %s is %d, not a shim", name, shim)
	}
	return shim
}

// held starts a container whose program is held back until release: so nothing ends before the test is ready for it,
// however slow the machine.
func (u *under) held(t *testing.T, flags []string, program string) string {
	t.Helper()
	args := append(append([]string{}, flags...), images.Programs, "sh", "-c", "until [ -e /go ]; do sleep 0.1; done; exec "+program)
	return u.detached(t, args...)
}

// release lets the program of a held container run. It goes through the process's own root, so that no docker
// command is under way when the daemon dies.
func release(t *testing.T, pid int) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/root/go", pid), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// gone waits until none of the processes exists any more; a zombie that nobody reaped counts as gone.
func gone(t *testing.T, pids ...int) {
	t.Helper()
	eventually(t, 60*time.Second, fmt.Sprintf("processes %v are gone", pids), func() bool {
		for _, pid := range pids {
			if state, err := engine.StatusField(pid, "State"); err == nil && !strings.HasPrefix(state, "Z") {
				return false
			}
		}
		return true
	})
}

// counting starts a container that writes numbered lines until SIGTERM ends it with code 77, which it does from the first line on: the
// first process of a container is not ended by a signal that it does not handle yet.
func (u *under) counting(t *testing.T, perSecond string) (name string) {
	t.Helper()
	name = u.detached(t, images.Programs, "lines", "0", perSecond, "0")
	eventually(t, 30*time.Second, "lines are written", func() bool { return u.docker(t, "logs", name).Stdout != "" })
	return name
}

// complete checks that a container's log holds the lines 1 to n of both streams, each once, and returns n.
// want 0: as many as there are.
func (u *under) complete(t *testing.T, name string, want int) int {
	t.Helper()
	res := u.docker(t, "logs", name)
	n := strings.Count(res.Stdout, "\n")
	if want == 0 {
		want = n
	}
	if res.Stdout != numbered("o", 1, want) {
		t.Errorf("%s: stdout has not the lines 1 to %d: %s", name, want, firstWrong(res.Stdout, "o"))
	}
	// The other stream may be a line behind while the program runs.
	behind := strings.Count(res.Stderr, "\n")
	if res.Stderr != numbered("e", 1, behind) || behind < want-1 || behind > want+1 {
		t.Errorf("%s: stderr has not the lines 1 to %d: %s", name, want, firstWrong(res.Stderr, "e"))
	}
	return n
}

// firstWrong describes where numbered lines go wrong.
func firstWrong(text, stream string) string {
	i := 0
	for line := range strings.Lines(text) {
		if i++; line != fmt.Sprintf("%s %d\n", stream, i) {
			return fmt.Sprintf("line %d is %q", i, line)
		}
	}
	return fmt.Sprintf("ends after line %d", i)
}

// TestDaemonKilledUnderFiftyContainers: 40 go on, 10 end while no daemon lives.
func TestDaemonKilledUnderFiftyContainers(t *testing.T) {
	t.Parallel()
	u := own(t)
	const n, ending, endLines = 50, 10, 100
	names := make([]string, n)
	pids := make([]int, n)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for i := range names {
		names[i] = u.name(t)
		args := []string{"run", "-d", "--name", names[i], images.Programs, "lines", "0", "20", "0"}
		if i < ending {
			args = []string{"run", "-d", "--name", names[i], images.Programs, "sh", "-c",
				fmt.Sprintf("until [ -e /go ]; do sleep 0.1; done; exec lines %d 100 %d", endLines, 100+i)}
		}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if res, err := u.cli.Run(t.Context(), nil, args...); err != nil || res.Code != 0 {
				t.Errorf("run %s: %v %s", names[i], err, res.Stderr)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for i, name := range names {
		pids[i] = u.pid(t, name)
	}
	for i := range ending {
		release(t, pids[i])
	}
	killed := time.Now()
	u.kill(t)
	gone(t, pids[:ending]...)
	allGone := time.Now()
	u.restart(t)

	for i, name := range names[:ending] {
		equal(t, "exit code", u.inspect(t, name, "{{.State.Status}} {{.State.ExitCode}}"), fmt.Sprintf("exited %d", 100+i))
		finished, err := time.Parse(time.RFC3339Nano, u.inspect(t, name, "{{.State.FinishedAt}}"))
		if err != nil || finished.Before(killed) || finished.After(allGone) {
			t.Errorf("%s finished at %v, want between %v and %v (%v)", name, finished, killed, allGone, err)
		}
		u.complete(t, name, endLines)
		out := u.ok(t, "events", "--since", fmt.Sprint(killed.Unix()-1), "--until", "0s", "--filter", "container="+name, "--filter", "event=die", "--format", "{{json .}}")
		events := parseEvents(t, out)
		if len(events) != 1 || events[0].Actor.Attributes["exitCode"] != strconv.Itoa(100+i) || events[0].TimeNano != finished.UnixNano() {
			t.Errorf("die events of %s: %s, want one at %d", name, out, finished.UnixNano())
		}
	}
	for i, name := range names[ending:] {
		if pid := u.pid(t, name); pid != pids[ending+i] {
			t.Errorf("%s had pid %d, now %d", name, pids[ending+i], pid)
		}
		writes := u.mustObserve(t, name).Syscalls["write"].Count
		eventually(t, 10*time.Second, "probes count on", func() bool {
			o, err := u.observed(t.Context(), name)
			return err == nil && o.Syscalls["write"].Count > writes
		})
	}
	u.ok(t, append([]string{"stop"}, names[ending:]...)...)
	for _, name := range names[ending:] {
		equal(t, "exit code after stop", u.inspect(t, name, "{{.State.ExitCode}}"), "77")
		u.complete(t, name, 0)
	}
}

func TestShimKilledIsAdopted(t *testing.T) {
	t.Parallel()
	u := own(t)
	name := u.held(t, nil, "lines 300 100 33")
	pid, shim := u.pid(t, name), u.shimOf(t, name)
	release(t, pid)
	eventually(t, 20*time.Second, "lines are written", func() bool { return u.docker(t, "logs", name).Stdout != "" })
	if err := syscall.Kill(shim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone(t, shim)
	eventually(t, 10*time.Second, "exec works again", func() bool { return u.docker(t, "exec", name, "true").Code == 0 })
	if now := u.pid(t, name); now != pid {
		t.Errorf("had pid %d, now %d", pid, now)
	}
	equal(t, "wait", u.ok(t, "wait", name), "33")
	u.complete(t, name, 300)
	equal(t, "inspect", u.inspect(t, name, "{{.State.ExitCode}} {{.State.OOMKilled}} [{{.State.Error}}]"), "33 false []")
	u.ok(t, "start", name)
	equal(t, "second run", u.ok(t, "wait", name), "33")
}

func TestShimKilledStillStopsAndRemoves(t *testing.T) {
	t.Parallel()
	u := own(t)
	name := u.counting(t, "50")
	if err := syscall.Kill(u.shimOf(t, name), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	u.ok(t, "stop", name)
	equal(t, "exit code", u.inspect(t, name, "{{.State.ExitCode}}"), "77")
	u.complete(t, name, 0)
	u.ok(t, "rm", name)
}

func TestDaemonAndShimKilledKeepTheExitCode(t *testing.T) {
	t.Parallel()
	u := own(t)
	const lines = 100
	ends := u.held(t, nil, fmt.Sprintf("lines %d 50 41", lines))
	lives := u.counting(t, "50")
	pid, shims := u.pid(t, ends), []int{u.shimOf(t, ends), u.shimOf(t, lives)}
	livePid := u.pid(t, lives)
	release(t, pid)
	u.kill(t)
	for _, shim := range shims {
		if err := syscall.Kill(shim, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	gone(t, append(shims, pid)...)
	u.restart(t)
	equal(t, "exit code", u.inspect(t, ends, "{{.State.Status}} {{.State.ExitCode}}"), "exited 41")
	u.complete(t, ends, lines)
	if now := u.pid(t, lives); now != livePid {
		t.Errorf("the one that lives had pid %d, now %d", livePid, now)
	}
	u.ok(t, "stop", lives)
	equal(t, "exit code", u.inspect(t, lives, "{{.State.ExitCode}}"), "77")
	u.complete(t, lives, 0)
}

func TestAutoRemoveIsMadeGoodAfterAKill(t *testing.T) {
	t.Parallel()
	u := own(t)
	name := u.held(t, []string{"--rm"}, "lines 20 20 0")
	pid := u.pid(t, name)
	release(t, pid)
	u.kill(t)
	gone(t, pid)
	u.restart(t)
	eventually(t, 10*time.Second, "the --rm container is removed", func() bool { return u.docker(t, "inspect", name).Code != 0 })
}

func TestDaemonStoppedInOrderKeepsContainers(t *testing.T) {
	t.Parallel()
	u := own(t)
	name := u.counting(t, "50")
	pid := u.pid(t, name)
	if err := u.tritond.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err != nil {
		t.Fatalf("the container ended with the daemon: %v", err)
	}
	u.restart(t)
	if now := u.pid(t, name); now != pid {
		t.Errorf("had pid %d, now %d", pid, now)
	}
	equal(t, "exec", u.ok(t, "exec", name, "echo", "still here"), "still here")
	u.ok(t, "stop", name)
	u.complete(t, name, 0)
}

// keeper is the process that keeps sockets and descriptors; one that was killed may be replaced meanwhile.
func (u *under) keeper(t *testing.T) (pid int) {
	t.Helper()
	eventually(t, 20*time.Second, "there is a keeper", func() bool {
		keepers := engine.Pids(func(pid int) bool {
			line := engine.Cmdline(pid)
			return strings.Contains(line, "triton-shim keep ") && strings.Contains(line, u.tritond.RunRoot)
		})
		if len(keepers) != 1 {
			return false
		}
		pid = keepers[0]
		return true
	})
	return pid
}

func TestKeeperKilledIsReplaced(t *testing.T) {
	t.Parallel()
	u := own(t)
	name := u.counting(t, "50")
	keeper := u.keeper(t)
	if err := syscall.Kill(keeper, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone(t, keeper)
	eventually(t, 20*time.Second, "runs work again", func() bool { return u.docker(t, "run", "--rm", images.True).Code == 0 })
	u.ok(t, "stop", name)
	u.complete(t, name, 0)
}

// TestDaemonKilledAtAnyMoment kills the daemon at random moments of create, start, exec and rm. Afterwards everything
// can be listed and removed; own checks that nothing is left.
func TestDaemonKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	u := own(t)
	rounds := 4
	if all.long {
		rounds = 20
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range rounds {
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				// Each of these may fail: the daemon dies under them.
				id, _ := u.cli.Run(t.Context(), nil, "run", "-d", images.Busybox, "sleep", "1000")
				u.cli.Run(t.Context(), nil, "exec", strings.TrimSpace(id.Stdout), "true")
				if i%2 == 0 {
					u.cli.Run(t.Context(), nil, "rm", "-f", strings.TrimSpace(id.Stdout))
				}
			})
		}
		moment := time.NewTimer(time.Duration(50+rng.IntN(500)) * time.Millisecond)
		<-moment.C
		u.kill(t)
		wg.Wait()
		u.restart(t)
	}
	for _, id := range strings.Fields(u.ok(t, "ps", "-aq", "--no-trunc")) {
		status := u.inspect(t, id, "{{.State.Status}}")
		matches(t, "status of "+id, status, "^(created|running|exited)$")
		u.ok(t, "rm", "-f", id)
	}
	equal(t, "containers after rm", u.ok(t, "ps", "-aq"), "")
	equal(t, "run", u.ok(t, "run", "--rm", images.Busybox, "echo", "well"), "well")
}
