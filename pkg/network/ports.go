package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// published is a port that is published, or is about to be.
type published struct {
	triton.PublishedPort
	forward forward
	relay   netip.AddrPort // where a relay leads who comes to sock; zero: nowhere
	sock    *os.File       // nil: the port was lost to a process of the host while no daemon lived
}

// Target is where a container's published ports lead: an address of each family that it is reached by, behind the host's end
// of a link. A zero address: it has none of that family.
type Target struct {
	Address, Address6 netip.Addr
	Link, Link6       string
}

// of is the target of the family of host.
func (t Target) of(host netip.Addr) (addr netip.Addr, link string) {
	if host.Is4() {
		return t.Address, t.Link
	}
	return t.Address6, t.Link6
}

// conflict is a port that another container has at an address of the host, in docker's words.
func conflict(host netip.Addr, port uint16) error {
	//nolint:staticcheck // docker's words
	return fmt.Errorf("Bind for %s failed: port is already allocated%w", fmt.Sprintf("%s:%d", host, port), silent{errdefs.ErrAlreadyExists})
}

// silent gives an error a kind without adding words to it.
type silent struct{ kind error }

func (silent) Error() string   { return "" }
func (s silent) Unwrap() error { return s.kind }

// Publish takes the ports of the host that are asked for, leads them to the container, and returns them in the order of reqs, with
// the sockets that keep them from others: copies of these that live elsewhere keep the ports over a kill of the daemon. A port
// that is asked for at no address is published at all of the host's, of both families, with one number. Where no translation
// leads to the container, Relays has to be served. The sockets stay n's. A container publishes once; Unpublish gives the ports
// back. Errors: AlreadyExists where a container or a process of the host has a port, InvalidArgument where an address is not
// the host's; nothing is taken then.
func (n *Network) Publish(
	ctx context.Context, key triton.ContainerKey, target Target, reqs []triton.PortRequest,
) ([]triton.PublishedPort, []*os.File, error) {
	if err := ctx.Err(); err != nil || len(reqs) == 0 {
		return nil, nil, err
	}
	all, err := n.reserveAll(key, target, reqs)
	if err != nil {
		return nil, nil, err
	}
	if err = n.hairpins(all, target); err == nil {
		err = n.rules.publish(forwardsOf(all))
	}
	if err != nil {
		return nil, nil, errors.Join(err, n.Unpublish(context.WithoutCancel(ctx), key))
	}
	ports := make([]triton.PublishedPort, len(all))
	files := make([]*os.File, len(all))
	for i, p := range all {
		ports[i], files[i] = p.PublishedPort, p.sock
		if err := seal(p.Proto, p.sock); err != nil {
			return nil, nil, errors.Join(bindError(p.Proto, p.HostIP, p.HostPort, err), n.Unpublish(context.WithoutCancel(ctx), key))
		}
	}
	n.forgetFlows(all)
	return ports, files, nil
}

// hairpins is hairpin for the links that ports lead through.
func (n *Network) hairpins(all []published, target Target) error {
	done := ""
	for _, p := range all {
		if addr, link := target.of(p.HostIP); addr.IsValid() && link != done {
			if err := n.hairpin(link); err != nil {
				return err
			}
			done = link
		}
	}
	return nil
}

// hairpin lets the bridge send a container's packet back to it: to a port of the host that leads to the container itself.
// Such a packet is routed and needs no leave, but br_netfilter, where it is on, has it bridged.
func (n *Network) hairpin(name string) error {
	link, err := n.host.LinkByName(name)
	if err != nil {
		return fmt.Errorf("look up %s: %w", name, err)
	}
	if err := n.host.LinkSetHairpin(link, true); err != nil {
		return fmt.Errorf("let packets return through %s: %w", name, err)
	}
	return nil
}

// Retarget leads the published ports of a container to other addresses of it: those of the networks which now have its
// default routes. Ports of a family that has no address any more lead nowhere: the address may be another container's next.
func (n *Network) Retarget(ctx context.Context, key triton.ContainerKey, target Target) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n.ports.Lock()
	defer n.ports.Unlock()
	all, next := n.published[key], slices.Clone(n.published[key])
	var changed []published
	for i := range next {
		if next[i].aim(target); next[i].forward != all[i].forward {
			changed = append(changed, all[i])
		}
	}
	n.published[key] = next
	if len(changed) == 0 {
		return nil
	}
	if err := errors.Join(n.hairpins(changed, target), n.rules.unpublish(forwardsOf(changed))); err != nil {
		return fmt.Errorf("lead the ports of %s elsewhere: %w", key, err)
	}
	all = next
	if err := n.rules.publish(forwardsOf(all)); err != nil {
		return fmt.Errorf("lead the ports of %s elsewhere: %w", key, err)
	}
	n.forgetFlows(all)
	return nil
}

