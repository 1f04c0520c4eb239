package e2e

import (
	"net/http"
	"os"
	"regexp"
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

// droppedBy is a counter of what was dropped, the machine's or that of a container, by its series.
func (u *under) droppedBy(t *testing.T, series string) float64 {
	t.Helper()
	_, metrics := get(t, "http://"+u.tritond.HTTP+"/metrics", "")
	for line := range strings.Lines(metrics) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if !strings.HasPrefix(name, strings.TrimSuffix(series, "}")) {
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

// TestRecordsThatAFloodLosesAreCounted: while the daemon stands still, a container executes more programs than the ring has
// room for. What is lost is counted, for the machine and for the container whose it was, and for nobody else.
func TestRecordsThatAFloodLosesAreCounted(t *testing.T) {
	u := own(t)
	bystander := u.detached(t, "busybox", "sleep", "1000")
	name := u.detached(t, "--pids-limit", "64", "programs", "flood", "execs")
	u.stop(t)
	before := births(t)
	eventually(t, time.Minute, "more records than the ring has room for", func() bool { return births(t) > before+5000 })
	u.resume(t)
	const lost = "triton_container_dropped_total{id=\"/docker/"
	id := u.inspect(t, name, "{{.Id}}")
	eventually(t, commandTime, "the loss is counted", func() bool {
		return u.droppedBy(t, `triton_dropped_total{reason="ring"}`) > 0 && u.droppedBy(t, lost+id) > 0
	})
	if n := u.droppedBy(t, lost+u.inspect(t, bystander, "{{.Id}}")); n != 0 {
		t.Errorf("%.0f records of a container that does nothing are counted as lost", n)
	}
	if all := u.triton(t, "probes"); !strings.Contains(all, "ring") {
		t.Errorf("triton probes does not tell of the loss:\n%s", all)
	}
}
