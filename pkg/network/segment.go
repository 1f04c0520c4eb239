package network

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

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
	addrs  addresses      // of IPv4
	addrs6 addresses      // nil: the network has IPv4 alone
	names  netip.AddrPort // where its resolver listens; zero: nowhere
}

// addresses hands out what a network has. take's errors are pool.take's.
type addresses interface {
	take(want netip.Addr) (netip.Addr, error)
	put(a netip.Addr)
}

func segmentAlias(instance, id string) string { return segmentPrefix + instance + "/" + id }

// AddSegment makes a network, or adopts the one that is there: a user's, or by the id BridgeNetwork the default one of the
// tenant. Where spec has no subnet, one is chosen that nothing on this machine uses; the spec that is returned has all
// addresses. Errors: PermissionDenied, as in docker, for a subnet that overlaps another; InvalidArgument for addresses that
// are not the subnet's; ResourceExhausted for no free subnet.
func (n *Network) AddSegment(ctx context.Context, key triton.NetworkKey, spec triton.NetworkSpec) (triton.NetworkSpec, error) {
	if err := ctx.Err(); err != nil {
		return spec, err
	}
	n.segs.Lock()
	defer n.segs.Unlock()
	id := segmentID(key)
	if s := n.segments[id]; s != nil {
		return s.spec, nil
	}
	unlock, err := lockForwarding() // another instance may look for a free subnet as well
	if err != nil {
		return spec, err
	}
	release := sync.OnceFunc(unlock)
	defer release()
	name := cmp.Or(spec.Bridge, bridgeName(n.cfg.Instance+"/"+id))
	if spec.Bridge != "" && n.isReady() { // before, it is a network that is known already
		if err := n.nameIsFree(spec.Bridge); err != nil {
			return spec, err
		}
	}
	choose := chooseSubnet
	if key.ID == BridgeNetwork {
		choose = chooseSmallSubnet
	}
	if spec, err = n.completeSpec(spec, name, choose); err != nil {
		return spec, err
	}
	s := &segment{id: id, spec: spec, addrs: newPool(spec.Subnet, spec.IPRange, spec.Reserved()...)}
	s.bridge = &bridge{
		name: name, owner: segmentAlias(n.cfg.Instance, id), mtu: spec.MTU,
		gateway: netip.PrefixFrom(spec.Gateway, spec.Subnet.Bits()),
		ports:   rootPorts, leafOwner: segmentAlias(n.cfg.Instance, id), noICC: spec.NoICC,
	}
	if six := spec.IPv6; six != nil {
		s.addrs6 = newPool(six.Subnet, six.IPRange, six.Reserved()...)
		s.bridge.gateway6 = netip.PrefixFrom(six.Gateway, six.Subnet.Bits())
	}
	if s.bridge.mtu == 0 {
		s.bridge.mtu = n.bridge.mtu
	}
	err = s.bridge.setUpSegment(n.host)
	if err == nil {
		err = n.rules.addZone(s.zone(), n.isReady())
	}
	release() // before the lock is taken anew: it is that of the file, not of this process
	if err == nil && spec.IPv6 != nil && !spec.Internal {
		err = n.bridge.forward6(n.host, n.cfg.Instance, n.cfg.Log)
	}
	if err == nil && key.ID != BridgeNetwork { // the default network has no names
		err = n.serveNames(s)
	}
	if err != nil {
		if s.bridge.made {
			err = errors.Join(err, s.bridge.remove(n.host))
		}
		if n.isReady() {
			err = errors.Join(err, n.rules.dropZone(s.bridge.name))
		}
		return spec, fmt.Errorf("make network %s: %w", key, err)
	}
	n.segments[id] = s
	return spec, nil
}

// nameIsFree refuses to take over an interface of the host.
func (n *Network) nameIsFree(link string) error {
	_, err := n.host.LinkByName(link)
	switch {
	case err == nil:
		return fmt.Errorf("interface %s is there already: %w", link, errdefs.ErrAlreadyExists)
	case !errors.As(err, new(netlink.LinkNotFoundError)):
		return fmt.Errorf("look up %s: %w", link, err)
	}
	return nil
}

