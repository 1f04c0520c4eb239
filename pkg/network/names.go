package network

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/tritond/triton/pkg/triton"
)

// Announcement is what a running container is called in a network, and what it may ask.
type Announcement struct {
	Container string            // id
	Network   string            // id
	Name      string            // the network's
	Addresses []netip.Addr      // at least one
	Names     []string          // the first answers the question for Addresses
	Links     map[string]string // what the container calls others: alias to name
	Upstream  []netip.Addr      // its own choice of servers for other names; none: the host's
	Internal  bool              // no name of others may be asked for by way of this network
}

// names is what the resolver answers from. A container knows the names of the networks that it is in, and no others.
type names struct {
	host func() []netip.AddrPort // the host's servers

	mu       sync.Mutex
	byClient map[netip.Addr]*Announcement
	byOwner  map[string][]*Announcement         // of one container, by id
	byName   map[string]map[string][]netip.Addr // network id to name to addresses
}

func newNames(host func() []netip.AddrPort) *names {
	return &names{
		host: host, byClient: map[netip.Addr]*Announcement{}, byOwner: map[string][]*Announcement{}, byName: map[string]map[string][]netip.Addr{},
	}
}

// announce makes a's names known, instead of what its addresses were called before.
func (n *names) announce(a Announcement) {
	for _, addr := range a.Addresses {
		n.withdraw(addr)
	}
	a.Names = lower(a.Names)
	links := make(map[string]string, len(a.Links))
	for alias, name := range a.Links {
		links[strings.ToLower(alias)] = strings.ToLower(name)
	}
	a.Links = links
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, addr := range a.Addresses {
		n.byClient[addr] = &a
	}
	n.byOwner[a.Container] = append(n.byOwner[a.Container], &a)
	table := n.byName[a.Network]
	if table == nil {
		table = map[string][]netip.Addr{}
		n.byName[a.Network] = table
	}
	for _, name := range a.Names {
		table[name] = append(table[name], a.Addresses...)
	}
}

func lower(names []string) []string {
	out := make([]string, 0, len(names))
	for _, name := range names {
		if name = strings.ToLower(strings.TrimSuffix(name, ".")); name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// withdraw forgets what an address is called, and the others that were announced with it.
func (n *names) withdraw(addr netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.byClient[addr]
	if a == nil {
		return
	}
	for _, own := range a.Addresses {
		delete(n.byClient, own)
	}
	n.byOwner[a.Container] = slices.DeleteFunc(n.byOwner[a.Container], func(o *Announcement) bool { return o == a })
	if len(n.byOwner[a.Container]) == 0 {
		delete(n.byOwner, a.Container)
	}
	table := n.byName[a.Network]
	for _, name := range a.Names {
		table[name] = slices.DeleteFunc(slices.Clone(table[name]), func(o netip.Addr) bool { return slices.Contains(a.Addresses, o) })
		if len(table[name]) == 0 {
			delete(table, name)
		}
	}
	if len(table) == 0 {
		delete(n.byName, a.Network)
	}
}

// memberships are the networks that the container behind an address is in. The caller holds n.mu.
func (n *names) memberships(client netip.Addr) []*Announcement {
	if a := n.byClient[client]; a != nil {
		return n.byOwner[a.Container]
	}
	return nil
}

// Lookup finds a name, alias or link, or one of them with .network behind it, in the client's networks. Several addresses come in random order.
func (n *names) Lookup(client netip.Addr, name string) ([]netip.Addr, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var found []netip.Addr
	for _, a := range n.memberships(client) {
		addrs := n.named(a, name)
		if len(addrs) == 0 {
			if plain, ok := strings.CutSuffix(name, "."+strings.ToLower(a.Name)); ok {
				addrs = n.named(a, plain)
			}
		}
		found = append(found, addrs...)
	}
	rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	return found, len(found) > 0
}

// named are the addresses of a name, or of what a's container calls so, in a's network. The caller holds n.mu.
func (n *names) named(a *Announcement, name string) []netip.Addr {
	if target, ok := a.Links[name]; ok {
		name = target
	}
	return n.byName[a.Network][name]
}

// Reverse gives name.network for an address in one of the client's networks.
func (n *names) Reverse(client, addr netip.Addr) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	target := n.byClient[addr]
	if target == nil || len(target.Names) == 0 {
		return ""
	}
	if !slices.ContainsFunc(n.memberships(client), func(a *Announcement) bool { return a.Network == target.Network }) {
		return ""
	}
	return target.Names[0] + "." + target.Name
}

// Upstream is nobody for a stranger, and for a container in internal networks only.
func (n *names) Upstream(client netip.Addr) []netip.AddrPort {
	n.mu.Lock()
	all := n.memberships(client)
	out := slices.ContainsFunc(all, func(a *Announcement) bool { return !a.Internal })
	var own []netip.Addr
	if len(all) > 0 {
		own = all[0].Upstream
	}
	n.mu.Unlock()
	switch {
	case !out:
		return nil
	case len(own) > 0:
		servers := make([]netip.AddrPort, len(own))
		for i, a := range own {
			servers[i] = netip.AddrPortFrom(a, embeddedResolver.Port())
		}
		return servers
	}
	return n.host()
}

// hostServers are the resolvers that the host itself asks, or those of the configuration.
func (n *Network) hostServers() []netip.AddrPort {
	list := n.cfg.DNS
	if len(list) == 0 {
		data, err := readIfPresent(hostResolv)
		if err != nil {
			n.cfg.Log.Error("names of others cannot be asked for", "err", err)
			return nil
		}
		list = parseResolv(data).nameservers
	}
	var servers []netip.AddrPort
	for _, s := range list {
		if a, err := netip.ParseAddr(s); err == nil {
			servers = append(servers, netip.AddrPortFrom(a, embeddedResolver.Port()))
		}
	}
	return servers
}

// Withdraw has the resolver forget what a container that has ended is called in a network: at once, its interface goes later.
func (n *Network) Withdraw(att triton.Attachment) { n.names.withdraw(att.Address.Addr()) }

// Announce tells the resolver what a running container is called.
func (n *Network) Announce(a Announcement, att triton.Attachment) {
	a.Network, a.Addresses, a.Internal = att.Network, att.Addresses(), !att.Gateway.IsValid()
	n.names.announce(a)
}
