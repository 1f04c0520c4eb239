package telemetry

import (
	"strings"
	"testing"

	"github.com/tritond/triton/pkg/triton"
)

func TestNameServiceIsServed(t *testing.T) {
	key := newKey()
	seen := triton.NameService{
		RoundTrip: triton.Histogram{Schema: 2, First: -40, Counts: []uint64{1, 2}, SumNs: 3e6}, Asked: 9,
		Answers: map[string]uint64{"NOERROR": 2, "NXDOMAIN": 1}, Unanswered: 5, Untimed: 1, AskedTCP: 2, Unfollowed: 1,
	}
	cfg := Config{NameService: func() map[triton.ContainerKey]triton.NameService {
		return map[triton.ContainerKey]triton.NameService{key: seen, newKey(): seen} // the second has no row: it has ended
	}}
	s := New(cfg)
	s.Add(key, "web", "nginx", func() (Sample, error) { return sampleAt(3), nil })
	s.Add(newKey(), "unwatched", "nginx", func() (Sample, error) { return sampleAt(3), nil })
	s.pass(t.Context())
	_, served := scrape(t, s, "")
	id := `id="/docker/` + key.ID + `",image="nginx",name="web"`
	want := []string{
		`duration_seconds_count{` + id + `} 3`, `duration_seconds_sum{` + id + `} 0.003`, `questions_total{` + id + `,protocol="udp"} 7`, `questions_total{` + id + `,protocol="tcp"} 2`,
		`answers_total{code="NOERROR",` + id + `} 2`, `answers_total{code="NXDOMAIN",` + id + `} 1`, `unanswered_total{` + id + `} 5`,
		`unmatched_total{` + id + `,reason="untimed"} 1`, `unmatched_total{` + id + `,reason="unfollowed"} 1`,
	}
	for _, line := range want {
		if !strings.Contains(served, "\ntriton_container_dns_"+line+"\n") {
			t.Errorf("%s is missing", line)
		}
	}
	if n := strings.Count(served, "\ntriton_container_dns_"); n != len(want)+6 { // beside the sum and count, six classic buckets
		t.Errorf("%d series, want %d and the buckets", n, len(want))
	}
}
