package tritonapi

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/node"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

const (
	// mostFlows bounds the connections in an answer: some 1 MiB.
	mostFlows = 4096
	// mostEdges bounds the edges.
	mostEdges = 4096
)

func flowRoutes() []route {
	return []route{
		{"GET " + wire.Prefix + "containers/{ref}/flows", forTenants, (*API).flows},
		{"GET " + wire.MapPath, forTenants, (*API).serviceMap},
	}
}

func (a *API) flows(w http.ResponseWriter, r *http.Request, c auth.Caller) {
	t, err := a.cfg.Node.Talks(r.Context(), c.Tenant, r.PathValue("ref"), c.Operator)
	if err != nil {
		a.fail(w, err)
		return
	}
	a.reply(w, flowsOf(t))
}

// serviceMap answers who asks whom among the caller's containers.
func (a *API) serviceMap(w http.ResponseWriter, r *http.Request, c auth.Caller) {
	all := r.URL.Query().Get("all") == "1"
	if all && !c.Operator {
		a.refuse(w, http.StatusForbidden, "the map of all tenants is for operators only")
		return
	}
	m, err := a.cfg.Node.ServiceMap(c.Tenant, c.Operator, all)
	if err != nil {
		a.fail(w, err)
		return
	}
	a.reply(w, MapOf(m, time.Now()))
}

func flowsOf(t node.Talks) wire.Flows {
	out := wire.Flows{At: time.Now(), ID: t.Key.ID, Name: t.Name, Remotes: make([]wire.Remote, 0, len(t.Remotes))}
	for i := range t.Remotes {
		r := &t.Remotes[i]
		remote := wire.Remote{End: endOf(r.Kind, r.Other, r.Name, r.Address), Port: r.Port, Traffic: trafficOf(&r.Peer)}
		if r.Kind != node.RemoteRest {
			remote.Direction = direction(r.Accepted)
		}
		out.Remotes = append(out.Remotes, remote)
	}
	out.More = max(0, len(t.Open)-mostFlows)
	out.Open = make([]wire.Flow, 0, len(t.Open)-out.More)
	for i := range t.Open[:len(t.Open)-out.More] {
		f := &t.Open[i]
		out.Open = append(out.Open, wire.Flow{
			End: endOf(f.Kind, f.Other, f.Name, f.Remote.Addr()), Direction: direction(f.Accepted), Local: f.Local.String(), RemotePort: f.Remote.Port(),
			State: f.State, Begun: f.Begun, SentBytes: f.SentBytes, ReceivedBytes: f.ReceivedBytes, Retransmits: f.Retransmits, RTT: f.RTT.Seconds(),
		})
	}
	return out
}

func direction(accepted bool) string {
	if accepted {
		return "in"
	}
	return "out"
}

func endOf(kind node.RemoteKind, key triton.ContainerKey, name string, address netip.Addr) wire.End {
	e := wire.End{Kind: string(kind), ID: key.ID, Name: name}
	if address.IsValid() {
		e.Address = address.String()
	}
	return e
}

func trafficOf(p *triton.Peer) wire.Traffic {
	return wire.Traffic{
		Protocol: p.Protocol, Opened: p.Opened, Failed: p.ConnectFailures, Opening: p.Opening, Open: p.Open,
		SentBytes: p.SentBytes, ReceivedBytes: p.ReceivedBytes, Retransmits: p.Retransmits,
		SentDatagrams: p.SentDatagrams, ReceivedDatagrams: p.ReceivedDatagrams,
		ResetsSent: p.ResetsSent, ResetsReceived: p.ResetsReceived, Drops: p.Drops, RTT: p.RTT.Seconds(),
	}
}

// MapOf is a service map as it is sent; at is when it was read.
func MapOf(m node.ServiceMap, at time.Time) wire.Map {
	out := wire.Map{At: at, Points: []wire.End{}, Edges: []wire.Edge{}}
	out.More = max(0, len(m.Edges)-mostEdges)
	index := map[node.MapPoint]int{}
	point := func(p node.MapPoint) int {
		i, ok := index[p]
		if !ok {
			i = len(out.Points)
			index[p] = i
			out.Points = append(out.Points, endOf(p.Kind, p.Key, m.Names[p.Key], p.Address))
		}
		return i
	}
	for i := range m.Edges[:len(m.Edges)-out.More] {
		e := &m.Edges[i]
		out.Edges = append(out.Edges, wire.Edge{From: point(e.From), To: point(e.To), Port: e.Port, Traffic: trafficOf(&e.Peer)})
	}
	return out
}
