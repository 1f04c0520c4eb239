package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	c.naming.Lock()
	defer c.naming.Unlock()
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
	c.naming.Lock()
	defer c.naming.Unlock()
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

// linkedHosts are the lines of hosts for links of the default network, which a container that starts must have all of.
func (n *Node) linkedHosts(rec *Record) ([]network.Host, error) {
	var hosts []network.Host
	for _, link := range rec.Spec.Links {
		id, alias, _ := strings.Cut(link, ":")
		to := linked{name: triton.ShortID(id)}
		if other, err := n.get(triton.ContainerKey{Tenant: rec.Key.Tenant, ID: id}); err == nil {
			to = other.asLinked(alias)
		} else if !errdefs.IsNotFound(err) {
			return nil, err
		}
		switch {
		case to.running && !to.member:
			return nil, kindf(errdefs.ErrFailedPrecondition, "container %s not attached to default bridge network", id)
		case !to.running || !to.host.Address.IsValid(): // or just ending
			return nil, kindf(errdefs.ErrFailedPrecondition, "Cannot link to a non running container: /%s AS /%s/%s", to.name, rec.Name, alias)
		}
		hosts = append(hosts, to.host)
	}
	return hosts, nil
}

// linked is a container as those see it that link to it.
type linked struct {
	name            string
	member, running bool         // of the default network
	host            network.Host // its Address is zero where it is not in the network now
}

// asLinked is c for a link of that alias.
func (c *container) asLinked(alias string) linked {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := []string{alias}
	if h := c.rec.Spec.Hostname; h != "" {
		names = append(names, h)
	}
	if c.rec.Name != alias {
		names = append(names, c.rec.Name)
	}
	return linked{
		name: c.rec.Name, member: c.rec.memberOf(triton.ModeBridge), running: c.running(),
		host: network.Host{Address: c.defaultAddress(), Names: names},
	}
}

// linkedTo are the containers that c was made with a link to.
func (c *container) linkedTo() []triton.ContainerKey {
	var keys []triton.ContainerKey
	for _, link := range c.links {
		id, _, _ := strings.Cut(link, ":")
		if k := (triton.ContainerKey{Tenant: c.key.Tenant, ID: id}); !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	return keys
}

// tellLinking tells the containers that link to c where it is now. What of that fails is reported: their files must not keep c
// from where it is.
func (n *Node) tellLinking(c *container) {
	n.mu.Lock()
	linking := slices.Clone(n.linking[c.key])
	n.mu.Unlock()
	for _, l := range linking {
		if err := n.updateLinks(l); err != nil {
			n.log.Error("a container that moved is not found by its link", "container", l.key, "linked", c.key, "err", err)
		}
	}
}

// updateLinks brings the lines of c's hosts for links up to date. Lines whose containers are nowhere now stay as they are.
func (n *Node) updateLinks(c *container) error {
	c.naming.Lock() // before the addresses are read: who moves later waits here, and writes later
	defer c.naming.Unlock()
	c.mu.Lock()
	links := c.rec.Spec.Links
	c.mu.Unlock()
	var hosts []network.Host
	for _, link := range links {
		id, alias, _ := strings.Cut(link, ":")
		other, err := n.get(triton.ContainerKey{Tenant: c.key.Tenant, ID: id})
		if err != nil {
			continue // removed
		}
		if host := other.asLinked(alias).host; host.Address.IsValid() {
			hosts = append(hosts, host)
		}
	}
	if len(hosts) == 0 {
		return nil
	}
	err := n.cfg.Network.UpdateLinks(c.dataDir, hosts)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it never ran, or is being removed
	}
	return err
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
