package probes

import (
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

func TestWishesAreCutDownToTheMachinesLevelUnlessFirm(t *testing.T) {
	for _, c := range []struct {
		wish          Wish
		machine, want Level
	}{
		{Wish{}, Sampled, Sampled},
		{Wish{Level: Detail}, Counters, Counters},
		{Wish{Level: Detail, Firm: true}, Counters, Detail},
		{Wish{Level: Off}, Detail, Off},
		{Wish{Level: Off, Firm: true}, Detail, Off},
		{Wish{Level: Sampled}, Sampled, Sampled},
		{Wish{Level: Counters}, Off, Off},
	} {
		if got := c.wish.Of(c.machine); got != c.want {
			t.Errorf("%+v on a machine at %s: %s, want %s", c.wish, c.machine, got, c.want)
		}
	}
}

// getppids runs a process that makes n calls of getppid and tells what was counted of them.
func getppids(t *testing.T, p *Probes, key triton.ContainerKey, cg cgroup, n string) (calls, cpuNs uint64) {
	t.Helper()
	before := snapshot(t, p, key)
	start(t, cg, actorBinary(t), "churn", n).wait(t)
	after := snapshot(t, p, key)
	return after.Syscalls[unix.SYS_GETPPID].Count - before.Syscalls[unix.SYS_GETPPID].Count, after.CPUNs - before.CPUNs
}

// Levels change while containers run: one that is watched in detail among others that are not has its own numbers exactly,
// those of the others stand still, and hooks are attached as long as one needs them.
func TestKernelLevelsOfContainersChangeWhileTheyRun(t *testing.T) {
	p := open(t, Config{Linger: -1, Level: Counters})
	one, oneIn := watch(t, p)
	two, twoIn := watch(t, p)
	expect := func(step string, hooks int, oneCalls, twoCalls uint64) {
		t.Helper()
		attached := p.PairAttached()
		if n := hotLinks(t, p); n != hooks {
			t.Errorf("%s: %d hooks, want %d", step, n, hooks)
		}
		if n, _ := getppids(t, p, one, oneIn, "42"); n != oneCalls {
			t.Errorf("%s: counted %d calls of the first, want %d", step, n, oneCalls)
		}
		if n, _ := getppids(t, p, two, twoIn, "17"); n != twoCalls {
			t.Errorf("%s: counted %d calls of the second, want %d", step, n, twoCalls)
		}
		if grown := p.PairAttached() > attached; grown != (hooks == len(hotPrograms)) {
			t.Errorf("%s: the time for which the pair was attached grew: %t", step, grown)
		}
	}
	set := func(key triton.ContainerKey, w Wish) {
		t.Helper()
		if err := p.SetWish(key, w); err != nil {
			t.Fatal(err)
		}
	}
	level := func(l Level) {
		t.Helper()
		if err := p.SetLevel(l); err != nil {
			t.Fatal(err)
		}
	}
	expect("counters", 1, 0, 0)
	set(one, Wish{Level: Detail, Firm: true})
	expect("one in detail", 3, 42, 0)
	if l, err := p.LevelOf(one); l != Detail || err != nil {
		t.Errorf("level of the first %q, %v", l, err)
	}
	if m := p.Missing(); len(m) != 0 {
		t.Errorf("missing %v while a container has all", m)
	}
	set(two, Wish{Level: Detail})
	expect("a wish that is not firm", 3, 42, 0)
	level(Detail)
	expect("the machine in detail", 3, 42, 17)
	set(one, Wish{Level: Off})
	expect("one off", 3, 0, 17)
	if _, cpu := getppids(t, p, one, oneIn, "100000"); cpu != 0 {
		t.Errorf("one off: %d ns of its CPU were counted", cpu)
	}
	if _, cpu := getppids(t, p, two, twoIn, "100000"); cpu == 0 {
		t.Error("nothing of the other's CPU was counted")
	}
	level(Off)
	expect("the machine off", 0, 0, 0)
	level(Detail)
	set(one, Wish{})
	expect("detail again", 3, 42, 17)
	if err := p.SetLevel("loud"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("level loud: %v", err)
	}
	if err := p.SetWish(one, Wish{Level: "loud"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("wish loud: %v", err)
	}
	if err := p.SetWish(newKey(), Wish{Level: Off}); !errdefs.IsNotFound(err) {
		t.Errorf("wish for nobody: %v", err)
	}
	for _, k := range []triton.ContainerKey{one, two} {
		if _, err := p.Unwatch(k); err != nil {
			t.Fatal(err)
		}
	}
	if n := hotLinks(t, p); n != 0 {
		t.Errorf("after the last: %d hooks", n)
	}
}

// A call that was begun while the hooks were on, and another one that returns after they are on again, are not one call: the
// time between would be measured.
func TestKernelNoCallOutlivesAGapOfTheHooks(t *testing.T) {
	p := open(t, Config{Linger: -1, RecorderThreads: 4})
	key, cg := watch(t, p)
	proc := start(t, cg, actorBinary(t), "gate", actorBinary(t), "gate", actorBinary(t), "churn", "3")
	proc.paused(t) // in its read, whose start was seen
	if err := p.SetLevel(Counters); err != nil {
		t.Fatal(err)
	}
	proc.release(t) // that read returns unseen
	proc.paused(t)  // in another read, whose start is not seen
	if _, err := p.Recordings(key); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("the flight recorder below detail: %v", err)
	}
	again := time.Now()
	if err := p.SetLevel(Detail); err != nil {
		t.Fatal(err)
	}
	proc.release(t)
	if st := proc.wait(t); st != 0 {
		t.Fatalf("actor ended with %#x", st)
	}
	for _, r := range recordings(t, p, key) {
		if len(r.Calls) < 3 || r.Calls[0].At.Before(again) {
			t.Errorf("the flight recorder has calls from before the gap: %v", r.Calls)
		}
	}
	read := snapshot(t, p, key).Syscalls[unix.SYS_READ]
	if read.Count != 1 || read.Untimed != 1 {
		t.Errorf("reads %d, of which %d without duration (%v), want the one that returned, without", read.Count, read.Untimed, read.Durations)
	}
	if n := snapshot(t, p, key).Syscalls[unix.SYS_GETPPID].Count; n != 3 {
		t.Errorf("counted %d calls after the gap, want 3", n)
	}
}

// While the run queue's hook is off the kernel goes on to add up waiting and running: that is nobody's wait when it is on again.
func TestKernelNoWaitOutlivesAGapOfTheHook(t *testing.T) {
	p := open(t, Config{Linger: -1, Level: Counters})
	key, cg := watch(t, p)
	busy := start(t, cg, actorBinary(t), "churn", "2000000000")
	cpu := func() time.Duration { return time.Duration(snapshot(t, p, key).CPUNs) }
	eventually(t, "its CPU is counted", func() bool { return cpu() > 0 })
	if err := p.SetLevel(Off); err != nil {
		t.Fatal(err)
	}
	ran, _ := busy.schedstat(t)
	eventually(t, "two seconds of CPU are used unseen", func() bool {
		now, _ := busy.schedstat(t)
		return now-ran > 2*time.Second
	})
	before, from := cpu(), time.Now()
	if err := p.SetLevel(Counters); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its CPU is counted again", func() bool { return cpu() > before })
	if got, most := cpu()-before, time.Since(from); got > most {
		t.Errorf("%v of CPU counted in the %v that the hook is on", got, most)
	}
}

// At level sampled the numbers of a program that never changes its ways are what they would be with the hooks always on, and
// the hooks are off most of the time.
func TestKernelSampledNumbersAreScaledToTheWholeTime(t *testing.T) {
	p := open(t, Config{Level: Sampled, Window: 100 * time.Millisecond, Period: 500 * time.Millisecond, Linger: -1})
	exact := open(t, Config{Linger: -1})
	key, cg := watch(t, p)
	if _, err := exact.Watch(key, CgroupIDs{V2: cg.id}); err != nil {
		t.Fatal(err)
	}
	run(t, p)
	if got := snapshot(t, p, key); got.Counted != 0 || got.Level != Sampled {
		t.Errorf("before the first window: counted %v at %s", got.Counted, got.Level)
	}
	start(t, cg, actorBinary(t), "churn", "2000000000")
	pairs := func() (n int) {
		if p.Armed() {
			n++
		}
		return n
	}
	eventually(t, "a window opens", func() bool { return pairs() == 1 })
	eventually(t, "it closes", func() bool { return pairs() == 0 })
	from, fromExact := snapshot(t, p, key), snapshot(t, exact, key)
	var last uint64
	on, looks := 0, 0
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) { // a span to measure over, not a guess
		n := snapshot(t, p, key).SyscallCount()
		if n < last {
			t.Fatalf("the count shrank from %d to %d", last, n)
		}
		last = n
		on += pairs()
		looks++
	}
	to, toExact := snapshot(t, p, key), snapshot(t, exact, key)
	estimate, truth := float64(to.SyscallCount()-from.SyscallCount()), float64(toExact.SyscallCount()-fromExact.SyscallCount())
	// Ten windows of a loaded machine's fifth: what ran beside differs between windows and gaps.
	if estimate < truth/2 || estimate > truth*2 {
		t.Errorf("estimated %.0f calls, made were %.0f", estimate, truth)
	}
	if share := float64(on) / float64(looks); share > 0.6 {
		t.Errorf("the hooks were on for %.2f of the time, want about 0.2", share)
	}
	if to.Counted < 0.02 || to.Counted > 0.7 {
		t.Errorf("counted share %v, want about 0.2", to.Counted)
	}
	call := to.Syscalls[unix.SYS_GETPPID]
	if call.Count != call.Durations.Count()+call.Untimed {
		t.Errorf("count %d is not the sum of its parts", call.Count)
	}
	if err := p.SetLevel(Detail); err != nil {
		t.Fatal(err)
	}
	if got := snapshot(t, p, key); got.Level != Detail || got.Counted >= 1 || got.SyscallCount() < to.SyscallCount() {
		t.Errorf("after the step up: level %s, counted %v, %d calls after %d", got.Level, got.Counted, got.SyscallCount(), to.SyscallCount())
	}
}

