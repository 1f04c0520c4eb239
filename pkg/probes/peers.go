package probes

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

var peerProgramList = []program{
	{names: []string{bpf.PeersProgPeerStates}, always: true},
	{names: []string{bpf.PeersProgMeasureConnections}},
	{names: []string{bpf.PeersProgPeerResetsSent}, optional: true, always: true},
	{names: []string{bpf.PeersProgPeerResetsReceived}, optional: true, always: true},
	{names: []string{bpf.PeersProgPeerPacketDrops, bpf.PeersProgPeerPacketDropsOld}, optional: true, always: true},
	{names: []string{bpf.PeersProgPeerDatagramsOut}, optional: true},
	{names: []string{bpf.PeersProgPeerDatagramsIn}, optional: true},
}

// addressesPerContainer is how many addresses of a container are known on average.
const addressesPerContainer = 4

// peerPrograms count whom containers talk to.
type peerPrograms struct {
	loaded
	slots       *mapped[bpf.PeersContainerPeers] // by slot
	dropReasons []string                         // by number; the last takes what is outside
	datagrams   []link.Link                      // nil: see WatchDatagrams

	mu sync.Mutex // one reader at a time
	// last is what was told of each peer: between the reading of closed connections and of open ones, one that closes is
	// in neither, and counters must not fall.
	last   map[bpf.PeersPeerKey]bpf.PeersPeerTotals
	owned  map[netip.Addr]uint64          // what is in the map of addresses
	others map[uint64]triton.ContainerKey // every owner that a peer may name
}

// loadPeers loads and attaches; owners is the measuring programs' map of cgroups.
func loadPeers(owners *ebpf.Map, cfg Config) (_ *peerPrograms, err error) {
	k := &peerPrograms{
		loaded: newLoaded(), last: map[bpf.PeersPeerKey]bpf.PeersPeerTotals{}, owned: map[netip.Addr]uint64{}, others: map[uint64]triton.ContainerKey{},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.close())
		}
	}()
	if k.dropReasons, err = readDropReasons(); err != nil {
		return nil, err
	}
	spec, err := bpf.LoadPeers()
	if err != nil {
		return nil, err
	}
	for name, most := range map[string]int{
		bpf.PeersMapPeers: cfg.Peers, bpf.PeersMapPeerDrops: cfg.Peers, bpf.PeersMapConnections: cfg.Peers,
		bpf.PeersMapPeerSlots: cfg.MaxContainers, bpf.PeersMapAddresses: cfg.MaxContainers * addressesPerContainer,
		bpf.PeersMapOwnersV2: int(owners.MaxEntries()),
	} {
		spec.Maps[name].MaxEntries = uint32(most)
	}
	for name, value := range map[string]any{
		bpf.PeersVarPeersPerContainer: uint64(cfg.PeersPerContainer),
		bpf.PeersVarQueuePurge:        uint32(max(0, slices.Index(k.dropReasons, "queue_purge"))),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	if k.maps[bpf.PeersMapOwnersV2], err = owners.Clone(); err != nil {
		return nil, fmt.Errorf("share map of cgroups: %w", err)
	}
	if err := k.loadAll(spec, peerProgramList); err != nil {
		return nil, err
	}
	k.slots, err = mapMemory[bpf.PeersContainerPeers](k.maps[bpf.PeersMapPeerSlots])
	return k, err
}

func (k *peerPrograms) close() error {
	return errors.Join(closeLinks(k.datagrams), k.slots.unmap(), k.loaded.close())
}

// count reads one of the programs' own counters.
func (k *peerPrograms) count(variable string) uint64 {
	var n uint64
	if err := k.variables[variable].Get(&n); err != nil {
		return 0 // impossible: a variable of a loaded program can be read
	}
	return n
}

// begin lets the programs count for a slot's new owner.
func (k *peerPrograms) begin(slot int, owner uint64) error {
	if err := k.slots.need(slot, 1); err != nil {
		return err
	}
	store64(&k.slots.at(slot).Owner, owner)
	return nil
}

// end is the opposite of begin; the owner's addresses are nobody's.
func (k *peerPrograms) end(slot int, owner uint64) error {
	store64(&k.slots.at(slot).Owner, 0)
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.setAddresses(owner, nil)
}

