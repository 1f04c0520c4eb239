package probes

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tritond/triton/bpf"
)

func TestCostIsAShareOfTheMachineWithTheTaxOfThePair(t *testing.T) {
	before := map[string]programStat{"sys_exit": {runs: 1000, time: time.Second}, "signals": {runs: 5, time: time.Second}}
	after := map[string]programStat{"sys_exit": {runs: 101000, time: time.Second + 20*time.Millisecond}, "signals": {runs: 5, time: time.Second}, "new": {}}
	want := Cost{
		Programs: []ProgramCost{{Program: "new"}, {Program: "signals"}, {Program: "sys_exit", Runs: 200_000, CPU: 0.04}},
		Tax:      200_000 * 130e-9, Price: (0.04 + 0.026) / 2,
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
