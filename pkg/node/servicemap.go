package node

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/tritond/triton/pkg/triton"
)

// addressesMapped bounds the addresses that a service map has points for; the others are one point, so that it stays readable.
const addressesMapped = 24

// MapPoint is an end of edges of a service map: a container, an address, or what is not told apart. The zero key and address
// are those of RemoteOther and RemoteRest, which are one point each, and of addresses beyond the bound.
type MapPoint struct {
	Kind    RemoteKind
	Key     triton.ContainerKey
	Address netip.Addr
}

// MapEdge is what one point asked of another at a port. Bytes are sent by From.
type MapEdge struct {
	From, To MapPoint
	triton.Peer
}

// ServiceMap is who asks whom: what a container opened, and what it accepted from those that are not in the map themselves.
type ServiceMap struct {
	Names map[triton.ContainerKey]string // of the containers in it that are still there
	Edges []MapEdge                      // most bytes first
}

// ServiceMap tells which containers of a tenant ask whom, also through ports of this machine that lead to them. An operator sees
// whose the others are, and with all the containers of all tenants.
func (n *Node) ServiceMap(tenant triton.Tenant, operator, all bool) (ServiceMap, error) {
	peers, _, err := n.joinedPeers(operator)
	if err != nil {
		return ServiceMap{}, err
	}
	names := n.namesByKey()
	talks := map[triton.ContainerKey][]Remote{}
	for key, p := range peers {
		if key.Tenant == tenant || operator && all {
			talks[key] = remotes(key, p, names, operator)
		}
	}
	return serviceMap(talks, names), nil
}

// edgeID tells edges apart.
type edgeID struct {
	from, to MapPoint
	port     uint16
	protocol string
}

func serviceMap(talks map[triton.ContainerKey][]Remote, names map[triton.ContainerKey]string) ServiceMap {
	shown := largest(talks)
	edges := map[edgeID]*MapEdge{}
	for key, list := range talks { // what was asked, by those who asked
		me := MapPoint{Kind: RemoteContainer, Key: key}
		for _, r := range list {
			if !r.Accepted {
				addEdge(edges, edgeID{me, pointOf(key, &r, shown), r.Port, r.Protocol}, r.Peer)
			}
		}
	}
	seen := map[edgeID]bool{}
	for id := range edges {
		seen[id] = true
	}
	for key, list := range talks {
		me := MapPoint{Kind: RemoteContainer, Key: key}
		for _, r := range list {
			if !r.Accepted {
				continue
			}
			id := edgeID{pointOf(key, &r, shown), me, r.Port, r.Protocol}
			if seen[id] { // both ends are here: the asker's numbers are there already
				e := edges[id]
				e.Retransmits += r.Retransmits
				e.AddDrops(r.Drops)
				continue
			}
			r.SentBytes, r.ReceivedBytes = r.ReceivedBytes, r.SentBytes
			r.SentDatagrams, r.ReceivedDatagrams = r.ReceivedDatagrams, r.SentDatagrams
			r.ResetsSent, r.ResetsReceived = r.ResetsReceived, r.ResetsSent
			addEdge(edges, id, r.Peer)
		}
	}
	out := ServiceMap{Names: map[triton.ContainerKey]string{}}
	for _, e := range edges {
		out.Edges = append(out.Edges, *e)
		for _, p := range []MapPoint{e.From, e.To} {
			if name := names[p.Key]; p.Kind == RemoteContainer && name != "" {
				out.Names[p.Key] = name
			}
		}
	}
	slices.SortFunc(out.Edges, func(a, b MapEdge) int {
		return cmp.Or(cmp.Compare(b.SentBytes+b.ReceivedBytes, a.SentBytes+a.ReceivedBytes), cmp.Compare(b.Opened, a.Opened),
			a.From.compare(b.From), a.To.compare(b.To), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	return out
}

func (p MapPoint) compare(o MapPoint) int {
	return cmp.Or(cmp.Compare(p.Kind, o.Kind), cmp.Compare(p.Key.ID, o.Key.ID), p.Address.Compare(o.Address))
}

func addEdge(edges map[edgeID]*MapEdge, id edgeID, p triton.Peer) {
	if e := edges[id]; e != nil {
		e.Add(&p)
		return
	}
	p.Accepted = false
	edges[id] = &MapEdge{From: id.from, To: id.to, Peer: p}
}

// pointOf is the other end of what a container has counted.
func pointOf(of triton.ContainerKey, r *Remote, shown map[netip.Addr]bool) MapPoint {
	switch r.Kind {
	case RemoteContainer:
		return MapPoint{Kind: RemoteContainer, Key: r.Other}
	case RemoteSelf:
		return MapPoint{Kind: RemoteContainer, Key: of}
	case RemoteAddress:
		if r.Address.IsLoopback() { // each container has its own
			return MapPoint{Kind: RemoteContainer, Key: of}
		}
		if shown[r.Address] {
			return MapPoint{Kind: RemoteAddress, Address: r.Address}
		}
		return MapPoint{Kind: RemoteAddress}
	}
	return MapPoint{Kind: r.Kind}
}

// largest are the addresses that get points of their own: those that had most bytes.
func largest(talks map[triton.ContainerKey][]Remote) map[netip.Addr]bool {
	bytes := map[netip.Addr]uint64{}
	for _, list := range talks {
		for i := range list {
			if r := &list[i]; r.Kind == RemoteAddress && !r.Address.IsLoopback() {
				bytes[r.Address] += r.SentBytes + r.ReceivedBytes
			}
		}
	}
	all := make([]netip.Addr, 0, len(bytes))
	for a := range bytes {
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b netip.Addr) int { return cmp.Or(cmp.Compare(bytes[b], bytes[a]), a.Compare(b)) })
	shown := map[netip.Addr]bool{}
	for _, a := range all[:min(len(all), addressesMapped)] {
		shown[a] = true
	}
	return shown
}
