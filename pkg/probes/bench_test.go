package probes

import (
	"math"
	"strconv"
	"testing"

	"github.com/cilium/ebpf/link"
	"github.com/tritond/triton/bpf/bpftest"
	"golang.org/x/sys/unix"
)

// BenchmarkKernelWatchedSyscall compares what observation adds to a getppid with what an empty pair of hooks adds:
// the price of the slow system call path, which no program can go below. One iteration is one round of all variants,
// interleaved; reported are the minima in nanoseconds of CPU time per call. recorded is with the
// flight recorder, which is what --probes detail has. The goal is a ratio of at most 2.5.
func BenchmarkKernelWatchedSyscall(b *testing.B) {
	const callsPerRound = 100_000
	p := open(b, Config{Linger: -1})
	key, cg := newKey(), newCgroup(b)
	watched := clockedActor(b, cg, callsPerRound)
	other := clockedActor(b, newCgroup(b), callsPerRound)
	empty := emptyPair(b)
	recorder := open(b, Config{Linger: -1, RecorderThreads: 64})

	best := map[string]float64{}
	round := func(name string, proc *process) {
		ns := proc.clock(b) / callsPerRound
		if old, ok := best[name]; !ok || ns < old {
			best[name] = ns
		}
	}
	for b.Loop() {
		round("none", watched)
		empty.attach(b)
		round("empty", watched)
		empty.detach(b)
		if _, err := p.Watch(key, CgroupIDs{V2: cg.id}); err != nil {
			b.Fatal(err)
		}
		watched.clock(b) // takes cells
		round("watched", watched)
		round("unwatched", other)
		if _, err := p.Unwatch(key); err != nil {
			b.Fatal(err)
		}
		if _, err := recorder.Watch(key, CgroupIDs{V2: cg.id}); err != nil {
			b.Fatal(err)
		}
		watched.clock(b)
		round("recorded", watched)
		if _, err := recorder.Unwatch(key); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(best["none"], "none-ns")
	added := func(name string) float64 { return best[name] - best["none"] }
	for _, name := range []string{"empty", "watched", "recorded", "unwatched"} {
		b.ReportMetric(added(name), name+"-added-ns")
	}
	b.ReportMetric(math.Round(100*added("watched")/added("empty"))/100, "watched/empty")
	b.ReportMetric(math.Round(100*added("recorded")/added("empty"))/100, "recorded/empty")
}

// BenchmarkKernelRunQueuePingPong tells what run-queue accounting, delays included, costs two processes that pass a byte to
// and fro on one CPU: nothing but switches and waits. One iteration is one round, with and without, interleaved; reported
// is the ratio of the minima of the time per round trip. The goal is 1.05.
func BenchmarkKernelRunQueuePingPong(b *testing.B) {
	const trips = 50_000
	p := open(b, Config{Linger: -1, Level: Counters})
	key, cg := newKey(), newCgroup(b)
	if _, err := p.Watch(key, CgroupIDs{V2: cg.id}); err != nil { // so that both processes have their storage from birth
		b.Fatal(err)
	}
	proc := onLastCPU(b, start(b, newCgroup(b), "/bin/sh", "-c", "echo $$ >"+cg.dir+"/cgroup.procs && exec "+actorBinary(b)+" pingpong "+strconv.Itoa(trips)))
	proc.paused(b)
	if _, err := p.Unwatch(key); err != nil {
		b.Fatal(err)
	}
	best := map[string]float64{}
	round := func(name string) {
		ns := proc.clock(b) / trips
		if old, ok := best[name]; !ok || ns < old {
			best[name] = ns
		}
	}
	for b.Loop() {
		round("none")
		if _, err := p.Watch(key, CgroupIDs{V2: cg.id}); err != nil {
			b.Fatal(err)
		}
		round("watched")
		if t, err := p.Unwatch(key); err != nil || t.RunQueue.Count() == 0 {
			b.Fatalf("%d waits, %v", t.RunQueue.Count(), err)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(best["none"], "none-ns")
	b.ReportMetric(best["watched"], "watched-ns")
	b.ReportMetric(math.Round(1000*best["watched"]/best["none"])/1000, "watched/none")
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

// hooks is the empty pair.
type hooks struct {
	programs bpftest.FunctionsPrograms
	links    []link.Link
}

func emptyPair(b *testing.B) *hooks {
	var o bpftest.FunctionsObjects
	if err := bpftest.LoadFunctionsObjects(&o, nil); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { o.Close() })
	return &hooks{programs: o.FunctionsPrograms}
}

func (h *hooks) attach(b *testing.B) {
	for _, prog := range []link.TracingOptions{{Program: h.programs.EmptyEnter}, {Program: h.programs.EmptyExit}} {
		l, err := link.AttachTracing(prog)
		if err != nil {
			b.Fatal(err)
		}
		h.links = append(h.links, l)
	}
}

func (h *hooks) detach(b *testing.B) {
	for _, l := range h.links {
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
	h.links = nil
}