// reserveAll reserves all ports or none.
func (n *Network) reserveAll(key triton.ContainerKey, target Target, reqs []triton.PortRequest) ([]published, error) {
	n.ports.Lock()
	defer n.ports.Unlock()
	if len(n.published[key]) > 0 {
		return nil, fmt.Errorf("ports of %s are published already: %w", key, errdefs.ErrAlreadyExists)
	}
	var all []published
	for _, req := range reqs {
		taken, err := n.reserveOne(req, target, all)
		if err != nil {
			closeSockets(all)
			return nil, err
		}
		all = append(all, taken...)
	}
	n.published[key] = all
	return all, nil
}

// anyPortTries bounds how often a free port of one family is looked for that is free in the other as well.
const anyPortTries = 16

// reserveOne takes the first free port that fits, at each address that is asked for. own are those that the same container
// has taken already.
func (n *Network) reserveOne(req triton.PortRequest, target Target, own []published) ([]published, error) {
	hosts := []netip.Addr{req.HostIP}
	if !req.HostIP.IsValid() {
		hosts = hosts[:0]
		for _, a := range []netip.Addr{anyIPv4, anyIPv6} {
			if addr, _ := target.of(a); addr.IsValid() || target.relayed(req.Proto, a) && hostHasIPv6() {
				hosts = append(hosts, a)
			}
		}
	} else if addr, _ := target.of(req.HostIP); !addr.IsValid() && !target.relayed(req.Proto, req.HostIP) {
		return nil, fmt.Errorf("publish a port of %s at [%s]: the container has no address of that family, "+
			"and nothing translates from one to the other: %w", req.Proto, req.HostIP, errdefs.ErrInvalidArgument)
	}
	var first error
	tries := 1
	if req.HostFirst == 0 {
		tries = anyPortTries
	}
	for range tries {
		for port := uint32(req.HostFirst); port <= uint32(max(req.HostLast, req.HostFirst)); port++ {
			all, err := n.reserveAt(hosts, req, uint16(port), target, own)
			if err == nil {
				return all, nil
			}
			if first == nil {
				first = err
			}
		}
		if !errdefs.IsAlreadyExists(first) {
			break
		}
	}
	if req.HostLast > req.HostFirst {
		return nil, fmt.Errorf("all ports of %d-%d are taken: %w", req.HostFirst, req.HostLast, first)
	}
	return nil, first
}

// reserveAt takes one port at all of hosts, or at none. Port 0: a free one.
func (n *Network) reserveAt(hosts []netip.Addr, req triton.PortRequest, port uint16, target Target, own []published) ([]published, error) {
	t, err := transportOf(req.Proto)
	if err != nil {
		return nil, err
	}
	var all []published
	for _, host := range hosts {
		p := published{PublishedPort: triton.PublishedPort{Port: req.Port, Proto: req.Proto, HostIP: host, HostPort: port}}
		if err = n.free(p.PublishedPort, own); err == nil {
			if p.sock, p.HostPort, err = reserve(req.Proto, host, port); err != nil {
				err = bindError(req.Proto, host, port, err)
			}
		}
		if err != nil {
			closeSockets(all)
			return nil, err
		}
		port = p.HostPort
		p.forward = forward{proto: uint8(t.proto), host: host, hostPort: port}
		p.aim(target)
		all = append(all, p)
	}
	return all, nil
}

// bindError puts the kernel's answer in docker's words.
func bindError(proto string, host netip.Addr, port uint16, err error) error {
	var kind error = errdefs.ErrInvalidArgument
	if errors.Is(err, unix.EADDRINUSE) {
		kind = errdefs.ErrAlreadyExists
	}
	var no unix.Errno
	if errors.As(err, &no) {
		err = errors.New(no.Error())
	}
	return fmt.Errorf("failed to bind host port %s/%s: %w%w", netip.AddrPortFrom(host, port), proto, err, silent{kind})
}

// free asks whether no container has the port. The kernel would refuse it as well, but names no container.
func (n *Network) free(p triton.PublishedPort, own []published) error {
	if p.HostPort == 0 {
		return nil
	}
	clash := func(o published) bool {
		return o.Proto == p.Proto && o.HostPort == p.HostPort && o.HostIP.Is4() == p.HostIP.Is4() &&
			(o.HostIP == p.HostIP || o.HostIP.IsUnspecified() || p.HostIP.IsUnspecified())
	}
	for _, o := range own {
		if clash(o) {
			return conflict(o.HostIP, o.HostPort)
		}
	}
	for _, all := range n.published {
		for _, o := range all {
			if clash(o) {
				return conflict(o.HostIP, o.HostPort)
			}
		}
	}
	return nil
}

