package network

import (
	"slices"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// BenchmarkKernelEndpoint measures what a container waits for: Take from a full pool, Take without a pool, and Release.
func BenchmarkKernelEndpoint(b *testing.B) {
	cfg := testConfig(b, testSubnet)
	cfg.Log = nil
	n := open(b, cfg)
	done := make(chan error, 1)
	go func() { done <- n.Run(b.Context()) }()
	var pooled, made, released []time.Duration
	timed := func(into *[]time.Duration, f func()) {
		start := time.Now()
		f()
		*into = append(*into, time.Since(start))
	}
	for b.Loop() {
		eventually(b, "the pool is full", func() bool { return len(n.idle) == defaultPoolSize })
		var first, second triton.Endpoint
		timed(&pooled, func() { first = take(b, n, Bridged) })
		eventually(b, "the pool is full", func() bool { return len(n.idle) == defaultPoolSize })
		timed(&made, func() { second = take(b, n, BridgedHostUser) })
		for _, ep := range []triton.Endpoint{first, second} {
			timed(&released, func() {
				if err := n.Release(b.Context(), ep); err != nil {
					b.Error(err)
				}
			})
		}
		var pair []time.Duration
		timed(&pair, func() {
			if ep, err := n.build(Isolated); err != nil {
				b.Error(err)
			} else if err := n.Release(b.Context(), ep); err != nil {
				b.Error(err)
			}
		})
	}
	b.ReportMetric(0, "ns/op")
	for name, all := range map[string][]time.Duration{"take-pooled": pooled, "take-made": made, "release": released} {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds()), name+"-median-us")
		b.ReportMetric(float64(all[len(all)*9/10].Microseconds()), name+"-p90-us")
	}
	if err := n.Close(); err != nil {
		b.Error(err)
	}
	if err := <-done; err != nil {
		b.Error(err)
	}
}
