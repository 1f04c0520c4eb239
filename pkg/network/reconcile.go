package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// Reserve marks a stored endpoint as in use, so that its slot and address are not given to another. Reserving it again
// does nothing. Errors: AlreadyExists where another endpoint has the slot or the address, InvalidArgument where the
// endpoint is not of this network (its subnet was changed).
func (n *Network) Reserve(ep triton.Endpoint) error {
	if ep.NetNS == "" {
		return nil // the zero Endpoint: nothing of its own
	}
	c, err := n.claimOf(ep)
	if err != nil {
		return err
	}
	return n.leases.reserve(ep.Slot, c)
}

// Reconcile says which endpoints containers own, and removes all other pins and links: idle ones of a killed daemon's
// pool, and those of containers that were being made. Called once before the first Take; Run fills the pool from then on.
// Endpoints that cannot be kept (as Reserve says) are named in the error; they are not removed, and the rest is done
// nevertheless. Called again, it also makes good what others have done to the rules.
func (n *Network) Reconcile(ctx context.Context, keep []triton.Endpoint) error {
	var errs []error
	for _, ep := range keep {
		if err := n.Reserve(ep); err != nil {
			errs = append(errs, fmt.Errorf("keep endpoint %s: %w", ep.HostLink, err))
		}
	}
	errs = append(errs, n.removeUnowned(ctx, keep))

	var members []member
	for _, ep := range keep {
		if ep.HostLink == "" {
			continue
		}
		m, err := memberOf(ep)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		members = append(members, m)
	}
	n.segs.Lock()
	for _, att := range n.attached {
		m, err := memberOfAttachment(att)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		members = append(members, m)
	}
	n.segs.Unlock()
	select {
	case <-n.ready: // members of later endpoints are known already
		errs = append(errs, n.rules.renew())
	default:
		errs = append(errs, n.rules.replace(members, n.keptForwards()))
		n.once.Do(func() { close(n.ready) })
	}
	return errors.Join(errs...)
}

// removeUnowned removes the pins and links that are neither handed out nor in keep.
func (n *Network) removeUnowned(ctx context.Context, keep []triton.Endpoint) error {
	held := n.leases.claims()
	owned := make(map[string]bool, len(held))
	for _, c := range held {
		owned[c.link] = true
	}
	for _, ep := range keep {
		owned[ep.HostLink] = true // also where its slot could not be reserved
	}
	n.segs.Lock()
	known := map[string]bool{}
	bridges := []*bridge{n.bridge}
	for link := range n.attached {
		owned[link] = true
	}
	for id, s := range n.segments {
		known[segmentAlias(n.cfg.Instance, id)] = true
		bridges = append(bridges, s.bridge)
	}
	n.segs.Unlock()
	pinned, err := n.pins.slots()
	if err != nil {
		return err
	}
	var errs []error
	for _, slot := range pinned {
		if _, ok := held[slot]; !ok {
			errs = append(errs, n.pins.remove(slot))
		}
	}
	errs = append(errs, n.removeStrayBridges(func(alias string) bool { return known[alias] }))
	errs = append(errs, n.removeLinks(ctx, bridges, func(name string) bool { return !owned[name] }))
	return errors.Join(errs...)
}

const (
	// lingering is how long the kernel gets to remove the links of namespaces that were just unpinned. It takes 20 to
	// 60 ms for all of them together, where deleting them one by one takes 30 ms each.
	lingering = time.Second
	lingerFor = 5 * time.Millisecond // between two looks
)

// removeLinks waits until the ports that match are gone, and deletes those that stay.
func (n *Network) removeLinks(ctx context.Context, bridges []*bridge, match func(name string) bool) error {
	deadline := time.Now().Add(lingering)
	for {
		ports, err := portsOf(ctx, n.host, bridges)
		if err != nil {
			return err
		}
		var left []netlink.Link
		for _, l := range ports {
			if match(l.Attrs().Name) {
				left = append(left, l)
			}
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return n.deleteLinks(left)
		}
		select {
		case <-time.After(lingerFor):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (n *Network) deleteLinks(links []netlink.Link) error {
	var errs []error
	for _, l := range links {
		if err := n.host.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("remove link %s: %w", l.Attrs().Name, err))
		}
	}
	return errors.Join(errs...)
}

// Restore makes sure that a stored endpoint is there, after a restart of the daemon or of the machine: what is gone is
// made anew with the same slot, ids, address and MAC. Namespaces that are there are left alone, for a container may run
// in them. Errors as of Reserve.
func (n *Network) Restore(ctx context.Context, key triton.ContainerKey, ep triton.Endpoint) (triton.Endpoint, error) {
	if err := ctx.Err(); err != nil {
		return ep, err
	}
	if ep.NetNS == "" {
		return ep, nil
	}
	if err := n.Reserve(ep); err != nil {
		return ep, fmt.Errorf("restore the network of %s: %w", key, err)
	}
	// The run root may be another one than the endpoint was made below.
	ep.NetNS = n.pins.path(ep.Slot, pinNet)
	if ep.UserNS != "" {
		ep.UserNS = n.pins.moved(ep.UserNS)
	}
	if err := n.restore(ep); err != nil {
		return ep, fmt.Errorf("restore the network of %s: %w", key, err)
	}
	return ep, nil
}

func (n *Network) restore(ep triton.Endpoint) error {
	if !n.pins.pinned(ep.Slot, ep.UserNS) {
		return n.make(ep)
	}
	if ep.HostLink == "" {
		return nil
	}
	ns, err := os.Open(ep.NetNS)
	if err != nil {
		return fmt.Errorf("open the namespace of slot %d: %w", ep.Slot, err)
	}
	defer ns.Close()
	if err := n.allow(ep); err != nil {
		return err
	}
	return n.bridge.reconnect(n.host, ns, ep)
}

// Purge removes everything of the instance from the kernel: links, pins, rules, bridge; and restores the sysctls that Open
// changed. Containers must have ended. It also closes n. After a daemon was killed, the function Purge cleans up after it.
func (n *Network) Purge(ctx context.Context) error {
	errs := []error{n.Close(), n.pins.purge()}
	errs = append(errs, n.removeStrayBridges(func(string) bool { return false }))
	errs = append(errs, n.removeLinks(ctx, []*bridge{n.bridge}, func(string) bool { return true }))
	errs = append(errs, n.rules.remove(), n.bridge.purge(n.host, n.cfg.Instance))
	return errors.Join(errs...)
}
