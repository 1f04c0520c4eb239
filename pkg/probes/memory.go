package probes

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/tritond/triton/bpf"
)

// MapMemory is what one map takes of the kernel's memory.
type MapMemory struct {
	Map   string
	Bytes uint64
	// PerCPU: there is a copy for each CPU, so that it grows with their number. Others have at most shardsMax copies.
	PerCPU bool
}

// Memory lists the maps that are there all the time, largest first, by the kernel's own account (memlock in fdinfo, see
// map_mem_usage in include/linux/bpf.h). Not in it is what comes and goes: some 150 bytes for each thread of a container in task
// storage, maps of profiles, traces and questions while they run.
func (p *Probes) Memory() ([]MapMemory, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return nil, nil
	}
	all := maps.Clone(p.kernel.maps) // that of first processes is the exit program's
	all[bpf.ExitsMapParents], all[bpf.ExitsMapExitCounts], all[bpf.ExitsMapSenders] = p.exits.parents, p.exits.stats, p.exits.senders
	if p.peers != nil {
		maps.Copy(all, p.peers.maps)
	}
	if p.network != nil {
		maps.Copy(all, p.network.maps)
	}
	if p.names != nil {
		maps.Copy(all, p.names.maps)
	}
	var out []MapMemory
	for name, m := range all {
		info, err := m.Info()
		if err != nil {
			return nil, fmt.Errorf("ask for the memory of map %s: %w", name, err)
		}
		bytes, _ := info.Memlock()
		out = append(out, MapMemory{Map: name, Bytes: bytes, PerCPU: perCPU(m.Type())})
	}
	slices.SortFunc(out, func(a, b MapMemory) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Map, b.Map)) })
	return out, nil
}

func perCPU(t ebpf.MapType) bool {
	switch t {
	case ebpf.PerCPUArray, ebpf.PerCPUHash, ebpf.LRUCPUHash, ebpf.PerCPUCGroupStorage:
		return true
	}
	return false
}
