package probes

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

// peerPrograms count whom containers talk to.
type peerPrograms struct {
	peers       *ebpf.Map
	connections *ebpf.Map
	dropped     *ebpf.Variable
	states      link.Link
	measure     *ebpf.Program // run, never attached

	mu sync.Mutex // one reader at a time
	// last is what was told of each peer: between the reading of closed connections and of open ones, one that closes is
	// in neither, and counters must not fall.
	last map[bpf.PeersPeerKey]bpf.PeersPeerTotals
}

// loadPeers loads and attaches; owners is the measuring programs' map of cgroups, most bounds the peers.
func loadPeers(owners *ebpf.Map, most int) (_ *peerPrograms, err error) {
	spec, err := bpf.LoadPeers()
	if err != nil {
		return nil, err
	}
	spec.Maps[bpf.PeersMapPeers].MaxEntries = uint32(most)
	spec.Maps[bpf.PeersMapConnections].MaxEntries = uint32(most)
	spec.Maps[bpf.PeersMapOwnersV2].MaxEntries = owners.MaxEntries()
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{bpf.PeersMapOwnersV2: owners}})
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	defer coll.Close()
	k := &peerPrograms{
		peers: coll.DetachMap(bpf.PeersMapPeers), connections: coll.DetachMap(bpf.PeersMapConnections),
		measure: coll.DetachProgram(bpf.PeersProgMeasureConnections),
		dropped: coll.Variables[bpf.PeersVarPeersDropped], last: map[bpf.PeersPeerKey]bpf.PeersPeerTotals{},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.close())
		}
	}()
	k.states, err = link.AttachTracing(link.TracingOptions{Program: coll.Programs[bpf.PeersProgPeerStates]})
	if err != nil {
		return nil, fmt.Errorf("attach %s: %w", bpf.PeersProgPeerStates, err)
	}
	return k, nil
}

func (k *peerPrograms) close() error {
	var errs []error
	if k.states != nil {
		errs = append(errs, k.states.Close())
	}
	return errors.Join(append(errs, k.measure.Close(), k.peers.Close(), k.connections.Close())...)
}

// found is a peer's totals and how many connections are open.
type found struct {
	bpf.PeersPeerTotals
	open uint64
}

// read adds open connections to closed ones.
func (k *peerPrograms) read() (map[bpf.PeersPeerKey]found, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := map[bpf.PeersPeerKey]found{}
	var key bpf.PeersPeerKey
	var totals bpf.PeersPeerTotals
	entries := k.peers.Iterate()
	for entries.Next(&key, &totals) {
		all[key] = found{PeersPeerTotals: totals}
	}
	if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) { // aborted: entries went meanwhile; the next reading has all
		return nil, fmt.Errorf("read peers: %w", err)
	}
	if err := k.addOpen(all); err != nil {
		return nil, err
	}
	for key, f := range all {
		last := k.last[key]
		f.SentBytes = max(f.SentBytes, last.SentBytes)
		f.ReceivedBytes = max(f.ReceivedBytes, last.ReceivedBytes)
		f.Retransmits = max(f.Retransmits, last.Retransmits)
		k.last[key], all[key] = f.PeersPeerTotals, f
	}
	return all, nil
}

// addOpen adds the open connections, as they are now.
func (k *peerPrograms) addOpen(all map[bpf.PeersPeerKey]found) error {
	if _, err := k.measure.Run(&ebpf.RunOptions{}); err != nil {
		return fmt.Errorf("measure open connections: %w", err)
	}
	var socket uint64
	var c bpf.PeersConnection
	entries := k.connections.Iterate()
	for entries.Next(&socket, &c) {
		f := all[c.Key]
		f.open++
		f.SentBytes += c.SentBytes
		f.ReceivedBytes += c.ReceivedBytes
		f.Retransmits += c.Retransmits
		all[c.Key] = f
	}
	if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return fmt.Errorf("read open connections: %w", err)
	}
	return nil
}

// forget removes the peers of containers that are watched no more.
func (k *peerPrograms) forget(gone func(owner uint64) bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.DeleteFunc(k.last, func(key bpf.PeersPeerKey, _ bpf.PeersPeerTotals) bool { return gone(key.Owner) })
	var doomed []bpf.PeersPeerKey
	var key bpf.PeersPeerKey
	var totals bpf.PeersPeerTotals
	entries := k.peers.Iterate()
	for entries.Next(&key, &totals) {
		if gone(key.Owner) {
			doomed = append(doomed, key)
		}
	}
	if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return fmt.Errorf("read peers: %w", err)
	}
	for _, key := range doomed {
		if err := k.peers.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget a peer: %w", err)
		}
	}
	return nil
}

// Peers lists whom each watched container talks to, in order of address and port; nil when Config.Peers is 0 or this
// kernel refused the programs, which Missing tells.
func (p *Probes) Peers() (map[triton.ContainerKey][]triton.Peer, error) {
	p.mu.RLock()
	closed := p.closed
	p.mu.RUnlock()
	if p.peers == nil || closed {
		return nil, nil
	}
	all, err := p.peers.read()
	if err != nil {
		return nil, err
	}
	out := map[triton.ContainerKey][]triton.Peer{}
	for key, f := range all {
		container, ok := p.ownerKey(key.Owner)
		if !ok {
			continue
		}
		out[container] = append(out[container], triton.Peer{
			Address: netip.AddrFrom16(key.Address).Unmap(), Port: key.Port, Accepted: key.Accepted != 0,
			Opened: f.Opened, Refused: f.Refused, TimedOut: f.TimedOut, Failed: f.PeersPeerTotals.Failed, Open: f.open,
			SentBytes: f.SentBytes, ReceivedBytes: f.ReceivedBytes, Retransmits: f.Retransmits,
		})
	}
	for _, peers := range out {
		slices.SortFunc(peers, func(a, b triton.Peer) int {
			return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Port, b.Port), boolOrder(a.Accepted, b.Accepted))
		})
	}
	return out, nil
}

func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
