package triton

import (
	"net/netip"
	"slices"
	"time"
)

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

// NetworkKey identifies a user's network. ID has the form that NewID gives.
type NetworkKey struct {
	Tenant Tenant `json:"tenant"`
	ID     string `json:"id"`
}

// String gives tenant/short-id, for logs.
func (k NetworkKey) String() string { return string(k.Tenant) + "/" + ShortID(k.ID) }

// Pool is a subnet of a network and what is handed out of it.
type Pool struct {
	Subnet  netip.Prefix          `json:"subnet,omitzero"`  // zero in a request: any
	IPRange netip.Prefix          `json:"ipRange,omitzero"` // what is handed out of Subnet; zero: all
	Gateway netip.Addr            `json:"gateway,omitzero"` // zero in a request: the first address
	Aux     map[string]netip.Addr `json:"aux,omitempty"`    // never handed out
	// Chosen says that the user asked for Subnet. Only then may containers ask for addresses, as in docker.
	Chosen bool `json:"chosen,omitempty"`
}

// Reserved lists the addresses of Aux, and the gateway's where there is one.
func (p *Pool) Reserved() []netip.Addr {
	list := make([]netip.Addr, 0, len(p.Aux)+1)
	for _, a := range p.Aux {
		list = append(list, a)
	}
	if p.Gateway.IsValid() {
		list = append(list, p.Gateway)
	}
	return list
}

// NetworkSpec is what a user wants a network to be. Nothing in it changes after the network was made.
type NetworkSpec struct {
	Name         string            `json:"name"`
	Pool                           // of IPv4
	IPv6         *Pool             `json:"ipv6,omitempty"` // nil: the network has IPv4 alone
	MTU          int               `json:"mtu,omitempty"`  // bytes; 0: as the default network
	Internal     bool              `json:"internal,omitempty"`
	Attachable   bool              `json:"attachable,omitempty"` // shown only
	NoICC        bool              `json:"noICC,omitempty"`      // containers do not reach one another
	NoMasquerade bool              `json:"noMasquerade,omitempty"`
	HostIP       netip.Addr        `json:"hostIP,omitzero"`  // where ports are published that name no address
	Bridge       string            `json:"bridge,omitempty"` // name of the interface on the host; "": one of ours
	Options      map[string]string `json:"options,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
}

// Membership is how a container is to take part in a network: intent. Network is a user's network by id, or ModeBridge.
type Membership struct {
	Network  string     `json:"network"`
	Name     string     `json:"name"` // of the network, when the container joined it
	Aliases  []string   `json:"aliases,omitempty"`
	Links    []string   `json:"links,omitempty"`    // container:alias, by name
	Address  netip.Addr `json:"address,omitzero"`   // IPv4; zero: any
	Address6 netip.Addr `json:"address6,omitzero"`  // IPv6; zero: any
	MAC      string     `json:"mac,omitempty"`      // "": derived from the address
	Priority int        `json:"priority,omitempty"` // the highest gives the default route
	// Interface is what the container's end is called; "": the first of eth0, eth1, … that is free.
	Interface string `json:"interface,omitempty"`
	// Sysctls are settings of the interface: net.ipv4.conf.IFNAME.log_martians=1, with that word for its name.
	Sysctls []string `json:"sysctls,omitempty"`
}

// NetworkLeft is Endpoint.Network of a container that was made in the default network and has left it, or is in it by an
// Attachment, as those of tenants are that have a default network of their own.
const NetworkLeft = "left"

// DNSNames are what a container is called in a network that it is a member of, as docker shows it: its name, its aliases,
// its short id and its host name. The first answers the question for the address's name.
func (c *Container) DNSNames(m *Membership) []string {
	names := append([]string{c.Name}, m.Aliases...)
	for _, more := range []string{ShortID(c.Key.ID), c.Spec.Hostname} {
		if more != "" && !slices.Contains(names, more) {
			names = append(names, more)
		}
	}
	return names
}

// Attachment is a container's place in a network while it runs.
type Attachment struct {
	Network   string       `json:"network"` // id, or ModeBridge
	Address   netip.Prefix `json:"address"`
	Address6  netip.Prefix `json:"address6,omitzero"` // zero: the network has IPv4 alone
	Gateway   netip.Addr   `json:"gateway,omitzero"`  // zero: the network is internal
	Gateway6  netip.Addr   `json:"gateway6,omitzero"` // zero: the network is internal, or has IPv4 alone
	MAC       string       `json:"mac"`
	HostLink  string       `json:"hostLink"`  // the host's end of the veth pair
	Interface string       `json:"interface"` // the container's end
}

// Addresses are those that a container has in the network, IPv4 first.
func (a *Attachment) Addresses() []netip.Addr {
	addrs := []netip.Addr{a.Address.Addr()}
	if a.Address6.IsValid() {
		addrs = append(addrs, a.Address6.Addr())
	}
	return addrs
}

// NetworkInfo is everything known of a user's network.
type NetworkInfo struct {
	Key     NetworkKey
	Created time.Time
	Spec    NetworkSpec
	Link    string // the bridge on the host
}
