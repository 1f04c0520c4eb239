package network

import (
	"context"
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

func TestKernelBridgesMayHaveNames(t *testing.T) {
	cfg := testConfig(t, testSubnet)
	n := open(t, cfg)
	command(t, "ip", "link", "add", "mine0", "type", "bridge")
	t.Cleanup(func() { command(t, "ip", "link", "del", "mine0") })
	spec := triton.NetworkSpec{Name: "named", Pool: triton.Pool{Subnet: netip.MustParsePrefix("172.31.0.0/24")}, Bridge: "mine0"}
	key := triton.NetworkKey{Tenant: "default", ID: triton.NewID()}
	if _, err := n.AddSegment(t.Context(), key, spec); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a bridge of the host: got %v, want it left alone", err)
	}
	spec.Bridge = "named0"
	spec, err := n.AddSegment(t.Context(), key, spec)
	if err != nil {
		t.Fatal(err)
	}
	if got := n.SegmentLink(key); got != "named0" {
		t.Errorf("link: got %q, want named0", got)
	}
	other := triton.NetworkSpec{Name: "other", Pool: triton.Pool{Subnet: netip.MustParsePrefix("172.31.1.0/24")}}
	a, b, c := join(t, n, key), join(t, n, key), join(t, n, segmentWith(t, n, other))
	if err := ping(t, a, b.att.Address.Addr().String()); err != nil {
		t.Error(err)
	}
	if err := n.SetGateway(t.Context(), a.ep, a.att.Gateway, a.att.Gateway6); err != nil {
		t.Fatal(err)
	}
	if err := ping(t, a, c.att.Address.Addr().String()); err == nil {
		t.Error("a container of a named bridge reaches another network")
	}
	if d, err := n.Drops(); err != nil || d.CrossBridge != 1 {
		t.Errorf("drops: got %+v (%v), want one between bridges", d, err)
	}
	clash := other
	clash.Subnet, clash.Bridge = netip.MustParsePrefix("172.31.2.0/24"), "named0"
	if _, err := n.AddSegment(t.Context(), triton.NetworkKey{Tenant: "default", ID: triton.NewID()}, clash); !errdefs.IsAlreadyExists(err) {
		t.Errorf("the same name again: got %v", err)
	}
	// The next daemon takes it up by its record; one whose record is gone is removed.
	n.rules.stop()
	next, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { next.Purge(context.Background()) })
	if _, err := next.AddSegment(t.Context(), key, spec); err != nil {
		t.Errorf("take up: %v", err)
	}
	third, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	if err := third.Reconcile(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := third.host.LinkByName("named0"); err == nil {
		t.Error("a named bridge without a network is left")
	}
	if _, err := third.host.LinkByName("mine0"); err != nil {
		t.Errorf("the host's bridge: %v", err)
	}
}
