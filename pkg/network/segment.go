package network

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"

	"github.com/tritond/triton/pkg/triton"
)

// segmentPrefix comes before instance and network in the alias of a user's bridge.
const segmentPrefix = "triton-net/"

// segment is a user's network on this machine: a bridge with addresses.
type segment struct {
	id     string
	spec   triton.NetworkSpec
	bridge *bridge
	addrs  addresses
	names  netip.AddrPort // where its resolver listens; zero: nowhere
}

// addresses hands out what a network has. take's errors are pool.take's.
type addresses interface {
	take(want netip.Addr) (netip.Addr, error)
	put(a netip.Addr)
}

func segmentAlias(instance, id string) string { return segmentPrefix + instance + "/" + id }

// AddSegment makes a user's network, or adopts the one that is there. Where spec has no subnet, one is chosen that nothing
// on this machine uses; the spec that is returned has all addresses. Errors: PermissionDenied, as in docker, for a subnet
// that overlaps another; InvalidArgument for addresses that are not the subnet's; ResourceExhausted for no free subnet.
func (n *Network) AddSegment(ctx context.Context, key triton.NetworkKey, spec triton.NetworkSpec) (triton.NetworkSpec, error) {
	if err := ctx.Err(); err != nil {
		return spec, err
	}
	n.segs.Lock()
	defer n.segs.Unlock()
	if s := n.segments[key.ID]; s != nil {
		return s.spec, nil
	}
	unlock, err := lockForwarding() // another instance may look for a free subnet as well
	if err != nil {
		return spec, err
	}
	defer unlock()
	if spec, err = n.completeSpec(spec, bridgeName(n.cfg.Instance+"/"+key.ID)); err != nil {
		return spec, err
	}
	s := &segment{id: key.ID, spec: spec, addrs: newPool(spec.Subnet, spec.IPRange, append(spec.AuxAddresses(), spec.Gateway)...)}
	s.bridge = &bridge{
		name: bridgeName(n.cfg.Instance + "/" + key.ID), owner: segmentAlias(n.cfg.Instance, key.ID), mtu: spec.MTU,
		gateway: netip.PrefixFrom(spec.Gateway, spec.Subnet.Bits()),
		ports:   rootPorts, leafOwner: segmentAlias(n.cfg.Instance, key.ID), noICC: spec.NoICC,
	}
	if s.bridge.mtu == 0 {
		s.bridge.mtu = n.bridge.mtu
	}
	err = s.bridge.setUpSegment(n.host)
	if err == nil {
		err = n.rules.addZone(s.zone(), n.isReady())
	}
	if err == nil {
		err = n.serveNames(s)
	}
	if err != nil {
		if s.bridge.made {
			err = errors.Join(err, s.bridge.remove(n.host))
		}
		return spec, fmt.Errorf("make network %s: %w", key, err)
	}
	n.segments[key.ID] = s
	return spec, nil
}

func (s *segment) zone() zone {
	return zone{bridge: s.bridge.name, subnet: s.spec.Subnet, internal: s.spec.Internal, unmasked: s.spec.NoMasquerade}
}

func (n *Network) isReady() bool {
	select {
	case <-n.ready:
		return true
	default:
		return false
	}
}

// bridgeName names the bridge of what: an instance, or a network of one.
func bridgeName(what string) string {
	h := fnv.New32a()
	h.Write([]byte(what))
	return fmt.Sprintf("%s%08x", bridgePrefix, h.Sum32())
}

// completeSpec checks spec's addresses and fills in those left out. own is the bridge that it is for.
func (n *Network) completeSpec(spec triton.NetworkSpec, own string) (triton.NetworkSpec, error) {
	taken, there, err := n.takenSubnets(own)
	if err != nil || there && spec.Gateway.IsValid() {
		return spec, err // what is in use is not judged again
	}
	overlaps := func(p netip.Prefix) bool {
		for _, t := range taken {
			if t.Overlaps(p) {
				return true
			}
		}
		return false
	}
	switch {
	case !spec.Subnet.IsValid():
		if spec.Subnet, err = chooseSubnet(overlaps); err != nil {
			return spec, err
		}
	case overlaps(spec.Subnet):
		return spec, fmt.Errorf("invalid pool request: Pool overlaps with other one on this address space: %s%w", spec.Subnet, silent{errdefs.ErrPermissionDenied})
	}
	if !spec.Gateway.IsValid() {
		spec.Gateway = addressAt(spec.Subnet, 1)
		if spec.IPRange.IsValid() && spec.IPRange.Addr() != spec.Subnet.Addr() {
			spec.Gateway = spec.IPRange.Addr() // as docker does
		}
	}
	for _, a := range append(spec.AuxAddresses(), spec.Gateway) {
		if !spec.Subnet.Contains(a) {
			return spec, fmt.Errorf("no matching subnet for gateway or auxiliary address %s%w", a, silent{errdefs.ErrInvalidArgument})
		}
	}
	return spec, nil
}

