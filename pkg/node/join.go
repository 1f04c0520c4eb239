package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/network"
	"github.com/tritond/triton/pkg/triton"
)

// attachedFile is the node's note of the interfaces that a container has in users' networks, in its data directory.
const attachedFile = "networks.json"

// ownsNetwork reports whether a container has a network namespace that more networks can be joined to.
func ownsNetwork(s *triton.Spec) bool {
	return s.NetworkMode != triton.ModeHost && !strings.HasPrefix(s.NetworkMode, triton.ContainerModePrefix)
}

// userMode reports whether a container's first network is one that a user made.
func userMode(s *triton.Spec) bool {
	return ownsNetwork(s) && s.NetworkMode != "" && !predefined(s.NetworkMode)
}

// resolveMemberships puts ids where a request has names. A network that does not exist is no error before the start, as in
// docker.
func (n *Node) resolveMemberships(tenant triton.Tenant, ms []triton.Membership) ([]triton.Membership, error) {
	ms = slices.Clone(ms)
	for i := range ms {
		if ms[i].Network == triton.ModeBridge {
			continue
		}
		r, err := n.findNetwork(tenant, ms[i].Network)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		ms[i].Network, ms[i].Name = r.Key.ID, r.Spec.Name
		if slices.ContainsFunc(ms[:i], func(o triton.Membership) bool { return o.Network == ms[i].Network }) {
			return nil, kindf(errdefs.ErrInvalidArgument, "network %s is named twice", r.Spec.Name)
		}
		if err := checkMembership(r, &ms[i]); err != nil {
			return nil, err
		}
	}
	return ms, nil
}

// checkMembership has docker's conditions for addresses of one's own choice.
func checkMembership(r *networkRecord, m *triton.Membership) error {
	six := r.Spec.IPv6
	if six == nil {
		six = &triton.Pool{} // no subnet contains an address
	}
	for _, own := range []struct {
		pool *triton.Pool
		addr netip.Addr
	}{{&r.Spec.Pool, m.Address}, {six, m.Address6}} {
		switch {
		case !own.addr.IsValid():
		case !own.pool.Chosen:
			return kindf(errdefs.ErrInvalidArgument, "invalid endpoint settings:\n"+
				"user specified IP address is supported only when connecting to networks with user configured subnets")
		case !own.pool.Subnet.Contains(own.addr):
			return kindf(errdefs.ErrInvalidArgument, "invalid endpoint settings:\nno configured subnet contains IP address %s", own.addr)
		}
	}
	return nil
}

// networkingError is why a container that starts has no network. docker puts no other words before these.
type networkingError struct{ error }

func (e networkingError) Error() string {
	return "failed to set up container networking: " + e.error.Error()
}
func (e networkingError) Unwrap() error { return e.error }

// attachNetworks gives a container that starts its interfaces in users' networks.
func (n *Node) attachNetworks(ctx context.Context, c *container) error {
	c.mu.Lock()
	ms := slices.Clone(c.rec.Networks)
	c.mu.Unlock()
	if len(ms) == 0 {
		return nil
	}
	var err error
	for _, m := range ms {
		if err = n.attachOne(ctx, c, m); err != nil {
			break
		}
	}
	if err == nil {
		err = errors.Join(n.setGateway(ctx, c), n.announce(ctx, c))
	}
	if err != nil {
		n.detachAll(ctx, c)
		return networkingError{err}
	}
	return nil
}

