package triton

import (
	"net/netip"
	"time"
)

// Peer is whom a container talks to: an address, and the port of the service, which is the peer's where the container asks
// and the container's own where it is asked. Counters only grow.
type Peer struct {
	Address  netip.Addr // zero: the rest, which is all peers that found no room, and all connections that did not
	Port     uint16
	Accepted bool         // the container is asked
	Protocol string       // ProtoTCP or ProtoUDP; "" of the rest
	Other    ContainerKey // of the container that had the address when the connection began; zero: none that was watched

	Opened          uint64            // connections established
	ConnectFailures map[string]uint64 // attempts that failed, by reason as in NetworkHealth; those that happened
	Opening, Open   uint64            // connections there are now; may fall
	SentBytes       uint64            // data, without what was sent again
	ReceivedBytes   uint64
	// SentDatagrams and ReceivedDatagrams are those of UDP, whose data is in the bytes; received ones came as far as the socket, which
	// may have had no room for them: Drops.
	SentDatagrams, ReceivedDatagrams uint64

	Retransmits    uint64 // segments sent again
	ResetsSent     uint64
	ResetsReceived uint64
	Drops          map[string]uint64 // packets that the kernel dropped, by its reason; those that happened
	// RTT is the kernel's smoothed round trip time, on average of the connections that are open, or of those that closed
	// if none is; 0: not known.
	RTT time.Duration
}

// Failed is the number of attempts that failed.
func (p *Peer) Failed() uint64 { return sum(p.ConnectFailures) }

// Dropped is the number of packets that the kernel dropped.
func (p *Peer) Dropped() uint64 { return sum(p.Drops) }

func sum(counts map[string]uint64) uint64 {
	var n uint64
	for _, c := range counts {
		n += c
	}
	return n
}

// AddDrops adds packets that the kernel dropped, by reason.
func (p *Peer) AddDrops(drops map[string]uint64) { p.Drops = added(p.Drops, drops) }

// Add adds the counters of another, and what is open of it; RTT becomes the average by connections opened.
func (p *Peer) Add(o *Peer) {
	switch {
	case p.RTT == 0:
		p.RTT = o.RTT
	case o.RTT != 0 && p.Opened+o.Opened > 0:
		p.RTT = time.Duration((float64(p.RTT)*float64(p.Opened) + float64(o.RTT)*float64(o.Opened)) / float64(p.Opened+o.Opened))
	}
	p.Opened += o.Opened
	p.ConnectFailures = added(p.ConnectFailures, o.ConnectFailures)
	p.Opening += o.Opening
	p.Open += o.Open
	p.SentBytes += o.SentBytes
	p.ReceivedBytes += o.ReceivedBytes
	p.SentDatagrams += o.SentDatagrams
	p.ReceivedDatagrams += o.ReceivedDatagrams
	p.Retransmits += o.Retransmits
	p.ResetsSent += o.ResetsSent
	p.ResetsReceived += o.ResetsReceived
	p.AddDrops(o.Drops)
}

// added returns the sums by reason; neither argument is changed.
func added(a, b map[string]uint64) map[string]uint64 {
	if len(b) == 0 {
		return a
	}
	out := make(map[string]uint64, len(a)+len(b))
	for _, m := range []map[string]uint64{a, b} {
		for reason, n := range m {
			out[reason] += n
		}
	}
	return out
}

// Flow is a TCP connection of a container that is open, or being opened.
type Flow struct {
	Local, Remote netip.AddrPort
	Accepted      bool         // by the container
	Other         ContainerKey // as of Peer
	State         string       // opening, established, or closing
	Begun         time.Time    // when the first SYN was sent, or the connection accepted

	SentBytes, ReceivedBytes, Retransmits uint64

	RTT time.Duration // the kernel's smoothed estimate; 0: none yet
}
