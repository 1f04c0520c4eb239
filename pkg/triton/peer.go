package triton

import "net/netip"

// Peer is whom a container talks to by TCP: an address, and the port of the service, which is the peer's in what the
// container opened and the container's own in what it accepted. Counters only grow.
type Peer struct {
	Address  netip.Addr
	Port     uint16
	Accepted bool

	Opened        uint64 // connections established
	Refused       uint64 // attempts that met no listener
	TimedOut      uint64 // attempts that nobody answered
	Failed        uint64 // attempts that ended otherwise
	Open          uint64 // connections there are now; may fall
	SentBytes     uint64 // data, without what was sent again
	ReceivedBytes uint64
	Retransmits   uint64 // segments sent again
}
