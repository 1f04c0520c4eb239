package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// AttachRequest says how a container is to take part in a user's network.
type AttachRequest struct {
	Network   string     // id, or BridgeNetwork
	Address   netip.Addr // IPv4; zero: any
	Address6  netip.Addr // zero: any where the network has IPv6
	MAC       string     // "": derived from the address
	Interface string     // in the container
	Sysctls   []string   // of the interface: net.ipv4.conf.IFNAME.forwarding=1, with that word for its name
}

// addressPatience is how long Attach waits for an address that a container gives back just now: its link takes 30 ms to go.
const addressPatience = 500 * time.Millisecond

// Attach gives a container an interface in a network, be it running or not yet. Errors: NotFound for no such network,
// and as of an address (see pool.take).
func (n *Network) Attach(ctx context.Context, key triton.ContainerKey, ep triton.Endpoint, req AttachRequest) (triton.Attachment, error) {
	if err := ctx.Err(); err != nil {
		return triton.Attachment{}, err
	}
	s, err := n.segmentOf(key.Tenant, req.Network)
	if err != nil {
		return triton.Attachment{}, err
	}
	att := triton.Attachment{Network: req.Network, MAC: req.MAC, HostLink: newLinkName(), Interface: req.Interface}
	if err := n.takeAddresses(ctx, s, &att, req); err != nil {
		return triton.Attachment{}, err
	}
	if !s.spec.Internal {
		att.Gateway = s.spec.Gateway
		if s.spec.IPv6 != nil {
			att.Gateway6 = s.spec.IPv6.Gateway
		}
	}
	if att.MAC == "" {
		att.MAC = hardwareAddr(att.Address.Addr()).String()
	}
	err = n.joinSegment(s, ep, att)
	if err == nil {
		err = setInterface(ep, att.Interface, req.Sysctls)
	}
	if err != nil {
		return att, errors.Join(fmt.Errorf("attach %s to network %s: %w", key, triton.ShortID(s.id), err), n.Detach(context.WithoutCancel(ctx), key, att))
	}
	return att, nil
}

// takeAddresses takes an address of each family that the network has, or none.
func (n *Network) takeAddresses(ctx context.Context, s *segment, att *triton.Attachment, req AttachRequest) error {
	addr, err := n.takeAddress(ctx, s.addrs, req.Address)
	if err != nil {
		return err
	}
	att.Address = netip.PrefixFrom(addr, s.spec.Subnet.Bits())
	switch {
	case s.addrs6 != nil:
		if addr, err = n.takeAddress(ctx, s.addrs6, req.Address6); err == nil {
			att.Address6 = netip.PrefixFrom(addr, s.spec.IPv6.Subnet.Bits())
		}
	case req.Address6.IsValid():
		err = fmt.Errorf("address %s: the network has no IPv6: %w", req.Address6, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		s.addrs.put(att.Address.Addr())
	}
	return err
}

// putAddresses gives back what takeAddresses took.
func (s *segment) putAddresses(att triton.Attachment) {
	s.addrs.put(att.Address.Addr())
	if s.addrs6 != nil && att.Address6.IsValid() {
		s.addrs6.put(att.Address6.Addr())
	}
}

// takeAddress waits a moment for a certain address that is in use.
func (n *Network) takeAddress(ctx context.Context, from addresses, want netip.Addr) (netip.Addr, error) {
	deadline := time.Now().Add(addressPatience)
	for {
		addr, err := from.take(want)
		if !errdefs.IsAlreadyExists(err) || time.Now().After(deadline) {
			return addr, err
		}
		select {
		case <-time.After(lingerFor):
		case <-ctx.Done():
			return addr, ctx.Err()
		}
	}
}

func (n *Network) joinSegment(s *segment, ep triton.Endpoint, att triton.Attachment) error {
	ns, err := os.Open(ep.NetNS)
	if err != nil {
		return fmt.Errorf("open the namespace of slot %d: %w", ep.Slot, err)
	}
	defer ns.Close()
	m, err := memberOfAttachment(att)
	if err != nil {
		return err
	}
	if err := n.rules.add(m); err != nil {
		return err
	}
	n.keepLink(att)
	if err := s.bridge.connect(n.host, ns, m, att.Interface); err != nil {
		return err
	}
	if s.spec.NoICC {
		if err := n.isolate(att.HostLink); err != nil {
			return err
		}
	}
	addrs := []netip.Prefix{att.Address}
	if att.Address6.IsValid() {
		addrs = append(addrs, att.Address6)
	}
	if err := address(ns, att.HostLink, att.Interface, netip.Addr{}, addrs...); err != nil {
		return err
	}
	return s.bridge.sync(n.host, att.HostLink)
}

// isolate keeps a port from talking to the other isolated ports of its bridge.
func (n *Network) isolate(link string) error {
	l, err := n.host.LinkByName(link)
	if err != nil {
		return fmt.Errorf("look up %s: %w", link, err)
	}
	if err := n.host.LinkSetIsolated(l, true); err != nil {
		return fmt.Errorf("isolate %s: %w", link, err)
	}
	return nil
}

func (n *Network) keepLink(att triton.Attachment) {
	n.segs.Lock()
	defer n.segs.Unlock()
	n.attached[att.HostLink] = att
}

// KeepAttachment takes up what an earlier daemon attached to a container. It must be called after AddSegment of its network,
// and before Reconcile, which removes what is not kept.
func (n *Network) KeepAttachment(key triton.ContainerKey, att triton.Attachment) error {
	s, err := n.segmentOf(key.Tenant, att.Network)
	if err != nil {
		return err
	}
	if _, err := s.addrs.take(att.Address.Addr()); err != nil {
		return fmt.Errorf("keep address %s: %w", att.Address, err)
	}
	if s.addrs6 != nil && att.Address6.IsValid() {
		if _, err := s.addrs6.take(att.Address6.Addr()); err != nil {
			s.addrs.put(att.Address.Addr())
			return fmt.Errorf("keep address %s: %w", att.Address6, err)
		}
	}
	n.keepLink(att)
	return nil
}

// Detach takes a container's interface away and frees its address; one that is gone is no error.
func (n *Network) Detach(ctx context.Context, key triton.ContainerKey, att triton.Attachment) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n.names.withdraw(att.Address.Addr())
	err := n.rules.drop(att.HostLink)
	link, lerr := n.host.LinkByName(att.HostLink)
	switch {
	case errors.As(lerr, new(netlink.LinkNotFoundError)):
	case lerr != nil:
		err = errors.Join(err, fmt.Errorf("look up %s: %w", att.HostLink, lerr))
	default:
		if derr := n.host.LinkDel(link); derr != nil && !errors.Is(derr, unix.ENODEV) {
			err = errors.Join(err, fmt.Errorf("remove link %s: %w", att.HostLink, derr))
		}
	}
	if err != nil {
		return err // the address stays taken: it may still be answered for
	}
	if s, serr := n.segmentOf(key.Tenant, att.Network); serr == nil {
		s.putAddresses(att)
	}
	n.segs.Lock()
	defer n.segs.Unlock()
	delete(n.attached, att.HostLink)
	return nil
}

