package network

import (
	"context"
	"net/netip"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// defaultNetwork makes the default network of a tenant.
func defaultNetwork(t testing.TB, n *Network, tenant triton.Tenant) (triton.NetworkKey, triton.Pool) {
	t.Helper()
	key := triton.NetworkKey{Tenant: tenant, ID: BridgeNetwork}
	spec, err := n.AddSegment(t.Context(), key, triton.NetworkSpec{Name: BridgeNetwork})
	if err != nil {
		t.Fatal(err)
	}
	return key, spec.Pool
}

func (j joined) ip() string { return j.att.Address.Addr().String() }

// leadOut gives containers the default routes that they have.
func leadOut(t testing.TB, n *Network, all ...joined) {
	t.Helper()
	for _, j := range all {
		if err := n.SetGateway(t.Context(), j.ep, j.att.Gateway, netip.Addr{}); err != nil {
			t.Fatal(err)
		}
	}
}

// answersARP reports whether somebody on an endpoint's network says within some seconds that it has an address.
func answersARP(t testing.TB, from triton.Endpoint, address string, seconds int) bool {
	t.Helper()
	_, err := inside(t, from, "busybox", "arping", "-c", "1", "-w", strconv.Itoa(seconds), "-I", containerLink, address)
	return err == nil
}

func TestKernelTenantsHaveDefaultNetworksOfTheirOwn(t *testing.T) {
	withAndWithoutNetfilter(t, testTenantsApart)
}

// withAndWithoutNetfilter runs a test where bridged packets go through the tables for routed ones, and where they do not.
func withAndWithoutNetfilter(t *testing.T, test func(t *testing.T)) {
	for _, on := range []string{"1", "0"} {
		t.Run("bridge-nf-call-iptables="+on, func(t *testing.T) {
			setSysctl(t, "bridge/bridge-nf-call-iptables", on)
			test(t)
		})
	}
}

func testTenantsApart(t *testing.T) {
	n := open(t, testConfig(t, testSubnet))
	acme, _ := defaultNetwork(t, n, "acme")
	globex, _ := defaultNetwork(t, n, "globex")
	own, peer, foreign := join(t, n, acme), join(t, n, acme), join(t, n, globex)
	operators := take(t, n, Bridged)
	for _, ep := range []triton.Endpoint{own.ep, peer.ep, foreign.ep, operators} {
		serve(t, ep)
	}
	leadOut(t, n, own, peer, foreign)
	if got, err := seenBy(t, own.ep, peer.ip()); err != nil || got != own.ip() {
		t.Errorf("its own peer saw %q (%v), want %q", got, err, own.ip())
	}
	for from, to := range map[*triton.Endpoint]string{&own.ep: foreign.ip(), &foreign.ep: own.ip(), &operators: own.ip(), &peer.ep: ip(operators)} {
		if got, err := seenBy(t, *from, to); err == nil {
			t.Errorf("%s was reached, as %s", to, got)
		}
	}
	if d, err := n.Drops(); err != nil || d.RoutedIn+d.CrossBridge == 0 {
		t.Errorf("drops: got %+v (%v), want those of what was routed", d, err)
	}

	// As if the other's addresses were its own network's.
	for _, dst := range []string{foreign.ip(), ip(operators)} {
		mustInside(t, own.ep, "ip", "route", "add", dst, "dev", containerLink)
	}
	if !answersARP(t, own.ep, peer.ip(), 30) {
		t.Error("its own peer does not answer ARP")
	}
	for _, address := range []string{foreign.ip(), ip(operators)} {
		if answersARP(t, own.ep, address, 1) {
			t.Errorf("%s answers ARP", address)
		}
		if got, err := seenBy(t, own.ep, address); err == nil {
			t.Errorf("%s was reached on its own network, as %s", address, got)
		}
	}

	// Under the other's name, to the other's hardware address and to the gateway's.
	before, err := n.Drops()
	if err != nil {
		t.Fatal(err)
	}
	send, gateway := sender(t, own.ep), hardwareAddr(own.att.Gateway).String()
	for _, dst := range []string{foreign.att.MAC, gateway, peer.att.MAC} {
		send(frame(dst, own.att.MAC, unix.ETH_P_IP, datagram(foreign.ip(), foreign.ip(), []byte("spoofed"))))
		send(frame(dst, own.att.MAC, unix.ETH_P_IP, datagram(ip(operators), peer.ip(), []byte("spoofed"))))
	}
	eventually(t, "all of them are counted", func() bool {
		d, err := n.Drops()
		return err == nil && d.SpoofedIP >= before.SpoofedIP+6
	})
}

func TestKernelPublishedPortsOfOtherTenantsAreReached(t *testing.T) {
	withAndWithoutNetfilter(t, func(t *testing.T) {
		setLoopbackUp(t)
		out := outside(t)
		n := open(t, testConfig(t, testSubnet))
		acme, _ := defaultNetwork(t, n, "acme")
		globex, _ := defaultNetwork(t, n, "globex")
		web, peer, foreign := join(t, n, acme), join(t, n, acme), join(t, n, globex)
		serve(t, web.ep)
		leadOut(t, n, web, peer, foreign)
		if _, _, err := n.Publish(t.Context(), web.key, web.target(), []triton.PortRequest{tcp(80, 8080)}); err != nil {
			t.Fatal(err)
		}
		operators := take(t, n, Bridged)
		for who, from := range map[string]*triton.Endpoint{
			"the host": nil, "outside": &out, "its peer": &peer.ep, "itself": &web.ep, "another tenant's": &foreign.ep, "the operator's": &operators,
		} {
			if _, err := knock(t, from, uplinkAddr+":8080"); err != nil {
				t.Errorf("%s: %v", who, err)
			}
		}
	})
}

func TestKernelTenantsDefaultNetworksOutliveTheDaemon(t *testing.T) {
	before := settled(t)
	cfg := testConfig(t, testSubnet)
	n := opened(t, cfg)
	acme, pool := defaultNetwork(t, n, "acme")
	globex, unused := defaultNetwork(t, n, "globex")
	if pool.Subnet.Overlaps(unused.Subnet) || pool.Subnet.Overlaps(cfg.Subnet) {
		t.Errorf("subnets overlap: %s, %s, %s", pool.Subnet, unused.Subnet, cfg.Subnet)
	}
	a, b := join(t, n, acme), join(t, n, acme)
	client, server := connected(t, a.ep, endpointOf(b))
	left := n.SegmentLink(globex)
	n.rules.stop() // killed
	n.host.Close()

	var err error
	if n, err = Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := n.AddSegment(t.Context(), acme, triton.NetworkSpec{Name: BridgeNetwork, Pool: pool}); err != nil {
		t.Fatal(err)
	}
	for _, j := range []joined{a, b} {
		if err := n.KeepAttachment(j.key, j.att); err != nil {
			t.Error(err)
		}
	}
	if err := n.Reconcile(t.Context(), []triton.Endpoint{a.ep, b.ep}); err != nil {
		t.Fatal(err)
	}
	echo(t, client, server)
	for _, link := range linkNames(t) {
		if link == left {
			t.Errorf("%s is left, which nobody uses", link)
		}
	}
	if c := join(t, n, acme); c.att.Address == a.att.Address || c.att.Address == b.att.Address {
		t.Errorf("%s was handed out twice", c.att.Address)
	}
	client.Close() // or they would keep the namespaces
	server.Close()
	if err := n.Purge(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	unchanged(t, before)
}

// endpointOf is an endpoint as if it had been made with its interface.
func endpointOf(j joined) triton.Endpoint {
	ep := j.ep
	ep.Address = j.att.Address.String()
	return ep
}

func TestSubnetsOfTenantsAreSmallAndFromTheEnd(t *testing.T) {
	var taken []netip.Prefix
	inUse := func(p netip.Prefix) bool {
		for _, o := range taken {
			if o.Overlaps(p) {
				return true
			}
		}
		return false
	}
	const small, large = 64, 15 // of 192.168.0.0/16, and what is left of docker's pools
	for i := range small + large {
		p, err := chooseSmallSubnet(inUse)
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, p)
		if bits := p.Bits(); i < small && bits != 22 || i >= small && bits != 16 {
			t.Errorf("subnet %d: %s", i, p)
		}
	}
	if p, err := chooseSmallSubnet(inUse); err == nil {
		t.Errorf("one more: %s", p)
	}
	if want := netip.MustParsePrefix("192.168.252.0/22"); taken[0] != want {
		t.Errorf("the first: %s, want %s", taken[0], want)
	}
}
