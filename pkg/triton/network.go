package triton

import "net/netip"

// PortRequest is a port of a container that was asked to be published: docker run -p.
type PortRequest struct {
	Port   uint16     `json:"port"`  // in the container
	Proto  string     `json:"proto"` // tcp, udp, sctp
	HostIP netip.Addr `json:"hostIP,omitzero"`
	// HostFirst to HostLast are the ports of the host of which the first free one is taken; both 0: any free port.
	HostFirst uint16 `json:"hostFirst,omitempty"`
	HostLast  uint16 `json:"hostLast,omitempty"`
}

// PublishedPort is a port of a container and the port of the host that leads to it, while the container runs.
type PublishedPort struct {
	Port     uint16     `json:"port"`
	Proto    string     `json:"proto"`
	HostIP   netip.Addr `json:"hostIP"` // 0.0.0.0: all addresses of the host
	HostPort uint16     `json:"hostPort"`
}

// Protocols of published ports.
const (
	ProtoTCP  = "tcp"
	ProtoUDP  = "udp"
	ProtoSCTP = "sctp"
)
