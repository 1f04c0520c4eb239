package probes

import (
	"errors"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

// BenchmarkKernelProfile is the price of a profile of a container that has every tick of a CPU: of the program by the
// kernel's clock, and of reading, as shares of that CPU. Names and the pprof form come once, at the end, and are not in it.
func BenchmarkKernelProfile(b *testing.B) {
	p := open(b, Config{})
	key, cg := watch(b, p)
	start(b, cg, "/bin/busybox", "sh", "-c", "while :; do :; done")
	s, err := p.StartProfile(key, triton.OnCPU)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		b.Fatal(err)
	}
	defer stats.Close()
	prog := p.profiles.running()[bpf.ProfileProgOnCpuTick]
	before, err := prog.Stats()
	if err != nil {
		b.Fatal(err)
	}
	var own, samples float64
	began := time.Now()
	every := time.NewTicker(200 * time.Millisecond) // as profile.Taker reads
	defer every.Stop()
	for b.Loop() {
		<-every.C
		from := ownCPU(b)
		stacks, loss, err := s.Read()
		if err != nil || loss != (triton.StackLoss{}) {
			b.Fatalf("lost %+v, %v", loss, err)
		}
		own += ownCPU(b) - from
		for _, st := range stacks {
			samples += float64(st.Count)
		}
	}
	took := time.Since(began).Seconds()
	after, err := prog.Stats()
	if err != nil {
		b.Fatal(err)
	}
	ticks, program := float64(after.RunCount-before.RunCount), (after.Runtime - before.Runtime).Seconds()
	b.ReportMetric(program/ticks*1e9, "ns/tick")
	b.ReportMetric(100*program/took, "program-%-of-a-CPU")
	b.ReportMetric(100*own/took, "reader-%-of-a-CPU")
	b.ReportMetric(samples/took, "samples/s")
}

// ownCPU is the processor time of this process, in seconds.
func ownCPU(b *testing.B) float64 {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// BenchmarkKernelProfiled times calls of a process that has a CPU to itself, in CPU time, with and without a profile of it
// that is read as often as profile.Taker reads. One iteration is one round.
func BenchmarkKernelProfiled(b *testing.B) {
	const callsPerRound = 1_000_000
	p := open(b, Config{Linger: -1, Level: Off})
	key, cg := watch(b, p)
	proc := clockedActor(b, cg, callsPerRound)
	times := turns{}
	for b.Loop() {
		times["none"] = append(times["none"], proc.clock(b)/callsPerRound)
		s, err := p.StartProfile(key, triton.OnCPU)
		check(b, err)
		stop, stopped := make(chan struct{}), make(chan error)
		go func() { stopped <- readUntil(s, stop) }()
		times["profiled"] = append(times["profiled"], proc.clock(b)/callsPerRound)
		close(stop)
		check(b, errors.Join(<-stopped, s.Close()))
	}
	times.report(b)
}

// readUntil reads a profile, as profile.Taker does, until stop is closed; one without stacks is an error.
func readUntil(s *Profile, stop <-chan struct{}) error {
	every := time.NewTicker(200 * time.Millisecond)
	defer every.Stop()
	for n, over := 0, false; ; {
		select {
		case <-every.C:
		case <-stop:
			over = true
		}
		stacks, _, err := s.Read()
		n += len(stacks)
		switch {
		case err != nil:
			return err
		case over && n == 0:
			return errors.New("the profile is empty")
		case over:
			return nil
		}
	}
}
