package probes

import (
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
