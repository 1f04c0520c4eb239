package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/tritond/triton/pkg/tritonapi/wire"
	"github.com/tritond/triton/test/images"
)

// levelNow asks the daemon how much is measured.
func (u *under) levelNow(t *testing.T) wire.Probes {
	t.Helper()
	var p wire.Probes
	res, err := u.api.Do(t.Context(), http.MethodGet, wire.Prefix+"probes", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(res.Body, &p); err != nil {
		t.Fatalf("%s: %v", res.Body, err)
	}
	return p
}

// Containers that do nothing but system calls make observation dearer than its budget: the level steps down, and whoever asks is told
// so, with the reason; a container that is to be watched in detail is so all the same. When they are gone the level comes back.
func TestLevelStepsDownUnderLoadAndBack(t *testing.T) {
	t.Parallel()
	u := own(t, "--probes", "auto", "--probes-budget", "10")
	quiet := u.detached(t, images.Busybox, "sleep", "1234")
	if p := u.levelNow(t); p.Level != "detail" || p.Stepping == nil || p.Stepping.Budget != 0.1 || p.Stepping.Steps != 0 {
		t.Fatalf("at first: %+v, stepping %+v", p, p.Stepping)
	}
	storm := u.detached(t, images.Busybox, "sh", "-c", "for i in 1 2 3 4; do dd if=/dev/zero of=/dev/null bs=1 & done; wait")
	eventually(t, commandTime, "the level steps down", func() bool { return u.levelNow(t).Level != "detail" })

	shown := u.triton(t, "probes")
	for _, want := range []string{"budget 10% of the time", "stepped from ", "would take ~", "the flight recorder is empty"} {
		if !strings.Contains(shown, want) {
			t.Errorf("triton probes does not say %q:\n%s", want, shown)
		}
	}
	if text := u.triton(t, "watch", quiet); !strings.Contains(text, "as this machine") || strings.Contains(text, "detail") {
		t.Errorf("triton watch: %s", text)
	}
	if res := u.client(t, nil, "-H", u.tritond.Host, "recorder", storm); res.Code == 0 || !strings.Contains(res.Stderr, "flight recorder is empty") {
		t.Errorf("triton recorder: %d %s", res.Code, res.Stderr)
	}
	_, metrics := get(t, "http://"+u.tritond.HTTP+"/metrics", "")
	for _, want := range []string{
		`triton_probes_level{level="` + u.levelNow(t).Level, "triton_probes_budget_ratio 0.1", `triton_probes_estimated_price_ratio{level="detail"}`,
		"triton_probes_busy_price_ratio ", "triton_probes_last_step_timestamp_seconds 1.",
	} {
		if !strings.Contains(metrics, "\n"+want) {
			t.Errorf("/metrics has no line %s", want)
		}
	}
	if strings.Contains(metrics, "\ntriton_probes_steps_total 0\n") {
		t.Error("/metrics counts no step")
	}
	if log := u.tritond.Log(); !strings.Contains(log, "level of the probes changed by itself") {
		t.Errorf("the log does not tell of the step:\n%s", log)
	}

	u.triton(t, "watch", quiet, "--level", "detail")
	if text := u.triton(t, "watch", quiet); !strings.Contains(text, "detail, as asked") {
		t.Errorf("triton watch: %s", text)
	}
	u.triton(t, "watch", quiet, "--level", "default")

	u.ok(t, "rm", "-f", storm)
	eventually(t, 2*commandTime, "the level comes back", func() bool { return u.levelNow(t).Level == "detail" })
	if shown := u.triton(t, "probes"); !strings.Contains(shown, " to detail ") || !strings.Contains(shown, "detail would cost") {
		t.Errorf("triton probes does not tell of the step back:\n%s", shown)
	}
	u.triton(t, "recorder", quiet)
}
