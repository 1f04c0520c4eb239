package telemetry

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// A container has at most five culprits by name; whoever was among the others stays there, so that no counter falls.
func TestCulpritsAreBoundedAndNoCounterFalls(t *testing.T) {
	victim := newKey()
	var keys []triton.ContainerKey
	for range culpritsShown + 2 {
		keys = append(keys, newKey())
	}
	waits := map[triton.ContainerKey]time.Duration{victim: 9 * time.Second}
	for i, k := range keys {
		waits[k] = time.Duration(100-i) * time.Second
	}
	ended := time.Duration(0)
	s := New(Config{Delays: func() (map[triton.ContainerKey][]triton.Delay, error) {
		delays := []triton.Delay{{Culprit: triton.CulpritHost, Wait: 3 * time.Second}, {Culprit: triton.CulpritUnknown, Wait: time.Second}, {Culprit: triton.CulpritIdle, Wait: 4 * time.Second}, {Culprit: triton.CulpritEnded, Wait: ended}}
		for _, k := range keys { // longest first, as Probes has them
			if waits[k] > 0 {
				delays = append(delays, triton.Delay{Culprit: triton.CulpritContainer, Container: k, Wait: waits[k]})
			}
		}
		return map[triton.ContainerKey][]triton.Delay{victim: append(delays, triton.Delay{Culprit: triton.CulpritContainer, Container: victim, Wait: waits[victim]})}, nil
	}})
	s.Add(victim, "web", "nginx", func() (Sample, error) { return sampleAt(3), nil })
	s.Add(keys[0], "noisy", "nginx", func() (Sample, error) { return sampleAt(3), nil })
	s.pass(t.Context())
	expect := func(when string, named int, lines ...string) {
		t.Helper()
		_, body := scrape(t, s, "")
		if n := strings.Count(body, `triton_container_cpu_delay_seconds_total{culprit="container"`); n != named {
			t.Errorf("%s: %d culprits by name, want %d", when, n, named)
		}
		for _, line := range lines {
			if !strings.Contains(body, line+"\n") {
				t.Errorf("%s: %s is missing", when, line)
			}
		}
	}
	of := func(kind, id, name string, seconds int) string {
		return fmt.Sprintf(`triton_container_cpu_delay_seconds_total{culprit=%q,culprit_id=%q,culprit_name=%q,id="/docker/%s",image="nginx",name="web"} %d`,
			kind, id, name, victim.ID, seconds)
	}
	expect("at first", culpritsShown, of("container", keys[0].ID, "noisy", 100), of("other", "", "", 95+94),
		of("self", "", "", 9), of("host", "", "", 3), of("unattributed", "", "", 1), of("idle", "", "", 4))
	waits[keys[0]], ended = 0, 100*time.Second
	waits[keys[5]] = 500 * time.Second
	expect("when one has ended", culpritsShown-1, of("other", "", "", 100+500+94))
	newcomer := newKey()
	keys, waits[newcomer] = append(keys, newcomer), 2*time.Second
	expect("when one has come", culpritsShown, of("container", newcomer.ID, "", 2), of("other", "", "", 100+500+94))
}