// setAddresses makes the owner that of these addresses and of no others. The caller holds mu.
func (k *peerPrograms) setAddresses(owner uint64, addresses []netip.Addr) error {
	var errs []error
	for a, o := range k.owned {
		if o != owner || slices.Contains(addresses, a) {
			continue
		}
		delete(k.owned, a)
		if err := k.maps[bpf.PeersMapAddresses].Delete(a.As16()); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, fmt.Errorf("forget whose %s is: %w", a, err))
		}
	}
	for _, a := range addresses {
		if k.owned[a] == owner {
			continue
		}
		if err := k.maps[bpf.PeersMapAddresses].Put(a.As16(), owner); err != nil {
			errs = append(errs, fmt.Errorf("note whose %s is: %w", a, err))
			continue
		}
		k.owned[a] = owner
	}
	return errors.Join(errs...)
}

// SetAddresses says which addresses are a container's, so that those who talk to it know it by name; what began before
// names whoever had the address then. Not watched is errdefs.ErrNotFound.
func (p *Probes) SetAddresses(key triton.ContainerKey, addresses []netip.Addr) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	w, err := p.find(key)
	if err != nil {
		return fmt.Errorf("set addresses of %s: %w", key, err)
	}
	if p.peers == nil {
		return nil
	}
	p.peers.mu.Lock()
	defer p.peers.mu.Unlock()
	p.peers.others[w.owner()] = key
	if err := p.peers.setAddresses(w.owner(), addresses); err != nil {
		return fmt.Errorf("set addresses of %s: %w", key, err)
	}
	return nil
}

// batch is how many entries are read of a map by one call.
const batch = 512

// each calls fn for every entry of a hash map; those that come or go meanwhile may be missed, none is seen twice unless it
// was made anew.
func each[K, V any](m *ebpf.Map, fn func(*K, *V)) error {
	var cursor ebpf.MapBatchCursor
	keys, values := make([]K, batch), make([]V, batch)
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		last := errors.Is(err, ebpf.ErrKeyNotExist)
		if err != nil && !last {
			return fmt.Errorf("read %s: %w", m, err)
		}
		for i := range n {
			fn(&keys[i], &values[i])
		}
		if last {
			return nil
		}
	}
}

// found is a peer's totals and what is open of it.
type found struct {
	bpf.PeersPeerTotals
	opening, open     uint64
	openRTT, openRTTs uint64 // sum in microseconds, and of how many
	drops             map[string]uint64
}

// read adds open connections to closed ones.
func (k *peerPrograms) read() (map[bpf.PeersPeerKey]found, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := map[bpf.PeersPeerKey]found{}
	err := each(k.maps[bpf.PeersMapPeers], func(key *bpf.PeersPeerKey, t *bpf.PeersPeerTotals) { all[*key] = found{PeersPeerTotals: *t} })
	if err != nil {
		return nil, err
	}
	k.addRests(all)
	if err := k.addOpen(all); err != nil {
		return nil, err
	}
	err = each(k.maps[bpf.PeersMapPeerDrops], func(key *bpf.PeersDropKey, n *uint64) {
		if f, ok := all[key.Peer]; ok {
			if f.drops == nil {
				f.drops = map[string]uint64{}
			}
			f.drops[k.dropReasons[min(key.Reason, uint64(len(k.dropReasons)-1))]] += *n
			all[key.Peer] = f
		}
	})
	for key, f := range all {
		last := k.last[key]
		f.SentBytes = max(f.SentBytes, last.SentBytes)
		f.ReceivedBytes = max(f.ReceivedBytes, last.ReceivedBytes)
		f.Retransmits = max(f.Retransmits, last.Retransmits)
		k.last[key], all[key] = f.PeersPeerTotals, f
	}
	return all, err
}

// addRests adds what found no room, under keys that have the owner alone.
func (k *peerPrograms) addRests(all map[bpf.PeersPeerKey]found) {
	for i := range k.slots.vals {
		if !k.slots.has(i) { // begin was never called for it
			continue
		}
		s := k.slots.at(i)
		owner := load64(&s.Owner)
		if owner == 0 || s.Rest == (bpf.PeersPeerTotals{}) && load64(&s.Untracked) == 0 {
			continue
		}
		all[bpf.PeersPeerKey{Owner: owner}] = found{PeersPeerTotals: s.Rest, open: load64(&s.Untracked)}
	}
}

