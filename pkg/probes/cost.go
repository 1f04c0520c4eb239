package probes

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/bpf"
)

// The kernel times programs only while somebody asks it to, since that costs two clock readings a run; so it is asked for a
// window now and then.
const (
	costWindow = 100 * time.Millisecond
	costEvery  = 5 * time.Second
)

// pairTax is what an empty pair of system call hooks adds to a call of any process, by the slow path into the kernel that
// they force: the least that make bench-probes shows for it. The kernel's time of the programs
// does not have it.
const pairTax = 130 * time.Nanosecond

// ProgramCost is what a program cost in the last window, in all of its copies: each live trace has its own.
type ProgramCost struct {
	Program string
	Runs    float64 // a second
	CPU     float64 // of one CPU, by the kernel's clock
}

// Cost is what the programs cost the machine in the last window. The zero value: there was none yet.
type Cost struct {
	At       time.Time
	Programs []ProgramCost // in order of name
	// Tax is what the hooks of system calls cost every process of the machine beside the programs' own time, of one CPU:
	// calls times a calibrated constant.
	Tax float64
	// Price is all of it as a share of the machine.
	Price float64
}

// Cost tells what the programs cost in the last window.
func (p *Probes) Cost() Cost {
	if c := p.cost.Load(); c != nil {
		return *c
	}
	return Cost{}
}

// watchCost takes a window every now and then until ctx is done.
func (p *Probes) watchCost(ctx context.Context) error {
	every := time.NewTicker(costEvery)
	defer every.Stop()
	for {
		if err := p.measureCost(ctx); err != nil {
			p.log.WarnContext(ctx, "cost of the programs not measured", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
	}
}

// measureCost takes one window.
func (p *Probes) measureCost(ctx context.Context) error {
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return fmt.Errorf("let the kernel time programs: %w", err)
	}
	before, from := p.programStats(), time.Now()
	select {
	case <-ctx.Done():
		return stats.Close()
	case <-time.After(costWindow):
	}
	after, window := p.programStats(), time.Since(from)
	if err := closeStats(stats); err != nil {
		return err
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count CPUs: %w", err)
	}
	p.questions.tellPrices(before, after, window)
	c := costOf(before, after, window, cpus)
	c.At = time.Now()
	p.cost.Store(&c)
	return nil
}

func closeStats(stats io.Closer) error {
	if err := stats.Close(); err != nil {
		return fmt.Errorf("let the kernel time programs no more: %w", err)
	}
	return nil
}

// programStat is what the kernel counted of a program while it was timed.
type programStat struct {
	name string
	runs uint64
	time time.Duration
}

// returnPrograms hang on the return of every call of the machine, each beside one on the entry.
var returnPrograms = []string{bpf.MeasureProgSysExit, bpf.TraceProgTraceExit, bpf.AskSyscallsProgAskExit}

// costOf compares two readings.
func costOf(before, after map[*ebpf.Program]programStat, window time.Duration, cpus int) Cost {
	var c Cost
	var all, calls float64
	costs := map[string]ProgramCost{}
	for prog, b := range after {
		a := before[prog]
		cost := costs[b.name]
		cost.Program = b.name
		runs := float64(b.runs-a.runs) / window.Seconds()
		cost.Runs += runs
		cost.CPU += (b.time - a.time).Seconds() / window.Seconds()
		costs[b.name] = cost
		if slices.Contains(returnPrograms, b.name) {
			calls = max(calls, runs) // however many pairs there are: a call takes the slow path once
		}
	}
	for _, cost := range costs {
		all += cost.CPU
		c.Programs = append(c.Programs, cost)
	}
	slices.SortFunc(c.Programs, func(a, b ProgramCost) int { return strings.Compare(a.Program, b.Program) })
	c.Tax = calls * pairTax.Seconds()
	c.Price = (all + c.Tax) / float64(cpus)
	return c
}

// programStats reads what the kernel counted of each program that is loaded. Each trace and each question has programs of its own.
func (p *Probes) programStats() map[*ebpf.Program]programStat {
	p.mu.RLock()
	defer p.mu.RUnlock()
	out := map[*ebpf.Program]programStat{}
	if p.closed {
		return out
	}
	sets := []map[string]*ebpf.Program{p.kernel.programs, p.kernel.resident}
	if p.peers != nil {
		sets = append(sets, p.peers.resident)
	}
	if p.network != nil {
		sets = append(sets, p.network.resident)
	}
	sets = append(sets, p.profiles.running())
	for t := range p.tracing {
		sets = append(sets, t.programs)
	}
	read := func(programs map[string]*ebpf.Program) {
		for name, prog := range programs {
			if st, err := prog.Stats(); err == nil {
				out[prog] = programStat{name: name, runs: st.RunCount, time: st.Runtime}
			}
		}
	}
	for _, programs := range sets {
		read(programs)
	}
	p.questions.eachSet(read)
	return out
}