func (s *segment) zone() zone {
	z := zone{bridge: s.bridge.name, subnets: []netip.Prefix{s.spec.Subnet}, internal: s.spec.Internal, unmasked: s.spec.NoMasquerade}
	if s.spec.IPv6 != nil {
		z.subnets = append(z.subnets, s.spec.IPv6.Subnet)
	}
	return z
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
func (n *Network) completeSpec(spec triton.NetworkSpec, own string, choose chooser) (triton.NetworkSpec, error) {
	if spec.IPv6 != nil {
		if err := checkIPv6(cmp.Or(spec.MTU, n.bridge.mtu)); err != nil {
			return spec, err
		}
	}
	taken, there, err := n.takenSubnets(own)
	if err != nil || there && spec.Gateway.IsValid() {
		return spec, err // what is in use is not judged again
	}
	overlaps := func(p netip.Prefix) bool {
		return slices.ContainsFunc(taken, p.Overlaps)
	}
	if spec.Pool, err = completePool(spec.Pool, overlaps, choose); err != nil || spec.IPv6 == nil {
		return spec, err
	}
	six, err := completePool(*spec.IPv6, overlaps, n.chooseSubnet6)
	spec.IPv6 = &six
	return spec, err
}

// chooser finds a subnet that is not taken. Errors: ResourceExhausted for none.
type chooser func(taken func(netip.Prefix) bool) (netip.Prefix, error)

// completePool checks the addresses of one family and fills in those left out.
func completePool(p triton.Pool, overlaps func(netip.Prefix) bool, choose chooser) (triton.Pool, error) {
	var err error
	switch {
	case !p.Subnet.IsValid():
		if p.Subnet, err = choose(overlaps); err != nil {
			return p, err
		}
	case overlaps(p.Subnet):
		return p, fmt.Errorf("invalid pool request: Pool overlaps with other one on this address space: %s%w", p.Subnet, silent{errdefs.ErrPermissionDenied})
	}
	if !p.Gateway.IsValid() {
		p.Gateway = addressAt(p.Subnet, 1)
		if p.IPRange.IsValid() && p.IPRange.Addr() != p.Subnet.Addr() {
			p.Gateway = p.IPRange.Addr() // as docker does
		}
	}
	for _, a := range p.Reserved() {
		if !p.Subnet.Contains(a) {
			return p, fmt.Errorf("no matching subnet for gateway or auxiliary address %s%w", a, silent{errdefs.ErrInvalidArgument})
		}
	}
	return p, checkReserved(p)
}

// checkReserved refuses, in docker's words, a gateway or an auxiliary address that IPv4 has another use for, and one of both.
func checkReserved(p triton.Pool) error {
	used := map[netip.Addr]bool{}
	if p.Subnet.Addr().Is4() {
		used[p.Subnet.Addr()], used[lastAddress(p.Subnet)] = true, true
	}
	if used[p.Gateway] {
		return fmt.Errorf("failed to allocate gateway (%s): Address already in use%w", p.Gateway, silent{errdefs.ErrPermissionDenied})
	}
	used[p.Gateway] = true
	for _, name := range slices.Sorted(maps.Keys(p.Aux)) {
		if used[p.Aux[name]] {
			return fmt.Errorf("failed to allocate secondary ip address (%s:%s): Address already in use%w", name, p.Aux[name], silent{errdefs.ErrPermissionDenied})
		}
	}
	return nil
}

// takenSubnets are all that addresses and routes of this machine, and networks of this instance, are in, but for the
// bridge own; there tells whether it exists.
func (n *Network) takenSubnets(own string) (taken []netip.Prefix, there bool, err error) {
	taken = append(taken, n.cfg.Subnet)
	for _, s := range n.segments {
		taken = append(taken, s.zone().subnets...)
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
	addrs, err := dump(func() ([]netlink.Addr, error) { return n.host.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, false, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if p, ok := fromIPNet(a.IPNet); ok && a.LinkIndex != ownIndex {
			taken = append(taken, p)
		}
	}
	routes, err := dump(func() ([]netlink.Route, error) { return n.host.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, false, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		// The default route leads to what nobody else has.
		if p, ok := fromIPNet(r.Dst); ok && p.Bits() > 0 && r.LinkIndex != ownIndex {
			taken = append(taken, p)
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

// chooseSubnet6 looks through the networks of 64 bits that the instance has of its own: those of a prefix of 48 bits, which
// is made of the instance and the machine as RFC 4193 would have it, so that it stays the same and is nobody else's.
func (n *Network) chooseSubnet6(taken func(netip.Prefix) bool) (netip.Prefix, error) {
	const uniqueLocal, length, all = 0xfd, 64, 1 << 16
	machine, err := readIfPresent(machineID)
	if err != nil {
		return netip.Prefix{}, err
	}
	sum := sha256.Sum256([]byte("triton unique local addresses\x00" + n.cfg.Instance + "\x00" + strings.TrimSpace(string(machine))))
	base := [16]byte{uniqueLocal, sum[0], sum[1], sum[2], sum[3], sum[4]}
	for i := range all {
		binary.BigEndian.PutUint16(base[6:], uint16(i))
		if p := netip.PrefixFrom(netip.AddrFrom16(base), length); !taken(p) {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("all predefined IPv6 address pools have been fully subnetted%w", silent{errdefs.ErrResourceExhausted})
}

const machineID = "/etc/machine-id"

// RemoveSegment removes a user's network; one that is not there is no error. Nothing may be attached to it any more.
func (n *Network) RemoveSegment(ctx context.Context, key triton.NetworkKey) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n.segs.Lock()
	defer n.segs.Unlock()
	id := segmentID(key)
	s := n.segments[id]
	if s == nil {
		return nil
	}
	if s.names.IsValid() {
		if err := n.resolver.Unlisten(s.spec.Gateway); err != nil {
			return fmt.Errorf("stop the resolver of network %s: %w", key, err)
		}
	}
	if err := errors.Join(s.bridge.remove(n.host), n.rules.dropZone(s.bridge.name)); err != nil {
		return fmt.Errorf("remove network %s: %w", key, err)
	}
	delete(n.segments, id)
	return nil
}

// SegmentLink is the name of a user's bridge on the host; empty for a network that is not there.
func (n *Network) SegmentLink(key triton.NetworkKey) string {
	n.segs.Lock()
	defer n.segs.Unlock()
	if s := n.segments[segmentID(key)]; s != nil {
		return s.bridge.name
	}
	return ""
}

// segmentOf finds a network by tenant and id; BridgeNetwork is the tenant's default one.
func (n *Network) segmentOf(tenant triton.Tenant, id string) (*segment, error) {
	n.segs.Lock()
	defer n.segs.Unlock()
	if s := n.segments[segmentID(triton.NetworkKey{Tenant: tenant, ID: id})]; s != nil {
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
		if l.Type() != "bridge" || !strings.HasPrefix(alias, segmentPrefix+n.cfg.Instance+"/") || keep(alias) {
			continue
		}
		errs = append(errs, removeTie(n.host, l.Attrs().Name), removeLink(n.host, l.Attrs().Name))
	}
	return errors.Join(errs...)
}
