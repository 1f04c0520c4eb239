package node

import (
	"context"
	"errors"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// ConnectNetwork makes a container take part in a network, at once where it runs. m.Network is a name or an id.
func (n *Node) ConnectNetwork(ctx context.Context, key triton.ContainerKey, m triton.Membership) error {
	c, err := n.get(key)
	if err != nil {
		return err
	}
	c.life.Lock()
	defer c.life.Unlock()
	ctx = context.WithoutCancel(ctx)
	c.mu.Lock()
	spec, name, running, removing := &c.rec.Spec, c.rec.Name, c.running(), c.removing
	member := c.rec.memberOf
	c.mu.Unlock()
	if removing {
		return kindf(errdefs.ErrFailedPrecondition, "container %s is marked for removal and cannot be connected or disconnected to the network", key.ID)
	}
	switch {
	case m.Network == triton.ModeHost:
		return kindf(errdefs.ErrPermissionDenied, "cannot connect container to host network - container must be created in host network mode")
	case !ownsNetwork(spec):
		return kindf(errdefs.ErrPermissionDenied, "container sharing network namespace with another container or host cannot be connected to any other network")
	case m.Network == triton.ModeNone, spec.NetworkMode == triton.ModeNone:
		return kindf(errdefs.ErrPermissionDenied, "container cannot be connected to multiple networks with one of the networks in private (none) mode")
	}
	if m.Network != triton.ModeBridge {
		r, err := n.findNetwork(key.Tenant, m.Network)
		if err != nil {
			return err
		}
		if err := checkMembership(r, &m); err != nil {
			return err
		}
		m.Network, m.Name = r.Key.ID, r.Spec.Name
	} else {
		m.Name = triton.ModeBridge
	}
	if member(m.Network) {
		return kindf(errdefs.ErrPermissionDenied, "endpoint with name %s already exists in network %s", name, m.Name)
	}
	if err := n.amend(ctx, c, func(r *Record) { r.Networks = append(slices.Clone(r.Networks), m) }); err != nil {
		return err
	}
	if !running {
		return nil
	}
	err = n.attachOne(ctx, c, m)
	if err == nil {
		err = n.networksChanged(ctx, c)
	}
	if err != nil {
		if uerr := n.leave(ctx, c, m.Network); uerr != nil {
			n.log.Error("network not left after a failure to join it", "container", c.key, "err", uerr)
		}
	}
	return err
}

// memberOf reports whether a container is to take part in a network, by id.
func (r *Record) memberOf(id string) bool {
	if id == triton.ModeBridge && r.Endpoint.Network == triton.ModeBridge {
		return true
	}
	return slices.ContainsFunc(r.Networks, func(m triton.Membership) bool { return m.Network == id })
}

// networksChanged brings what depends on a running container's networks up to date: by which name those who talk to it know
// it, its default route, where its published ports lead, its files of names, and those of who links to it.
func (n *Node) networksChanged(ctx context.Context, c *container) error {
	if err := errors.Join(n.tellAddresses(c), n.setGateway(ctx, c), n.announce(ctx, c)); err != nil {
		return err
	}
	if err := n.retarget(ctx, c, ""); err != nil {
		return err
	}
	n.tellLinking(c)
	return n.updateNames(c)
}

// retarget leads a container's published ports to its addresses, but for those in one network, by id.
func (n *Node) retarget(ctx context.Context, c *container, without string) error {
	c.mu.Lock()
	rec, attached, ports, task := c.rec, slices.Clone(c.attached), c.published, c.task
	c.mu.Unlock()
	if len(ports) == 0 {
		return nil
	}
	if without == triton.ModeBridge {
		rec.Endpoint.Address, rec.Endpoint.Gateway = "", ""
	}
	attached = slices.DeleteFunc(attached, func(a triton.Attachment) bool { return a.Network == without })
	to, _ := portTarget(&rec, attached)
	if err := n.cfg.Network.Retarget(ctx, c.key, to); err != nil {
		return err
	}
	return n.relayPorts(ctx, c, task)
}

// DisconnectNetwork ends a container's part in a network, at once where it runs. ref is a name or an id.
func (n *Node) DisconnectNetwork(ctx context.Context, key triton.ContainerKey, ref string) error {
	c, err := n.get(key)
	if err != nil {
		return err
	}
	c.life.Lock()
	defer c.life.Unlock()
	ctx = context.WithoutCancel(ctx)
	c.mu.Lock()
	rec, running := c.rec, c.running()
	c.mu.Unlock()
	if ref == triton.ModeHost || rec.Spec.NetworkMode == triton.ModeHost {
		return kindf(errdefs.ErrPermissionDenied, "container cannot be disconnected from host network or connected to host network")
	}
	id, name := ref, ref
	if ref != triton.ModeBridge {
		r, err := n.findNetwork(key.Tenant, ref)
		if err != nil && !rec.memberOf(ref) { // the network may be gone already
			return err
		}
		if err == nil {
			id, name = r.Key.ID, r.Spec.Name
		}
	}
	if !rec.memberOf(id) {
		return kindf(errdefs.ErrPermissionDenied, "container %s is not connected to network %s", key.ID, name)
	}
	if running { // before somebody else can have the address
		if err := n.retarget(ctx, c, id); err != nil {
			return err
		}
	}
	if err := n.leave(ctx, c, id); err != nil || !running {
		return err
	}
	return n.networksChanged(ctx, c)
}

// leave takes a container out of a network, in the record and where it runs.
func (n *Node) leave(ctx context.Context, c *container, id string) error {
	c.mu.Lock()
	ep, attached := c.rec.Endpoint, c.attached
	c.mu.Unlock()
	if id == triton.ModeBridge && ep.Network == triton.ModeBridge {
		stripped, err := n.cfg.Network.Strip(ctx, ep)
		if err != nil {
			return err
		}
		return n.amend(ctx, c, func(r *Record) { r.Endpoint = stripped })
	}
	for _, att := range attached {
		if att.Network == id {
			if err := n.detachOne(ctx, c, att); err != nil {
				return err
			}
		}
	}
	return n.amend(ctx, c, func(r *Record) {
		r.Networks = slices.DeleteFunc(slices.Clone(r.Networks), func(m triton.Membership) bool { return m.Network == id })
	})
}
