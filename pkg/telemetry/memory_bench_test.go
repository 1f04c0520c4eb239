package telemetry

import (
	"runtime"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// BenchmarkMemoryPerContainer tells how much of the heap a container has whose window is full and that makes 50 different
// system calls: all that the store keeps of it. Every number that windows keep is large and grows.
func BenchmarkMemoryPerContainer(b *testing.B) {
	const containers, calls, passes = 1000, 50, secondsKept + tensKept + 2
	var bytes float64
	for b.Loop() {
		before := heap()
		s := New(Config{})
		for range containers {
			n := 0
			s.Add(newKey(), "name-of-a-container", "image:tag", func() (Sample, error) {
				n++
				sample := busy(10*n, 1<<40) // ten seconds apart, so that each is kept among the tens, too
				for nr := range calls {
					h := triton.Histogram{Schema: 0, First: heatFirst, Counts: make([]uint64, heatBuckets), SumNs: uint64(time.Second)}
					for i := range 10 { // from 1 us to 1 ms
						h.Counts[4+i] = uint64(n)
					}
					sample.PerSyscall = append(sample.PerSyscall, SyscallSample{Nr: nr, Count: uint64(n), Durations: h})
				}
				return sample, nil
			})
		}
		for range passes {
			s.pass(b.Context())
		}
		bytes = float64(heap()-before) / containers
		runtime.KeepAlive(s)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(bytes, "bytes/container")
}

// heap is what lives of it.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
