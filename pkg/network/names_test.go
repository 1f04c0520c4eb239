package network

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/tritond/triton/pkg/triton"
)

func TestNamesAreKnownInTheirNetworkOnly(t *testing.T) {
	host := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}
	n := &Network{names: newNames(func() []netip.AddrPort { return host })}
	at := func(network, address string, internal bool) triton.Attachment {
		a := triton.Attachment{Network: network, Address: netip.MustParsePrefix(address)}
		if !internal {
			a.Gateway = netip.MustParseAddr("10.0.0.1")
		}
		return a
	}
	n.Announce(Announcement{Container: "w1", Name: "front", Names: []string{"web1", "Web"}}, at("F", "10.1.0.2/24", false))
	n.Announce(Announcement{Container: "w2", Name: "front", Names: []string{"web2", "web"}}, at("F", "10.1.0.3/24", false))
	n.Announce(Announcement{Container: "w2", Name: "back", Names: []string{"web2"}}, at("B", "10.2.0.3/24", true))
	n.Announce(Announcement{Container: "db", Name: "back", Names: []string{"db"}, Links: map[string]string{"W": "web2"}}, at("B", "10.2.0.4/24", true))

	lookup := func(client, name string) []netip.Addr {
		found, _ := n.names.Lookup(netip.MustParseAddr(client), name)
		slices.SortFunc(found, netip.Addr.Compare)
		return found
	}
	for _, tc := range []struct {
		client, name string
		want         []string
	}{
		{"10.1.0.2", "web", []string{"10.1.0.2", "10.1.0.3"}}, {"10.1.0.2", "web2", []string{"10.1.0.3"}},
		{"10.1.0.2", "db", nil}, {"10.1.0.3", "db", []string{"10.2.0.4"}}, {"10.2.0.3", "web1", []string{"10.1.0.2"}},
		{"10.2.0.4", "web", nil}, {"10.2.0.4", "w", []string{"10.2.0.3"}}, {"10.2.0.4", "web2.back", []string{"10.2.0.3"}},
		{"10.2.0.4", "web1.front", nil}, {"10.9.9.9", "web", nil},
	} {
		var want []netip.Addr
		for _, a := range tc.want {
			want = append(want, netip.MustParseAddr(a))
		}
		if got := lookup(tc.client, tc.name); !slices.Equal(got, want) {
			t.Errorf("%s asks for %s: got %v, want %v", tc.client, tc.name, got, want)
		}
	}
	reverse := func(client, addr string) string {
		return n.names.Reverse(netip.MustParseAddr(client), netip.MustParseAddr(addr))
	}
	if got := reverse("10.1.0.2", "10.1.0.3"); got != "web2.front" {
		t.Errorf("reverse: got %q", got)
	}
	if got := reverse("10.1.0.2", "10.2.0.4"); got != "" {
		t.Errorf("reverse of another network: got %q", got)
	}
	for client, want := range map[string]int{"10.1.0.2": 1, "10.2.0.3": 1, "10.2.0.4": 0, "10.9.9.9": 0} {
		if got := n.names.Upstream(netip.MustParseAddr(client)); len(got) != want {
			t.Errorf("servers of %s: got %v, want %d", client, got, want)
		}
	}
	for _, a := range []string{"10.1.0.2", "10.1.0.3", "10.2.0.3", "10.2.0.4", "10.2.0.4"} {
		n.names.withdraw(netip.MustParseAddr(a))
	}
	if len(n.names.byClient)+len(n.names.byName)+len(n.names.byOwner) != 0 {
		t.Errorf("left: %v", n.names)
	}
}
