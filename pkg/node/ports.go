package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/network"
	"github.com/tritond/triton/pkg/runtime"
	"github.com/tritond/triton/pkg/shim"
	"github.com/tritond/triton/pkg/shim/relay"
	"github.com/tritond/triton/pkg/triton"
)

// portsFile is the node's note of the ports that a container has published, in its data directory. It is there from
// before the first port leads to the container until after the last one does.
const portsFile = "ports.json"

// publishPorts takes the ports that the container asks for; it gives them back itself when it fails.
func (n *Node) publishPorts(ctx context.Context, c *container) error {
	c.mu.Lock()
	rec := c.rec
	at, _ := gatewayOf(&rec, c.attached, ipv4)
	to, ok := portTarget(&rec, c.attached)
	c.mu.Unlock()
	reqs := portRequests(&rec.Spec)
	if len(reqs) == 0 || !ok {
		return nil
	}
	n.defaultHostIP(&rec, at, reqs)
	ports, socks, err := n.cfg.Network.Publish(ctx, c.key, to, reqs)
	if err != nil {
		return networkingError{fmt.Errorf("driver failed programming external connectivity on endpoint %s (%s): %w", rec.Name, rec.Key.ID, err)}
	}
	c.mu.Lock()
	c.published = ports
	c.mu.Unlock()
	err = writeNote(filepath.Join(c.dataDir, portsFile), ports)
	if err == nil {
		err = n.cfg.Runtime.Hold(ctx, c.key, socks)
	}
	if err != nil {
		n.unpublishPorts(ctx, c)
		return fmt.Errorf("keep the ports of %s: %w", c.key, err)
	}
	return nil
}

// relayPorts has the container's shim serve what no translation leads to the container: it goes on without a daemon, and
// ends with the container.
func (n *Node) relayPorts(ctx context.Context, c *container, task *runtime.Task) error {
	relays := n.cfg.Network.Relays(c.key)
	if len(relays) == 0 || task == nil {
		return nil
	}
	ports := make([]shim.ForwardedPort, len(relays))
	sockets := make([]*os.File, len(relays))
	for i, r := range relays {
		ports[i], sockets[i] = shim.ForwardedPort{Proto: r.Proto, Host: r.Host, Target: r.Target}, r.Socket
	}
	return task.Forward(ctx, ports, sockets)
}

// portTarget is where a container's published ports lead. False: no network leads out.
func portTarget(rec *Record, attached []triton.Attachment) (network.Target, bool) {
	at, ok := gatewayOf(rec, attached, ipv4)
	at6, ok6 := gatewayOf(rec, attached, ipv6)
	return network.Target{Address: at.address, Link: at.link, Address6: at6.address, Link6: at6.link}, ok || ok6
}

// defaultHostIP fills in the address of the host that the network has its ports published at.
func (n *Node) defaultHostIP(rec *Record, at place, reqs []triton.PortRequest) {
	r := n.nets.named(rec.Key.Tenant, at.name)
	if r == nil || !r.Spec.HostIP.IsValid() {
		return
	}
	for i := range reqs {
		if !reqs[i].HostIP.IsValid() {
			reqs[i].HostIP = r.Spec.HostIP
		}
	}
}

// portRequests are the ports that were asked for, and with -P all exposed ones besides, in a fixed order.
func portRequests(s *triton.Spec) []triton.PortRequest {
	reqs := slices.Clone(s.Ports)
	if !s.PublishAll {
		return reqs
	}
	for _, text := range s.ExposedPorts {
		number, proto, _ := strings.Cut(text, "/")
		port, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			continue // an image's metadata is not checked at load; inspect does not show it either
		}
		asked := func(r triton.PortRequest) bool { return r.Port == uint16(port) && r.Proto == proto }
		if !slices.ContainsFunc(s.Ports, asked) {
			reqs = append(reqs, triton.PortRequest{Port: uint16(port), Proto: proto})
		}
	}
	return reqs
}

