package node

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/tritond/triton/pkg/triton"
)

// hostPorts are the ports of this machine that lead to containers, as of now. A container that asks for one sees an address of
// the machine, and so does who is asked where the shim relays it: two halves of one conversation.
type hostPorts struct {
	leads  map[hostPort]service
	local  map[netip.Addr]bool          // addresses of this machine
	onHost map[triton.ContainerKey]bool // containers that have its network: its loopback is theirs
}

// hostPort is a published port; address may be unspecified: all of its family.
type hostPort struct {
	address  netip.Addr
	port     uint16
	protocol string
}

// service is a port of a container.
type service struct {
	key      triton.ContainerKey
	port     uint16
	protocol string
}

func (n *Node) hostPorts() (*hostPorts, error) {
	h := &hostPorts{leads: map[hostPort]service{}, local: map[netip.Addr]bool{}, onHost: map[triton.ContainerKey]bool{}}
	for _, c := range n.all() {
		c.mu.Lock()
		for _, p := range c.published {
			h.leads[hostPort{p.HostIP, p.HostPort, p.Proto}] = service{c.key, p.Port, p.Proto}
		}
		if c.rec.Spec.NetworkMode == triton.ModeHost {
			h.onHost[c.key] = true
		}
		c.mu.Unlock()
	}
	if len(h.leads)+len(h.onHost) == 0 {
		return h, nil
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list addresses of this machine: %w", err)
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			h.local[p.Addr().Unmap()] = true
		}
	}
	return h, nil
}

// leadsTo is where a container came that asked an address.
func (h *hostPorts) leadsTo(asker triton.ContainerKey, at netip.AddrPort, protocol string) (service, bool) {
	address := at.Addr().Unmap()
	if !h.local[address] || address.IsLoopback() && !h.onHost[asker] {
		return service{}, false
	}
	s, ok := h.leads[hostPort{address, at.Port(), protocol}]
	if !ok {
		every := netip.IPv6Unspecified()
		if address.Is4() {
			every = netip.IPv4Unspecified()
		}
		s, ok = h.leads[hostPort{every, at.Port(), protocol}]
	}
	return s, ok
}

// joinFlow says which container an open connection leads to that was opened to an address of this machine. Of one that a relay
// opened, nothing but numbers would tell who asked: join goes by those.
func (h *hostPorts) joinFlow(of triton.ContainerKey, f *triton.Flow, operator bool) {
	if f.Accepted || f.Other != (triton.ContainerKey{}) {
		return
	}
	s, ok := h.leadsTo(of, f.Remote, triton.ProtoTCP)
	if !ok {
		return
	}
	f.Other = s.key
	if remoteKind(of, s.key, operator) != RemoteOther {
		f.Remote = netip.AddrPortFrom(f.Remote.Addr(), s.port)
	}
}

// asked is what a container asked of a service through ports or with the addresses of this machine.
type asked struct {
	asker triton.ContainerKey
	peer  triton.Peer // all its ports and addresses together; the first address
}

// asks is how often a peer was asked, or asked: connections, and datagrams where there are none.
func asks(p *triton.Peer) uint64 {
	switch {
	case p.Protocol != triton.ProtoUDP:
		return p.Opened
	case p.Accepted:
		return p.ReceivedDatagrams
	}
	return p.SentDatagrams
}

