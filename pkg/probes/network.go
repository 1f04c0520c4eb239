package probes

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/containerd/errdefs"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

// connectFailures name the values of enum connect_failure in bpf/network.h.
var connectFailures = [len(bpf.NetworkNetworkTotals{}.Failures)]string{
	"refused", "timeout", "unreachable", "reset", "abandoned", "no_port", "other",
}

var networkProgramList = []program{
	{names: []string{bpf.NetworkProgNetworkStates}, always: true},
	{names: []string{bpf.NetworkProgNetworkRtt}, optional: true, always: true},
	{names: []string{bpf.NetworkProgNetworkResetsSent}, optional: true, always: true},
	{names: []string{bpf.NetworkProgNetworkResetsReceived}, optional: true, always: true},
	{names: []string{bpf.NetworkProgNetworkDrops, bpf.NetworkProgNetworkDropsOld}, optional: true, always: true},
}

// networkPrograms count how containers' networks fare.
type networkPrograms struct {
	loaded
	totals      *mapped[bpf.NetworkNetworkTotals] // by slot
	dropReasons []string                          // by number; the last takes what is outside
}

// acceptsMax bounds the connections that wait to be accepted, of all containers; some 80 bytes each.
const acceptsMax = 16384

// loadNetwork loads and attaches; shared are the measuring programs' maps.
func loadNetwork(shared map[string]*ebpf.Map, maxContainers int) (_ *networkPrograms, err error) {
	k := &networkPrograms{loaded: newLoaded()}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.close())
		}
	}()
	if k.dropReasons, err = readDropReasons(); err != nil {
		return nil, err
	}
	spec, err := bpf.LoadNetwork()
	if err != nil {
		return nil, err
	}
	spec.Maps[bpf.NetworkMapNetwork].MaxEntries = uint32(maxContainers)
	for _, name := range []string{bpf.NetworkMapOwnersV2, bpf.NetworkMapAcceptQueue, bpf.NetworkMapAcceptDelays} {
		spec.Maps[name].MaxEntries = shared[name].MaxEntries()
		if k.maps[name], err = shared[name].Clone(); err != nil {
			return nil, fmt.Errorf("share map %s: %w", name, err)
		}
	}
	if err := k.loadAll(spec, networkProgramList); err != nil {
		return nil, err
	}
	k.totals, err = mapMemory[bpf.NetworkNetworkTotals](k.maps[bpf.NetworkMapNetwork])
	return k, err
}

func (k *networkPrograms) close() error { return errors.Join(k.totals.unmap(), k.loaded.close()) }

// dropped counts connections whose times are not known, since the kernel had no memory for them.
func (k *networkPrograms) dropped() uint64 {
	var sum uint64
	for _, name := range []string{bpf.NetworkVarStopwatchesDropped, bpf.NetworkVarAcceptsDropped} {
		var n uint64
		if err := k.variables[name].Get(&n); err != nil {
			continue // impossible: a variable of a loaded program can be read
		}
		sum += n
	}
	return sum
}

// readDropReasons names the running kernel's reasons for dropping a packet; they are renumbered from one to the next.
func readDropReasons() ([]string, error) {
	names := make([]string, len(bpf.NetworkNetworkTotals{}.Drops))
	for i := range names {
		names[i] = "other"
	}
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, fmt.Errorf("read the kernel's types: %w", err)
	}
	var reasons *btf.Enum
	if err := kernel.TypeByName("skb_drop_reason", &reasons); err != nil {
		return nil, fmt.Errorf("find the kernel's reasons of drops: %w", err)
	}
	for _, v := range reasons.Values {
		if v.Value < uint64(len(names)-1) {
			names[v.Value] = strings.ToLower(strings.TrimPrefix(v.Name, "SKB_DROP_REASON_"))
		}
	}
	return names, nil
}

// NetworkHealth tells how the network of each watched container fares; nil when Config.Network is false or this kernel
// refused the programs, which Missing tells.
func (p *Probes) NetworkHealth() map[triton.ContainerKey]triton.NetworkHealth {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.network == nil || p.closed {
		return nil
	}
	return byContainer(p, p.networkOf)
}

// byContainer reads what every watched container has in its slot. p.mu is held.
func byContainer[T any](p *Probes, read func(slot int) T) map[triton.ContainerKey]T {
	out := make(map[triton.ContainerKey]T, len(p.table.byKey))
	for key, w := range p.table.byKey {
		out[key] = read(w.Slot)
	}
	return out
}

// NetworkHealthOf is NetworkHealth of one container. Not watched is errdefs.ErrNotFound; where nobody counts it is
// errdefs.ErrFailedPrecondition.
func (p *Probes) NetworkHealthOf(key triton.ContainerKey) (triton.NetworkHealth, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	w, err := p.find(key)
	if err == nil && p.network == nil {
		err = fmt.Errorf("nobody counts: %w", errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return triton.NetworkHealth{}, fmt.Errorf("network of %s: %w", key, err)
	}
	return p.networkOf(w.Slot), nil
}

// networkOf reads what is counted in a slot. The caller holds mu, and there are programs.
func (p *Probes) networkOf(slot int) triton.NetworkHealth {
	h := p.network.read(slot)
	accepts := p.kernel.accepts.at(slot)
	h.Accept = durations(accepts.Buckets[:], &accepts.SumNs)
	return h
}

func (k *networkPrograms) read(slot int) triton.NetworkHealth {
	t := k.totals.at(slot)
	h := triton.NetworkHealth{
		Connect: durations(t.Connect[:], &t.ConnectSumNs), RTT: durations(t.Rtt[:], &t.RttSumNs),
		ResetsSent: load64(&t.ResetsSent), ResetsReceived: load64(&t.ResetsReceived),
		ConnectFailures: map[string]uint64{}, Drops: map[string]uint64{},
	}
	for i, reason := range connectFailures {
		h.ConnectFailures[reason] = load64(&t.Failures[i])
	}
	for i, reason := range k.dropReasons {
		if n := load64(&t.Drops[i]); n > 0 {
			h.Drops[reason] += n
		}
	}
	return h
}

// durations copies a histogram of schema 2 that the kernel may be adding to.
func durations(buckets []uint64, sumNs *uint64) triton.Histogram {
	h := triton.Histogram{Schema: 2, First: firstSchema2, Counts: make([]uint64, len(buckets)), SumNs: load64(sumNs)}
	for i := range buckets {
		h.Counts[i] = load64(&buckets[i])
	}
	return h
}
