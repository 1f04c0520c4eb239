package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
)

const (
	bridgePrefix = "tn"
	linkPrefix   = "tv"
	// aliasPrefix comes before the instance's name in a bridge's alias.
	aliasPrefix = "triton/"
	// defaultMTU is used where no route leads out.
	defaultMTU = 1500
)

// bridge is the instance's bridge. Its alias names the instance and records the sysctls that were changed for it, so that
// the record lives and dies with the network namespace whose sysctls they are.
type bridge struct {
	name    string
	owner   string // first word of its alias
	index   int
	gateway netip.Prefix // the bridge's address, with the subnet's length
	mtu     int
	made    bool // by this process, not adopted

	gateway6 netip.Prefix // zero: the network has IPv4 alone

	ports     int // how many containers are on the bridge itself; the others are on leaves
	leaves    leaves
	leafOwner string // alias of leaves
	noICC     bool   // ports are isolated
}

// hardwareAddr derives a MAC from an IPv4 address as docker does: unique within a subnet, and derivable by others.
func hardwareAddr(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x02, 0x42, b[0], b[1], b[2], b[3]}
}

func newBridge(cfg Config, h *netlink.Handle) *bridge {
	b := &bridge{
		name:    bridgeName(cfg.Instance),
		owner:   aliasPrefix + cfg.Instance,
		gateway: netip.PrefixFrom(addressAt(cfg.Subnet, 1), cfg.Subnet.Bits()),
		mtu:     cfg.MTU,
		ports:   rootPorts,

		leafOwner: segmentAlias(cfg.Instance, BridgeNetwork),
	}
	if b.mtu == 0 {
		b.mtu = outboundMTU(h)
	}
	return b
}

// setUp makes the bridge and turns forwarding on, or adopts the bridge that is there.
func (b *bridge) setUp(h *netlink.Handle, cfg Config) error {
	if err := b.checkOverlap(h, cfg.Subnet); err != nil {
		return err
	}
	if err := b.up(h); err != nil {
		return err
	}
	return b.forward(h, cfg.Instance, cfg.Log)
}

// setUpSegment makes the bridge of a user's network, or adopts it. Its subnet was checked.
func (b *bridge) setUpSegment(h *netlink.Handle) error {
	if err := b.up(h); err != nil {
		return err
	}
	link, err := h.LinkByIndex(b.index)
	if err != nil {
		return fmt.Errorf("look up bridge %s: %w", b.name, err)
	}
	if err := h.LinkSetAlias(link, b.owner); err != nil {
		return fmt.Errorf("name the owner of %s: %w", b.name, err)
	}
	return nil
}

// up makes the bridge with its address, or adopts the one that is there.
func (b *bridge) up(h *netlink.Handle) error {
	link, err := b.ensure(h)
	if err != nil {
		return err
	}
	b.index = link.Attrs().Index
	if err := b.ensureAddress(h, link, netlink.FAMILY_V4, b.gateway); err != nil {
		return err
	}
	if b.gateway6.IsValid() {
		if err := errors.Join(enableIPv6(b.name), b.ensureAddress(h, link, netlink.FAMILY_V6, b.gateway6)); err != nil {
			return err
		}
	} else if err := writeSysctlIfPresent(ip6Conf(b.name, "disable_ipv6"), "1"); err != nil { // or the host would talk IPv6 with containers
		return err
	}
	// The host reaches published ports by 127.0.0.1 too: packets from there may leave by this bridge. The switch is the
	// bridge's own and goes with it; the rules keep containers from sending to 127.0.0.0/8 in turn.
	if err := writeSysctl("ipv4/conf/"+b.name+"/route_localnet", "1"); err != nil {
		return err
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", b.name, err)
	}
	return b.adoptLeaves(h)
}

// remove deletes the bridge and its leaves; what is gone is no error.
func (b *bridge) remove(h *netlink.Handle) error {
	if err := b.removeLeaves(h); err != nil {
		return err
	}
	return removeLink(h, b.name)
}

// outboundMTU is the MTU of the interface of the default route: larger packets could not leave anyway.
func outboundMTU(h *netlink.Handle) int {
	routes, err := dump(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: nil}, netlink.RT_FILTER_DST)
	})
	if err != nil || len(routes) == 0 {
		return defaultMTU
	}
	link, err := h.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return defaultMTU
	}
	return link.Attrs().MTU
}

