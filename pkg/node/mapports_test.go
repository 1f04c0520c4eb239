package node

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

// portWorld is a machine with a server of globex's that port 8080 leads to, and who talks to whom.
type portWorld struct {
	ports hostPorts
	peers map[triton.ContainerKey][]triton.Peer
}

var (
	machine  = netip.MustParseAddr("172.30.0.1")
	loopback = netip.MustParseAddr("127.0.0.1")
	server   = tenantsKey("globex", "server")
)

func newPortWorld() *portWorld {
	return &portWorld{
		ports: hostPorts{
			leads: map[hostPort]service{
				{netip.IPv4Unspecified(), 8080, "tcp"}: {server, 80, "tcp"}, {loopback, 8081, "tcp"}: {server, 81, "tcp"},
				{netip.IPv4Unspecified(), 8080, "udp"}: {server, 80, "udp"},
			},
			local: map[netip.Addr]bool{machine: true, loopback: true}, onHost: map[triton.ContainerKey]bool{},
		},
		peers: map[triton.ContainerKey][]triton.Peer{},
	}
}

// asks notes n connections that a container opened to an address that was other's, with 10 bytes there and 100 back for each.
func (w *portWorld) asks(who triton.ContainerKey, a netip.Addr, port uint16, other triton.ContainerKey, n uint64) {
	w.peers[who] = append(w.peers[who], triton.Peer{Address: a, Port: port, Protocol: "tcp", Other: other, Opened: n, SentBytes: 10 * n, ReceivedBytes: 100 * n})
}

// asked notes n connections that the server accepted.
func (w *portWorld) asked(a netip.Addr, other triton.ContainerKey, n uint64) {
	w.peers[server] = append(w.peers[server],
		triton.Peer{Address: a, Port: 80, Protocol: "tcp", Other: other, Accepted: true, Opened: n, SentBytes: 100 * n, ReceivedBytes: 10 * n})
}

// sends notes n datagrams of 10 bytes that a container sent to an address that was other's, and back answers of 100.
func (w *portWorld) sends(who triton.ContainerKey, a netip.Addr, port uint16, other triton.ContainerKey, n, back uint64) {
	w.peers[who] = append(w.peers[who], triton.Peer{Address: a, Port: port, Protocol: "udp", Other: other,
		SentDatagrams: n, ReceivedDatagrams: back, SentBytes: 10 * n, ReceivedBytes: 100 * back})
}

// receives notes n datagrams that came to the server, and as many answers.
func (w *portWorld) receives(a netip.Addr, other triton.ContainerKey, n uint64) {
	w.peers[server] = append(w.peers[server], triton.Peer{Address: a, Port: 80, Protocol: "udp", Other: other, Accepted: true,
		SentDatagrams: n, ReceivedDatagrams: n, SentBytes: 100 * n, ReceivedBytes: 10 * n})
}

