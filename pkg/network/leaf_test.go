package network

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/tritond/triton/pkg/triton"
)

// joined is a namespace with a link in a user's network.
type joined struct {
	key triton.ContainerKey
	ep  triton.Endpoint
	att triton.Attachment
}

func join(t testing.TB, n *Network, network triton.NetworkKey) joined {
	t.Helper()
	ep := take(t, n, IsolatedHostUser)
	key := triton.ContainerKey{Tenant: network.Tenant, ID: triton.NewID()}
	att, err := n.Attach(t.Context(), key, ep, AttachRequest{Network: network.ID, Interface: containerLink})
	if err != nil {
		t.Fatal(err)
	}
	return joined{key, ep, att}
}

func segmentWith(t testing.TB, n *Network, spec triton.NetworkSpec) triton.NetworkKey {
	t.Helper()
	key := triton.NetworkKey{Tenant: "default", ID: triton.NewID()}
	if _, err := n.AddSegment(t.Context(), key, spec); err != nil {
		t.Fatal(err)
	}
	return key
}

func ping(t testing.TB, from joined, to string) error {
	t.Helper()
	if out, err := inside(t, from.ep, "busybox", "ping", "-c", "1", "-W", "2", to); err != nil {
		return fmt.Errorf("ping from %s to %s: %w\n%s", from.att.Address, to, err, out)
	}
	return nil
}

