package node

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/network"
	"github.com/tritond/triton/pkg/triton"
)

// writeNames writes a container's hosts, hostname and resolv.conf before it starts.
func (n *Node) writeNames(c *container) error {
	c.mu.Lock()
	rec := c.rec
	c.mu.Unlock()
	if strings.HasPrefix(rec.Spec.NetworkMode, triton.ContainerModePrefix) {
		return nil // shares the files of the container it joins
	}
	names := n.namesOf(c)
	var err error
	if names.Hosts, err = n.linkedHosts(&rec); err != nil {
		return err
	}
	if err := n.cfg.Network.Files(c.dataDir, names, &rec.Spec); err != nil {
		return fmt.Errorf("write network files of %s: %w", c.key, err)
	}
	return nil
}

// updateNames is writeNames for a container that runs.
func (n *Node) updateNames(c *container) error {
	c.mu.Lock()
	spec := c.rec.Spec
	c.mu.Unlock()
	if err := n.cfg.Network.UpdateFiles(c.dataDir, n.namesOf(c), &spec); err != nil {
		return fmt.Errorf("update network files of %s: %w", c.key, err)
	}
	return nil
}

// namesOf gathers what a container's files of names say of itself.
func (n *Node) namesOf(c *container) network.Names {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.rec.Spec
	names := network.Names{Hostname: s.Hostname, Domainname: s.Domainname, Owner: c.rec.Endpoint.IDs.Base}
	if p, err := netip.ParsePrefix(c.rec.Endpoint.Address); err == nil {
		names.Addresses = append(names.Addresses, p.Addr())
	}
	for _, att := range c.attached {
		names.Addresses = append(names.Addresses, att.Addresses()...)
		names.Embedded = names.Embedded || att.Network != triton.ModeBridge && n.cfg.Network.Resolves()
	}
	return names
}

// linkedHosts are the lines of hosts for links of the default network: alias, name and short id of the other container.
func (n *Node) linkedHosts(rec *Record) ([]network.Host, error) {
	var hosts []network.Host
	for _, link := range rec.Spec.Links {
		id, alias, _ := strings.Cut(link, ":")
		name, running, address := triton.ShortID(id), false, netip.Addr{}
		if other, err := n.get(triton.ContainerKey{Tenant: rec.Key.Tenant, ID: id}); err == nil {
			other.mu.Lock()
			name, running, address = other.rec.Name, other.running(), other.defaultAddress()
			other.mu.Unlock()
		} else if !errdefs.IsNotFound(err) {
			return nil, err
		}
		if !running || !address.IsValid() {
			return nil, kindf(errdefs.ErrFailedPrecondition, "Cannot link to a non running container: /%s AS /%s/%s", name, rec.Name, alias)
		}
		hosts = append(hosts, network.Host{Address: address, Names: []string{alias, triton.ShortID(id), name}})
	}
	return hosts, nil
}

// RemoveLink takes a link of the default network away, by its alias. The lines in hosts stay until the next start.
func (n *Node) RemoveLink(ctx context.Context, key triton.ContainerKey, alias string) error {
	c, err := n.get(key)
	if err != nil {
		return err
	}
	c.life.Lock()
	defer c.life.Unlock()
	c.mu.Lock()
	links, name := c.rec.Spec.Links, c.rec.Name
	c.mu.Unlock()
	left := slices.DeleteFunc(slices.Clone(links), func(link string) bool {
		_, a, _ := strings.Cut(link, ":")
		return a == alias
	})
	if len(left) == len(links) {
		return kindf(errdefs.ErrNotFound, "cannot get link /%s/%s: no such link", name, alias)
	}
	return n.amend(context.WithoutCancel(ctx), c, func(r *Record) { r.Spec.Links = left })
}