// addOpen adds the open connections, as they are now.
func (k *peerPrograms) addOpen(all map[bpf.PeersPeerKey]found) error {
	return k.eachConnection(func(c *bpf.PeersConnection) {
		key := c.Key
		if c.Rest != 0 {
			key = bpf.PeersPeerKey{Owner: c.Key.Owner}
		}
		f := all[key]
		if c.State == tcpSynSent {
			f.opening++
		} else {
			f.open++
		}
		f.SentBytes += c.SentBytes
		f.ReceivedBytes += c.ReceivedBytes
		f.Retransmits += c.Retransmits
		if c.RttUs > 0 {
			f.openRTT += uint64(c.RttUs)
			f.openRTTs++
		}
		all[key] = f
	})
}

// States of a connection, of include/net/tcp_states.h.
const (
	tcpEstablished = 1
	tcpSynSent     = 2
)

// eachConnection calls fn for each connection there is, with its numbers as they are now.
func (k *peerPrograms) eachConnection(fn func(*bpf.PeersConnection)) error {
	if _, err := k.programs[bpf.PeersProgMeasureConnections].Run(&ebpf.RunOptions{}); err != nil {
		return fmt.Errorf("measure open connections: %w", err)
	}
	return each(k.maps[bpf.PeersMapConnections], func(_ *uint64, c *bpf.PeersConnection) { fn(c) })
}

// forget removes what is known of containers that are watched no more.
func (k *peerPrograms) forget(gone func(owner uint64) bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.DeleteFunc(k.last, func(key bpf.PeersPeerKey, _ bpf.PeersPeerTotals) bool { return gone(key.Owner) })
	var peers []bpf.PeersPeerKey
	named := map[uint64]bool{}
	err := each(k.maps[bpf.PeersMapPeers], func(key *bpf.PeersPeerKey, _ *bpf.PeersPeerTotals) {
		if gone(key.Owner) {
			peers = append(peers, *key)
		} else {
			named[key.Other] = true
		}
	})
	var drops []bpf.PeersDropKey
	err = errors.Join(err, each(k.maps[bpf.PeersMapPeerDrops], func(key *bpf.PeersDropKey, _ *uint64) {
		if gone(key.Peer.Owner) {
			drops = append(drops, *key)
		}
	}))
	err = errors.Join(err, each(k.maps[bpf.PeersMapConnections], func(_ *uint64, c *bpf.PeersConnection) { named[c.Key.Other] = true }))
	if err != nil {
		return err
	}
	maps.DeleteFunc(k.others, func(owner uint64, _ triton.ContainerKey) bool { return gone(owner) && !named[owner] })
	return errors.Join(deleteAll(k.maps[bpf.PeersMapPeers], peers), deleteAll(k.maps[bpf.PeersMapPeerDrops], drops))
}

// deleteAll removes entries; those that are not there are no error.
func deleteAll[K any](m *ebpf.Map, keys []K) error {
	for i := range keys {
		if err := m.Delete(&keys[i]); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget an entry of %s: %w", m, err)
		}
	}
	return nil
}

// Peers lists whom each watched container talks to, in order of address and port, the rest first; nil when Config.Peers is 0
// or this kernel refused the programs, which Missing tells.
func (p *Probes) Peers() (map[triton.ContainerKey][]triton.Peer, error) {
	if !p.countsPeers() {
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
		peer := p.peers.peerOf(&key, &f)
		same := func(o triton.Peer) bool { // of another run of that container
			return o.Address == peer.Address && o.Port == peer.Port && o.Accepted == peer.Accepted && o.Protocol == peer.Protocol && o.Other == peer.Other
		}
		if i := slices.IndexFunc(out[container], same); key.Other != 0 && i >= 0 {
			out[container][i].Add(&peer)
			continue
		}
		out[container] = append(out[container], peer)
	}
	for _, peers := range out {
		slices.SortFunc(peers, func(a, b triton.Peer) int {
			return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Port, b.Port), boolOrder(a.Accepted, b.Accepted),
				cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Other.ID, b.Other.ID))
		})
	}
	return out, nil
}

