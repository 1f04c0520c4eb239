package e2e

import (
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// births is how many processes and threads the machine ever had.
func births(t *testing.T) int {
	t.Helper()
	stat := read(t, "/proc/stat")
	m := regexp.MustCompile(`(?m)^processes (\d+)$`).FindStringSubmatch(stat)
	if m == nil {
		t.Fatalf("no number of processes in %q", stat)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// metric is a number of the daemon's metrics, by the beginning of its series; 0: there is none.
func (u *under) metric(t *testing.T, series string) float64 {
	t.Helper()
	metric, labels, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
	return u.seriesOf(t, metric, labels)
}

// seriesOf is the value of the first series of a metric that has labels, as they are written; 0 where there is none.
func (u *under) seriesOf(t *testing.T, metric string, labels ...string) float64 {
	t.Helper()
	_, metrics := get(t, "http://"+u.tritond.HTTP+"/metrics", "")
	for line := range strings.Lines(metrics) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		without := func(label string) bool { return !strings.Contains(name, label) }
		if !strings.HasPrefix(name, metric+"{") || slices.ContainsFunc(labels, without) {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 0
}

// TestFloodsDoNotKeepTheDaemonFromAnswering: whatever one container does without end, within limits, another one is listed,
// started and read meanwhile.
func TestFloodsDoNotKeepTheDaemonFromAnswering(t *testing.T) {
	u := own(t)
	for _, flood := range []string{"forks", "execs", "log", "disk"} {
		name := u.detached(t, "--cpus", "1", "--memory", "256m", "--pids-limit", "64", "--log-opt", "max-size=1m", "--log-opt", "max-file=2",
			"programs", "flood", flood)
		before := births(t)
		switch flood {
		case "forks", "execs":
			eventually(t, commandTime, "the flood is under way", func() bool { return births(t) > before+500 })
		case "log":
			path := u.inspect(t, name, "{{.LogPath}}")
			eventually(t, commandTime, "the log was rotated", func() bool {
				_, err := os.Stat(path + ".1")
				return err == nil
			})
			if lines := strings.Count(u.ok(t, "logs", "--tail", "3", name), "\n"); lines != 2 {
				t.Errorf("%d lines of three of the log of a flood", lines+1)
			}
		case "disk":
			eventually(t, commandTime, "files are written", func() bool { return strings.Contains(u.ok(t, "diff", name), "/flood.3") })
		}
		if r := u.do(t, http.MethodGet, "/_ping", "", ""); r.Status != http.StatusOK {
			t.Errorf("%s: /_ping answers %d", flood, r.Status)
		}
		if got := u.ok(t, "run", "--rm", "busybox", "echo", "served"); got != "served" {
			t.Errorf("%s: a container beside it wrote %q", flood, got)
		}
		if got := u.ok(t, "ps", "-q", "--no-trunc"); got != u.inspect(t, name, "{{.Id}}") {
			t.Errorf("%s: ps lists %q, want the flood alone", flood, got)
		}
		u.ok(t, "rm", "-f", name)
	}
}

// TestAFloodIsCountedWhileTheDaemonStandsStill: a container executes more programs than any ring has room for. They are counted, all
// the same, and since nobody wants a record of each, none is lost.
func TestAFloodIsCountedWhileTheDaemonStandsStill(t *testing.T) {
	u := own(t)
	name := u.detached(t, "--pids-limit", "64", "programs", "flood", "execs")
	id := u.inspect(t, name, "{{.Id}}")
	execs := func() float64 {
		return u.metric(t, `triton_container_process_events_total{event="exec",id="/docker/`+id)
	}
	eventually(t, commandTime, "the flood is counted", func() bool { return execs() > 0 })
	was := execs()
	u.stop(t)
	before := births(t)
	eventually(t, time.Minute, "many programs", func() bool { return births(t) > before+5000 })
	u.resume(t)
	eventually(t, commandTime, "they are counted", func() bool { return execs() > was+4000 })
	for _, reason := range []string{"ring", "queue"} {
		if n := u.metric(t, `triton_dropped_total{reason="`+reason+`"}`); n != 0 {
			t.Errorf("%.0f records are lost: %s", n, reason)
		}
	}
}
