package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tritond/triton/test/images"
)

// health is what inspect shows.
type health struct {
	Status        string
	FailingStreak int
	Log           []struct {
		Start, End time.Time
		ExitCode   int
		Output     string
	}
}

func (u *under) health(t *testing.T, name string) health {
	t.Helper()
	var h health
	if err := json.Unmarshal([]byte(u.inspect(t, name, "{{json .State.Health}}")), &h); err != nil {
		t.Fatal(err)
	}
	return h
}

// becomes waits for a health status.
func (u *under) becomes(t *testing.T, name, status string) {
	t.Helper()
	eventually(t, 30*time.Second, name+" is "+status, func() bool { return u.health(t, name).Status == status })
}

func TestHealthFollowsTheCommand(t *testing.T) {
	u := shared(t)
	name := u.detached(t, "--health-cmd", "echo probe by $(id -u) in $PWD; test -e /tmp/ok", "--health-interval", "50ms", "--health-retries", "2",
		"--user", "1000", "--workdir", "/tmp", images.Busybox, "sleep", "1000")
	u.becomes(t, name, "unhealthy")
	h := u.health(t, name)
	if last := h.Log[len(h.Log)-1]; h.FailingStreak < 2 || last.ExitCode != 1 || last.Output != "probe by 1000 in /tmp\n" || !last.End.After(last.Start) {
		t.Errorf("got %+v", h)
	}
	matches(t, "ps", u.ok(t, "ps", "--filter", "name="+name, "--filter", "health=unhealthy", "--format", "{{.Status}}"), `^Up .*\(unhealthy\)$`)
	u.ok(t, "exec", name, "touch", "/tmp/ok")
	u.becomes(t, name, "healthy")
	eventually(t, 20*time.Second, "five probes are kept", func() bool {
		h := u.health(t, name)
		return len(h.Log) == 5 && h.FailingStreak == 0
	})
	equal(t, "ps", u.ok(t, "ps", "-q", "--no-trunc", "--filter", "name="+name, "--filter", "health=starting"), "")
	matches(t, "ps", u.ok(t, "ps", "--filter", "name="+name, "--filter", "health=healthy", "--format", "{{.Status}}"), `^Up .*\(healthy\)$`)

	statuses := u.past(t, 2, "--filter", "container="+name, "--filter", "event=health_status", "--format", "{{.Action}}")
	equal(t, "events", strings.ReplaceAll(statuses, "\n", ", "), "health_status: unhealthy, health_status: healthy")
	var seen []string
	for _, line := range strings.Split(u.past(t, 9, "--filter", "container="+name, "--format", "{{.Action}}"), "\n") {
		action, _, _ := strings.Cut(line, ":")
		seen = append(seen, action)
	}
	probe := []string{"exec_create", "exec_start", "exec_die"}
	if got := seen[2:9]; !slices.Equal(got, slices.Concat(probe, probe, []string{"health_status"})) {
		t.Errorf("events of two probes are %q", got)
	}
	u.ok(t, "kill", name)
	u.ok(t, "wait", name)
	equal(t, "after the end", u.health(t, name).Status, "unhealthy")
}

func TestHealthOfSlowAndTalkativeProbes(t *testing.T) {
	u := shared(t)
	slow := u.detached(t, "--health-cmd", "echo begun; sleep 100", "--health-interval", "50ms", "--health-timeout", "300ms", "--health-retries", "1",
		images.Busybox, "sleep", "1000")
	loud := u.detached(t, "--health-cmd", "head -c 10000 /dev/zero | tr '\\0' x", "--health-interval", "50ms", images.Busybox, "sleep", "1000")
	missing := u.detached(t, "--health-cmd", "x", "--health-interval", "50ms", "--health-retries", "1", images.Busybox, "sleep", "1000")
	u.becomes(t, slow, "unhealthy")
	if p := u.health(t, slow).Log[0]; p.ExitCode != -1 || p.Output != "Health check exceeded timeout (300ms): begun\n" {
		t.Errorf("slow: got %+v", p)
	}
	u.becomes(t, loud, "healthy")
	if p := u.health(t, loud).Log[0]; p.Output != strings.Repeat("x", 4096)+"..." {
		t.Errorf("loud: %d bytes kept", len(p.Output))
	}
	u.becomes(t, missing, "unhealthy")
	if p := u.health(t, missing).Log[0]; p.ExitCode != 127 {
		t.Errorf("missing: got %+v", p)
	}
}

func TestHealthStartPeriodHoldsFailuresBack(t *testing.T) {
	u := shared(t)
	name := u.detached(t, "--health-cmd", "test -e /tmp/ok", "--health-interval", "1h", "--health-start-period", "1h", "--health-start-interval", "50ms",
		"--health-retries", "1", images.Busybox, "sleep", "1000")
	eventually(t, 20*time.Second, "three probes", func() bool { return len(u.health(t, name).Log) >= 3 })
	h := u.health(t, name)
	if h.Status != "starting" || h.FailingStreak != 0 {
		t.Errorf("got %+v", h)
	}
	matches(t, "ps", u.ok(t, "ps", "--filter", "name="+name, "--format", "{{.Status}}"), `\(health: starting\)$`)
	u.ok(t, "exec", name, "touch", "/tmp/ok")
	u.becomes(t, name, "healthy")
	off := u.detached(t, "--no-healthcheck", images.Busybox, "sleep", "1000")
	equal(t, "no health", u.inspect(t, off, "{{json .State.Health}}"), "null")
	equal(t, "filter", u.ok(t, "ps", "--filter", "name="+off, "--filter", "health=none", "--format", "{{.Names}}"), off)
}

// TestHealthSurvivesTheDaemon: what was found counts on, and probes go on, also one that the daemon's death cut off.
func TestHealthSurvivesTheDaemon(t *testing.T) {
	t.Parallel()
	u := own(t)
	well := u.detached(t, "--health-cmd", "true", "--health-interval", "50ms", images.Busybox, "sleep", "1000")
	ill := u.detached(t, "--health-cmd", "sleep 0.2; false", "--health-interval", "50ms", "--health-retries", "2", "--restart", "always", images.Busybox, "sleep", "1000")
	u.becomes(t, well, "healthy")
	u.becomes(t, ill, "unhealthy")
	streak := u.health(t, ill).FailingStreak
	last := u.health(t, well).Log[0].End
	u.kill(t)
	u.restart(t)
	equal(t, "well", u.health(t, well).Status, "healthy")
	if h := u.health(t, ill); h.Status != "unhealthy" || h.FailingStreak < streak {
		t.Errorf("ill: got %+v, was %d", h, streak)
	}
	eventually(t, 20*time.Second, "probes go on", func() bool { return u.health(t, well).Log[0].End.After(last) })
	u.ok(t, "restart", "-t", "0", well)
	u.becomes(t, well, "healthy")
}