func (p *Probes) countsPeers() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.peers != nil && !p.closed
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

func (k *peerPrograms) peerOf(key *bpf.PeersPeerKey, f *found) triton.Peer {
	t := &f.PeersPeerTotals
	peer := triton.Peer{
		Accepted: key.Accepted != 0, Port: key.Port, Opened: t.Opened, Opening: f.opening, Open: f.open,
		SentBytes: t.SentBytes, ReceivedBytes: t.ReceivedBytes, Retransmits: t.Retransmits,
		SentDatagrams: t.SentDatagrams, ReceivedDatagrams: t.ReceivedDatagrams,
		ResetsSent: t.ResetsSent, ResetsReceived: t.ResetsReceived, Drops: f.drops,
		RTT: mean(f.openRTT, f.openRTTs),
	}
	if f.openRTTs == 0 {
		peer.RTT = mean(t.RttSumUs, t.RttCount)
	}
	if key.Protocol != 0 {
		peer.Address, peer.Protocol, peer.Other = netip.AddrFrom16(key.Address).Unmap(), protocolName(key.Protocol), k.other(key.Other)
	}
	for i, n := range t.Failures {
		if n > 0 {
			if peer.ConnectFailures == nil {
				peer.ConnectFailures = map[string]uint64{}
			}
			peer.ConnectFailures[connectFailures[i]] = n
		}
	}
	return peer
}

func mean(us, of uint64) time.Duration {
	if of == 0 {
		return 0
	}
	return time.Duration(min(us/of, math.MaxInt64/1000)) * time.Microsecond
}

func protocolName(number uint8) string {
	if number == ipProtoUDP {
		return triton.ProtoUDP
	}
	return triton.ProtoTCP
}

// ipProtoUDP is IPPROTO_UDP of linux/in.h.
const ipProtoUDP = 17

func (k *peerPrograms) other(owner uint64) triton.ContainerKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.others[owner]
}

// Flows lists a container's open TCP connections, oldest first; nil when Config.Peers is 0 or this kernel refused the
// programs. Not watched is errdefs.ErrNotFound.
func (p *Probes) Flows(key triton.ContainerKey) ([]triton.Flow, error) {
	p.mu.RLock()
	w, err := p.find(key)
	p.mu.RUnlock()
	if err != nil {
		return nil, fmt.Errorf("flows of %s: %w", key, err)
	}
	if p.peers == nil {
		return nil, nil
	}
	boot := monotonicZero()
	var connections []bpf.PeersConnection
	if err := p.peers.eachConnection(func(c *bpf.PeersConnection) {
		if c.Key.Owner == w.owner() {
			connections = append(connections, *c)
		}
	}); err != nil {
		return nil, err
	}
	flows := make([]triton.Flow, 0, len(connections))
	for i := range connections {
		flows = append(flows, p.peers.flowOf(&connections[i], boot))
	}
	slices.SortFunc(flows, func(a, b triton.Flow) int { return cmp.Or(a.Begun.Compare(b.Begun), a.Local.Compare(b.Local)) })
	return flows, nil
}

// flowOf is a connection; boot is the wall clock's reading when the monotonic clock was 0.
func (k *peerPrograms) flowOf(c *bpf.PeersConnection, boot time.Time) triton.Flow {
	return triton.Flow{
		Local:  netip.AddrPortFrom(netip.AddrFrom16(c.LocalAddress).Unmap(), c.LocalPort),
		Remote: netip.AddrPortFrom(netip.AddrFrom16(c.Key.Address).Unmap(), c.RemotePort), Accepted: c.Key.Accepted != 0,
		Other: k.other(c.Key.Other), State: flowState(c.State), Begun: boot.Add(time.Duration(c.BegunNs)),
		SentBytes: c.SentBytes, ReceivedBytes: c.ReceivedBytes, Retransmits: c.Retransmits,
		RTT: time.Duration(c.RttUs) * time.Microsecond,
	}
}

func flowState(state uint32) string {
	switch state {
	case tcpEstablished:
		return "established"
	case tcpSynSent:
		return "opening"
	}
	return "closing"
}
