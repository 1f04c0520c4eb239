package probes

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

func recordings(t testing.TB, p *Probes, key triton.ContainerKey) []triton.Recording {
	t.Helper()
	all, err := p.Recordings(key)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The recorder of a process that ended has the calls that strace sees it make, in their order and with their errors, to
// the exit_group from which it did not return.
func TestKernelFlightRecorderHasTheCallsOfStrace(t *testing.T) {
	actor := actorBinary(t)
	p := open(t, Config{RecorderThreads: 16})
	key, cg := watch(t, p)
	proc := start(t, cg, actor, "gate", actor, "exit37")
	proc.paused(t)
	proc.release(t)
	proc.wait(t)
	all := recordings(t, p, key)
	i := slices.IndexFunc(all, func(r triton.Recording) bool { return r.Pid == proc.cmd.Process.Pid })
	if i < 0 {
		t.Fatalf("no recording of %d: %+v", proc.cmd.Process.Pid, all)
	}
	r := all[i]
	own, err := p.RecordingsOf(key, r.Pid)
	if diff := cmp.Diff([]triton.Recording{r}, own, cmpopts.EquateApproxTime(time.Millisecond)); diff != "" || err != nil {
		t.Errorf("of that process alone: %v\n%s", err, diff)
	}
	if none, err := p.RecordingsOf(key, 1); len(none) > 0 || err != nil {
		t.Errorf("of a process that is not in it: %+v, %v", none, err)
	}
	if r.Tid != r.Pid || r.Comm != "actor" || r.Ended.IsZero() {
		t.Errorf("recording of %d %d %q, ended %s", r.Pid, r.Tid, r.Comm, r.Ended)
	}
	var got []string
	for _, c := range r.Calls {
		if c.Name == "execve" {
			got = nil // what came before is the gate's
		}
		got = append(got, strings.TrimSpace(c.Name+" "+c.Error))
		if c.InCall != (c.Name == "exit_group") || c.InCall == (c.Duration > 0) {
			t.Errorf("%s is in call: %t, duration %s", c.Text, c.InCall, c.Duration)
		}
	}
	if want := straceOrder(t, actor, "exit37"); !slices.Equal(got, want) {
		t.Errorf("strace (-) and the recorder (+) differ:\n%s", cmp.Diff(want, got))
	}
	if last := r.Calls[len(r.Calls)-1]; last.Text != "exit_group(37)" {
		t.Errorf("the last call is %s", last.Text)
	}
}

// straceOrder returns the calls of argv with their errors, in their order.
func straceOrder(t *testing.T, argv ...string) []string {
	t.Helper()
	file := t.TempDir() + "/strace"
	cmd := exec.Command("strace", append([]string{"-o", file}, argv...)...)
	cmd.Env = []string{}
	var exited *exec.ExitError
	if out, err := cmd.CombinedOutput(); err != nil && !errors.As(err, &exited) {
		t.Fatalf("strace: %v: %s", err, out)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var calls []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, rest, ok := strings.Cut(lines.Text(), "(")
		if !ok {
			continue // +++ exited with 37 +++
		}
		if _, result, ok := strings.Cut(rest, " = -1 "); ok {
			name += " " + strings.Fields(result)[0]
		}
		calls = append(calls, name)
	}
	return calls
}

// Rings of threads that ended are used again; a thread that finds none is counted and still measured.
func TestKernelFlightRecorderIsBounded(t *testing.T) {
	actor := actorBinary(t)
	p := open(t, Config{RecorderThreads: 2})
	key, cg := watch(t, p)
	var pids []int
	for range 5 {
		proc := start(t, cg, actor, "gate", actor, "segv")
		proc.paused(t)
		proc.release(t)
		proc.wait(t)
		pids = append(pids, proc.cmd.Process.Pid)
	}
	var got []int
	for _, r := range recordings(t, p, key) {
		got = append(got, r.Pid)
		if r.Ended.IsZero() || len(r.Calls) == 0 || len(r.Calls) > RecordedCalls {
			t.Errorf("%d calls of %d, ended %s", len(r.Calls), r.Pid, r.Ended)
		}
	}
	slices.Sort(got)
	if want := slices.Sorted(slices.Values(pids[3:])); !slices.Equal(got, want) {
		t.Errorf("recorded are %v, want the last two of %v", got, pids)
	}
	if n := p.Drops()["threads"]; n != 0 {
		t.Errorf("%d threads found no room, although one ran at a time", n)
	}
	waiting := beginMany(t, cg, 3)
	if n := p.Drops()["threads"]; n != 1 {
		t.Errorf("%d threads found no room, want one of three for two", n)
	}
	endMany(t, waiting)
}

// beginMany starts processes that wait before their program begins; endMany lets them go and awaits their ends.
func beginMany(t *testing.T, cg cgroup, n int) (procs []*process) {
	t.Helper()
	actor := actorBinary(t)
	for range n {
		proc := start(t, cg, actor, "gate", actor, "exit37")
		proc.paused(t)
		procs = append(procs, proc)
	}
	return procs
}

func endMany(t *testing.T, procs []*process) {
	t.Helper()
	for _, proc := range procs {
		proc.release(t)
		proc.wait(t)
	}
}

// A container of many threads takes its share of the recorder, which others have room beside; those of it that are not
// recorded are counted as its own, and its share is there again when threads end.
func TestKernelAContainerHasItsShareOfTheRecorder(t *testing.T) {
	const all, crowd = 64, 30
	p := open(t, Config{RecorderThreads: all})
	key, cg := watch(t, p)
	other, otherCg := watch(t, p)
	share := int(ringShare(all))
	many := beginMany(t, cg, crowd)
	if n, lost := len(recordings(t, p, key)), snapshot(t, p, key).Dropped.Threads; n != share || int(lost) != crowd-share {
		t.Errorf("%d threads are recorded and %d not, of %d that have a share of %d", n, lost, crowd, share)
	}
	few := beginMany(t, otherCg, share)
	if n, lost := len(recordings(t, p, other)), snapshot(t, p, other).Dropped.Threads; n != share || lost != 0 {
		t.Errorf("%d threads of another container are recorded and %d not, want all %d", n, lost, share)
	}
	endMany(t, many)
	endMany(t, few)
	lost := snapshot(t, p, key).Dropped.Threads
	endMany(t, beginMany(t, cg, share))
	if now := snapshot(t, p, key).Dropped.Threads; now != lost {
		t.Errorf("%d threads are not recorded although the share is free again", now-lost)
	}
	if n := p.Drops()["threads"]; n != lost {
		t.Errorf("%d threads of all containers are not recorded, want %d", n, lost)
	}
}

// A container that forks without end takes no more places than there are, and forgets its own dead: what another one's thread
// did last is there still, while that is watched, and no place is lost.
func TestKernelForksDoNotEvictTheDeadOfOthers(t *testing.T) {
	const all, children = 32, 3000
	actor := actorBinary(t)
	p := open(t, Config{RecorderThreads: all})
	key, cg := watch(t, p)
	other, otherCg := watch(t, p)
	dies := func(cg cgroup, argv ...string) int {
		proc := start(t, cg, append([]string{actor, "gate", actor}, argv...)...)
		proc.paused(t)
		proc.release(t)
		proc.wait(t)
		return proc.cmd.Process.Pid
	}
	dead := []int{dies(cg, "segv"), dies(cg, "exit37")}
	dies(otherCg, "forks", strconv.Itoa(children))
	var got []int
	for _, r := range recordings(t, p, key) {
		got = append(got, r.Pid)
	}
	slices.Sort(got)
	if !slices.Equal(got, slices.Sorted(slices.Values(dead))) {
		t.Errorf("recorded are %v after another container's forks, want %v", got, dead)
	}
	if n := len(recordings(t, p, other)); n != all-len(dead) {
		t.Errorf("%d threads of the container that forks are recorded, want all places but %d", n, len(dead))
	}
	if n := p.Drops()["threads"]; n != 0 {
		t.Errorf("%d of %d threads found no place, although hardly two ran at a time", n, children)
	}
	if _, err := p.Unwatch(key); err != nil {
		t.Fatal(err)
	}
	if err := p.reap(); err != nil {
		t.Fatal(err)
	}
	dies(otherCg, "forks", strconv.Itoa(all))
	if n := len(recordings(t, p, other)); n != all {
		t.Errorf("%d threads are recorded, want %d: the places of a container that is gone are free", n, all)
	}
}

// A container sees its own threads only, also those of a ring that another container had before.
func TestKernelFlightRecordersAreSeparate(t *testing.T) {
	actor := actorBinary(t)
	p := open(t, Config{RecorderThreads: 2, ringsKept: -1})
	key, cg := watch(t, p)
	other, otherCg := watch(t, p)
	for _, c := range []cgroup{cg, cg, otherCg} {
		proc := start(t, c, actor, "gate", actor, "exit37")
		proc.paused(t)
		proc.release(t)
		proc.wait(t)
	}
	if a, b := len(recordings(t, p, key)), len(recordings(t, p, other)); a != 1 || b != 1 {
		t.Errorf("recordings of %d and %d threads, want 1 and 1", a, b)
	}
}

// Calls are named and formatted when the lock is free again, which starting containers wait for.
func TestKernelRecordingsAreFormattedWithoutTheLock(t *testing.T) {
	actor := actorBinary(t)
	p := open(t, Config{RecorderThreads: 4})
	key, cg := watch(t, p)
	proc := start(t, cg, actor, "gate", actor, "exit37")
	proc.paused(t)
	proc.release(t)
	proc.wait(t)
	raw, err := p.copyRings(key, everyProcess)
	if err != nil || len(raw) != 1 || len(raw[0].Calls) == 0 {
		t.Fatalf("%+v, %v", raw, err)
	}
	want := recordings(t, p, key)[0].Calls
	p.mu.Lock()
	for i := range raw[0].Calls {
		if c := raw[0].Calls[i]; c.Name != "" || c.Text != "" || c.Error != "" {
			t.Errorf("%+v has words already", c)
		}
		describe(&raw[0].Calls[i])
	}
	p.mu.Unlock()
	ignoreClock := cmpopts.IgnoreFields(triton.Call{}, "At") // two readings of the clock
	if diff := cmp.Diff(want, raw[0].Calls, ignoreClock); diff != "" {
		t.Errorf("a call as Recordings has it (-) and as it is described (+):\n%s", diff)
	}
}

func TestKernelFlightRecorderSaysWhyItIsEmpty(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{{Config{}, "switched off"}, {Config{RecorderThreads: 4, Level: Counters}, "level counters"}} {
		p := open(t, c.cfg)
		key, _ := watch(t, p)
		if _, err := p.Recordings(key); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want a refusal that says %q", err, c.want)
		}
		if _, err := p.Recordings(newKey()); !errdefs.IsNotFound(err) {
			t.Errorf("a container that is not watched: %v", err)
		}
	}
}

// Whatever is in the shared memory, reading it ends and shows at most what a ring holds.
func FuzzFlightRecorderRing(f *testing.F) {
	f.Add(uint64(1), uint64(0), uint64(3), uint64(0), []byte("\x01\x02\x03"))
	f.Add(uint64(1), uint64(5), uint64(1), ^uint64(0), []byte{})
	f.Fuzz(func(t *testing.T, owner, first, head, ended uint64, raw []byte) {
		var r bpf.MeasureRing
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&r.Calls)), unsafe.Sizeof(r.Calls)), raw)
		r.Owner, r.First, r.Head, r.EndedNs = owner, first, head, ended
		out, ok := copyRing(&r, owner, monotonicZero())
		if !ok || len(out.Calls) > RecordedCalls {
			t.Errorf("%d calls, %t", len(out.Calls), ok)
		}
		if _, ok := copyRing(&r, owner+1, monotonicZero()); ok {
			t.Error("another owner's ring is shown")
		}
	})
}
