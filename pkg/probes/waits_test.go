package probes

import (
	"fmt"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// A program waits for known things; what the kernel told each of its threads of the wait, by other ways, is what is counted
// under the reason. Tolerance: 3 ms and 2 %, for switches on the way to the clock and interrupts while a task runs. The
// level is that without hooks of system calls.
//
// Where the kernel keeps the agent of its virtual machine from tracepoints, a wait that a switch from that one ends is under other:
// of some runs of the program one has none of these.
func TestKernelWaitsAreCountedByReason(t *testing.T) {
	p := open(t, Config{Level: Counters})
	var wrong []string
	for range 5 {
		if wrong = misjudgedWaits(t, p); len(wrong) == 0 {
			return
		}
		t.Log("again:", wrong)
	}
	t.Error("in each run:", wrong)
}

// misjudgedWaits runs the program in a container of its own and says what is counted otherwise than the program was told.
func misjudgedWaits(t *testing.T, p *Probes) (wrong []string) {
	t.Helper()
	key, cg := watch(t, p)
	proc := start(t, cg, compiled(t, "waiter"), filepath.Join(t.TempDir(), "direct"))
	proc.paused(t)

	proc.release(t)
	want := map[string]time.Duration{}
	for {
		var reason string
		var ns int64
		if _, err := fmt.Fscan(proc.out, &reason, &ns); err != nil {
			break
		}
		want[reason] += time.Duration(ns)
	}
	if status := proc.wait(t); status != 0 || len(want) != int(triton.WaitOther) {
		t.Fatalf("status %#x, said %v", status, want)
	}
	got := map[string]time.Duration{}
	for reason, w := range snapshot(t, p, key).Waits {
		got[triton.WaitReason(reason).String()] = w
	}
	other := got["other"]
	delete(got, "other")
	t.Logf("program: %v, probes: %v, other: %v", want, got, other)
	for reason := range maps.Keys(want) {
		off := 3*time.Millisecond + want[reason]/50
		if reason == "disk" {
			off = 10 * time.Millisecond // many short waits, each with a device's interrupts
		}
		if diff := (got[reason] - want[reason]).Abs(); diff > off {
			wrong = append(wrong, fmt.Sprintf("%s: %v, want %v", reason, got[reason], want[reason]))
		}
	}
	if other > 20*time.Millisecond {
		wrong = append(wrong, fmt.Sprintf("%v for other reasons, want hardly any", other))
	}
	return wrong
}

// A program that never waits, and is only held up by others, has no waits: what it waits for a CPU is in the run queue's.
func TestKernelBusyTasksDoNotWait(t *testing.T) {
	p := open(t, Config{Level: Counters})
	key, cg := watch(t, p)
	proc := start(t, cg, actorBinary(t), "clocked", "1500000")
	proc.paused(t)
	before := snapshot(t, p, key)
	proc.release(t)
	if _, err := proc.out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	proc.paused(t)
	proc.in.Close()
	proc.wait(t)
	after := snapshot(t, p, key)
	var waits time.Duration
	for reason := range after.Waits {
		if triton.WaitReason(reason) != triton.WaitPipe { // its gate
			waits += after.Waits[reason] - before.Waits[reason]
		}
	}
	ran := time.Duration(after.CPUNs - before.CPUNs)
	t.Logf("ran %v, waited %v", ran, waits)
	if ran < 50*time.Millisecond || waits > ran/20 {
		t.Errorf("waited %v while it ran %v", waits, ran)
	}
}
