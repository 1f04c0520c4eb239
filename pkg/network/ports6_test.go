package network

import (
	"errors"
	"net/netip"
	"os"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

func (j joined) target() Target {
	return Target{Address: j.att.Address.Addr(), Address6: j.att.Address6.Addr(), Link: j.att.HostLink, Link6: j.att.HostLink}
}

func TestKernelPublishedPortIsReachedByIPv6(t *testing.T) {
	for _, brNetfilter := range []string{"1", "0"} {
		t.Run("bridge-nf-call-ip6tables="+brNetfilter, func(t *testing.T) {
			setSysctl(t, "bridge/bridge-nf-call-iptables", brNetfilter)
			setSysctl(t, "bridge/bridge-nf-call-ip6tables", brNetfilter)
			for name, onRoot := range map[string]int{"first bridge": rootPorts, "leaf": 0} {
				t.Run(name, func(t *testing.T) { testReachedByIPv6(t, onRoot) })
			}
		})
	}
}

func testReachedByIPv6(t *testing.T, onRoot int) {
	setLoopbackUp(t)
	n, out := open(t, testConfig(t, testSubnet)), outside(t)
	command(t, "ip", "addr", "add", "2001:db8::1/64", "dev", "up0", "nodad")
	mustInside(t, out, "ip", "addr", "add", "2001:db8::2/64", "dev", "out0", "nodad")
	key := segmentWith(t, n, dualStack("172.31.0.0/24", "fd00:31::/64"))
	n.segments[key.ID].bridge.ports = onRoot
	a, b := join(t, n, key), join(t, n, key)
	for _, j := range []joined{a, b} {
		if err := n.SetGateway(t.Context(), j.ep, j.att.Gateway, j.att.Gateway6); err != nil {
			t.Fatal(err)
		}
	}
	serve(t, a.ep)
	who := newKey()
	ports, socks, err := n.Publish(t.Context(), who, a.target(), []triton.PortRequest{tcp(80, 8080), tcp(80, 8081, "2001:db8::1"), {Port: 80, Proto: triton.ProtoTCP}})
	if err != nil {
		t.Fatal(err)
	}
	free := ports[len(ports)-1].HostPort
	want := []triton.PublishedPort{
		{Port: 80, Proto: "tcp", HostIP: anyIPv4, HostPort: 8080}, {Port: 80, Proto: "tcp", HostIP: anyIPv6, HostPort: 8080},
		{Port: 80, Proto: "tcp", HostIP: netip.MustParseAddr("2001:db8::1"), HostPort: 8081},
		{Port: 80, Proto: "tcp", HostIP: anyIPv4, HostPort: free}, {Port: 80, Proto: "tcp", HostIP: anyIPv6, HostPort: free},
	}
	if diff := cmp.Diff(want, ports, cmp.Comparer(sameAddr)); diff != "" || len(socks) != len(want) {
		t.Errorf("ports with %d sockets (-want +got):\n%s", len(socks), diff)
	}
	r := relayed(t, n, who)
	const gateway = "fd00:31::1"
	for _, tc := range []struct {
		name     string
		from     *triton.Endpoint
		to, seen string
	}{
		{"outside", &out, "[2001:db8::1]:8080", "2001:db8::2"},
		{"outside at the one address", &out, "[2001:db8::1]:8081", "2001:db8::2"},
		{"the host by its own address", nil, "[2001:db8::1]:8080", gateway},
		{"the host by the gateway", nil, "[" + gateway + "]:8080", gateway},
		{"another container by the host's address", &b.ep, "[2001:db8::1]:8080", gateway},
		{"another container by the gateway", &b.ep, "[" + gateway + "]:8080", gateway},
		{"the container itself by the host's address", &a.ep, "[2001:db8::1]:8080", gateway},
		{"the host by the loopback of IPv6", nil, "[::1]:8080", gateway},
		{"the host by the loopback of IPv4", nil, "127.0.0.1:8080", "172.31.0.1"},
		{"outside by IPv4", &out, uplinkAddr + ":8080", outsideAddr},
	} {
		if got, err := knock(t, tc.from, tc.to); err != nil || got != tc.seen {
			t.Errorf("%s: got %q (%v), want %q", tc.name, got, err, tc.seen)
		}
	}
	if got, err := knock(t, nil, "["+gateway+"]:8081"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("the one address's port at another: got %q (%v), want a refusal", got, err)
	}
	if _, _, err := n.Publish(t.Context(), newKey(), b.target(), []triton.PortRequest{tcp(80, 8080, "::")}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("the same port again: got %v", err)
	}
	unpublish(t, n, who, r)
	if got, err := knock(t, &out, "[2001:db8::1]:8080"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("after it was unpublished: got %q (%v), want a refusal", got, err)
	}
	if d, err := n.Drops(); err != nil || d != (Drops{}) {
		t.Errorf("drops: got %+v (%v), want none", d, err)
	}
}

func TestKernelIPv6PortsAreTakenUpAndLedElsewhere(t *testing.T) {
	setLoopbackUp(t)
	cfg := testConfig(t, testSubnet)
	n := open(t, cfg)
	key := segmentWith(t, n, dualStack("172.31.0.0/24", "fd00:31::/64"))
	a, b := join(t, n, key), join(t, n, key)
	serve(t, b.ep)
	who := newKey()
	ports, socks, err := n.Publish(t.Context(), who, a.target(), []triton.PortRequest{tcp(80, 8080, "::")})
	if err != nil {
		t.Fatal(err)
	}
	held := duplicate(t, socks[0])
	// What the next daemon does: it reads the rules, and takes the sockets back.
	forwards := n.keptForwards()
	there, err := n.rules.readState()
	if err != nil || !there || len(forwards) != 1 || n.rules.forwards[forwards[0].id()] != forwards[0] {
		t.Errorf("read back: got %v (%v), want %v", n.rules.forwards, err, forwards)
	}
	closeSockets(n.published[who])
	delete(n.published, who)
	lost, err := n.KeepPublished(who, a.target(), ports, []*os.File{held})
	if err != nil || len(lost) > 0 {
		t.Fatalf("lost: got %v (%v), want none", lost, err)
	}
	if err := n.Retarget(t.Context(), who, b.target()); err != nil {
		t.Fatal(err)
	}
	if got, err := knock(t, nil, "[fd00:31::1]:8080"); err != nil || got != "fd00:31::1" {
		t.Errorf("led elsewhere: got %q (%v), want an answer", got, err)
	}
	// Its last network with IPv6 is left: the address may be somebody else's next.
	if err := n.Retarget(t.Context(), who, Target{Address: b.att.Address.Addr(), Link: b.att.HostLink}); err != nil {
		t.Fatal(err)
	}
	if got, err := knock(t, nil, "[fd00:31::1]:8080"); err == nil {
		t.Errorf("led to an address that was given back: got %q", got)
	}
	for _, f := range n.rules.forwards {
		if len(n.rules.forwards) != 1 || !f.relayed || f.target.IsValid() {
			t.Errorf("rules of it: got %v, want one that leads nowhere", n.rules.forwards)
		}
	}
	if got := n.Relays(who); len(got) != 1 || got[0].Target != netip.AddrPortFrom(b.att.Address.Addr(), 80) {
		t.Errorf("relays of it: got %v, want one to the address of IPv4", got)
	}
	// And its last with IPv4.
	if err := n.Retarget(t.Context(), who, Target{}); err != nil {
		t.Fatal(err)
	}
	if got := n.Relays(who); len(got) != 1 || got[0].Target.IsValid() || len(n.rules.forwards) != 0 {
		t.Errorf("relays of a container without networks: got %v, rules %v, want one that leads nowhere", got, n.rules.forwards)
	}
	if err := n.Retarget(t.Context(), who, a.target()); err != nil {
		t.Fatal(err)
	}
	if got := n.published[who][0].forward.target; got.Addr() != a.target().Address6 {
		t.Errorf("with IPv6 again: led to %s, want %s", got, a.target().Address6)
	}
}