// announce tells the resolver what the container is called, and the container where the resolver is.
func (n *Node) announce(ctx context.Context, c *container) error {
	c.mu.Lock()
	rec, attached := c.rec, c.attached
	c.mu.Unlock()
	view := triton.Container{Key: rec.Key, Name: rec.Name, Spec: rec.Spec}
	for _, att := range attached {
		i := slices.IndexFunc(rec.Networks, func(m triton.Membership) bool { return m.Network == att.Network || m.Name == att.Network })
		r := n.nets.get(triton.NetworkKey{Tenant: rec.Key.Tenant, ID: att.Network})
		if i < 0 || r == nil {
			continue // the default network has no names
		}
		a := network.Announcement{Container: rec.Key.ID, Name: r.Spec.Name, Names: view.DNSNames(&rec.Networks[i]), Links: map[string]string{}}
		for _, link := range rec.Networks[i].Links {
			name, alias, _ := strings.Cut(link, ":")
			a.Links[alias] = name
		}
		for _, s := range rec.Spec.DNS {
			if addr, err := netip.ParseAddr(s); err == nil {
				a.Upstream = append(a.Upstream, addr)
			}
		}
		n.cfg.Network.Announce(a, att)
	}
	return n.cfg.Network.PointResolver(ctx, rec.Key, rec.Endpoint, attached)
}

// attachOne gives a container an interface in one network and notes it.
func (n *Node) attachOne(ctx context.Context, c *container, m triton.Membership) error {
	n.joining.RLock()
	defer n.joining.RUnlock()
	var r *networkRecord
	id := m.Network
	if id != triton.ModeBridge {
		var err error
		if r, err = n.findNetwork(c.key.Tenant, m.Network); err != nil && m.Name != "" {
			r, err = n.findNetwork(c.key.Tenant, m.Name) // it was made anew
		}
		if r == nil {
			return err
		}
		id = r.Key.ID
	}
	if err := n.makeNeeded(ctx, c.key.Tenant, id); err != nil {
		return err
	}
	c.mu.Lock()
	ep, have := c.rec.Endpoint, c.attached
	c.mu.Unlock()
	req := network.AttachRequest{Network: id, Address: m.Address, Address6: m.Address6, MAC: m.MAC, Interface: m.Interface, Sysctls: m.Sysctls}
	if req.Interface == "" {
		req.Interface = freeInterface(ep, have)
	} else if err := interfaceFree(ep, have, req.Interface); err != nil {
		return err
	}
	att, err := n.cfg.Network.Attach(ctx, c.key, ep, req)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.attached = append(slices.Clone(c.attached), att)
	have = c.attached
	c.mu.Unlock()
	n.changed()
	if err := writeAttached(c.dataDir, have); err != nil {
		return err
	}
	if r != nil {
		n.publish(n.networkEvent("connect", r, map[string]string{"container": c.key.ID}))
	}
	return nil
}

// freeInterface is the first of eth0, eth1, … that a container does not have.
func freeInterface(ep triton.Endpoint, have []triton.Attachment) string {
	for i := 0; ; i++ {
		name := fmt.Sprintf("eth%d", i)
		if i == 0 && ep.HostLink != "" || slices.ContainsFunc(have, func(a triton.Attachment) bool { return a.Interface == name }) {
			continue
		}
		return name
	}
}

// interfaceFree refuses a name that the container has an interface of already.
func interfaceFree(ep triton.Endpoint, have []triton.Attachment, name string) error {
	if name == "eth0" && ep.HostLink != "" || slices.ContainsFunc(have, func(a triton.Attachment) bool { return a.Interface == name }) {
		return kindf(errdefs.ErrAlreadyExists, "the container has an interface %s already", name)
	}
	return nil
}

// detachAll takes all interfaces in users' networks away. What fails is reported, and done by the next reconciliation.
func (n *Node) detachAll(ctx context.Context, c *container) {
	c.mu.Lock()
	have := c.attached
	c.mu.Unlock()
	for _, att := range have {
		if err := n.detachOne(context.WithoutCancel(ctx), c, att); err != nil {
			n.log.Error("network not left", "container", c.key, "network", att.Network, "err", err)
		}
	}
	if len(have) == 0 {
		return
	}
	c.mu.Lock()
	ep := c.rec.Endpoint
	c.mu.Unlock()
	if err := n.cfg.Network.PointResolver(context.WithoutCancel(ctx), c.key, ep, nil); err != nil {
		n.log.Error("resolver not forgotten", "container", c.key, "err", err)
	}
}