// takenSubnets are all that addresses and routes of this machine, and networks of this instance, are in, but for the
// bridge own; there tells whether it exists.
func (n *Network) takenSubnets(own string) (taken []netip.Prefix, there bool, err error) {
	taken = append(taken, n.cfg.Subnet)
	for _, s := range n.segments {
		taken = append(taken, s.spec.Subnet)
	}
	links, err := dump(n.host.LinkList)
	if err != nil {
		return nil, false, fmt.Errorf("list interfaces: %w", err)
	}
	ownIndex := 0
	for _, l := range links {
		if l.Attrs().Name == own {
			ownIndex = l.Attrs().Index
		}
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return n.host.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, false, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok && a.LinkIndex != ownIndex {
			ones, _ := a.Mask.Size()
			taken = append(taken, netip.PrefixFrom(ip, ones).Masked())
		}
	}
	routes, err := dump(func() ([]netlink.Route, error) { return n.host.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, false, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil || r.LinkIndex == ownIndex {
			continue
		}
		if ip, ok := netip.AddrFromSlice(r.Dst.IP.To4()); ok {
			if ones, _ := r.Dst.Mask.Size(); ones > 0 { // the default route leads to what nobody else has
				taken = append(taken, netip.PrefixFrom(ip, ones).Masked())
			}
		}
	}
	return taken, ownIndex > 0, nil
}

// chooseSubnet looks through docker's default address pools.
func chooseSubnet(taken func(netip.Prefix) bool) (netip.Prefix, error) {
	for second := byte(17); second <= 31; second++ {
		if p := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, second}), 16); !taken(p) {
			return p, nil
		}
	}
	const step = 16 // a /20 in the third byte
	for third := 0; third < 256; third += step {
		if p := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(third)}), 20); !taken(p) {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("all predefined address pools have been fully subnetted%w", silent{errdefs.ErrResourceExhausted})
}

// RemoveSegment removes a user's network; one that is not there is no error. Nothing may be attached to it any more.
func (n *Network) RemoveSegment(ctx context.Context, key triton.NetworkKey) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n.segs.Lock()
	defer n.segs.Unlock()
	s := n.segments[key.ID]
	if s == nil {
		return nil
	}
	if n.redirect != nil {
		if err := n.resolver.Unlisten(s.spec.Gateway); err != nil {
			return fmt.Errorf("stop the resolver of network %s: %w", key, err)
		}
	}
	if err := errors.Join(s.bridge.remove(n.host), n.rules.dropZone(s.bridge.name)); err != nil {
		return fmt.Errorf("remove network %s: %w", key, err)
	}
	delete(n.segments, key.ID)
	return nil
}

// SegmentLink is the name of a user's bridge on the host; empty for a network that is not there.
func (n *Network) SegmentLink(key triton.NetworkKey) string {
	n.segs.Lock()
	defer n.segs.Unlock()
	if s := n.segments[key.ID]; s != nil {
		return s.bridge.name
	}
	return ""
}

// segmentOf finds a network by id; BridgeNetwork is the default one's.
func (n *Network) segmentOf(id string) (*segment, error) {
	n.segs.Lock()
	defer n.segs.Unlock()
	if s := n.segments[id]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("network %s not found%w", id, silent{errdefs.ErrNotFound})
}

// removeStrayBridges removes bridges of the instance's networks, leaves included, that keep does not claim.
func (n *Network) removeStrayBridges(keep func(alias string) bool) error {
	links, err := dump(n.host.LinkList)
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	var errs []error
	for _, l := range links {
		alias := l.Attrs().Alias
		if l.Type() != "bridge" || !strings.HasPrefix(l.Attrs().Name, bridgePrefix) || !strings.HasPrefix(alias, segmentPrefix+n.cfg.Instance+"/") || keep(alias) {
			continue
		}
		errs = append(errs, removeTie(n.host, l.Attrs().Name), removeLink(n.host, l.Attrs().Name))
	}
	return errors.Join(errs...)
}