// Strip takes the interface in the default network away from an endpoint that was made with one. It returns what is left.
func (n *Network) Strip(ctx context.Context, ep triton.Endpoint) (triton.Endpoint, error) {
	if err := ctx.Err(); err != nil || ep.HostLink == "" {
		return ep, err
	}
	link, err := n.host.LinkByName(ep.HostLink)
	if err == nil {
		err = n.host.LinkDel(link)
	}
	if err != nil && !errors.As(err, new(netlink.LinkNotFoundError)) && !errors.Is(err, unix.ENODEV) {
		return ep, fmt.Errorf("remove link %s: %w", ep.HostLink, err)
	}
	if err := n.rules.drop(ep.HostLink); err != nil {
		return ep, err
	}
	n.leases.strip(ep.Slot)
	ep.Network, ep.HostLink, ep.Address, ep.Gateway, ep.MAC = triton.NetworkLeft, "", "", "", ""
	return ep, nil
}

// SetGateway makes a container's default routes lead to the gateways of IPv4 and of IPv6, or nowhere where one is the zero
// Addr.
func (n *Network) SetGateway(ctx context.Context, ep triton.Endpoint, gateway, gateway6 netip.Addr) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ns, err := os.Open(ep.NetNS)
	if err != nil {
		return fmt.Errorf("open the namespace of slot %d: %w", ep.Slot, err)
	}
	defer ns.Close()
	return inNetNS(ns, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		defer h.Close()
		for all, to := range map[netip.Addr]netip.Addr{anyIPv4: gateway, anyIPv6: gateway6} {
			if err := setDefaultRoute(h, netip.PrefixFrom(all, 0), to); err != nil {
				return fmt.Errorf("default route of slot %d: %w", ep.Slot, err)
			}
		}
		return nil
	})
}

// setDefaultRoute replaces the route to all, which is 0.0.0.0/0 or ::/0.
func setDefaultRoute(h *netlink.Handle, all netip.Prefix, to netip.Addr) error {
	if to.IsValid() {
		if err := h.RouteReplace(&netlink.Route{Dst: toIPNet(all), Gw: to.AsSlice()}); err != nil {
			return fmt.Errorf("lead it to %s: %w", to, err)
		}
		return nil
	}
	err := h.RouteDel(&netlink.Route{Dst: toIPNet(all)})
	for _, none := range []error{unix.ESRCH, unix.ENOENT, unix.EOPNOTSUPP} { // of IPv4, of IPv6, of a kernel without IPv6
		if errors.Is(err, none) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("remove it: %w", err)
	}
	return nil
}
