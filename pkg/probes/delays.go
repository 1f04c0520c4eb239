package probes

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

// Culprits that are no owners; see bpf/delays.h. ended is ours alone: the programs never add to it.
const (
	hostOwner         = 0
	unattributedOwner = 1
	endedOwner        = 2
	idleOwner         = 3
)

// delaysPerContainer sizes the matrix: so many culprits a victim on average, some 60 bytes each.
const delaysPerContainer = 32

// Delays tells, of each watched container, who had the CPU while its tasks waited for it, longest first. Containers that
// did not wait are absent; all are when the level leaves out the run queue.
func (p *Probes) Delays() (map[triton.ContainerKey][]triton.Delay, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return nil, nil
	}
	sums, err := p.kernel.delays()
	if err != nil {
		return nil, err
	}
	out := map[triton.ContainerKey][]triton.Delay{}
	for key, w := range p.table.byKey {
		byCulprit := map[triton.Delay]time.Duration{}
		for owner, ns := range sums[w.owner()] {
			byCulprit[p.culprit(owner)] += time.Duration(ns)
		}
		if ns := p.selfDelay(w); ns > 0 {
			byCulprit[triton.Delay{Culprit: triton.CulpritContainer, Container: key}] = time.Duration(ns)
		}
		if len(byCulprit) == 0 {
			continue
		}
		all := make([]triton.Delay, 0, len(byCulprit))
		for d, wait := range byCulprit {
			d.Wait = wait
			all = append(all, d)
		}
		slices.SortFunc(all, func(a, b triton.Delay) int {
			return cmp.Or(cmp.Compare(b.Wait, a.Wait), cmp.Compare(a.Culprit, b.Culprit), cmp.Compare(a.Container.ID, b.Container.ID))
		})
		out[key] = all
	}
	return out, nil
}

// selfDelay is how long tasks of w waited for one another, in nanoseconds. The caller holds mu.
func (p *Probes) selfDelay(w *watched) uint64 {
	var ns uint64
	for shard := range p.kernel.shards {
		ns += load64(&p.kernel.slots.at(w.Slot*p.kernel.shards + shard).SelfDelayNs)
	}
	return ns
}

// culprit names an owner of the programs, without a time. The caller holds mu.
func (p *Probes) culprit(owner uint64) triton.Delay {
	switch owner {
	case hostOwner:
		return triton.Delay{Culprit: triton.CulpritHost}
	case unattributedOwner:
		return triton.Delay{Culprit: triton.CulpritUnknown}
	case idleOwner:
		return triton.Delay{Culprit: triton.CulpritIdle}
	}
	if w := p.table.owning(owner); w != nil && p.table.byKey[w.Key] == w {
		return triton.Delay{Culprit: triton.CulpritContainer, Container: w.Key}
	}
	return triton.Delay{Culprit: triton.CulpritEnded}
}

// owning returns the watch, retired or not, that the programs call owner; nil: it is gone.
func (t *slotTable) owning(owner uint64) *watched {
	slot := owner & 0xffffffff
	if slot >= uint64(len(t.bySlot)) || t.bySlot[slot] == nil || t.bySlot[slot].owner() != owner {
		return nil
	}
	return t.bySlot[slot]
}

// delays reads the matrix: nanoseconds by victim and culprit.
func (k *measurePrograms) delays() (map[uint64]map[uint64]uint64, error) {
	out := map[uint64]map[uint64]uint64{}
	var key bpf.MeasureDelayKey
	var ns uint64
	entries := k.maps[bpf.MeasureMapDelays].Iterate()
	for entries.Next(&key, &ns) {
		if out[key.Victim] == nil {
			out[key.Victim] = map[uint64]uint64{}
		}
		out[key.Victim][key.Culprit] = ns
	}
	if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) { // aborted: entries went meanwhile
		return nil, fmt.Errorf("read delays: %w", err)
	}
	return out, nil
}

// forgetDelays removes victims that are gone, and adds what culprits that are gone did to those that ended. The caller
// holds mu, so that nobody else does.
func (p *Probes) forgetDelays() error {
	sums, err := p.kernel.delays()
	if err != nil {
		return err
	}
	matrix := p.kernel.maps[bpf.MeasureMapDelays]
	for victim, culprits := range sums {
		victimGone := p.table.owning(victim) == nil
		ended, folded := culprits[endedOwner], false
		for owner, ns := range culprits {
			culpritGone := owner > idleOwner && p.table.owning(owner) == nil
			if !victimGone && !culpritGone {
				continue
			}
			if !victimGone {
				ended, folded = ended+ns, true
			}
			if err := matrix.Delete(bpf.MeasureDelayKey{Victim: victim, Culprit: owner}); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return fmt.Errorf("forget a delay: %w", err)
			}
		}
		if folded {
			if err := matrix.Put(bpf.MeasureDelayKey{Victim: victim, Culprit: endedOwner}, ended); err != nil {
				return fmt.Errorf("keep the delays by ended containers: %w", err)
			}
		}
	}
	return nil
}
