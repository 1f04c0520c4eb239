package e2e

import (
	"strings"
	"testing"

	"github.com/tritond/triton/test/images"
)

// hasSeries tells whether /metrics has a series of the container whose name begins so.
func (u *under) hasSeries(t *testing.T, metric, container string) bool {
	t.Helper()
	_, metrics := get(t, "http://"+u.tritond.HTTP+"/metrics", "")
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, metric) && strings.Contains(line, `name="`+container+`"`) {
			return true
		}
	}
	return false
}

// How much of a container is measured changes while it runs, by triton watch, and its label says where it begins; a later run
// is as the last one asked.
func TestWatchChangesWhatIsMeasuredLive(t *testing.T) {
	u := shared(t)
	tritonOnly(t)
	loop := []string{images.Busybox, "sh", "-c", "while :; do cat /proc/self/stat >/dev/null; done"}
	name := u.detached(t, append([]string{"--label", "triton.watch=counters"}, loop...)...)
	name = strings.TrimPrefix(u.inspect(t, name, "{{.Name}}"), "/")
	calls := func() (n uint64) {
		for _, s := range u.mustObserve(t, name).Syscalls {
			n += s.Count
		}
		return n
	}
	waiting := func() { // until a sample was taken at this level
		eventually(t, commandTime, "its run queue has series", func() bool { return u.hasSeries(t, "triton_container_runqueue_latency_seconds_count", name) })
	}
	waiting()
	if n := calls(); n != 0 || u.hasSeries(t, "triton_container_syscalls_total", name) {
		t.Errorf("with the label counters %d system calls are counted", n)
	}
	if text := u.triton(t, "watch", name); !strings.Contains(text, "counters, as asked") {
		t.Errorf("triton watch: %s", text)
	}
	if text := u.triton(t, "syscalls", name); !strings.Contains(text, "level counters") {
		t.Errorf("triton syscalls does not tell why there are none: %s", text)
	}

	u.triton(t, "watch", name, "--level", "detail")
	eventually(t, commandTime, "its system calls have series", func() bool { return u.hasSeries(t, "triton_container_syscalls_total", name) })
	if n := calls(); n == 0 {
		t.Error("nothing is counted in detail")
	}

	u.triton(t, "watch", "--level", "off", name)
	eventually(t, commandTime, "it has no series of calls and waits", func() bool {
		return !u.hasSeries(t, "triton_container_syscalls_total", name) && !u.hasSeries(t, "triton_container_runqueue", name)
	})
	before := calls()
	if after := calls(); after != before {
		t.Errorf("%d calls were counted while it is off", after-before)
	}

	u.ok(t, "restart", "-t", "0", name)
	if n := calls(); n != 0 {
		t.Errorf("%d system calls of the run after it are counted", n)
	}
	u.triton(t, "watch", name, "--level", "default")
	if text := u.triton(t, "watch", name); !strings.Contains(text, "counters, as asked") {
		t.Errorf("given back to its label: %s", text)
	}
	waiting()

	if res := u.client(t, nil, "-H", u.tritond.Host, "watch", name, "--level", "loud"); res.Code == 0 || !strings.Contains(res.Stderr, `level "loud": must be`) {
		t.Errorf("level loud: %d %s", res.Code, res.Stderr)
	}
	if res := u.docker(t, "run", "--rm", "--label", "triton.watch=loud", images.Busybox, "true"); res.Code == 0 || !strings.Contains(res.Stderr, "triton.watch") {
		t.Errorf("label loud: %d %s", res.Code, res.Stderr)
	}
}
