package node

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tritond/triton/pkg/triton"
)

func tenantsKey(tenant triton.Tenant, id string) triton.ContainerKey {
	return triton.ContainerKey{Tenant: tenant, ID: id}
}

var equalAddresses = cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmpopts.EquateEmpty()}

// A tenant is told of its own containers by name; of others it learns how much, by port, and neither whose nor where.
func TestTenantsSeeForeignRemotesAsOther(t *testing.T) {
	me, own, foreign, foreign2 := tenantsKey("acme", "m"), tenantsKey("acme", "o"), tenantsKey("globex", "f"), tenantsKey("globex", "g")
	names := map[triton.ContainerKey]string{me: "me", own: "own", foreign: "secret", foreign2: "secret2"}
	address := netip.MustParseAddr
	peer := func(other triton.ContainerKey, a string, port uint16, bytes uint64) triton.Peer {
		return triton.Peer{Address: address(a), Port: port, Protocol: "tcp", Other: other, Opened: 1, SentBytes: bytes}
	}
	peers := []triton.Peer{
		{Opened: 9, SentBytes: 1}, peer(me, "10.0.0.1", 80, 2), peer(own, "10.0.0.2", 80, 3), peer(foreign, "10.0.0.3", 80, 40),
		peer(foreign2, "10.0.0.4", 80, 50), peer(foreign2, "10.0.0.4", 81, 60), peer(triton.ContainerKey{}, "192.0.2.1", 443, 5),
	}
	rest := Remote{Peer: peers[0], Kind: RemoteRest}
	self, ours := Remote{Peer: peers[1], Kind: RemoteSelf, Name: "me"}, Remote{Peer: peers[2], Kind: RemoteContainer, Name: "own"}
	outside := Remote{Peer: peers[6], Kind: RemoteAddress}
	want := []Remote{
		{Kind: RemoteOther, Peer: triton.Peer{Port: 80, Protocol: "tcp", Opened: 2, SentBytes: 90}},
		{Kind: RemoteOther, Peer: triton.Peer{Port: 81, Protocol: "tcp", Opened: 1, SentBytes: 60}},
		outside, ours, self, rest,
	}
	if diff := cmp.Diff(want, remotes(me, peers, names, false), equalAddresses); diff != "" {
		t.Errorf("a tenant sees: %s", diff)
	}
	want = []Remote{
		{Kind: RemoteContainer, Name: "secret2", Peer: peers[5]}, {Kind: RemoteContainer, Name: "secret2", Peer: peers[4]},
		{Kind: RemoteContainer, Name: "secret", Peer: peers[3]}, outside, ours, self, rest,
	}
	if diff := cmp.Diff(want, remotes(me, peers, names, true), equalAddresses); diff != "" {
		t.Errorf("an operator sees: %s", diff)
	}
}

// A connection between two containers is one edge although both counted it; what came from outside is one from there.
func TestServiceMapHasEachConversationOnce(t *testing.T) {
	web, db, gone := tenantsKey("acme", "w"), tenantsKey("acme", "d"), tenantsKey("acme", "g")
	names := map[triton.ContainerKey]string{web: "web", db: "db"}
	client := netip.MustParseAddr("192.0.2.7")
	loopback := netip.MustParseAddr("127.0.0.1")
	talks := map[triton.ContainerKey][]Remote{
		web: {
			{Kind: RemoteContainer, Name: "db", Peer: triton.Peer{Other: db, Port: 5432, Protocol: "tcp", Opened: 3, SentBytes: 30, ReceivedBytes: 700, Retransmits: 1, RTT: time.Millisecond,
				Drops: map[string]uint64{"a": 1}}},
			{Kind: RemoteAddress, Peer: triton.Peer{Address: client, Port: 80, Protocol: "tcp", Accepted: true, Opened: 5, SentBytes: 100, ReceivedBytes: 20, ResetsSent: 4}},
			{Kind: RemoteAddress, Peer: triton.Peer{Address: loopback, Port: 9, Protocol: "tcp", Opened: 1}},
		},
		db: {
			{Kind: RemoteContainer, Name: "web", Peer: triton.Peer{Other: web, Port: 5432, Protocol: "tcp", Accepted: true, Opened: 3, SentBytes: 700, ReceivedBytes: 30, Retransmits: 2,
				Drops: map[string]uint64{"a": 2, "b": 1}}},
			{Kind: RemoteContainer, Peer: triton.Peer{Other: gone, Port: 5432, Protocol: "tcp", Accepted: true, Opened: 1, SentBytes: 4}},
			{Kind: RemoteRest, Peer: triton.Peer{Opened: 2}},
		},
	}
	at := func(key triton.ContainerKey) MapPoint { return MapPoint{Kind: RemoteContainer, Key: key} }
	got := serviceMap(talks, names)
	want := []MapEdge{
		{From: at(web), To: at(db), Peer: triton.Peer{Other: db, Port: 5432, Protocol: "tcp", Opened: 3, SentBytes: 30, ReceivedBytes: 700, Retransmits: 3, RTT: time.Millisecond,
			Drops: map[string]uint64{"a": 3, "b": 1}}},
		{From: MapPoint{Kind: RemoteAddress, Address: client}, To: at(web), Peer: triton.Peer{Address: client, Port: 80, Protocol: "tcp", Opened: 5, SentBytes: 20, ReceivedBytes: 100, ResetsReceived: 4}},
		{From: at(gone), To: at(db), Peer: triton.Peer{Other: gone, Port: 5432, Protocol: "tcp", Opened: 1, ReceivedBytes: 4}},
		{From: at(db), To: MapPoint{Kind: RemoteRest}, Peer: triton.Peer{Opened: 2}},
		{From: at(web), To: at(web), Peer: triton.Peer{Address: loopback, Port: 9, Protocol: "tcp", Opened: 1}},
	}
	if diff := cmp.Diff(want, got.Edges, equalAddresses); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(names, got.Names); diff != "" {
		t.Error(diff)
	}
}

// However many addresses there are, the map has a few points for them: those with most bytes.
func TestServiceMapStaysReadable(t *testing.T) {
	me := tenantsKey("acme", "m")
	var list []Remote
	for i := range 200 {
		a := netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i))
		list = append(list, Remote{Kind: RemoteAddress, Peer: triton.Peer{Address: a, Port: 443, Protocol: "tcp", Opened: 1, SentBytes: uint64(i)}})
	}
	edges := serviceMap(map[triton.ContainerKey][]Remote{me: list}, nil).Edges
	if len(edges) != addressesMapped+1 {
		t.Fatalf("%d edges, want %d", len(edges), addressesMapped+1)
	}
	var opened, bytes uint64
	for _, e := range edges {
		opened += e.Opened
		bytes += e.SentBytes
	}
	if opened != 200 || bytes != 199*200/2 {
		t.Errorf("%d connections and %d bytes, want those of all", opened, bytes)
	}
	if e := edges[1]; e.To.Address != netip.MustParseAddr("192.0.2.199") {
		t.Errorf("the second edge leads to %v", e.To)
	}
}
