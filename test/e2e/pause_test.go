package e2e

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tritond/triton/test/images"
)

const ticking = "while :; do echo tick; sleep 0.05; done"

func TestPauseStopsEveryProcessUntilUnpause(t *testing.T) {
	u := shared(t)
	name := u.detached(t, images.Busybox, "sh", "-c", ticking)
	lines := func() int { return strings.Count(u.docker(t, "logs", name).Stdout, "tick") }
	eventually(t, 10*time.Second, "it ticks", func() bool { return lines() > 1 })
	u.ok(t, "pause", name)
	equal(t, "state", u.inspect(t, name, "{{.State.Status}} {{.State.Running}} {{.State.Paused}}"), "paused true true")
	equal(t, "found by its state", u.ok(t, "ps", "-q", "--no-trunc", "--filter", "status=paused", "--filter", "name="+name), u.inspect(t, name, "{{.Id}}"))
	matches(t, "ps", u.ok(t, "ps", "--filter", "name="+name, "--format", "{{.Status}}"), `^Up .* \(Paused\)$`)
	still := lines()
	u.ok(t, "top", name) // some time passes in which it would tick
	equal(t, "lines of a paused container", strconv.Itoa(lines()), strconv.Itoa(still))

	u.fails(t, 1, "(?i)is already paused", "pause", name)
	u.fails(t, 1, "(?i)is paused, unpause the container before exec", "exec", name, "true")
	u.fails(t, 1, "(?i)paused", "attach", name)
	u.fails(t, 1, "(?i)cannot start a paused container, try unpause instead", "start", name)
	u.fails(t, 1, "(?i)container is paused and must be unpaused first", "rm", name)

	u.ok(t, "unpause", name)
	equal(t, "state", u.inspect(t, name, "{{.State.Status}}"), "running")
	eventually(t, 10*time.Second, "it ticks again", func() bool { return lines() > still })
	u.fails(t, 1, "(?i)is not paused", "unpause", name)
	u.ok(t, "kill", name)
	u.ok(t, "wait", name)
	u.fails(t, 1, "(?i)is not running", "pause", name)
	equal(t, "events", u.past(t, 2, "--filter", "container="+name, "--filter", "event=pause", "--filter", "event=unpause", "--format", "{{.Action}}"), "pause\nunpause")
}

func TestStopKillAndForcedRemovalReachAPausedContainer(t *testing.T) {
	u := shared(t)
	stopped := u.detached(t, images.Busybox, "sh", "-c", "trap 'exit 41' TERM; echo armed; "+ticking)
	eventually(t, 10*time.Second, "trap is set", func() bool { return strings.Contains(u.docker(t, "logs", stopped).Stdout, "armed") })
	u.ok(t, "pause", stopped)
	u.ok(t, "stop", stopped)
	equal(t, "exit code after stop", u.inspect(t, stopped, "{{.State.ExitCode}} {{.State.Paused}}"), "41 false")

	killed := u.detached(t, images.Busybox, "sleep", "600")
	u.ok(t, "pause", killed)
	u.ok(t, "kill", killed)
	equal(t, "exit code after kill", u.ok(t, "wait", killed), "137")

	removed := u.detached(t, images.Busybox, "sleep", "600")
	u.ok(t, "pause", removed)
	u.ok(t, "rm", "-f", removed)
	u.fails(t, 1, "(?i)no such", "inspect", removed)
}

func TestPausedContainerStaysSoThroughAKilledDaemon(t *testing.T) {
	tritonOnly(t)
	u := own(t)
	name := u.detached(t, images.Busybox, "sh", "-c", ticking)
	u.ok(t, "pause", name)
	u.kill(t)
	u.restart(t)
	equal(t, "state", u.inspect(t, name, "{{.State.Status}}"), "paused")
	u.ok(t, "unpause", name)
	before := len(u.docker(t, "logs", name).Stdout)
	eventually(t, 10*time.Second, "it ticks", func() bool { return len(u.docker(t, "logs", name).Stdout) > before })
}

