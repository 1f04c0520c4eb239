package telemetry

import (
	"strings"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

func TestWaitsAreServedByReason(t *testing.T) {
	key := newKey()
	sample := sampleAt(3)
	sample.Waits[triton.WaitSleep], sample.Waits[triton.WaitOther] = 1500*time.Millisecond, time.Second
	body := func() string {
		s := New(Config{})
		s.Add(key, "web", "nginx", func() (Sample, error) { return sample, nil })
		s.pass(t.Context())
		_, body := scrape(t, s, "")
		return body
	}
	served := body()
	name := "triton_container_off_cpu_seconds_total{"
	of := name + `id="/docker/` + key.ID + `",image="nginx",name="web",reason=`
	for _, want := range []string{of + `"sleep"} 1.5`, of + `"other"} 1`} {
		if !strings.Contains(served, want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
	if n := strings.Count(served, name); n != 2 {
		t.Errorf("%d series, want those of the two reasons that happened", n)
	}
	sample.NoWaits = true
	if strings.Contains(body(), name) {
		t.Error("served though nothing is counted")
	}
}
