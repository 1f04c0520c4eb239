package wire

import (
	"net/url"
	"time"
)

// ContainerFlowsPath answers Flows of one container.
func ContainerFlowsPath(ref string) string {
	return Prefix + "containers/" + url.PathEscape(ref) + "/flows"
}

// MapPath answers Map of the caller's containers; ?all=1 of those of all tenants, for operators.
const MapPath = Prefix + "map"

// Flows is whom a container talks to.
type Flows struct {
	At      time.Time `json:"at"`
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Remotes []Remote  `json:"remotes"` // most bytes first
	Open    []Flow    `json:"open"`    // TCP connections, oldest first
	More    int       `json:"more"`    // connections that are not listed
}

// End is what is told of the other end of a connection.
type End struct {
	// Kind is container, self (the container's own address in a network), address (of no container that was watched when the
	// connection began), other (containers of other tenants, added up by port), or rest (what found no room).
	Kind    string `json:"kind"`
	ID      string `json:"id,omitempty"`      // of a container
	Name    string `json:"name,omitempty"`    // of a container that is still there
	Address string `json:"address,omitempty"` // without a port
}

// Remote is a remote of a container, and what was counted of it since the container started. Times are seconds.
type Remote struct {
	End
	Direction string `json:"direction,omitempty"` // out: the container asks, in: it is asked; none of the rest
	Port      uint16 `json:"port,omitempty"`      // the remote's if the container asks, its own if it is asked
	Traffic
}

// Traffic is what was counted.
type Traffic struct {
	Protocol      string            `json:"protocol,omitempty"` // tcp or udp
	Opened        uint64            `json:"opened"`             // connections
	Failed        map[string]uint64 `json:"failed,omitempty"`   // attempts, by reason
	Opening       uint64            `json:"opening"`            // now
	Open          uint64            `json:"open"`               // now
	SentBytes     uint64            `json:"sentBytes"`
	ReceivedBytes uint64            `json:"receivedBytes"`
	// Datagrams of UDP; received ones came as far as the socket, which may have had no room for them.
	SentDatagrams     uint64 `json:"sentDatagrams,omitempty"`
	ReceivedDatagrams uint64 `json:"receivedDatagrams,omitempty"`

	Retransmits    uint64            `json:"retransmits"` // segments
	ResetsSent     uint64            `json:"resetsSent"`
	ResetsReceived uint64            `json:"resetsReceived"`
	Drops          map[string]uint64 `json:"drops,omitempty"` // packets, by the kernel's reason
	RTT            float64           `json:"rtt,omitempty"`   // smoothed by the kernel, on average
}

// Flow is a connection that is open, or being opened.
type Flow struct {
	End
	Direction     string    `json:"direction"` // out, in
	Local         string    `json:"local"`     // ADDRESS:PORT
	RemotePort    uint16    `json:"remotePort,omitempty"`
	State         string    `json:"state"` // opening, established, closing
	Begun         time.Time `json:"begun"`
	SentBytes     uint64    `json:"sentBytes"`
	ReceivedBytes uint64    `json:"receivedBytes"`
	Retransmits   uint64    `json:"retransmits"`
	RTT           float64   `json:"rtt,omitempty"`
}

// Map is who asks whom: points, and edges from who asks to who is asked.
type Map struct {
	At     time.Time `json:"at"`
	Points []End     `json:"points"`
	Edges  []Edge    `json:"edges"` // most bytes first
	More   int       `json:"more"`  // edges that are not listed
}

// Edge is what one point asked of another. SentBytes and ResetsSent are of the one that asks.
type Edge struct {
	From int    `json:"from"` // index in Points
	To   int    `json:"to"`
	Port uint16 `json:"port,omitempty"` // of the one that is asked
	Traffic
}
