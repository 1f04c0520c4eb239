package dockerapi

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// fakeNetworks remembers networks and memberships; it makes none.
type fakeNetworks struct {
	bridge   triton.NetworkInfo
	networks []triton.NetworkInfo
	joined   []triton.Membership
	left     []string
	removed  []string
}

func (b *fakeBackend) CreateNetwork(_ context.Context, tenant triton.Tenant, spec triton.NetworkSpec) (triton.NetworkKey, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !spec.Subnet.IsValid() {
		spec.Subnet, spec.Gateway = netip.MustParsePrefix("172.18.0.0/16"), netip.MustParseAddr("172.18.0.1")
	}
	n := triton.NetworkInfo{Key: triton.NetworkKey{Tenant: tenant, ID: triton.NewID()}, Spec: spec, Created: time.Now()}
	b.nets.networks = append(b.nets.networks, n)
	return n.Key, nil
}

func (b *fakeBackend) ListNetworks(_ context.Context, tenant triton.Tenant) ([]triton.NetworkInfo, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(b.nets.networks), func(n triton.NetworkInfo) bool { return n.Key.Tenant != tenant }), nil
}

func (b *fakeBackend) DefaultNetwork(context.Context, triton.Tenant, bool) (triton.NetworkInfo, error) {
	return b.nets.bridge, nil
}

func (b *fakeBackend) RemoveNetwork(_ context.Context, _ triton.Tenant, ref string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nets.removed = append(b.nets.removed, ref)
	return nil
}

func (b *fakeBackend) PruneNetworks(_ context.Context, tenant triton.Tenant, want func(triton.NetworkInfo) bool) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var gone []string
	for _, n := range b.nets.networks {
		if n.Key.Tenant == tenant && want(n) {
			gone = append(gone, n.Spec.Name)
		}
	}
	return gone, nil
}

func (b *fakeBackend) ConnectNetwork(_ context.Context, _ triton.ContainerKey, m triton.Membership) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nets.joined = append(b.nets.joined, m)
	return nil
}

func (b *fakeBackend) DisconnectNetwork(_ context.Context, _ triton.ContainerKey, ref string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nets.left = append(b.nets.left, ref)
	return nil
}
