package node

import (
	"testing"
	"time"
)

// A tiny interval is stretched, so that starting probes takes a bounded share of a processor; the usual ones are as they were asked for.
func TestProbesOfATinyIntervalWait(t *testing.T) {
	for _, tc := range []struct{ wait, prepared, want time.Duration }{
		{30 * time.Second, 10 * time.Millisecond, 30 * time.Second},
		{100 * time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond},
		{time.Millisecond, 10 * time.Millisecond, 40 * time.Millisecond},
		{time.Millisecond, 0, time.Millisecond}, // paused: nothing was started
		{time.Millisecond, time.Minute, mostEase},
	} {
		if got := probePause(tc.wait, tc.prepared); got != tc.want {
			t.Errorf("after %v, started in %v: got %v, want %v", tc.wait, tc.prepared, got, tc.want)
		}
	}
}
