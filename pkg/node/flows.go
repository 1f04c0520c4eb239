package node

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// RemoteKind says what is known of whoever a container talks to.
type RemoteKind string

// The kinds of remotes.
const (
	RemoteContainer RemoteKind = "container" // its address was that container's when the connection began
	RemoteSelf      RemoteKind = "self"      // the container's own address in a network
	RemoteAddress   RemoteKind = "address"   // an address of no container that was watched
	RemoteOther     RemoteKind = "other"     // what a tenant may not see: containers of other tenants, added up by port
	RemoteRest      RemoteKind = "rest"      // what found no room
)

// Remote is whom a container talks to, with what may be told of it.
type Remote struct {
	triton.Peer
	Kind RemoteKind
	Name string // of a container that is still there
}

// NamedFlow is an open connection, with what may be told of its other end.
type NamedFlow struct {
	triton.Flow
	Kind RemoteKind
	Name string
}

// Talks is whom a container talks to: remotes, most bytes first, and the connections that are open, oldest first.
type Talks struct {
	Key     triton.ContainerKey
	Name    string
	Remotes []Remote
	Open    []NamedFlow
}

// Talks tells whom a container talks to, also through ports of this machine that lead to others. Only an operator sees the
// containers of other tenants. One that does not run, and a daemon that does not count remotes, are errdefs.ErrFailedPrecondition.
func (n *Node) Talks(ctx context.Context, tenant triton.Tenant, ref string, operator bool) (Talks, error) {
	key, name, err := n.runningContainer(ctx, tenant, ref)
	if err != nil {
		return Talks{}, err
	}
	all, ports, err := n.joinedPeers(operator)
	if err != nil {
		return Talks{}, err
	}
	flows, err := n.cfg.Probes.Flows(key)
	if err != nil {
		return Talks{}, err
	}
	names := n.namesByKey()
	out := Talks{Key: key, Name: name, Remotes: remotes(key, all[key], names, operator), Open: make([]NamedFlow, 0, len(flows))}
	for _, f := range flows {
		ports.joinFlow(key, &f, operator)
		kind := remoteKind(key, f.Other, operator)
		if kind == RemoteOther {
			f.Other = triton.ContainerKey{}
			f.Remote = netip.AddrPort{}
		}
		out.Open = append(out.Open, NamedFlow{Flow: f, Kind: kind, Name: names[f.Other]})
	}
	return out, nil
}

// joinedPeers reads whom all containers talk to, also through ports of this machine, which it returns.
func (n *Node) joinedPeers(operator bool) (map[triton.ContainerKey][]triton.Peer, *hostPorts, error) {
	all, err := n.cfg.Probes.Peers()
	if err == nil && all == nil {
		err = kindf(errdefs.ErrFailedPrecondition, "remotes are not counted here: --remotes is 0, or the kernel refused the programs")
	}
	if err != nil {
		return nil, nil, err
	}
	ports, err := n.hostPorts()
	if err != nil {
		return nil, nil, err
	}
	return ports.join(all, operator), ports, nil
}

// remoteKind says what may be told of the other end to whoever asks about a container.
func remoteKind(of, other triton.ContainerKey, operator bool) RemoteKind {
	switch {
	case other == triton.ContainerKey{}:
		return RemoteAddress
	case other == of:
		return RemoteSelf
	case operator || other.Tenant == of.Tenant:
		return RemoteContainer
	}
	return RemoteOther
}

// remotes names a container's peers, most bytes first, and adds up what whoever asks may not tell apart.
func remotes(of triton.ContainerKey, peers []triton.Peer, names map[triton.ContainerKey]string, operator bool) []Remote {
	type service struct {
		port     uint16
		accepted bool
		protocol string
	}
	others := map[service]int{}
	out := make([]Remote, 0, len(peers))
	for i := range peers {
		p := peers[i]
		kind := remoteKind(of, p.Other, operator)
		if !p.Address.IsValid() {
			kind = RemoteRest
		}
		if kind == RemoteOther {
			p.Other, p.Address = triton.ContainerKey{}, netip.Addr{}
			id := service{p.Port, p.Accepted, p.Protocol}
			if at, ok := others[id]; ok {
				out[at].Add(&p)
				continue
			}
			others[id] = len(out)
		}
		out = append(out, Remote{Peer: p, Kind: kind, Name: names[p.Other]})
	}
	slices.SortStableFunc(out, func(a, b Remote) int {
		return cmp.Or(cmp.Compare(b.SentBytes+b.ReceivedBytes, a.SentBytes+a.ReceivedBytes), cmp.Compare(b.Opened, a.Opened))
	})
	return out
}
