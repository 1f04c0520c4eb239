package telemetry

import (
	"testing"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// TestPassedWakesAfterSamplesAreThere: whoever waits for a pass finds the sample that the pass took.
func TestPassedWakesAfterSamplesAreThere(t *testing.T) {
	s := New(Config{Interval: 5 * time.Millisecond})
	key := triton.ContainerKey{Tenant: "t", ID: "a"}
	n := uint64(0)
	s.Add(key, "n", "i", func() (Sample, error) {
		n++
		return Sample{Time: time.Unix(int64(n), 0), Counters: Counters{Syscalls: n}}, nil
	})
	passed := s.Passed()
	go s.Run(t.Context())
	for i := range 3 {
		select {
		case <-passed:
		case <-time.After(30 * time.Second):
			t.Fatalf("pass %d did not end", i)
		}
		passed = s.Passed()
		if got, ok := s.Last(key); !ok || got.Syscalls < uint64(i+1) {
			t.Fatalf("after pass %d the last sample is %+v, %v", i, got, ok)
		}
	}
}
