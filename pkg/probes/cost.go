package probes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/bpf"
	cgroups "github.com/tritond/triton/pkg/cgroup"
)

// The kernel times programs only while somebody asks it to, since that costs two clock readings a run; so it is asked for a
// window now and then.
const (
	costWindow = 100 * time.Millisecond
	costEvery  = 5 * time.Second
)

// holdWindows is how many windows a better level must be affordable until it is taken, at first: 30 s.
const holdWindows = 6

// lookEach is how many windows pass from one in which the system call hooks are attached only to learn what they would cost to
// the next, where the level stepped down to Counters.
const lookEach = 3

// costWindow is how long the programs are timed: within a window of samples.
func (c Config) costWindow() time.Duration { return min(costWindow, c.Window/2) }

// ProgramCost is what a program costs, in all of its copies: each live trace has its own.
type ProgramCost struct {
	Program string
	Runs    float64 // a second
	CPU     float64 // of one CPU, by the kernel's clock
}

// Cost is what the programs cost the machine. The zero value: there was no window yet.
type Cost struct {
	At time.Time
	// Programs are in order of name. Those of system calls are of the last window in which they were attached, times Attached;
	// the others of the last window.
	Programs []ProgramCost
	// Attached is the share of the time for which the hooks of system calls are attached now.
	Attached float64
	// Tax is what the hooks of system calls cost every process of the machine beside the programs' own time, of one CPU:
	// calls times PairTax.
	Tax float64
	// PairTax is what an empty pair of hooks adds to a call on this machine, as measured at the start.
	PairTax time.Duration
	// Price is all of it as a share of the machine.
	Price float64
	// Burden is the same as a share of the time for which CPUs were busy in the last window, of one CPU at least: what a process
	// that is alone on a large machine loses, too.
	Burden float64
}

// Of estimates what a container costs that makes so many system calls a second and is given a CPU so often, of one CPU: runs of
// the programs of those at what one cost on average of the whole machine, the tax of the calls included. It leaves out what
// happens seldom: processes, requests to devices, packets.
func (c Cost) Of(calls, switches float64) float64 {
	of := map[string]ProgramCost{}
	for _, p := range c.Programs {
		of[p.Program] = p
	}
	var cpu float64
	if exit := of[bpf.MeasureProgSysExit]; exit.Runs > 0 {
		perRun := (exit.CPU + of[bpf.MeasureProgSysEnter].CPU) / exit.Runs
		cpu += calls * c.Attached * (perRun + cmp.Or(c.PairTax, usualTax).Seconds())
	}
	if s := of[bpf.MeasureProgSchedSwitch]; s.Runs > 0 {
		cpu += switches * s.CPU / s.Runs
	}
	return cpu
}

// Cost tells what the programs cost.
func (p *Probes) Cost() Cost {
	if c := p.cost.Load(); c != nil {
		return *c
	}
	return Cost{}
}