// checkOverlap refuses a subnet of which another interface has a part: one of the two could not be reached.
func (b *bridge) checkOverlap(h *netlink.Handle, subnet netip.Prefix) error {
	addrs, err := dump(func() ([]netlink.Addr, error) { return h.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if p, ok := fromIPNet(a.IPNet); ok && a.Label != b.name && p.Overlaps(subnet) {
			return fmt.Errorf("subnet %s overlaps %s of interface %s: %w", subnet, p, a.Label, errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

// ensure finds the bridge or makes it.
func (b *bridge) ensure(h *netlink.Handle) (netlink.Link, error) {
	link, err := h.LinkByName(b.name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = b.name, b.mtu
		// An address of its own: otherwise the bridge takes its lowest port's, and changes it as containers come and go.
		if b.gateway.IsValid() {
			attrs.HardwareAddr = hardwareAddr(b.gateway.Addr())
		}
		if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return nil, fmt.Errorf("make bridge %s: %w", b.name, err)
		}
		b.made = true
		return h.LinkByName(b.name)
	}
	if err != nil {
		return nil, fmt.Errorf("look up bridge %s: %w", b.name, err)
	}
	if err := b.checkOwner(link); err != nil {
		return nil, err
	}
	if link.Attrs().MTU != b.mtu {
		if err := h.LinkSetMTU(link, b.mtu); err != nil {
			return nil, fmt.Errorf("set the mtu of %s: %w", b.name, err)
		}
	}
	return link, nil
}

// checkOwner refuses an interface of the bridge's name that is somebody else's.
func (b *bridge) checkOwner(link netlink.Link) error {
	owner := strings.Fields(link.Attrs().Alias)
	switch {
	case link.Type() != "bridge":
		return fmt.Errorf("interface %s is there and is no bridge: %w", b.name, errdefs.ErrAlreadyExists)
	case len(owner) > 0 && owner[0] != b.owner:
		return fmt.Errorf("bridge %s belongs to %s: name the instance differently: %w", b.name, owner[0], errdefs.ErrAlreadyExists)
	}
	return nil
}

// find looks for the bridge and changes nothing; one that is not there is no error.
func (b *bridge) find(h *netlink.Handle) error {
	link, err := h.LinkByName(b.name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up bridge %s: %w", b.name, err)
	}
	b.index = link.Attrs().Index
	return b.checkOwner(link)
}

// ensureAddress gives the bridge the gateway's address of a family, and takes away that of a subnet it had before.
func (b *bridge) ensureAddress(h *netlink.Handle, link netlink.Link, family int, gateway netip.Prefix) error {
	addrs, err := dump(func() ([]netlink.Addr, error) { return h.AddrList(link, family) })
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", b.name, err)
	}
	want := toAddr(gateway)
	for _, a := range addrs {
		if a.IPNet.String() == want.IPNet.String() {
			return nil
		}
		if a.IP.IsLinkLocalUnicast() && family == netlink.FAMILY_V6 {
			continue // the kernel's own
		}
		if err := h.AddrDel(link, &a); err != nil {
			return fmt.Errorf("remove %s from %s: %w", a.IPNet, b.name, err)
		}
	}
	if err := h.AddrAdd(link, want); err != nil {
		return fmt.Errorf("give %s to %s: %w", gateway, b.name, err)
	}
	return nil
}

// forward turns IPv4 forwarding on. What it was before is written to the bridge's alias first.
func (b *bridge) forward(h *netlink.Handle, instance string, log *slog.Logger) error {
	unlock, err := lockForwarding()
	if err != nil {
		return err
	}
	defer unlock()
	now, err := readForwarding()
	if err != nil {
		return err
	}
	alias, err := b.alias(h)
	if err != nil {
		return err
	}
	if _, recorded := decodeForwarding(aliasPrefix+instance, alias); !recorded {
		// The bridge itself is no part of what there was.
		now.interfaces = slices.DeleteFunc(now.interfaces, func(name string) bool { return name == b.name })
		if err := b.record(h, instance, now, log); err != nil {
			return err
		}
	}
	if now.ipForward == "0" {
		return writeSysctl(ipForward, "1")
	}
	return nil
}

// forward6 turns IPv6 forwarding on, for the first network that needs it. What it was before is added to the record.
func (b *bridge) forward6(h *netlink.Handle, instance string, log *slog.Logger) error {
	unlock, err := lockForwarding()
	if err != nil {
		return err
	}
	defer unlock()
	now, err := readForwarding6(h)
	if err != nil || now == nil {
		return err
	}
	alias, err := b.alias(h)
	if err != nil {
		return err
	}
	was, recorded := decodeForwarding(aliasPrefix+instance, alias)
	if !recorded {
		return fmt.Errorf("bridge %s has lost its record of sysctls: %w", b.name, errdefs.ErrFailedPrecondition)
	}
	if was.ip6 == nil {
		was.ip6 = now
		if err := b.record(h, instance, was, log); err != nil {
			return err
		}
	}
	return now.turnOn()
}

func (b *bridge) alias(h *netlink.Handle) (string, error) {
	link, err := h.LinkByIndex(b.index)
	if err != nil {
		return "", fmt.Errorf("look up bridge %s: %w", b.name, err)
	}
	return link.Attrs().Alias, nil
}

// record writes f to the bridge's alias.
func (b *bridge) record(h *netlink.Handle, instance string, f forwarding, log *slog.Logger) error {
	alias, lost := f.encode(aliasPrefix + instance)
	if len(lost) > 0 {
		log.Warn("cannot record how interfaces forward by themselves; a purge will not restore it", "interfaces", lost)
	}
	link, err := h.LinkByIndex(b.index)
	if err != nil {
		return fmt.Errorf("look up bridge %s: %w", b.name, err)
	}
	if err := h.LinkSetAlias(link, alias); err != nil {
		return fmt.Errorf("record sysctls in the alias of %s: %w", b.name, err)
	}
	return nil
}

// purge removes the bridge and restores the sysctls, unless another instance in this network namespace still needs them:
// that one then takes over the record.
func (b *bridge) purge(h *netlink.Handle, instance string) error {
	link, err := h.LinkByName(b.name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up bridge %s: %w", b.name, err)
	}
	unlock, err := lockForwarding()
	if err != nil {
		return err
	}
	defer unlock()
	if was, recorded := decodeForwarding(aliasPrefix+instance, link.Attrs().Alias); recorded && was.changed() {
		if err := handOver(h, link, was); err != nil {
			return err
		}
	}
	if err := h.LinkDel(link); err != nil {
		return fmt.Errorf("remove bridge %s: %w", b.name, err)
	}
	return nil
}

// handOver gives the record to another instance's bridge, or restores the sysctls where there is none.
func handOver(h *netlink.Handle, own netlink.Link, was forwarding) error {
	all, err := dump(h.LinkList)
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, other := range all {
		owner, _, _ := strings.Cut(other.Attrs().Alias, " ")
		if other.Attrs().Index == own.Attrs().Index || other.Type() != "bridge" || !strings.HasPrefix(owner, aliasPrefix) {
			continue
		}
		theirs, _ := decodeForwarding(owner, other.Attrs().Alias)
		alias, _ := was.over(theirs).encode(owner)
		if err := h.LinkSetAlias(other, alias); err != nil {
			return fmt.Errorf("hand the record of sysctls to %s: %w", other.Attrs().Name, err)
		}
		return nil
	}
	return was.restore()
}

// portsOf lists the host's ends of the veth pairs that are on the bridges.
func portsOf(ctx context.Context, h *netlink.Handle, bridges []*bridge) ([]netlink.Link, error) {
	all, err := dump(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	return slices.DeleteFunc(all, func(l netlink.Link) bool {
		on := slices.ContainsFunc(bridges, func(b *bridge) bool { return b.has(l.Attrs().MasterIndex) })
		return !on || !strings.HasPrefix(l.Attrs().Name, linkPrefix)
	}), ctx.Err()
}

// dumpTries bounds how often a list is read again. Links come and go all the time, each time the list may be cut short.
const dumpTries = 20

// dump reads a list until no change by others has interrupted it.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	var all []T
	var err error
	for range dumpTries {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return nil, err
}

func toIPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// fromIPNet is the subnet that n is or lies in; false: n is nil.
func fromIPNet(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if bits == net.IPv4len*8 {
		ip = ip.Unmap()
	}
	p := netip.PrefixFrom(ip, ones).Masked()
	return p, ok && p.IsValid()
}