// join returns the peers with the halves of conversations through published ports, and of containers that have the machine's
// network, put together: who asked did so of the container, and who was asked was by that container, as far as it was an address of
// this machine that came to it. A port of a container that whoever asks about the asker may not see stays that of the machine.
func (h *hostPorts) join(peers map[triton.ContainerKey][]triton.Peer, operator bool) map[triton.ContainerKey][]triton.Peer {
	if len(h.leads)+len(h.onHost) == 0 {
		return peers
	}
	through := map[service][]asked{}
	out := make(map[triton.ContainerKey][]triton.Peer, len(peers))
	for asker, list := range peers {
		list = slices.Clone(list)
		for i := range list {
			p := &list[i]
			if p.Accepted {
				continue
			}
			if p.Other != (triton.ContainerKey{}) {
				// Where it is asked by the machine's loopback, the datagrams it sends have the container's address already.
				if s := (service{p.Other, p.Port, p.Protocol}); h.onHost[asker] {
					through[s] = addAsked(through[s], asker, *p)
				}
				continue
			}
			s, ok := h.leadsTo(asker, netip.AddrPortFrom(p.Address, p.Port), p.Protocol)
			if !ok {
				continue
			}
			p.Other = s.key
			if remoteKind(asker, s.key, operator) != RemoteOther {
				p.Port = s.port
			}
			through[s] = addAsked(through[s], asker, *p)
		}
		out[asker] = list
	}
	for s, all := range through {
		slices.SortFunc(all, func(a, b asked) int { // the same every time
			return cmp.Or(cmp.Compare(a.asker.Tenant, b.asker.Tenant), cmp.Compare(a.asker.ID, b.asker.ID))
		})
		for _, a := range all {
			seen := between(peers[s.key], a.asker, s, true)
			if !h.onHost[a.asker] {
				seen -= min(seen, between(peers[a.asker], s.key, s, false))
			}
			// What has the asker's own address came from it; the rest of what it asked has the machine's: by a relay, or masked.
			masked := asks(&a.peer) - min(asks(&a.peer), seen)
			out[s.key] = h.attribute(out[s.key], s, a, masked)
		}
	}
	return out
}

func addAsked(all []asked, asker triton.ContainerKey, p triton.Peer) []asked {
	for i := range all {
		if all[i].asker == asker {
			all[i].peer.Add(&p)
			return all
		}
	}
	return append(all, asked{asker, p})
}

// between counts how often a container asked another at a service, or was asked.
func between(peers []triton.Peer, other triton.ContainerKey, s service, accepted bool) uint64 {
	var n uint64
	for i := range peers {
		if p := &peers[i]; p.Accepted == accepted && p.Other == other && p.Port == s.port && p.Protocol == s.protocol {
			n += asks(p)
		}
	}
	return n
}

// attribute gives what an asker asked as the machine, as its peers of the service's container count it, to the asker: so much is
// taken from the peers that are addresses of this machine.
func (h *hostPorts) attribute(peers []triton.Peer, s service, a asked, masked uint64) []triton.Peer {
	var kept []triton.Peer
	for _, p := range peers {
		if masked == 0 || !p.Accepted || p.Other != (triton.ContainerKey{}) || p.Port != s.port || p.Protocol != s.protocol || !h.local[p.Address.Unmap()] {
			kept = append(kept, p)
			continue
		}
		mine, rest := split(p, &a.peer, masked)
		mine.Other = a.asker
		masked -= min(masked, asks(&mine))
		kept = append(kept, mine)
		if asks(&rest)+rest.Open > 0 {
			kept = append(kept, rest)
		}
	}
	return kept
}

// split parts what a container was asked: what an asker counted of at most so many connections or datagrams, and the rest. What went
// wrong stays with the rest, if there is something left that it can be of.
func split(p triton.Peer, by *triton.Peer, most uint64) (mine, rest triton.Peer) {
	mine, rest = p, p
	n := min(asks(&p), asks(by), most)
	if p.Protocol == triton.ProtoUDP {
		mine.ReceivedDatagrams = n
		rest.ReceivedDatagrams -= n
	} else {
		mine.Opened = n
		rest.Opened -= n
		mine.Open = min(p.Open, by.Open, n)
		rest.Open -= mine.Open
	}
	if asks(&rest)+rest.Open == 0 {
		return mine, rest
	}
	mine.SentDatagrams = min(p.SentDatagrams, by.ReceivedDatagrams)
	rest.SentDatagrams -= mine.SentDatagrams
	mine.SentBytes, mine.ReceivedBytes = min(p.SentBytes, by.ReceivedBytes), min(p.ReceivedBytes, by.SentBytes)
	rest.SentBytes -= mine.SentBytes
	rest.ReceivedBytes -= mine.ReceivedBytes
	mine.Opening, mine.ConnectFailures, mine.Retransmits, mine.ResetsSent, mine.ResetsReceived, mine.Drops = 0, nil, 0, 0, 0, nil
	return mine, rest
}