// What is guessed of a gap is what the window before it had, by the time that passed, and never shrinks.
func TestGapsGoOnLikeTheWindowBefore(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	calls := func(n, errors, untimed uint64) Totals {
		h := func() triton.Histogram {
			h := triton.Histogram{Schema: 0, First: firstSchema0, Counts: make([]uint64, len(bpf.MeasureCell{}.Buckets)), SumNs: 10 * n}
			h.Counts[3] = n
			return h
		}
		return Totals{Syscalls: map[int]SyscallTotals{7: {Count: n + untimed, Errors: errors, Untimed: untimed, Durations: h()}}, Durations: h()}
	}
	s := &sampling{from: at(1000), until: at(2000), start: calls(100, 10, 1)}
	w := &watched{sampling: s, guess: guess{counted: time.Second}}
	got := calls(300, 20, 2)
	got.Last = at(5500)
	w.supplement(&got)
	// 200 calls, 10 errors, 1 without duration in 1 s; 3.5 s passed since.
	c := got.Syscalls[7]
	if c.Durations.Counts[3] != 1000 || c.Errors != 20+35 || c.Untimed != 2+3 || c.Count != 1005 || c.Durations.SumNs != 10000 {
		t.Errorf("got %+v", c)
	}
	if got.Durations.Count() != 1000 || got.Counted != 1/4.5 {
		t.Errorf("all: %d, counted %v", got.Durations.Count(), got.Counted)
	}
	g := w.guess.until(s, calls(300, 20, 2), at(5500))
	if n := g.calls.Syscalls[7].Count; n != 700+3 || g.supposed != 3500*time.Millisecond {
		t.Errorf("settled: %d calls in %v", n, g.supposed)
	}
	if again := g.until(&sampling{from: at(1), until: at(1)}, calls(1, 0, 0), at(2)); again.supposed != g.supposed {
		t.Errorf("a window without length: %+v", again)
	}
	fresh := &watched{sampling: &sampling{}}
	none := calls(0, 0, 0)
	fresh.supplement(&none)
	if none.Counted != 0 {
		t.Errorf("before the first window: counted %v", none.Counted)
	}
}
