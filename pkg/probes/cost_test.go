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
	exit, signals, fresh, trace, other := new(ebpf.Program), new(ebpf.Program), new(ebpf.Program), new(ebpf.Program), new(ebpf.Program)
	before := map[*ebpf.Program]programStat{exit: {"sys_exit", 1000, time.Second}, signals: {"signals", 5, time.Second}, trace: {"trace_exit", 10, 0}}
	after := map[*ebpf.Program]programStat{
		exit: {"sys_exit", 101000, time.Second + 20*time.Millisecond}, signals: {"signals", 5, time.Second}, fresh: {"new", 0, 0},
		trace: {"trace_exit", 100010, 10 * time.Millisecond}, other: {"trace_exit", 50000, 10 * time.Millisecond},
	}
	want := Cost{
		Programs: []ProgramCost{
			{Program: "new"}, {Program: "signals"}, {Program: "sys_exit", Runs: 200_000, CPU: 0.04}, {Program: "trace_exit", Runs: 300_000, CPU: 0.04},
		},
		Tax: 200_000 * 130e-9, Price: (0.08 + 0.026) / 2, // the tax once, whoever's programs are attached
	}
	if diff := cmp.Diff(want, costOf(before, after, 500*time.Millisecond, 2), cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Error(diff)
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
		if c.Runs < rate/4 || c.CPU <= 0 || c.CPU > 2 || math.Abs(cost.Tax-c.Runs*pairTax.Seconds()) > 1e-9 {
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
			got, want := cost.Tax, cost.Programs[i].Runs/traces*pairTax.Seconds()
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
