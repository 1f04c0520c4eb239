package e2e

import (
	"strings"
	"testing"

	"github.com/tritond/triton/test/images"
)

// A container that sleeps for a second, while its shell waits for that, has both after its end.
func TestWaitsAreKnownAfterTheEnd(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	name := u.name(t)
	u.ok(t, "run", "--name", name, images.Busybox, "sh", "-c", "sleep 1; exit 0")
	waits := u.mustObserve(t, name).Waits
	for reason, want := range map[string]float64{"sleep": 1, "child": 1} {
		// What is beyond: the start of the shell's processes, while others have the CPUs.
		if got := waits[reason]; got < want || got > want+1 {
			t.Errorf("%s: waited %v s, want %v", reason, got, want)
		}
	}
	if out := u.triton(t, "syscalls", name); !strings.Contains(out, "OFF CPU") || !strings.Contains(out, "\nsleep") {
		t.Errorf("triton syscalls:\n%s", out)
	}
}
