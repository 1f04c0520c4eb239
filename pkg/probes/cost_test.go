package probes

import (
	"context"
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

func TestCostIsAShareOfTheMachineWithTheTaxOfThePair(t *testing.T) {
	const half = 500 * time.Millisecond
	exit, signals, fresh, trace, other := new(ebpf.Program), new(ebpf.Program), new(ebpf.Program), new(ebpf.Program), new(ebpf.Program)
	before := map[*ebpf.Program]programStat{exit: {"sys_exit", 1000, time.Second}, signals: {"signals", 5, time.Second}, trace: {"trace_exit", 10, 0}}
	after := map[*ebpf.Program]programStat{
		exit: {"sys_exit", 101000, time.Second + 20*time.Millisecond}, signals: {"signals", 5, time.Second}, fresh: {"new", 0, 0},
		trace: {"trace_exit", 100010, 10 * time.Millisecond}, other: {"trace_exit", 50000, 10 * time.Millisecond},
	}
	w := costWindowed{cpus: 4, busy: 2, pair: pairOn}
	w.compare(before, after, half)
	var pair pairCost
	pair.take(w, Detail)
	want := Cost{
		Programs: []ProgramCost{
			{Program: "new"}, {Program: "signals"}, {Program: "sys_exit", Runs: 200_000, CPU: 0.04}, {Program: "trace_exit", Runs: 300_000, CPU: 0.04},
		},
		Attached: 1, PairTax: usualTax, Tax: 200_000 * 130e-9, Price: (0.08 + 0.026) / 4, Burden: (0.08 + 0.026) / 2, // the tax once, whoever's programs are attached
	}
	approx := cmpopts.EquateApprox(0, 1e-9)
	if diff := cmp.Diff(want, pair.cost(w, 1), approx); diff != "" {
		t.Error(diff)
	}

	// Between two windows of samples the pair does not run; what it cost in the last one counts for its share of the time.
	after = map[*ebpf.Program]programStat{exit: before[exit], signals: {"signals", 15, time.Second + 10*time.Millisecond}}
	w = costWindowed{cpus: 4, busy: 1, pair: pairOff}
	w.compare(before, after, half)
	pair.empty = 100 * time.Nanosecond // this machine's
	want = Cost{
		Programs: []ProgramCost{{Program: "signals", Runs: 20, CPU: 0.02}, {Program: "sys_exit", Runs: 20_000, CPU: 0.004}},
		Attached: 0.1, PairTax: 100 * time.Nanosecond, Tax: 0.002, Price: 0.026 / 4, Burden: 0.026,
	}
	if diff := cmp.Diff(want, pair.cost(w, 0.1), approx); diff != "" {
		t.Error(diff)
	}
	if base, full := pair.base(w), pair.full(w); math.Abs(base-0.02) > 1e-9 || math.Abs(full-0.04-0.02) > 1e-9 {
		t.Errorf("without the pair %v, it adds %v", base, full)
	}
	// What a trace slows already, the pair does not slow again.
	w.traced = 150_000
	if base, full := pair.base(w), pair.full(w); math.Abs(base-0.02-0.015) > 1e-9 || math.Abs(full-0.04-0.005) > 1e-9 {
		t.Errorf("beside a trace: without the pair %v, it adds %v", base, full)
	}
}

// Where calls are not counted the programs do little: what counting them costs is known from before, not from then.
func TestWhatCountingCostsIsRememberedWhileNothingIsCounted(t *testing.T) {
	window := func(runs, cpu float64) costWindowed {
		return costWindowed{programs: map[string]ProgramCost{"sys_exit": {Program: "sys_exit", Runs: runs, CPU: cpu}}}
	}
	var c pairCost
	for _, step := range []struct {
		runs, cpu float64
		level     Level
		full      float64
	}{
		{0, 0, Detail, 0},
		{1e6, 0.3, Detail, 0.3 + 0.13},
		{1e6, 0.1, Counters, 0.3 + 0.13}, // counted would be the 0.3
		{1e5, 0.01, Counters, 0.03 + 0.013},
		{1e5, 0.02, Sampled, 0.02 + 0.013},
		{1e5, 0.04, Counters, 0.04 + 0.013}, // more than ever
		{0, 0, Counters, 0},
	} {
		c.take(window(step.runs, step.cpu), step.level)
		if got := c.full(window(step.runs, step.cpu)); math.Abs(got-step.full) > 1e-9 {
			t.Errorf("%+v: %v", step, got)
		}
	}
}

// A process that does nothing but system calls is most of what the hooks cost: the kernel's time of the programs is not
// zero and not more than there is, and the runs are the calls of a program whose number a second window agrees with.
func TestKernelCostIsMeasuredWhileProgramsRun(t *testing.T) {
	p := open(t, Config{})
	if got := p.Cost(); !got.At.IsZero() {
		t.Errorf("a cost before the first window: %+v", got)
	}
	key, cg := watch(t, p)
	proc := start(t, cg, actorBinary(t), "churn", "2000000000")
	eventually(t, "the process is counted", func() bool { return snapshot(t, p, key).SyscallCount() > 1000 })
	calls := snapshot(t, p, key).SyscallCount()
	from := time.Now()
	if err := p.measureCost(t.Context()); err != nil {
		t.Fatal(err)
	}
	rate := float64(snapshot(t, p, key).SyscallCount()-calls) / time.Since(from).Seconds()
	proc.cmd.Process.Kill()
	cost := p.Cost()
	for _, c := range cost.Programs {
		if c.Program != bpf.MeasureProgSysExit {
			continue
		}
		// The window lies within the span that the rate is of, and other processes call too: only from below, and far off.
		if c.Runs < rate/4 || c.CPU <= 0 || c.CPU > 2 || math.Abs(cost.Tax-c.Runs*usualTax.Seconds()) > 1e-9 {
			t.Errorf("%+v, tax %v, while a process made %.0f calls a second", c, cost.Tax, rate)
		}
		if cost.Price <= 0 || cost.Price > 1 {
			t.Errorf("price %v", cost.Price)
		}
		return
	}
	t.Errorf("no %s in %+v", bpf.MeasureProgSysExit, cost.Programs)
}

// What live traces cost is in the price, the tax of their pair too where no other is attached, and not after their end.
func TestKernelCostHasTraces(t *testing.T) {
	p := open(t, Config{Level: Counters})
	key, cg := watch(t, p)
	proc := start(t, cg, actorBinary(t), "churn", "2000000000")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const traces = 2
	attached, done := make(chan struct{}), make(chan error)
	for range traces {
		go func() {
			done <- p.Trace(ctx, key, triton.TraceFilter{Errors: true}, func() { attached <- struct{}{} }, func([]triton.TraceEvent) error { return nil })
		}()
		<-attached
	}
	if err := p.measureCost(t.Context()); err != nil {
		t.Fatal(err)
	}
	cost := p.Cost()
	for _, name := range []string{bpf.TraceProgTraceEnter, bpf.TraceProgTraceExit} {
		i := slices.IndexFunc(cost.Programs, func(c ProgramCost) bool { return c.Program == name })
		if i < 0 || cost.Programs[i].Runs < 1000 || cost.Programs[i].CPU <= 0 || cost.Price < cost.Programs[i].CPU/float64(runtime.NumCPU()) {
			t.Errorf("no cost of %s in %+v", name, cost)
		}
		if i >= 0 && name == bpf.TraceProgTraceExit {
			got, want := cost.Tax, cost.Programs[i].Runs/traces*usualTax.Seconds()
			if got < want*0.9 || got > want*1.5 { // the two were not attached at the same moment, and one may have more runs
				t.Errorf("tax %v of %d traces with %v runs together, want some %v", got, traces, cost.Programs[i].Runs, want)
			}
		}
	}
	cancel()
	for range traces {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	proc.cmd.Process.Kill()
	if err := p.measureCost(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range p.Cost().Programs {
		if c.Program == bpf.TraceProgTraceExit {
			t.Errorf("%+v after the end of all traces", c)
		}
	}
}

// A container pays for its own runs at what one costs on average, in the share of the time for which the pair is attached.
func TestCostOfAContainerIsByItsRuns(t *testing.T) {
	c := Cost{Attached: 0.1, PairTax: usualTax, Programs: []ProgramCost{
		{Program: "sched_switch", Runs: 10_000, CPU: 0.005}, {Program: "sys_enter", Runs: 20_000, CPU: 0.002}, {Program: "sys_exit", Runs: 20_000, CPU: 0.004},
	}}
	const perCall, perSwitch = 0.006 / 20_000, 0.005 / 10_000
	if got, want := c.Of(1000, 500), 1000*0.1*(perCall+130e-9)+500*perSwitch; math.Abs(got-want) > 1e-12 {
		t.Errorf("%v, want %v", got, want)
	}
	if got := (Cost{Programs: []ProgramCost{{Program: "sys_exit"}}}).Of(1000, 500); got != 0 {
		t.Errorf("%v where no program runs", got)
	}
}

// The tax is what the benchmark's own pair adds, another one made of C: both are the slow path into the kernel.
func TestKernelTaxOfAPairIsThatOfAnother(t *testing.T) {
	tax, err := PairTax()
	if err != nil {
		t.Fatal(err)
	}
	empty := emptyHooks(t)
	without, with := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for range 3 {
		for _, least := range []*time.Duration{&without, &with} {
			if least == &with {
				empty.attach(t, empty.programs.EmptyEnter, empty.programs.EmptyExit)
			}
			took, err := leastCall()
			if err != nil {
				t.Fatal(err)
			}
			*least = min(*least, took)
			if least == &with {
				empty.detach(t)
			}
		}
	}
	if want := with - without; tax < want/2 || tax > 2*want {
		t.Errorf("a pair adds %v to a call, another %v", tax, want)
	}
}
