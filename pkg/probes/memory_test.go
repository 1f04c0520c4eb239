package probes

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/tritond/triton/bpf"
)

// The maps for 1,000 containers with 50 system calls each, all that can be counted included, take at most 256 MiB on two CPUs, and
// on 64 less than four times what they take on two: only what is per CPU grows with the CPUs, the rest by shards, of which there are
// at most four.
func TestKernelMapsOfAThousandContainersStayWithinTheBound(t *testing.T) {
	p := open(t, Config{MaxContainers: 1000, CellsPerContainer: 50, Peers: 16384, Network: true, RecorderThreads: 4096})
	all, err := p.Memory()
	if err != nil {
		t.Fatal(err)
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		t.Fatal(err)
	}
	var sum, each, sharded uint64
	for _, m := range all {
		t.Logf("%-20s %9d bytes, per CPU %v", m.Map, m.Bytes, m.PerCPU)
		sum += m.Bytes
		switch {
		case m.PerCPU:
			each += m.Bytes / uint64(cpus)
		case m.Map == bpf.MeasureMapSlots || m.Map == bpf.MeasureMapCells || m.Map == bpf.MeasureMapFreeCells:
			sharded += m.Bytes
		}
	}
	shards := uint64(p.kernel.shards)
	on := func(cpus uint64) uint64 {
		return sum - cpus*each - sharded + cpus*each + sharded/shards*min(cpus, shardsMax)
	}
	t.Logf("%d bytes on %d CPUs; %d on 2, %d on 64", sum, cpus, on(2), on(64))
	if on(2) > 256<<20 {
		t.Errorf("the maps take %d bytes on two CPUs", on(2))
	}
	if on(64) >= 4*on(2) {
		t.Errorf("on 64 CPUs the maps take %d bytes, on two %d", on(64), on(2))
	}
	// The account is the kernel's: what is known of the largest must be in it.
	for name, least := range map[string]uint64{
		bpf.MeasureMapSlots: 1000 * shards * 4096, bpf.MeasureMapCells: 1000 * shards * 51 * 320, bpf.MeasureMapRings: 4096 * 5000,
	} {
		i := -1
		for j, m := range all {
			if m.Map == name {
				i = j
			}
		}
		if i < 0 || all[i].Bytes < least || all[i].Bytes > 2*least {
			t.Errorf("map %s: %d of %s, want some %d bytes", name, i, strings.TrimSpace(p.kernel.maps[name].String()), least)
		}
	}
}
