package probes

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

// BenchmarkKernelMapMemory tells what the maps take, by the kernel's account, with room for 1,000 containers of 50 system
// calls each and the flight recorder of 4,096 threads: of what always runs, of what options add, of a profile while one is taken,
// and of a live trace. All of it is taken at the start, whatever the containers do, but for the storage of threads: some 200 bytes each.
func BenchmarkKernelMapMemory(b *testing.B) {
	const containers, calls, threads, peers, mib = 1000, 50, 4096, 16384, 1 << 20
	var all, options, profile, trace uint64
	for b.Loop() {
		p := open(b, Config{
			MaxContainers: containers, CellsPerContainer: calls, RecorderThreads: threads, Peers: peers, Network: true,
		})
		options = 0
		for _, maps := range []map[string]*ebpf.Map{p.peers.maps, p.network.maps} {
			own := map[string]*ebpf.Map{}
			for name, m := range maps {
				if name != bpf.NetworkMapOwnersV2 { // the measuring programs'
					own[name] = m
				}
			}
			options += memory(b, own)
		}
		all = memory(b, p.kernel.maps)
		key, _ := watch(b, p)
		s, err := p.StartProfile(key, triton.OffCPU)
		check(b, err)
		profile = memory(b, p.profiles.kernel.maps)
		t, err := p.loadTrace(1, triton.TraceFilter{})
		check(b, err)
		trace = uint64(t.ring.BufferSize())
		check(b, errors.Join(t.close(), s.Close()))
	}
	perCPU := uint64(0)
	for _, load := range []func() (*ebpf.CollectionSpec, error){bpf.LoadMeasure, bpf.LoadProfile, bpf.LoadNetwork, bpf.LoadPeers} {
		spec, err := load()
		check(b, err)
		for _, m := range spec.Maps {
			if m.Type == ebpf.PerCPUArray || m.Type == ebpf.PerCPUHash {
				perCPU += uint64(m.ValueSize) * uint64(m.MaxEntries)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(all)/mib, "measure-MiB")
	b.ReportMetric(float64(options)/mib, "peers-and-network-MiB")
	b.ReportMetric(float64(profile)/mib, "profile-MiB")
	b.ReportMetric(float64(trace)/mib, "trace-MiB")
	b.ReportMetric(float64(perCPU)/1024, "KiB/CPU") // what is there for each; shards are at most four
}

// memory is what the kernel charges for maps, in bytes.
func memory(b *testing.B, maps map[string]*ebpf.Map) (sum uint64) {
	b.Helper()
	for name, m := range maps {
		info, err := m.Info()
		check(b, err)
		n, ok := info.Memlock()
		if !ok {
			b.Fatalf("the kernel does not tell what map %s takes", name)
		}
		sum += n
	}
	return sum
}
