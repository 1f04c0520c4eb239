package shim

import (
	"os"
	"testing"
)

func TestWarmLeavesNothing(t *testing.T) {
	before, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	must(t, warm())
	after, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	if len(after) > len(before) {
		t.Errorf("%d descriptors, were %d", len(after), len(before))
	}
}
