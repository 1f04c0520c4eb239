package probes

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/bpf/bpftest"
	"github.com/tritond/triton/pkg/triton"
)

// turns are times of variants of one thing that take turns in every round: what disturbs the machine disturbs all of them.
type turns map[string][]float64

// report reports the least and the median of each variant. Their differences and ratios are test/bench/probes' to make.
func (t turns) report(b *testing.B) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	for name, ns := range t {
		slices.Sort(ns)
		b.ReportMetric(ns[0], name+"-least-ns")
		b.ReportMetric(ns[len(ns)/2], name+"-median-ns")
	}
}

// variant is a way in which a process is observed while it is timed. begin makes it so and returns what ends it.
type variant struct {
	names []string // of the process, and of one of another cgroup; the second may be left out
	begin func() (end func())
}

// BenchmarkKernelSyscall times a getppid, the cheapest call there is, in CPU time: without hooks, between an empty pair of
// hooks (the price of the slow system call path, which no program can go below), at each level, under live traces, and under
// bpftrace's one-liner for the same histograms where bpftrace can be run. One iteration is one round.
func BenchmarkKernelSyscall(b *testing.B) {
	const callsPerRound = 100_000
	key, cg := newKey(), newCgroup(b)
	watched, other := clockedActor(b, cg, callsPerRound), clockedActor(b, newCgroup(b), callsPerRound)
	empty := emptyHooks(b)
	watching := func(cfg Config) func() func() {
		cfg.Linger = -1
		p := open(b, cfg)
		return func() func() {
			mustWatch(b, p, key, cg)
			if cfg.Level == Sampled {
				check(b, p.openWindow(time.Now()))
			}
			watched.clock(b) // takes cells
			return func() {
				if cfg.Level == Sampled {
					check(b, p.closeWindow(time.Now()))
				}
				mustUnwatch(b, p, key)
			}
		}
	}
	variants := []variant{
		{[]string{"none"}, func() func() { return func() {} }},
		{[]string{"empty"}, func() func() {
			empty.attach(b, empty.programs.EmptyEnter, empty.programs.EmptyExit)
			return func() { empty.detach(b) }
		}},
		{[]string{"counters"}, watching(Config{Level: Counters})},
		{[]string{"sampled-in-its-window"}, watching(Config{Level: Sampled})},
		{[]string{"detail-unrecorded", "beside-detail"}, watching(Config{})},
		{[]string{"detail"}, watching(Config{RecorderThreads: 64})},
		{[]string{"traced", "beside-a-trace"}, tracing(b, key, cg, triton.TraceFilter{})},
		{[]string{"traced-errors-only", "beside-a-trace-of-errors"}, tracing(b, key, cg, triton.TraceFilter{Errors: true})},
	}
	if hasBpftrace() {
		variants = append(variants, variant{[]string{"bpftrace", "beside-bpftrace"}, func() func() { return bpftrace(b, cg) }})
	}
	times := turns{}
	for b.Loop() {
		for _, v := range variants {
			end := v.begin()
			for i, name := range v.names {
				times[name] = append(times[name], []*process{watched, other}[i].clock(b)/callsPerRound)
			}
			end()
		}
	}
	times.report(b)
}

// tracing is a live trace of key alone: at level counters nothing else is on the hooks.
func tracing(b *testing.B, key triton.ContainerKey, cg cgroup, f triton.TraceFilter) func() func() {
	p := open(b, Config{Linger: -1, Level: Counters})
	return func() func() {
		mustWatch(b, p, key, cg)
		ctx, cancel := context.WithCancel(b.Context())
		attached, done := make(chan struct{}), make(chan error, 1)
		go func() {
			done <- p.Trace(ctx, key, f, func() { close(attached) }, func([]triton.TraceEvent) error { return nil })
		}()
		select {
		case <-attached:
		case err := <-done:
			b.Fatal(err)
		}
		return func() {
			cancel()
			check(b, <-done)
			mustUnwatch(b, p, key)
		}
	}
}