func (n *Node) detachOne(ctx context.Context, c *container, att triton.Attachment) error {
	if err := n.cfg.Network.Detach(ctx, c.key, att); err != nil {
		return err
	}
	c.mu.Lock()
	c.attached = slices.DeleteFunc(slices.Clone(c.attached), func(a triton.Attachment) bool { return a.HostLink == att.HostLink })
	left := c.attached
	c.mu.Unlock()
	n.changed()
	if r := n.nets.get(triton.NetworkKey{Tenant: c.key.Tenant, ID: att.Network}); r != nil {
		n.publish(n.networkEvent("disconnect", r, map[string]string{"container": c.key.ID}))
	}
	return writeAttached(c.dataDir, left)
}

// place is one of a container's networks as far as choosing the default route of a family goes.
type place struct {
	name     string
	priority int
	address  netip.Addr
	gateway  netip.Addr
	link     string
}

// family is one of IP.
type family bool

const (
	ipv4 family = false
	ipv6 family = true
)

// gatewayOf is the network that a container's default route of a family leads to, and its published ports come from: the one
// of the highest priority, of equal ones the first by name. False: no network of the family leads out.
func gatewayOf(rec *Record, attached []triton.Attachment, of family) (place, bool) {
	var all []place
	if p, err := netip.ParsePrefix(rec.Endpoint.Address); err == nil && of == ipv4 {
		gw, _ := netip.ParseAddr(rec.Endpoint.Gateway)
		all = append(all, place{name: triton.ModeBridge, priority: rec.Spec.BridgePriority, address: p.Addr(), gateway: gw, link: rec.Endpoint.HostLink})
	}
	for _, att := range attached {
		at := place{address: att.Address.Addr(), gateway: att.Gateway, link: att.HostLink, name: att.Network}
		if of == ipv6 {
			at.address, at.gateway = att.Address6.Addr(), att.Gateway6
		}
		if !at.gateway.IsValid() {
			continue
		}
		for _, m := range rec.Networks {
			if m.Network == att.Network {
				at.name, at.priority = m.Name, m.Priority
			}
		}
		all = append(all, at)
	}
	if len(all) == 0 {
		return place{}, false
	}
	return slices.MinFunc(all, func(a, b place) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.name, b.name))
	}), true
}

// setGateway makes the default routes what the container's networks say.
func (n *Node) setGateway(ctx context.Context, c *container) error {
	c.mu.Lock()
	rec, attached := c.rec, c.attached
	c.mu.Unlock()
	at, _ := gatewayOf(&rec, attached, ipv4)
	at6, _ := gatewayOf(&rec, attached, ipv6)
	return n.cfg.Network.SetGateway(ctx, rec.Endpoint, at.gateway, at6.gateway)
}

// keepAttached takes up the interfaces that a container had when the last daemon died.
func (n *Node) keepAttached(c *container) {
	var have []triton.Attachment
	if err := readNote(filepath.Join(c.dataDir, attachedFile), &have); err != nil {
		n.log.Error("networks of a container unreadable", "container", c.key, "err", err)
		return
	}
	var kept []triton.Attachment
	for _, att := range have {
		err := n.keepDefault(context.WithoutCancel(n.ctx), c.key.Tenant, &att)
		if err == nil {
			err = n.cfg.Network.KeepAttachment(c.key, att)
		}
		if err != nil {
			n.log.Error("network of a container not kept", "container", c.key, "network", att.Network, "err", err)
			continue
		}
		kept = append(kept, att)
	}
	c.mu.Lock()
	c.attached = kept
	c.mu.Unlock()
}

func writeAttached(dir string, have []triton.Attachment) error {
	path := filepath.Join(dir, attachedFile)
	if len(have) == 0 {
		return removeNote(path)
	}
	return writeNote(path, have)
}
