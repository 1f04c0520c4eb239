package dockerapi

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
)

func decodeSample(t *testing.T, body string) container.StatsResponse {
	t.Helper()
	var s container.StatsResponse
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return s
}

func TestStatsOfASingleSampleCarryTheSecondBefore(t *testing.T) {
	s := startServer(t)
	id := s.container(t, "busy", `{"Image":"busybox","Cmd":["sleep"]}`)
	s.do(t, "POST", "/containers/busy/start", "").want(t, 204, "")
	got := decodeSample(t, s.do(t, "GET", "/containers/busy/stats?stream=0", "").body)
	cpu := float64(got.CPUStats.CPUUsage.TotalUsage - got.PreCPUStats.CPUUsage.TotalUsage)
	share := cpu / float64(got.CPUStats.SystemUsage-got.PreCPUStats.SystemUsage) * float64(got.CPUStats.OnlineCPUs)
	if math.Abs(share-0.5) > 0.01 {
		t.Errorf("share of a processor %.3f, want 0.5", share)
	}
	if got.ID != id || got.Name != "/busy" || got.MemoryStats.Limit != 8<<30 || got.MemoryStats.Stats["total_inactive_file"] != 1000 ||
		got.Networks["eth0"].RxBytes != 7 || got.PidsStats.Current != 2 || got.PreRead.IsZero() {
		t.Errorf("sample %+v", got)
	}
}

func TestStatsOneShotDoesNotWait(t *testing.T) {
	s := startServer(t)
	s.container(t, "busy", `{"Image":"busybox","Cmd":["sleep"]}`)
	s.do(t, "POST", "/containers/busy/start", "").want(t, 204, "")
	got := decodeSample(t, s.do(t, "GET", "/containers/busy/stats?stream=0&one-shot=1", "").body)
	if !got.PreRead.IsZero() || got.Read.IsZero() || got.PreCPUStats.SystemUsage != 0 {
		t.Errorf("sample %+v", got)
	}
	s.do(t, "GET", "/containers/busy/stats?one-shot=1", "").want(t, 400, "cannot have stream=true and one-shot=true")
}

func TestStatsOfWhatDoesNotRunAreEmpty(t *testing.T) {
	s := startServer(t)
	s.container(t, "idle", `{"Image":"busybox","Cmd":["sleep"]}`)
	r := s.do(t, "GET", "/containers/idle/stats?stream=false", "")
	if got := decodeSample(t, r.body); !got.Read.IsZero() || got.CPUStats.SystemUsage != 0 || !strings.Contains(r.body, `"name":"/idle"`) {
		t.Errorf("sample %s", r.body)
	}
	s.do(t, "GET", "/containers/none/stats?stream=0", "").want(t, 404, "No such container: none")
}

func TestPauseRenameAndTopReachTheBackend(t *testing.T) {
	s := startServer(t)
	s.container(t, "busy", `{"Image":"busybox","Cmd":["sleep"]}`)
	s.do(t, "POST", "/containers/busy/start", "").want(t, 204, "")
	s.do(t, "POST", "/containers/busy/pause", "").want(t, 204, "")
	if r := s.do(t, "POST", "/containers/busy/pause", ""); r.status != 409 {
		t.Errorf("second pause: %d", r.status)
	}
	s.do(t, "POST", "/containers/busy/unpause", "").want(t, 204, "")
	s.do(t, "POST", "/containers/busy/rename?name=calm", "").want(t, 204, "")
	r := s.do(t, "GET", "/containers/calm/top?ps_args=aux", "")
	if want := `{"Processes":[["1","aux"]],"Titles":["PID","OPTIONS"]}`; strings.TrimSpace(r.body) != want {
		t.Errorf("top: %s, want %s", r.body, want)
	}
	s.do(t, "GET", "/containers/busy/top", "").want(t, 404, "No such container: busy")
}
