package telemetry

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"sync"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"github.com/tritond/triton/pkg/triton"
)

// peersShown bounds a container's peers that have series of their own; the others are added up as peer="other".
const peersShown = 20

// peerID is a peer as labels tell it; the zero one is all others together.
type peerID struct {
	address  netip.Addr
	port     uint16
	accepted bool
	protocol string
	name     string // of the container
}

// namedPeer is a peer with what labels tell of it.
type namedPeer struct {
	triton.Peer
	id peerID
}

// peerBook remembers which peers have series: one that has keeps them, so that no counter falls.
type peerBook struct {
	mu    sync.Mutex
	shown map[triton.ContainerKey]map[peerID]bool
}

// pick returns the peers to show of a container, new ones by the bytes that they had; those beyond the bound are one without an
// address.
func (b *peerBook) pick(key triton.ContainerKey, peers []triton.Peer, names map[triton.ContainerKey]string) []namedPeer {
	shown := b.shown[key]
	if shown == nil {
		shown = map[peerID]bool{}
		b.shown[key] = shown
	}
	peers = slices.Clone(peers)
	slices.SortStableFunc(peers, func(a, b triton.Peer) int {
		return cmp.Compare(b.SentBytes+b.ReceivedBytes, a.SentBytes+a.ReceivedBytes)
	})
	var others namedPeer
	out, at, rest := []namedPeer{}, map[peerID]int{}, false
	for i := range peers {
		p := &peers[i]
		id := peerID{p.Address, p.Port, p.Accepted, p.Protocol, names[p.Other]}
		if !shown[id] && len(shown) < peersShown && p.Address.IsValid() {
			shown[id] = true
		}
		if j, ok := at[id]; ok { // an address that was another's before, who is gone too
			out[j].Add(p)
		} else if shown[id] {
			at[id] = len(out)
			out = append(out, namedPeer{*p, id})
		} else {
			others.Add(p)
			rest = true
		}
	}
	if rest {
		out = append(out, others)
	}
	return out
}

// perPeer gives the series of whom containers talk to.
func (s *Store) perPeer(rows []row) []*dto.MetricFamily {
	all, err := s.cfg.Peers()
	if err != nil {
		s.sourceErrors.Add(1)
		s.log.Error("peers are not served", "err", err)
		return nil
	}
	connections := newFamily("triton_container_peer_connections_total", "TCP connections with a peer, by what became of the attempt.", dto.MetricType_COUNTER, 0)
	sent := newFamily("triton_container_peer_sent_bytes_total", "Data sent to a peer, without what was sent again.", dto.MetricType_COUNTER, 0)
	received := newFamily("triton_container_peer_received_bytes_total", "Data received from a peer.", dto.MetricType_COUNTER, 0)
	datagrams := newFamily("triton_container_peer_datagrams_total",
		"Datagrams of UDP, by direction; received ones came as far as the socket.", dto.MetricType_COUNTER, 0)
	again := newFamily("triton_container_peer_retransmits_total", "TCP segments sent again to a peer.", dto.MetricType_COUNTER, 0)
	open := newFamily("triton_container_peer_open_connections", "TCP connections that are open.", dto.MetricType_GAUGE, 0)
	resets := newFamily("triton_container_peer_resets_total", "TCP resets, by direction.", dto.MetricType_COUNTER, 0)
	drops := newFamily("triton_container_peer_packet_drops_total", "Packets from or to a peer that the kernel dropped.", dto.MetricType_COUNTER, 0)
	var names map[triton.ContainerKey]string
	if s.cfg.Names != nil {
		names = s.cfg.Names()
	}
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	kept := map[triton.ContainerKey]map[peerID]bool{}
	for i := range rows {
		key := rows[i].key
		for _, p := range s.book.pick(key, all[key], names) {
			labels := peerLabels(rows[i].labels, p.id)
			count := func(f *dto.MetricFamily, labels []*dto.LabelPair, n uint64) {
				f.Metric = append(f.Metric, &dto.Metric{Label: labels, Counter: &dto.Counter{Value: proto.Float64(float64(n))}})
			}
			count(connections, withLabel(labels, "result", "established"), p.Opened)
			for _, reason := range slices.Sorted(maps.Keys(p.ConnectFailures)) {
				count(connections, withLabel(labels, "result", reason), p.ConnectFailures[reason])
			}
			count(sent, labels, p.SentBytes)
			count(received, labels, p.ReceivedBytes)
			if p.SentDatagrams+p.ReceivedDatagrams > 0 {
				count(datagrams, withLabel(labels, "direction", "received"), p.ReceivedDatagrams)
				count(datagrams, withLabel(labels, "direction", "sent"), p.SentDatagrams)
			}
			count(again, labels, p.Retransmits)
			count(resets, withLabel(labels, "direction", "received"), p.ResetsReceived)
			count(resets, withLabel(labels, "direction", "sent"), p.ResetsSent)
			count(drops, labels, p.Dropped())
			open.Metric = append(open.Metric, &dto.Metric{Label: labels, Gauge: &dto.Gauge{Value: proto.Float64(float64(p.Open))}})
		}
		kept[key] = s.book.shown[key]
	}
	s.book.shown = kept // those of ended containers go
	return []*dto.MetricFamily{connections, sent, received, datagrams, again, resets, drops, open}
}

// peerLabels are a container's labels and its peer's: peer is an address or other, peer_name the container's that had it,
// port the service's, role the container's own part: client where it asks, server where it is asked.
func peerLabels(labels []*dto.LabelPair, id peerID) []*dto.LabelPair {
	peer, port, role := "other", "", ""
	if id.address.IsValid() {
		peer, port, role = id.address.String(), strconv.Itoa(int(id.port)), "client"
		if id.accepted {
			role = "server"
		}
	}
	return sorted(append(append([]*dto.LabelPair{}, labels...), pair("peer", peer), pair("peer_name", id.name), pair("port", port),
		pair("protocol", id.protocol), pair("role", role)))
}
