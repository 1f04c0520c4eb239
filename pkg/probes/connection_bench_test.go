package probes

import (
	"errors"
	"path/filepath"
	"strconv"
	"testing"
)

// BenchmarkKernelConnection times a TCP connection of a container to itself over its loopback, opened, accepted and closed without
// data, in CPU time, the kernel's part in interrupts included: without probes, with remotes and datagrams (the default), with what
// --metrics-network and --metrics-dns add, and with system calls in detail. One iteration is one round.
func BenchmarkKernelConnection(b *testing.B) {
	const perRound = 4000
	cg := newCgroup(b)
	proc := onLastCPU(b, start(b, cg, actorBinary(b), "connects", strconv.Itoa(perRound)))
	proc.paused(b)
	observing := func(cfg Config, names bool) func() func() {
		dir := bpffs(b)
		return func() func() {
			cfg := cfg
			cfg.PinDir, cfg.MaxContainers, cfg.Linger = dir, 8, -1
			p, err := Open(b.Context(), cfg)
			check(b, err)
			key := newKey()
			mustWatch(b, p, key, cg)
			check(b, p.WatchDatagrams(filepath.Dir(cg.dir)))
			if names {
				check(b, p.WatchNames(filepath.Dir(cg.dir)))
			}
			return func() {
				peers, err := p.Peers()
				check(b, err)
				if all := peers[key]; len(all) == 0 || all[0].Opened < perRound {
					b.Fatalf("connections are not counted: %+v", all)
				}
				check(b, errors.Join(p.Close(), p.Unpin()))
			}
		}
	}
	variants := []variant{
		{[]string{"none"}, func() func() { return func() {} }},
		{[]string{"flows"}, observing(Config{Peers: 4096, Level: Off}, false)},
		{[]string{"flows-network-dns"}, observing(Config{Peers: 4096, Level: Off, Network: true}, true)},
		{[]string{"everything"}, observing(Config{Peers: 4096, Network: true, RecorderThreads: 64}, true)},
	}
	times := turns{}
	for b.Loop() {
		for _, v := range variants {
			end := v.begin()
			proc.clock(b) // takes cells
			times[v.names[0]] = append(times[v.names[0]], proc.clock(b)/perRound)
			end()
		}
	}
	times.report(b)
}
