package node

import (
	"context"
	"net/netip"
	"slices"

	"github.com/tritond/triton/pkg/triton"
)

// The default network of the default tenant is the instance's. Every other tenant has one of its own, which is made when the
// first of its containers needs it: a bridge like a user's network, so that nothing passes from one tenant's to another's but
// by published ports. It has no record: what runs in it keeps it over a restart of the daemon.

// ownDefault reports whether a tenant has a default network of its own.
func ownDefault(t triton.Tenant) bool { return t != triton.DefaultTenant }

// bridgeMode reports whether a container is made in the default network.
func bridgeMode(s *triton.Spec) bool {
	return slices.Contains([]string{"", triton.ModeBridge, triton.ModeDefault}, s.NetworkMode)
}

// withDefault adds the membership in the tenant's own default network: its interface comes at the start, as in others.
func withDefault(t triton.Tenant, s *triton.Spec, ms []triton.Membership) []triton.Membership {
	if !ownDefault(t) || !bridgeMode(s) {
		return ms
	}
	m := triton.Membership{Network: triton.ModeBridge, Name: triton.ModeBridge, Priority: s.BridgePriority, MAC: s.BridgeMAC}
	return append([]triton.Membership{m}, ms...)
}

func defaultKey(t triton.Tenant) triton.NetworkKey {
	return triton.NetworkKey{Tenant: t, ID: triton.ModeBridge}
}

// makeDefault makes the default network of a tenant, where it is not there.
func (n *Node) makeDefault(ctx context.Context, t triton.Tenant) (triton.NetworkSpec, error) {
	return n.cfg.Network.AddSegment(ctx, defaultKey(t), triton.NetworkSpec{Name: triton.ModeBridge})
}

// makeNeeded is makeDefault where id is that of a default network.
func (n *Node) makeNeeded(ctx context.Context, t triton.Tenant, id string) error {
	if id != triton.ModeBridge {
		return nil
	}
	_, err := n.makeDefault(ctx, t)
	return err
}

// keepDefault makes the default network of a tenant as a container's place in it says that it was, or finds it.
func (n *Node) keepDefault(ctx context.Context, t triton.Tenant, att *triton.Attachment) error {
	if att.Network != triton.ModeBridge {
		return nil
	}
	pool := triton.Pool{Subnet: att.Address.Masked(), Gateway: att.Gateway}
	_, err := n.cfg.Network.AddSegment(ctx, defaultKey(t), triton.NetworkSpec{Name: triton.ModeBridge, Pool: pool})
	return err
}

// DefaultNetwork describes the network that a tenant's containers are in unless they ask for another. Where it is not there it
// is made, or else described without its addresses.
func (n *Node) DefaultNetwork(ctx context.Context, t triton.Tenant, make bool) (triton.NetworkInfo, error) {
	info := triton.NetworkInfo{Key: defaultKey(t)}
	if make || n.cfg.Network.SegmentLink(info.Key) != "" {
		var err error
		if info.Spec, err = n.makeDefault(ctx, t); err != nil {
			return info, err
		}
	}
	info.Spec.MTU = n.cfg.Network.Describe().MTU
	info.Link = n.cfg.Network.SegmentLink(info.Key)
	return info, nil
}

// DropDefaultNetwork removes the default network of a tenant that has no containers; one that is not there is no error.
func (n *Node) DropDefaultNetwork(ctx context.Context, t triton.Tenant) error {
	if !ownDefault(t) {
		return nil
	}
	return n.cfg.Network.RemoveSegment(ctx, defaultKey(t))
}

// defaultAddress is where a container is reached in the default network; zero: it is not in it. The caller holds c.mu.
func (c *container) defaultAddress() netip.Addr {
	if p, err := netip.ParsePrefix(c.rec.Endpoint.Address); err == nil {
		return p.Addr()
	}
	for _, att := range c.attached {
		if att.Network == triton.ModeBridge {
			return att.Address.Addr()
		}
	}
	return netip.Addr{}
}