// unpublishPorts gives a container's ports back. What fails is reported, and done by the next reconciliation.
func (n *Node) unpublishPorts(ctx context.Context, c *container) {
	c.mu.Lock()
	count := len(c.published)
	c.mu.Unlock()
	if count == 0 {
		return
	}
	ctx = context.WithoutCancel(ctx)
	// In this order a port is free only after nobody remembers who had it: a kill in between makes no two owners.
	err := n.cfg.Runtime.LetGo(ctx, c.key, count)
	err = errors.Join(err, removeNote(filepath.Join(c.dataDir, portsFile)), n.cfg.Network.Unpublish(ctx, c.key))
	if err != nil {
		n.log.Error("published ports not given back", "container", c.key, "err", err)
	}
	c.mu.Lock()
	c.published = nil
	c.mu.Unlock()
	n.changed()
}

// keepPorts takes up the ports that a container had published when the last daemon died.
func (n *Node) keepPorts(ctx context.Context, c *container) {
	var ports []triton.PublishedPort
	if err := readNote(filepath.Join(c.dataDir, portsFile), &ports); err != nil {
		n.log.Error("published ports unreadable", "container", c.key, "err", err)
		return
	}
	if len(ports) == 0 {
		return
	}
	held, err := n.cfg.Runtime.Held(ctx, c.key)
	if err != nil {
		n.log.Error("nobody held the published ports", "container", c.key, "err", err)
	}
	to, ok := portTarget(&c.rec, c.attached)
	if !ok {
		n.log.Error("published ports lead nowhere", "container", c.key)
	}
	lost, err := n.cfg.Network.KeepPublished(c.key, to, ports, held)
	if err != nil {
		n.log.Error("published ports not kept", "container", c.key, "err", err)
		return
	}
	for _, p := range lost {
		n.log.Error("a process of the host has taken a published port; what is translated leads to the container all the same",
			"container", c.key, "host", p.HostIP, "port", p.HostPort, "proto", p.Proto)
	}
	c.mu.Lock()
	c.published = ports
	c.mu.Unlock()
}

// checkPorts refuses what can never be published, and warns of what has no effect.
func (n *Node) checkPorts(s *triton.Spec, tenant triton.Tenant, networks []triton.Membership) ([]string, error) {
	for _, r := range s.Ports {
		if err := network.CheckProtocol(r.Proto); err != nil {
			return nil, kindf(errdefs.ErrInvalidArgument, "%v", err)
		}
	}
	if len(s.Ports) > 0 && (s.NetworkMode == triton.ModeHost || s.NetworkMode == triton.ModeNone) {
		return []string{fmt.Sprintf("Published ports are discarded when using %s network mode", s.NetworkMode)}, nil
	}
	leadsOut := func(m triton.Membership) bool {
		r := n.nets.get(triton.NetworkKey{Tenant: tenant, ID: m.Network})
		return r == nil || !r.Spec.Internal
	}
	if len(s.Ports) > 0 && userMode(s) && !slices.ContainsFunc(networks, leadsOut) {
		return []string{"Published ports are discarded: the container is in internal networks only"}, nil
	}
	return nil, nil
}

// RelayedPorts is what became of clients of a container's published ports that are served in user space.
type RelayedPorts struct {
	Key         triton.ContainerKey
	Name, Image string
	relay.Stats
}

// Relays returns those of the running containers to which anyone came that way, in order of id. It asks no shim.
func (n *Node) Relays() []RelayedPorts {
	var out []RelayedPorts
	for _, c := range n.all() {
		c.mu.Lock()
		published := len(c.published) > 0
		r := RelayedPorts{Key: c.key, Name: c.rec.Name, Image: c.rec.Spec.Image}
		c.mu.Unlock()
		if !published {
			continue
		}
		var err error
		if r.Stats, err = n.cfg.Runtime.Forwarded(c.key); err != nil {
			n.log.Error("counters of published ports unreadable", "container", c.key, "err", err)
		}
		if r.Accepted+r.Begun+r.Dropped > 0 {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b RelayedPorts) int { return cmp.Compare(a.Key.ID, b.Key.ID) })
	return out
}