// BenchmarkKernelPingPong times two processes that pass a byte to and fro on one CPU, nothing but switches and waits, in CPU
// time of both: without a hook, with an empty one (which no program can go below), and with accounting of the run queue. One
// iteration is one round.
func BenchmarkKernelPingPong(b *testing.B) {
	const trips = 50_000
	key, cg := newKey(), newCgroup(b)
	p, empty := open(b, Config{Linger: -1, Level: Counters}), emptyHooks(b)
	mustWatch(b, p, key, cg) // both processes are known from birth
	proc := onLastCPU(b, start(b, newCgroup(b), "/bin/sh", "-c", "echo $$ >"+cg.dir+"/cgroup.procs && exec "+actorBinary(b)+" pingpong "+strconv.Itoa(trips)))
	proc.paused(b)
	mustUnwatch(b, p, key)
	times := turns{}
	for b.Loop() {
		times["none"] = append(times["none"], proc.clock(b)/trips)
		empty.attach(b, empty.programs.EmptySwitch)
		times["empty"] = append(times["empty"], proc.clock(b)/trips)
		empty.detach(b)
		mustWatch(b, p, key, cg)
		times["accounted"] = append(times["accounted"], proc.clock(b)/trips)
		if t := mustUnwatch(b, p, key); t.RunQueue.Count() < trips {
			b.Fatalf("%d waits in %d trips", t.RunQueue.Count(), trips)
		}
	}
	times.report(b)
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func mustWatch(b *testing.B, p *Probes, key triton.ContainerKey, cg cgroup) {
	b.Helper()
	_, err := p.Watch(key, CgroupIDs{V2: cg.id})
	check(b, err)
}

func mustUnwatch(b *testing.B, p *Probes, key triton.ContainerKey) Totals {
	b.Helper()
	t, err := p.Unwatch(key)
	check(b, err)
	return t
}

// clockedActor starts an actor that times its calls, on the last CPU.
func clockedActor(b *testing.B, cg cgroup, calls int) *process {
	proc := onLastCPU(b, start(b, cg, actorBinary(b), "clocked", strconv.Itoa(calls)))
	proc.paused(b)
	return proc
}

// onLastCPU keeps a process, and what it will start, on the last CPU.
func onLastCPU(b *testing.B, proc *process) *process {
	var cpus unix.CPUSet
	if err := unix.SchedGetaffinity(0, &cpus); err != nil {
		b.Fatal(err)
	}
	last := unix.CPUSet{}
	for cpu := range len(cpus) * 64 {
		if cpus.IsSet(cpu) {
			last.Zero()
			last.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(proc.cmd.Process.Pid, &last); err != nil {
		b.Fatal(err)
	}
	return proc
}

// clock lets the actor make its calls and returns the CPU time they took in nanoseconds.
func (p *process) clock(b *testing.B) float64 {
	p.release(b)
	line, err := p.out.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	ns, err := strconv.ParseFloat(line[:len(line)-1], 64)
	if err != nil {
		b.Fatal(err)
	}
	p.paused(b)
	return ns
}

// hooks are empty ones.
type hooks struct {
	programs bpftest.FunctionsPrograms
	links    []link.Link
}

func emptyHooks(b testing.TB) *hooks {
	var o bpftest.FunctionsObjects
	if err := bpftest.LoadFunctionsObjects(&o, nil); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { o.Close() })
	return &hooks{programs: o.FunctionsPrograms}
}

func (h *hooks) attach(b testing.TB, programs ...*ebpf.Program) {
	for _, prog := range programs {
		l, err := link.AttachTracing(link.TracingOptions{Program: prog})
		if err != nil {
			b.Fatal(err)
		}
		h.links = append(h.links, l)
	}
}

func (h *hooks) detach(b testing.TB) {
	for _, l := range h.links {
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
	h.links = nil
}