// edges are what a tenant's map has, a line each; all: an operator's of all tenants.
func (w *portWorld) edges(tenant triton.Tenant, all bool) string {
	peers := w.ports.join(w.peers, all)
	talks := map[triton.ContainerKey][]Remote{}
	for key, p := range peers {
		if key.Tenant == tenant || all {
			talks[key] = remotes(key, p, nil, all)
		}
	}
	name := func(p MapPoint) string {
		if p.Kind == RemoteAddress {
			return p.Address.String()
		}
		return cmp.Or(p.Key.ID, string(p.Kind))
	}
	var lines []string
	for _, e := range serviceMap(talks, nil).Edges {
		lines = append(lines, fmt.Sprintf("%s %s:%d %d %d %d", name(e.From), name(e.To), e.Port, asks(&e.Peer), e.SentBytes, e.ReceivedBytes))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestPublishedPortsJoinTheHalvesOfAConversation(t *testing.T) {
	own, foreign := tenantsKey("globex", "own"), tenantsKey("acme", "foreign")
	client, outside, none := netip.MustParseAddr("172.30.0.7"), netip.MustParseAddr("192.0.2.1"), triton.ContainerKey{}
	for _, c := range []struct {
		name         string
		have         func(w *portWorld)
		globex, acme string // the edges of each tenant's map
	}{
		{"translated", func(w *portWorld) {
			w.asks(own, machine, 8080, none, 3)
			w.asked(client, own, 3)
			w.asked(outside, none, 1)
		}, "192.0.2.1 server:80 1 10 100\nown server:80 3 30 300", ""},
		{"relayed, and asked by processes of the host", func(w *portWorld) {
			w.asks(own, machine, 8080, none, 3)
			w.asked(machine, none, 5)
		}, "172.30.0.1 server:80 2 20 200\nown server:80 3 30 300", ""},
		{"translated, directly, and by the host", func(w *portWorld) {
			w.asks(own, machine, 8080, none, 3)
			w.asks(own, client, 80, server, 4)
			w.asked(client, own, 7)
			w.asked(machine, none, 2)
		}, "172.30.0.1 server:80 2 20 200\nown server:80 7 70 700", ""},
		{"a foreign one is other, and learns no port inside", func(w *portWorld) {
			w.asks(foreign, machine, 8080, none, 3)
			w.asked(client, foreign, 3)
		}, "other server:80 3 30 300", "foreign other:8080 3 30 300"},
		{"a foreign one by the relay, beside an own one", func(w *portWorld) {
			w.asks(foreign, machine, 8080, none, 3)
			w.asks(own, machine, 8080, none, 4)
			w.asked(machine, none, 9)
		}, "172.30.0.1 server:80 2 20 200\nother server:80 3 30 300\nown server:80 4 40 400", "foreign other:8080 3 30 300"},
		{"another port, another machine, a container's own loopback", func(w *portWorld) {
			w.asks(own, machine, 8081, none, 1)
			w.asks(own, outside, 8080, none, 2)
			w.asks(own, loopback, 8080, none, 3)
			w.asks(own, loopback, 8081, none, 4)
		}, "own 172.30.0.1:8081 1 10 100\nown 192.0.2.1:8080 2 20 200\nown own:8080 3 30 300\nown own:8081 4 40 400", ""},
		{"the machine's loopback, of one that has it", func(w *portWorld) {
			w.ports.onHost[own] = true
			w.asks(own, loopback, 8080, none, 3)
			w.asked(machine, none, 3)
		}, "own server:80 3 30 300", ""},
		{"one that has the machine's network, directly", func(w *portWorld) {
			w.ports.onHost[own] = true
			w.asks(own, client, 80, server, 3)
			w.asked(machine, none, 5)
		}, "172.30.0.1 server:80 2 20 200\nown server:80 3 30 300", ""},
		{"datagrams, translated", func(w *portWorld) {
			w.sends(own, machine, 8080, none, 3, 3)
			w.receives(client, own, 3)
		}, "own server:80 3 30 300", ""},
		{"datagrams, masked, one of them and an answer lost, and of processes of the host", func(w *portWorld) {
			w.sends(own, machine, 8080, none, 4, 2)
			w.receives(machine, none, 3)
			w.receives(outside, none, 2)
		}, "192.0.2.1 server:80 2 20 200\nown server:80 4 40 200", ""},
		{"datagrams by the machine's loopback, and of processes of the host", func(w *portWorld) {
			w.ports.onHost[own] = true
			w.sends(own, client, 80, server, 3, 0)
			w.sends(own, loopback, 8080, none, 0, 3)
			w.receives(machine, none, 5)
		}, "172.30.0.1 server:80 2 20 200\nown server:80 3 30 300", ""},
		{"datagrams of a foreign one", func(w *portWorld) {
			w.sends(foreign, machine, 8080, none, 3, 3)
			w.receives(machine, none, 3)
		}, "other server:80 3 30 300", "foreign other:8080 3 30 300"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newPortWorld()
			c.have(w)
			for tenant, want := range map[triton.Tenant]string{"globex": c.globex, "acme": c.acme} {
				if diff := gocmp.Diff(want, w.edges(tenant, false)); diff != "" {
					t.Errorf("%s sees %s", tenant, diff)
				}
			}
		})
	}
}

// The operator sees the containers of both, and each connection once.
func TestOperatorsSeeThroughPublishedPorts(t *testing.T) {
	foreign := tenantsKey("acme", "foreign")
	w := newPortWorld()
	w.asks(foreign, machine, 8080, triton.ContainerKey{}, 3)
	w.asked(machine, triton.ContainerKey{}, 3)
	if diff := gocmp.Diff("foreign server:80 3 30 300", w.edges("", true)); diff != "" {
		t.Error(diff)
	}
}

// An open connection leads where its address does; a tenant learns of a foreign container neither which nor at what port.
func TestOpenConnectionsLeadThroughPublishedPorts(t *testing.T) {
	own, foreign, outside := tenantsKey("globex", "own"), tenantsKey("acme", "foreign"), netip.MustParseAddr("192.0.2.1")
	w := newPortWorld()
	for _, c := range []struct {
		of       triton.ContainerKey
		flow     triton.Flow
		operator bool
		want     string
	}{
		{own, triton.Flow{Remote: netip.AddrPortFrom(machine, 8080)}, false, "server 172.30.0.1:80"},
		{foreign, triton.Flow{Remote: netip.AddrPortFrom(machine, 8080)}, false, "server 172.30.0.1:8080"},
		{foreign, triton.Flow{Remote: netip.AddrPortFrom(machine, 8080)}, true, "server 172.30.0.1:80"},
		{own, triton.Flow{Remote: netip.AddrPortFrom(machine, 8080), Accepted: true}, false, " 172.30.0.1:8080"},
		{own, triton.Flow{Remote: netip.AddrPortFrom(outside, 8080)}, false, " 192.0.2.1:8080"},
		{own, triton.Flow{Remote: netip.AddrPortFrom(machine, 8080), Other: foreign}, false, "foreign 172.30.0.1:8080"},
	} {
		f := c.flow
		w.ports.joinFlow(c.of, &f, c.operator)
		if got := f.Other.ID + " " + f.Remote.String(); got != c.want {
			t.Errorf("%+v of %s leads to %q, want %q", c.flow, c.of, got, c.want)
		}
	}
}
