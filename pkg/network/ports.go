package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// published is a port that is published, or is about to be.
type published struct {
	triton.PublishedPort
	forward forward
	sock    *os.File // nil: the port was lost to a process of the host while no daemon lived
}

// conflict is a port of the host that another container has, in docker's words.
func conflict(host netip.Addr, port uint16) error {
	//nolint:staticcheck // docker's words
	return fmt.Errorf("Bind for %s failed: port is already allocated%w", netip.AddrPortFrom(host, port), silent{errdefs.ErrAlreadyExists})
}

// silent gives an error a kind without adding words to it.
type silent struct{ kind error }

func (silent) Error() string   { return "" }
func (s silent) Unwrap() error { return s.kind }

// Publish takes the ports of the host that are asked for, leads them to the container's address target, behind the host's
// end of its link, and returns them in the order of reqs, with
// the sockets that keep them from others: copies of these that live elsewhere keep the ports over a kill of the daemon.
// The sockets stay n's. A container publishes once; Unpublish gives the ports back. Errors: AlreadyExists where a
// container or a process of the host has a port, InvalidArgument where an address is not the host's; nothing is taken then.
func (n *Network) Publish(
	ctx context.Context, key triton.ContainerKey, target netip.Addr, link string, reqs []triton.PortRequest,
) ([]triton.PublishedPort, []*os.File, error) {
	if err := ctx.Err(); err != nil || len(reqs) == 0 {
		return nil, nil, err
	}
	all, err := n.reserveAll(key, target, reqs)
	if err != nil {
		return nil, nil, err
	}
	if err = n.hairpin(link); err == nil {
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

// Retarget leads the published ports of a container to another address of it: that of the network which now has its
// default route.
func (n *Network) Retarget(ctx context.Context, key triton.ContainerKey, target netip.Addr, link string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n.ports.Lock()
	defer n.ports.Unlock()
	all := n.published[key]
	if len(all) == 0 || all[0].forward.target.Addr() == target {
		return nil
	}
	if err := errors.Join(n.hairpin(link), n.rules.unpublish(forwardsOf(all))); err != nil {
		return fmt.Errorf("lead the ports of %s elsewhere: %w", key, err)
	}
	for i := range all {
		all[i].forward.target = netip.AddrPortFrom(target, all[i].Port)
	}
	if err := n.rules.publish(forwardsOf(all)); err != nil {
		return fmt.Errorf("lead the ports of %s elsewhere: %w", key, err)
	}
	n.forgetFlows(all)
	return nil
}

// reserveAll reserves all ports or none.
func (n *Network) reserveAll(key triton.ContainerKey, target netip.Addr, reqs []triton.PortRequest) ([]published, error) {
	n.ports.Lock()
	defer n.ports.Unlock()
	if len(n.published[key]) > 0 {
		return nil, fmt.Errorf("ports of %s are published already: %w", key, errdefs.ErrAlreadyExists)
	}
	var all []published
	for _, req := range reqs {
		p, err := n.reserveOne(req, all)
		if err != nil {
			closeSockets(all)
			return nil, err
		}
		p.forward = forward{proto: p.forward.proto, host: p.HostIP, hostPort: p.HostPort, target: netip.AddrPortFrom(target, p.Port)}
		all = append(all, p)
	}
	n.published[key] = all
	return all, nil
}

// reserveOne takes the first free port that fits. own are those that the same container has taken already.
func (n *Network) reserveOne(req triton.PortRequest, own []published) (published, error) {
	host := req.HostIP
	if !host.IsValid() {
		host = netip.IPv4Unspecified()
	}
	if !host.Is4() {
		return published{}, fmt.Errorf("publish on %s: containers have no IPv6: %w", host, errdefs.ErrInvalidArgument)
	}
	t, err := transportOf(req.Proto)
	if err != nil {
		return published{}, err
	}
	var first error
	for port := uint32(req.HostFirst); port <= uint32(max(req.HostLast, req.HostFirst)); port++ {
		p := published{PublishedPort: triton.PublishedPort{Port: req.Port, Proto: req.Proto, HostIP: host, HostPort: uint16(port)}}
		err := n.free(p.PublishedPort, own)
		if err == nil {
			p.sock, p.HostPort, err = reserve(req.Proto, host, uint16(port))
			if err == nil {
				p.forward.proto = uint8(t.proto)
				return p, nil
			}
			err = bindError(req.Proto, host, uint16(port), err)
		}
		if first == nil {
			first = err
		}
	}
	if req.HostLast > req.HostFirst {
		return published{}, fmt.Errorf("all ports of %d-%d are taken: %w", req.HostFirst, req.HostLast, first)
	}
	return published{}, first
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
		return o.Proto == p.Proto && o.HostPort == p.HostPort &&
			(o.HostIP == p.HostIP || o.HostIP.IsUnspecified() || p.HostIP.IsUnspecified())
	}
	for _, o := range own {
		if clash(o) {
			return conflict(p.HostIP, p.HostPort)
		}
	}
	for _, all := range n.published {
		for _, o := range all {
			if clash(o) {
				return conflict(p.HostIP, p.HostPort)
			}
		}
	}
	return nil
}

func forwardsOf(all []published) []forward {
	fs := make([]forward, len(all))
	for i, p := range all {
		fs[i] = p.forward
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
	key triton.ContainerKey, target netip.Addr, ports []triton.PublishedPort, held []*os.File,
) ([]triton.PublishedPort, error) {
	if !target.Is4() {
		return nil, fmt.Errorf("keep the ports of %s: no address %s: %w", key, target, errdefs.ErrInvalidArgument)
	}
	n.ports.Lock()
	defer n.ports.Unlock()
	var lost []triton.PublishedPort
	var all []published
	for _, port := range ports {
		t, err := transportOf(port.Proto)
		if err != nil || !port.HostIP.Is4() {
			return nil, fmt.Errorf("keep port %d/%s of %s: %w", port.HostPort, port.Proto, key, errors.Join(err, errdefs.ErrInvalidArgument))
		}
		p := published{PublishedPort: port, forward: forward{
			proto: uint8(t.proto), host: port.HostIP, hostPort: port.HostPort, target: netip.AddrPortFrom(target, port.Port),
		}}
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
		sa, err := unix.Getsockname(int(f.Fd()))
		if err != nil {
			continue
		}
		if v4, ok := sa.(*unix.SockaddrInet4); ok && v4.Port == int(p.HostPort) && netip.AddrFrom4(v4.Addr) == p.HostIP {
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
	var filters []netlink.CustomConntrackFilter
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
		filters = append(filters, f)
	}
	if len(filters) == 0 {
		return
	}
	if _, err := n.host.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.FAMILY_V4, filters...); err != nil {
		n.cfg.Log.Warn("flows to published UDP ports not forgotten: clients may have to wait for them to expire", "err", err)
	}
}
