package telemetry

import (
	"net/netip"
	"strconv"
	"sync"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"github.com/tritond/triton/pkg/triton"
)

// peersShown bounds a container's peers that have series of their own; the others are added up as peer="other".
const peersShown = 100

// peerID is a peer without its numbers; the zero one is all others together.
type peerID struct {
	address  netip.Addr
	port     uint16
	accepted bool
}

// peerBook remembers which peers have series: one that has keeps them, so that no counter falls.
type peerBook struct {
	mu    sync.Mutex
	shown map[triton.ContainerKey]map[peerID]bool
}

// pick returns the peers to show of a container; those beyond the bound are one without an address.
func (b *peerBook) pick(key triton.ContainerKey, peers []triton.Peer) []triton.Peer {
	shown := b.shown[key]
	if shown == nil {
		shown = map[peerID]bool{}
		b.shown[key] = shown
	}
	out := make([]triton.Peer, 0, min(len(peers), peersShown+1))
	var others triton.Peer
	for _, p := range peers {
		id := peerID{p.Address, p.Port, p.Accepted}
		if !shown[id] && len(shown) < peersShown {
			shown[id] = true
		}
		if shown[id] {
			out = append(out, p)
			continue
		}
		others.Opened += p.Opened
		others.Refused += p.Refused
		others.TimedOut += p.TimedOut
		others.Failed += p.Failed
		others.Open += p.Open
		others.SentBytes += p.SentBytes
		others.ReceivedBytes += p.ReceivedBytes
		others.Retransmits += p.Retransmits
	}
	if len(out) < len(peers) {
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
	sent := newFamily("triton_container_peer_sent_bytes_total", "Data sent to a peer by TCP, without what was sent again.", dto.MetricType_COUNTER, 0)
	received := newFamily("triton_container_peer_received_bytes_total", "Data received from a peer by TCP.", dto.MetricType_COUNTER, 0)
	again := newFamily("triton_container_peer_retransmits_total", "TCP segments sent again to a peer.", dto.MetricType_COUNTER, 0)
	open := newFamily("triton_container_peer_open_connections", "TCP connections that are open.", dto.MetricType_GAUGE, 0)
	var names map[netip.Addr]string
	if s.cfg.Names != nil {
		names = s.cfg.Names()
	}
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	kept := map[triton.ContainerKey]map[peerID]bool{}
	for i := range rows {
		key := rows[i].key
		for _, p := range s.book.pick(key, all[key]) {
			labels := peerLabels(rows[i].labels, p, names)
			count := func(f *dto.MetricFamily, labels []*dto.LabelPair, n uint64) {
				f.Metric = append(f.Metric, &dto.Metric{Label: labels, Counter: &dto.Counter{Value: proto.Float64(float64(n))}})
			}
			for _, r := range []struct {
				result string
				n      uint64
			}{{"established", p.Opened}, {"refused", p.Refused}, {"timeout", p.TimedOut}, {"failed", p.Failed}} {
				count(connections, withLabel(labels, "result", r.result), r.n)
			}
			count(sent, labels, p.SentBytes)
			count(received, labels, p.ReceivedBytes)
			count(again, labels, p.Retransmits)
			open.Metric = append(open.Metric, &dto.Metric{Label: labels, Gauge: &dto.Gauge{Value: proto.Float64(float64(p.Open))}})
		}
		kept[key] = s.book.shown[key]
	}
	s.book.shown = kept // those of ended containers go
	return []*dto.MetricFamily{connections, sent, received, again, open}
}

// peerLabels are a container's labels and its peer's: peer is an address or other, peer_name the container's that has it,
// port the service's, role the container's own part: client of what it opened, server of what it accepted.
func peerLabels(labels []*dto.LabelPair, p triton.Peer, names map[netip.Addr]string) []*dto.LabelPair {
	peer, name, port, role := "other", "", "", ""
	if p.Address.IsValid() {
		peer, port, role = p.Address.String(), strconv.Itoa(int(p.Port)), "client"
		if p.Accepted {
			role = "server"
		}
		name = names[p.Address]
	}
	return sorted(append(append([]*dto.LabelPair{}, labels...), pair("peer", peer), pair("peer_name", name), pair("port", port), pair("role", role)))
}
