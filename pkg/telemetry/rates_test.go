package telemetry

import (
	"testing"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

func TestRatesAreOfTheNewestSamples(t *testing.T) {
	key, fresh := newKey(), newKey()
	s := New(Config{})
	at, calls, given := time.Unix(1000, 0), uint64(0), uint64(0)
	noCalls := false
	source := func() (Sample, error) {
		sample := Sample{Time: at, NoCalls: noCalls, RunQueue: triton.Histogram{Schema: 2, First: -8, Counts: []uint64{given, 0}}}
		sample.Syscalls, sample.Dropped = calls, Dropped{Ring: 1, Cells: 2}
		return sample, nil
	}
	s.Add(key, "web", "nginx", source)
	pass := func(n, moreCalls, moreGiven uint64) {
		for range n {
			at, calls, given = at.Add(2*time.Second), calls+moreCalls, given+moreGiven
			s.pass(t.Context())
		}
	}
	pass(10, 1_000_000, 1_000_000) // long ago
	pass(5, 200, 20)
	s.Add(fresh, "new", "nginx", source)
	want := Rate{Key: key, Name: "web", Image: "nginx", Calls: 100, Switches: 10, Dropped: 3}
	if got := s.Rates(); len(got) != 1 || got[0] != want {
		t.Errorf("%+v, want %+v alone: the other has no sample", got, want)
	}
	noCalls = true
	pass(1, 0, 20)
	for _, r := range s.Rates() {
		if r.Key == key && (r.Calls != 0 || r.Switches != 10) {
			t.Errorf("%+v where calls are not counted", r)
		}
	}
}