func TestRenameFreesTheOldNameAndTakesTheNew(t *testing.T) {
	u := shared(t)
	first := u.detached(t, images.Busybox, "sleep", "600")
	second := u.detached(t, images.Busybox, "sleep", "600")
	id := u.inspect(t, first, "{{.Id}}")
	u.fails(t, 1, `(?i)conflict.* name "/`+second+`" is already in use by container "[0-9a-f]{64}"`, "rename", first, second)
	u.fails(t, 1, "(?i)same name as its current name", "rename", first, first)
	u.fails(t, 1, "(?i)invalid container name", "rename", first, "a b")
	renamed := u.name(t)
	u.ok(t, "rename", first, renamed)
	equal(t, "id behind the new name", u.inspect(t, renamed, "{{.Id}} {{.Name}}"), id+" /"+renamed)
	u.fails(t, 1, "(?i)no such", "inspect", first)
	equal(t, "ps", u.ok(t, "ps", "--filter", "id="+id, "--format", "{{.Names}}"), renamed)
	seen := u.past(t, 1, "--filter", "container="+id, "--filter", "event=rename", "--format", `{{.Actor.Attributes.oldName}} {{.Actor.Attributes.name}}`)
	equal(t, "event", seen, "/"+first+" "+renamed)
	u.ok(t, "rename", second, first)
	u.ok(t, "rm", "-f", renamed, first)
}

func TestTopShowsTheContainersProcessesOnly(t *testing.T) {
	u := shared(t)
	name := u.detached(t, images.Busybox, "sh", "-c", "sleep 601 & sleep 602; true")
	eventually(t, 10*time.Second, "both sleep", func() bool {
		out := u.docker(t, "top", name).Stdout
		return strings.Contains(out, "sleep 601") && strings.Contains(out, "sleep 602")
	})
	rows := strings.Split(u.ok(t, "top", name), "\n")
	matches(t, "titles", rows[0], `^UID\s+PID\s+PPID\s+C\s+STIME\s+TTY\s+TIME\s+CMD`)
	if len(rows) != 4 {
		t.Errorf("%d processes, want 3:\n%s", len(rows)-1, strings.Join(rows, "\n"))
	}
	for _, options := range []string{"aux", "axf", "-eo pid,comm"} {
		out := u.ok(t, append([]string{"top", name}, strings.Fields(options)...)...)
		if n := strings.Count(out, "sleep"); n < 2 || strings.Contains(out, "tritond") {
			t.Errorf("top %s:\n%s", options, out)
		}
	}
	u.fails(t, 1, "PID field", "top", name, "-o", "comm")
	u.ok(t, "kill", name)
	u.ok(t, "wait", name)
	u.fails(t, 1, "(?i)is not running", "top", name)
}

func TestStatsShowHalfAProcessorOfABusyContainerThatMayHaveHalf(t *testing.T) {
	u := shared(t)
	name := u.detached(t, "--cpus", "0.5", "-m", "64m", images.Busybox, "sh", "-c", "while :; do :; done")
	share := func() float64 {
		out := strings.TrimSuffix(u.ok(t, "stats", "--no-stream", "--format", "{{.CPUPerc}}", name), "%")
		v, err := strconv.ParseFloat(out, 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	// The kernel gives 50 ms of each 100 ms; at a machine's busiest second it may give less, and a second that begins and ends
	// with a piece has eleven of them.
	within := false
	var seen []float64
	for range 5 {
		v := share()
		seen = append(seen, v)
		if v > 56 {
			t.Errorf("%.2f %% of a processor, more than the limit", v)
		}
		if within = v >= 47; within {
			break
		}
	}
	if !within {
		t.Errorf("shares of a processor %v, want 50 ± 3 %%", seen)
	}
	matches(t, "memory", u.ok(t, "stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", name), `^[0-9.]+[KM]iB / 64MiB 1$`)
	u.ok(t, "kill", name)
	u.ok(t, "wait", name)
	equal(t, "stats of what does not run", u.ok(t, "stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}} {{.PIDs}}", name), name+" 0.00% 0")
}