// watchCost takes a window every now and then until ctx is done, and one in each window of samples, which others may miss.
func (p *Probes) watchCost(ctx context.Context) error {
	p.measureTax(ctx)
	every := time.NewTicker(p.cfg.costEvery)
	defer every.Stop()
	for {
		if err := p.measureCost(ctx); err != nil {
			p.log.WarnContext(ctx, "cost of the programs not measured", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		case <-p.opened:
		}
	}
}

// measureTax measures PairTax.
func (p *Probes) measureTax(ctx context.Context) {
	tax, err := PairTax()
	if err != nil {
		p.log.WarnContext(ctx, "what hooks of system calls cost by themselves is not measured", "taken", usualTax, "err", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pairs.empty = tax
}

// measureCost takes one window, and lets the level step by what it tells.
func (p *Probes) measureCost(ctx context.Context) error {
	endLook, err := p.look()
	if err != nil {
		return err
	}
	w, whole, err := p.costOfWindow(ctx)
	if err := errors.Join(err, endLook()); err != nil || !whole {
		return err
	}
	p.mu.Lock()
	if w.pair == pairOn {
		p.pairs.take(w, p.level)
	}
	r, tells := p.readingOf(w)
	c := p.pairs.cost(w, p.attachedFor(p.level))
	p.mu.Unlock()
	p.cost.Store(&c)
	if !tells {
		return nil
	}
	return p.stepBy(ctx, r)
}

// costOfWindow has the kernel time the programs for one window. Not whole: ctx ended meanwhile.
func (p *Probes) costOfWindow(ctx context.Context) (w costWindowed, whole bool, err error) {
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return w, false, fmt.Errorf("let the kernel time programs: %w", err)
	}
	turn := p.pairTurn()
	idle, errBefore := cgroups.ReadMachine()
	before, from := p.programStats(), time.Now()
	select {
	case <-ctx.Done():
		return w, false, closeStats(stats)
	case <-time.After(p.cfg.costWindow()):
	}
	after, window := p.programStats(), time.Since(from)
	busy, errAfter := cgroups.ReadMachine()
	turned := p.pairTurn()
	if err := errors.Join(closeStats(stats), errBefore, errAfter); err != nil {
		return w, false, err
	}
	w = costWindowed{at: time.Now(), cpus: float64(busy.Online)}
	w.compare(before, after, window)
	w.busy = min(max(1, (busy.Busy-idle.Busy).Seconds()/window.Seconds()), w.cpus)
	switch {
	case turn != turned:
		w.pair = pairTurned
	case turn%2 == 1:
		w.pair = pairOn
	}
	p.questions.tellPrices(before, after, window)
	return w, true, nil
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

// returnPrograms hang on the return of every call of the machine, each beside one on the entry, besides the pair's own.
var returnPrograms = []string{bpf.TraceProgTraceExit, bpf.AskSyscallsProgAskExit}

// compare notes what came between two readings.
func (w *costWindowed) compare(before, after map[*ebpf.Program]programStat, window time.Duration) {
	w.programs = map[string]ProgramCost{}
	for prog, b := range after {
		a := before[prog]
		cost := w.programs[b.name]
		cost.Program = b.name
		runs := float64(b.runs-a.runs) / window.Seconds()
		cost.Runs += runs
		cost.CPU += (b.time - a.time).Seconds() / window.Seconds()
		w.programs[b.name] = cost
		if slices.Contains(returnPrograms, b.name) {
			w.traced = max(w.traced, runs) // however many of them there are: a call takes the slow path once
		}
	}
}

// How the pair of system call hooks was in a window.
const (
	pairOff    = iota // not attached
	pairOn            // attached
	pairTurned        // first the one, then the other
)

// costWindowed is what one window told.
type costWindowed struct {
	at         time.Time
	programs   map[string]ProgramCost
	pair       int
	traced     float64 // calls a second that others' hooks slow, of traces and questions, whether the pair is attached or not
	cpus, busy float64 // CPUs that there are; that were not idle, one at least
}

// pairCost is what the pair of system call hooks cost while it was attached last.
type pairCost struct {
	programs map[string]ProgramCost
	perCall  float64       // seconds of the programs, where calls are counted
	empty    time.Duration // PairTax; 0: not measured
}

// take notes a window in which the pair was attached. At level Counters hardly anything is counted, which is cheaper: what a
// call costs otherwise is remembered.
func (c *pairCost) take(w costWindowed, level Level) {
	c.programs = map[string]ProgramCost{}
	var cpu, runs float64
	for _, name := range callPrograms {
		c.programs[name] = w.programs[name]
		cpu += w.programs[name].CPU
		runs = max(runs, w.programs[name].Runs)
	}
	if runs == 0 {
		return
	}
	if now := cpu / runs; level != Counters || now > c.perCall {
		c.perCall = now
	}
}

// calls is the rate of system calls of the whole machine.
func (c *pairCost) calls() float64 { return c.programs[bpf.MeasureProgSysExit].Runs }

// tax is what hooks cost the calls of a window beside the programs' time, of one CPU, where the pair is attached for a share of the
// time: a call takes the slow path once, whoever's hooks there are.
func (c *pairCost) tax(w costWindowed, attached float64) float64 {
	return (w.traced + attached*max(0, c.calls()-w.traced)) * cmp.Or(c.empty, usualTax).Seconds()
}

// full is what the pair adds while it is attached and everything is counted, of one CPU.
func (c *pairCost) full(w costWindowed) float64 {
	return c.calls()*c.perCall + c.tax(w, 1) - c.tax(w, 0)
}

// base is what is spent without the pair, of one CPU.
func (c *pairCost) base(w costWindowed) float64 {
	all := c.tax(w, 0)
	for name, cost := range w.programs {
		if !slices.Contains(callPrograms, name) {
			all += cost.CPU
		}
	}
	return all
}

// cost joins a window with the pair's last, where the pair is attached for a share of the time.
func (c *pairCost) cost(w costWindowed, attached float64) Cost {
	out := Cost{At: w.at, Attached: attached, Tax: c.tax(w, attached), PairTax: cmp.Or(c.empty, usualTax)}
	all := out.Tax
	for name, cost := range w.programs {
		if slices.Contains(callPrograms, name) {
			pair := c.programs[name]
			cost.Runs, cost.CPU = attached*pair.Runs, attached*pair.CPU
		}
		all += cost.CPU
		out.Programs = append(out.Programs, cost)
	}
	slices.SortFunc(out.Programs, func(a, b ProgramCost) int { return strings.Compare(a.Program, b.Program) })
	out.Price, out.Burden = all/w.cpus, all/w.busy
	return out
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
		sets = append(sets, p.peers.resident, p.peers.programs)
	}
	if p.network != nil {
		sets = append(sets, p.network.resident)
	}
	if p.names != nil {
		sets = append(sets, p.names.programs)
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