// bridgesOf counts the ports on each bridge of a network.
func bridgesOf(t testing.TB, b *bridge) map[string]int {
	t.Helper()
	links, err := dump(netlink.LinkList)
	if err != nil {
		t.Fatal(err)
	}
	names, used := map[int]string{}, map[string]int{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	for _, l := range links {
		if b.has(l.Attrs().MasterIndex) && strings.HasPrefix(l.Attrs().Name, linkPrefix) {
			used[names[l.Attrs().MasterIndex]]++
		}
	}
	return used
}

// The other tests fill a bridge by saying that it has few ports.
func TestKernelMoreContainersOnANetworkThanABridgeHasPorts(t *testing.T) {
	many, ports := 40, 20 // `make test-many` takes the true number
	if os.Getenv("TRITON_E2E_LONG") != "" {
		many, ports = 1100, rootPorts
	}
	setSysctl(t, "bridge/bridge-nf-call-iptables", "1")
	start := time.Now()
	n := open(t, testConfig(t, testSubnet))
	key := segmentWith(t, n, triton.NetworkSpec{Name: "many", Pool: triton.Pool{Subnet: netip.MustParsePrefix("172.31.0.0/16")}})
	n.segments[key.ID].bridge.ports = ports
	all := make([]joined, many)
	for i := range all {
		all[i] = join(t, n, key)
	}
	t.Logf("%d attachments after %s", many, time.Since(start))
	b := n.segments[key.ID].bridge
	if diff := cmp.Diff(map[string]int{b.name: ports, leafName(b.name, 0): many - ports}, bridgesOf(t, b)); diff != "" {
		t.Errorf("ports of the bridges (-want +got):\n%s", diff)
	}
	first, last := all[0], all[many-1]
	for _, tc := range []struct{ from, to joined }{{first, last}, {last, first}, {last, all[many-2]}, {first, all[1]}} {
		if err := ping(t, tc.from, tc.to.att.Address.Addr().String()); err != nil {
			t.Error(err)
		}
	}
	for _, from := range []joined{first, last} {
		if err := ping(t, from, "172.31.0.1"); err != nil {
			t.Error(err)
		}
	}
	if d, err := n.Drops(); err != nil || d != (Drops{}) {
		t.Errorf("drops: got %+v (%v), want none", d, err)
	}
}

func TestKernelContainersOfAnIsolatedNetworkReachTheHostAlone(t *testing.T) {
	n := open(t, testConfig(t, testSubnet))
	key := segmentWith(t, n, triton.NetworkSpec{Name: "apart", Pool: triton.Pool{Subnet: netip.MustParsePrefix("172.31.0.0/16")}, NoICC: true})
	n.segments[key.ID].bridge.ports = 1
	onRoot, a, b := join(t, n, key), join(t, n, key), join(t, n, key)
	for _, from := range []joined{onRoot, a, b} {
		if err := ping(t, from, "172.31.0.1"); err != nil {
			t.Error(err)
		}
	}
	for _, tc := range []struct{ from, to joined }{{a, b}, {a, onRoot}, {onRoot, a}} {
		if err := ping(t, tc.from, tc.to.att.Address.Addr().String()); err == nil {
			t.Errorf("%s reaches %s", tc.from.att.Address, tc.to.att.Address)
		}
	}
}

func TestKernelNoWayLeadsThroughALeaf(t *testing.T) {
	n := open(t, testConfig(t, testSubnet))
	outside(t)
	key := segmentWith(t, n, triton.NetworkSpec{Name: "leaf", Pool: triton.Pool{Subnet: netip.MustParsePrefix("172.31.0.0/16")}})
	b := n.segments[key.ID].bridge
	b.ports = 0
	j := join(t, n, key)
	if err := n.SetGateway(t.Context(), j.ep, b.gateway.Addr(), netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	targets := []string{outsideAddr, uplinkAddr, b.gateway.Addr().String()}
	for _, to := range targets {
		if err := ping(t, j, to); err != nil {
			t.Error(err)
		}
	}
	leaf, err := netlink.LinkByName(leafName(b.name, 0))
	if err != nil {
		t.Fatal(err)
	}
	mustInside(t, j.ep, "ip", "neigh", "replace", b.gateway.Addr().String(), "lladdr", leaf.Attrs().HardwareAddr.String(), "dev", containerLink, "nud", "permanent")
	for _, to := range targets {
		if err := ping(t, j, to); err == nil {
			t.Errorf("%s is reached by the address of the leaf", to)
		}
	}
	if d, err := n.Drops(); err != nil || d.CrossBridge != 1 {
		t.Errorf("drops: got %+v (%v), want the packet that would have been routed", d, err)
	}
}

func TestKernelNextDaemonTakesUpLeaves(t *testing.T) {
	before := settled(t)
	cfg := testConfig(t, testSubnet)
	n := opened(t, cfg)
	spec := triton.NetworkSpec{Name: "many", Pool: triton.Pool{Subnet: netip.MustParsePrefix("172.31.0.0/16")}}
	key := segmentWith(t, n, spec)
	n.bridge.ports, n.segments[key.ID].bridge.ports = 1, 1
	x, y := take(t, n, Bridged), take(t, n, Bridged)
	a, b := join(t, n, key), join(t, n, key)
	// The daemon is killed here, and had come no further with a leaf than to make its bridge.
	name := leafName(n.segments[key.ID].bridge.name, 0)
	up, _ := tieNames(name)
	command(t, "ip", "link", "del", up)
	n.rules.stop()
	n.host.Close()

	var err error
	if n, err = Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := n.AddSegment(t.Context(), key, spec); err != nil {
		t.Fatal(err)
	}
	for _, j := range []joined{a, b} {
		if err := n.KeepAttachment(j.key, j.att); err != nil {
			t.Error(err)
		}
	}
	if err := n.Reconcile(t.Context(), []triton.Endpoint{x, y, a.ep, b.ep}); err != nil {
		t.Fatal(err)
	}
	if err := ping(t, a, b.att.Address.Addr().String()); err != nil {
		t.Error(err)
	}
	mustInside(t, x, "busybox", "ping", "-c", "1", "-W", "2", ip(y))
	for _, j := range []joined{a, b} {
		if err := n.Detach(t.Context(), j.key, j.att); err != nil {
			t.Error(err)
		}
	}
	if err := n.RemoveSegment(t.Context(), key); err != nil {
		t.Error(err)
	}
	for _, link := range linkNames(t) {
		if link == name || link == up {
			t.Errorf("%s is left after its network was removed", link)
		}
	}
	if err := n.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	unchanged(t, before)
}
