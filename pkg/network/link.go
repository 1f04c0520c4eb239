package network

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// containerLink is what a container's own interface is called, as in docker.
const containerLink = "eth0"

// newLinkName is a name for the host's end of a veth pair. It is never used twice: the link of a released endpoint lingers
// until the kernel has removed its network namespace.
func newLinkName() string {
	var b [4]byte
	rand.Read(b[:])
	return linkPrefix + hex.EncodeToString(b[:])
}

// prepareNetNS sets up a fresh network namespace, before there is an interface in it.
func prepareNetNS(ns *os.File) error {
	return inNetNS(ns, func() error {
		// As docker does: a container's user may listen on any port.
		if err := writeSysctl("ipv4/ip_unprivileged_port_start", "0"); err != nil {
			return err
		}
		// No IPv6 on interfaces that will come, unless their network has it; the loopback interface has its own setting and keeps ::1.
		if err := writeSysctlIfPresent(ip6Conf("default", "disable_ipv6"), "1"); err != nil {
			return err
		}
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		defer h.Close()
		lo, err := h.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("look up the loopback interface: %w", err)
		}
		if err := h.LinkSetUp(lo); err != nil {
			return fmt.Errorf("set the loopback interface up: %w", err)
		}
		return nil
	})
}

// connect makes the veth pair of m: one end on the bridge, the other as inside in ns, which stays down.
func (b *bridge) connect(h *netlink.Handle, ns *os.File, m member, inside string) error {
	on, err := b.place(h)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex, attrs.Flags = m.link, b.mtu, on, net.FlagUp
	err = h.LinkAdd(&netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         inside,
		PeerHardwareAddr: m.mac[:],
		PeerMTU:          uint32(b.mtu),
		PeerNamespace:    netlink.NsFd(ns.Fd()),
	})
	if err != nil {
		return fmt.Errorf("make link %s: %w", m.link, err)
	}
	if on != b.index {
		if err := stay(h, m.link, m.mac[:]); err != nil {
			return err
		}
	}
	// The port only bridges: without this the host would talk IPv6 by it, past the bridge.
	return writeSysctlIfPresent(ip6Conf(m.link, "disable_ipv6"), "1")
}

// address gives the container's end its addresses and sets it up. With a default route it leads to gateway, else that is set
// apart: a container may have several networks.
func address(ns *os.File, link, inside string, gateway netip.Addr, addrs ...netip.Prefix) error {
	return inNetNS(ns, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		defer h.Close()
		own, err := h.LinkByName(inside)
		if err != nil {
			return fmt.Errorf("look up %s of %s: %w", inside, link, err)
		}
		for _, addr := range addrs {
			if addr.Addr().Is6() {
				if err := enableIPv6(inside); err != nil {
					return err
				}
			}
			if err := h.AddrReplace(own, toAddr(addr)); err != nil {
				return fmt.Errorf("give %s to %s: %w", addr, link, err)
			}
		}
		if err := h.LinkSetUp(own); err != nil {
			return fmt.Errorf("set %s of %s up: %w", inside, link, err)
		}
		if !gateway.IsValid() {
			return nil
		}
		if err := h.RouteReplace(&netlink.Route{LinkIndex: own.Attrs().Index, Gw: gateway.AsSlice()}); err != nil {
			return fmt.Errorf("set the default route of %s: %w", link, err)
		}
		return nil
	})
}

// toAddr is an address as an interface gets it. Nobody else on a bridge has an address that was handed out, so that of IPv6
// is used at once, without asking around for a second.
func toAddr(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: toIPNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

// join connects ep and sets both ends up.
func (b *bridge) join(h *netlink.Handle, ns *os.File, ep triton.Endpoint) error {
	m, err := memberOf(ep)
	if err != nil {
		return err
	}
	if err := b.connect(h, ns, m, containerLink); err != nil {
		return err
	}
	var gateway netip.Addr
	if ep.Gateway != "" {
		gateway = b.gateway.Addr()
	}
	if err := address(ns, ep.HostLink, containerLink, gateway, netip.PrefixFrom(m.ip, b.gateway.Bits())); err != nil {
		return err
	}
	return b.sync(h, ep.HostLink)
}

// sync waits for a link to carry packets.
func (b *bridge) sync(h *netlink.Handle, link string) error {
	// The port, and with a first port the bridge, drop packets until the kernel has noted their carrier, which it does
	// later, in a worker: a container's first SYN would be lost, and come again after a second. Asking for a link makes
	// the kernel do it now (linkwatch_sync_dev in rtnl_getlink, net/core/rtnetlink.c).
	for _, name := range []string{link, b.name} {
		if _, err := h.LinkByName(name); err != nil {
			return fmt.Errorf("look up %s: %w", name, err)
		}
	}
	return nil
}

// reconnect makes good what is missing between an existing namespace and the bridge.
func (b *bridge) reconnect(h *netlink.Handle, ns *os.File, ep triton.Endpoint) error {
	link, err := h.LinkByName(ep.HostLink)
	switch {
	case errors.As(err, new(netlink.LinkNotFoundError)):
		return b.join(h, ns, ep)
	case err != nil:
		return fmt.Errorf("look up %s: %w", ep.HostLink, err)
	}
	inside, err := peerIndex(ns)
	if err != nil {
		return err
	}
	if inside != link.Attrs().Index {
		// The name's owner is not this namespace's: a link that lingers, or a namespace that was made anew.
		if err := h.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove the stale link %s: %w", ep.HostLink, err)
		}
		return b.join(h, ns, ep)
	}
	if !b.has(link.Attrs().MasterIndex) {
		on, err := b.place(h)
		if err != nil {
			return err
		}
		if err := h.LinkSetMasterByIndex(link, on); err != nil {
			return fmt.Errorf("put %s on %s: %w", ep.HostLink, b.name, err)
		}
		mac, err := net.ParseMAC(ep.MAC)
		if err != nil {
			return fmt.Errorf("endpoint %s: %w", ep.HostLink, err)
		}
		if on != b.index {
			if err := stay(h, ep.HostLink, mac); err != nil {
				return err
			}
		}
	} else if link.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", ep.HostLink, err)
	}
	return nil
}

// peerIndex is the index in the host's namespace of the link whose other end is eth0 in ns; 0 where ns has no eth0.
func peerIndex(ns *os.File) (int, error) {
	var index int
	err := inNetNS(ns, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		defer h.Close()
		link, err := h.LinkByName(containerLink)
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look up %s in %s: %w", containerLink, ns.Name(), err)
		}
		index = link.Attrs().ParentIndex
		return nil
	})
	return index, err
}
