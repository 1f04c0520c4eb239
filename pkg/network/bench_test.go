package network

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// BenchmarkKernelEndpoint measures what a container waits for: Take from a full pool, Take without a pool (of either
// owner), and Release. Minima stand beside medians, for a machine that does other things too.
func BenchmarkKernelEndpoint(b *testing.B) {
	cfg := testConfig(b, testSubnet)
	cfg.Log = nil
	// Run roots are on a tmpfs, as /run is.
	if err := unix.Mount("tmpfs", cfg.RunRoot, "tmpfs", 0, ""); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := unix.Unmount(cfg.RunRoot, 0); err != nil {
			b.Error(err)
		}
	})
	n := open(b, cfg)
	done := make(chan error, 1)
	go func() { done <- n.Run(b.Context()) }()
	times := map[string][]time.Duration{}
	timed := func(name string, f func()) {
		start := time.Now()
		f()
		times[name] = append(times[name], time.Since(start))
	}
	full := func() bool { return len(n.idle) == defaultPoolSize }
	for b.Loop() {
		var eps [3]triton.Endpoint
		eventually(b, "the pool is full", full)
		timed("pooled", func() { eps[0] = take(b, n, Bridged) })
		eventually(b, "the pool is full", full)
		timed("host-user", func() { eps[1] = take(b, n, BridgedHostUser) })
		timed("isolated", func() { eps[2] = take(b, n, Isolated) })
		for _, ep := range eps {
			timed("release", func() {
				if err := n.Release(b.Context(), ep); err != nil {
					b.Error(err)
				}
			})
		}
	}
	b.ReportMetric(0, "ns/op")
	for name, all := range times {
		slices.Sort(all)
		b.ReportMetric(float64(all[0].Nanoseconds())/1000, name+"-min-us")
		b.ReportMetric(float64(all[len(all)/2].Nanoseconds())/1000, name+"-median-us")
	}
	if err := n.Close(); err != nil {
		b.Error(err)
	}
	if err := <-done; err != nil {
		b.Error(err)
	}
}