// forwardsOf are those that the rules have to know: after a restart, a container may have left the networks of a family.
func forwardsOf(all []published) []forward {
	fs := make([]forward, 0, len(all))
	for _, p := range all {
		if p.forward.relayed || p.forward.target.IsValid() {
			fs = append(fs, p.forward)
		}
	}
	return fs
}

func closeSockets(all []published) {
	for _, p := range all {
		if p.sock != nil {
			p.sock.Close()
		}
	}
}

// Unpublish gives a container's ports back; none published is no error. The caller must have let go of copies of the
// sockets, and must forget what it stored, before: only the ports of a container that is known to have ended are free.
func (n *Network) Unpublish(ctx context.Context, key triton.ContainerKey) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n.ports.Lock()
	defer n.ports.Unlock()
	all := n.published[key]
	if len(all) == 0 {
		return nil
	}
	if err := n.rules.unpublish(forwardsOf(all)); err != nil {
		return fmt.Errorf("unpublish ports of %s: %w", key, err)
	}
	n.forgetFlows(all)
	closeSockets(all)
	delete(n.published, key)
	return nil
}

// KeepPublished takes up ports that a container had published under an earlier daemon. held are the sockets that kept
// them meanwhile; they are n's from now on. It returns the ports that another process has taken: they still lead to the
// container, but the other process would get them back should the container end. It must be called before Reconcile,
// which makes the rules.
func (n *Network) KeepPublished(
	key triton.ContainerKey, target Target, ports []triton.PublishedPort, held []*os.File,
) ([]triton.PublishedPort, error) {
	n.ports.Lock()
	defer n.ports.Unlock()
	var lost []triton.PublishedPort
	var all []published
	for _, port := range ports {
		t, err := transportOf(port.Proto)
		if err != nil || !port.HostIP.IsValid() {
			return nil, fmt.Errorf("keep port %d/%s of %s: %w", port.HostPort, port.Proto, key, errors.Join(err, errdefs.ErrInvalidArgument))
		}
		p := published{PublishedPort: port, forward: forward{proto: uint8(t.proto), host: port.HostIP, hostPort: port.HostPort}}
		p.aim(target)
		if p.sock = takeSocket(held, port); p.sock == nil {
			if p.sock, _, err = reserve(port.Proto, port.HostIP, port.HostPort); err != nil {
				lost = append(lost, port)
			} else if err := seal(port.Proto, p.sock); err != nil {
				lost = append(lost, port)
			}
		}
		all = append(all, p)
	}
	for _, f := range held {
		if f != nil {
			f.Close()
		}
	}
	n.published[key] = all
	return lost, nil
}

// takeSocket takes the socket of a port out of held.
func takeSocket(held []*os.File, p triton.PublishedPort) *os.File {
	t, err := transportOf(p.Proto)
	if err != nil {
		return nil
	}
	for i, f := range held {
		if f == nil {
			continue
		}
		proto, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_PROTOCOL)
		if err != nil || proto != t.proto {
			continue
		}
		if at, err := boundTo(f); err == nil && at == netip.AddrPortFrom(p.HostIP, p.HostPort) {
			held[i] = nil
			return f
		}
	}
	return nil
}

// keptForwards are the forwards of all published ports.
func (n *Network) keptForwards() []forward {
	n.ports.Lock()
	defer n.ports.Unlock()
	var fs []forward
	for _, all := range n.published {
		fs = append(fs, forwardsOf(all)...)
	}
	return fs
}

// forgetFlows removes what conntrack knows of UDP to the ports: a client that sent before the port was published, or still
// sends to a container that has ended, would be treated for ever as it was then.
func (n *Network) forgetFlows(all []published) {
	filters := map[netlink.InetFamily][]netlink.CustomConntrackFilter{}
	for _, p := range all {
		if p.Proto != triton.ProtoUDP {
			continue
		}
		f := &netlink.ConntrackFilter{}
		err := errors.Join(f.AddProtocol(unix.IPPROTO_UDP), f.AddPort(netlink.ConntrackOrigDstPort, p.HostPort))
		if err != nil {
			n.cfg.Log.Error("cannot select flows", "port", p.HostPort, "err", err)
			continue
		}
		family := netlink.InetFamily(netlink.FAMILY_V4)
		if p.HostIP.Is6() {
			family = netlink.FAMILY_V6
		}
		filters[family] = append(filters[family], f)
	}
	for family, of := range filters {
		if _, err := n.host.ConntrackDeleteFilters(netlink.ConntrackTable, family, of...); err != nil {
			n.cfg.Log.Warn("flows to published UDP ports not forgotten: clients may have to wait for them to expire", "err", err)
		}
	}
}
