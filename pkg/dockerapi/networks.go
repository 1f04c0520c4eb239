package dockerapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/tritond/triton/pkg/triton"
)

// builtIn are the networks that there always are, with their drivers.
var builtIn = []struct{ name, driver string }{{triton.ModeBridge, "bridge"}, {triton.ModeHost, "host"}, {triton.ModeNone, "null"}}

// networkID gives a built-in network the id it has on every machine.
func networkID(name string) string {
	sum := sha256.Sum256([]byte("triton built-in network " + name))
	return hex.EncodeToString(sum[:])
}

// endpointID is fixed by the container, the network and the run: a restart makes a new endpoint.
func endpointID(c *triton.Container, network string) string {
	sum := sha256.Sum256([]byte(network + c.Key.ID + strconv.Itoa(c.State.Run)))
	return hex.EncodeToString(sum[:])
}

// networkName is the network that the container is in; "" when it shares another container's.
func networkName(c *triton.Container) string {
	if strings.HasPrefix(c.Spec.NetworkMode, triton.ContainerModePrefix) {
		return ""
	}
	if mode := c.Spec.NetworkMode; mode != "" && mode != triton.ModeDefault {
		return mode
	}
	return triton.ModeBridge
}

// endpointsOf shows addresses while the container runs, as docker does.
func endpointsOf(c *triton.Container) map[string]*network.EndpointSettings {
	networks := map[string]*network.EndpointSettings{}
	mode := networkName(c)
	if mode == triton.ModeHost || mode == triton.ModeNone || mode == triton.ModeBridge && c.Network.Network != triton.NetworkLeft {
		networks[mode] = builtInEndpoint(c, mode)
	}
	for i := range c.Networks {
		m := &c.Networks[i]
		networks[m.Name] = memberEndpoint(c, m)
	}
	return networks
}

// builtInEndpoint is the place in a network that the container was made in and that there always is.
func builtInEndpoint(c *triton.Container, name string) *network.EndpointSettings {
	ep := &network.EndpointSettings{NetworkID: networkID(name), GwPriority: c.Spec.BridgePriority}
	if !isRunning(c) {
		return ep
	}
	ep.EndpointID = endpointID(c, name)
	if prefix, err := netip.ParsePrefix(c.Network.Address); err == nil {
		ep.IPAddress, ep.IPPrefixLen = prefix.Addr(), prefix.Bits()
	}
	ep.Gateway, _ = netip.ParseAddr(c.Network.Gateway)
	if mac, err := net.ParseMAC(c.Network.MAC); err == nil {
		ep.MacAddress = network.HardwareAddr(mac)
	}
	return ep
}

// memberEndpoint is the place in a network that the container has joined.
func memberEndpoint(c *triton.Container, m *triton.Membership) *network.EndpointSettings {
	ep := &network.EndpointSettings{Links: m.Links, Aliases: m.Aliases, GwPriority: m.Priority, NetworkID: m.Network, DriverOpts: endpointOptions(m)}
	if m.Address.IsValid() || m.Address6.IsValid() {
		ep.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: m.Address, IPv6Address: m.Address6}
	}
	if m.Network == triton.ModeBridge {
		ep.NetworkID = networkID(m.Network)
	} else {
		ep.DNSNames = c.DNSNames(m)
	}
	if mac, err := net.ParseMAC(m.MAC); err == nil {
		ep.MacAddress = network.HardwareAddr(mac)
	}
	if !isRunning(c) {
		return ep
	}
	for _, att := range c.Attached {
		if att.Network != m.Network {
			continue
		}
		ep.EndpointID = endpointID(c, m.Network)
		ep.IPAddress, ep.IPPrefixLen, ep.Gateway = att.Address.Addr(), att.Address.Bits(), att.Gateway
		if att.Address6.IsValid() {
			ep.GlobalIPv6Address, ep.GlobalIPv6PrefixLen, ep.IPv6Gateway = att.Address6.Addr(), att.Address6.Bits(), att.Gateway6
		}
		if mac, err := net.ParseMAC(att.MAC); err == nil {
			ep.MacAddress = network.HardwareAddr(mac)
		}
	}
	return ep
}

// networksKey tells whether a container's networks are the same.
func networksKey(c *triton.Container) string {
	var b strings.Builder
	for _, m := range c.Networks {
		fmt.Fprintf(&b, "%s %s %v %v %s %s %s %d %s %v\n", m.Network, m.Name, m.Aliases, m.Links, m.Address, m.Address6, m.MAC, m.Priority,
			m.Interface, m.Sysctls)
	}
	for _, a := range c.Attached {
		fmt.Fprintf(&b, "%s %s %s %s %s %s\n", a.Network, a.Address, a.Gateway, a.Address6, a.Gateway6, a.MAC)
	}
	return b.String()
}

// linksOf shows the links of the default network as docker does: /db:/web/alias. A removed container is shown by its id.
func (s *Server) linksOf(ctx context.Context, c *triton.Container) ([]string, error) {
	var links []string
	for _, link := range c.Spec.Links {
		id, alias, _ := strings.Cut(link, ":")
		other, err := s.Backend.InspectContainer(ctx, triton.ContainerKey{Tenant: c.Key.Tenant, ID: id})
		if errdefs.IsNotFound(err) {
			other.Name = triton.ShortID(id)
		} else if err != nil {
			return nil, err
		}
		links = append(links, "/"+other.Name+":/"+c.Name+"/"+alias)
	}
	return links, nil
}

// sandboxOf names the network namespace of a container that runs, and says where it is. A restart makes a new one, as in docker,
// and who shares another container's has none of its own.
func sandboxOf(c *triton.Container) (id, at string) {
	switch {
	case !isRunning(c) || strings.HasPrefix(c.Spec.NetworkMode, triton.ContainerModePrefix):
		return "", ""
	case c.Network.NetNS == "": // the host's
		return endpointID(c, "sandbox"), fmt.Sprintf("/proc/%d/ns/net", c.State.Pid)
	}
	return endpointID(c, "sandbox"), c.Network.NetNS
}

func inspectNetworkOf(c *triton.Container) legacyNetwork {
	out := legacyNetwork{Ports: portsOf(c), Networks: endpointsOf(c)}
	out.SandboxID, out.SandboxKey = sandboxOf(c)
	if ep := out.Networks[triton.ModeBridge]; ep != nil && ep.IPAddress.IsValid() {
		out.EndpointID, out.MacAddress = ep.EndpointID, ep.MacAddress.String()
		out.IPAddress, out.IPPrefixLen = ep.IPAddress.String(), ep.IPPrefixLen
		if ep.Gateway.IsValid() {
			out.Gateway = ep.Gateway.String()
		}
	}
	return out
}

// builtInNetwork shows a network that there always is. of describes the default one; its zero value leaves its addresses out.
func (s *Server) builtInNetwork(name, driver string, of *triton.NetworkInfo) network.Network {
	n := network.Network{
		Name: name, ID: networkID(name), Created: s.started.UTC(), Scope: "local", Driver: driver, EnableIPv4: true,
		IPAM:    network.IPAM{Driver: "default", Config: []network.IPAMConfig{}},
		Options: map[string]string{}, Labels: map[string]string{},
	}
	if name == triton.ModeBridge {
		if of.Spec.Subnet.IsValid() {
			n.IPAM.Config = append(n.IPAM.Config, network.IPAMConfig{Subnet: of.Spec.Subnet, Gateway: of.Spec.Gateway})
		}
		n.Options = map[string]string{
			"com.docker.network.bridge.default_bridge": "true", "com.docker.network.bridge.enable_icc": "true",
			"com.docker.network.bridge.enable_ip_masquerade": "true", "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
		}
		if of.Spec.MTU != 0 {
			n.Options["com.docker.network.driver.mtu"] = strconv.Itoa(of.Spec.MTU)
		}
		if of.Link != "" {
			n.Options["com.docker.network.bridge.name"] = of.Link
		}
	}
	return n
}

// userNetworkOf shows a network that a user made.
func userNetworkOf(n *triton.NetworkInfo) network.Network {
	out := network.Network{
		Name: n.Spec.Name, ID: n.Key.ID, Created: n.Created.UTC(), Scope: "local", Driver: "bridge", EnableIPv4: true,
		IPAM:     network.IPAM{Driver: "default", Options: map[string]string{}},
		Internal: n.Spec.Internal, Attachable: n.Spec.Attachable, Options: n.Spec.Options, Labels: n.Spec.Labels,
	}
	out.IPAM.Config = []network.IPAMConfig{ipamConfigOf(&n.Spec.Pool)}
	if n.Spec.IPv6 != nil {
		out.EnableIPv6 = true
		out.IPAM.Config = append(out.IPAM.Config, ipamConfigOf(n.Spec.IPv6))
	}
	if out.Options == nil {
		out.Options = map[string]string{}
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	return out
}

func ipamConfigOf(p *triton.Pool) network.IPAMConfig {
	return network.IPAMConfig{Subnet: p.Subnet, IPRange: p.IPRange, Gateway: p.Gateway, AuxAddress: p.Aux}
}

// networksOf are all networks that a tenant can see: those that there always are first.
func (s *Server) networksOf(ctx context.Context, tenant triton.Tenant) ([]network.Network, error) {
	def, err := s.Backend.DefaultNetwork(ctx, tenant, false)
	if err != nil {
		return nil, err
	}
	var all []network.Network
	for _, b := range builtIn {
		all = append(all, s.builtInNetwork(b.name, b.driver, &def))
	}
	made, err := s.Backend.ListNetworks(ctx, tenant)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(made, func(a, b triton.NetworkInfo) int { return strings.Compare(a.Spec.Name, b.Spec.Name) })
	for i := range made {
		all = append(all, userNetworkOf(&made[i]))
	}
	return all, nil
}

// findNetwork finds a network by name, id or unique id prefix, in this order.
func (s *Server) findNetwork(ctx context.Context, tenant triton.Tenant, ref string) (network.Network, error) {
	all, err := s.networksOf(ctx, tenant)
	if err != nil {
		return network.Network{}, err
	}
	for _, same := range []func(*network.Network) bool{
		func(n *network.Network) bool { return n.Name == ref },
		func(n *network.Network) bool { return n.ID == ref },
		func(n *network.Network) bool { return ref != "" && strings.HasPrefix(n.ID, ref) },
	} {
		var found []network.Network
		for i := range all {
			if same(&all[i]) {
				found = append(found, all[i])
			}
		}
		if len(found) == 1 {
			return found[0], nil
		}
		if len(found) > 1 {
			return network.Network{}, invalid("network %s is ambiguous (%d matches found based on ID prefix)", ref, len(found))
		}
	}
	return network.Network{}, notFound("network %s not found", ref)
}

// networkRef is how the backend calls a network: by id, or by name one that there always is.
func (s *Server) networkRef(ctx context.Context, tenant triton.Tenant, ref string) (string, error) {
	n, err := s.findNetwork(ctx, tenant, ref)
	if err != nil {
		return "", err
	}
	if isBuiltIn(n.Name) {
		return n.Name, nil
	}
	return n.ID, nil
}

func isBuiltIn(name string) bool {
	return slices.ContainsFunc(builtIn, func(b struct{ name, driver string }) bool { return b.name == name })
}

// listNetworks serves all networks that docker's filters select.
func (s *Server) listNetworks(ctx context.Context, c *call) error {
	f, err := parseFilters(c.query.Get("filters"), "dangling", "driver", "id", "label", "name", "scope", "type")
	if err != nil {
		return err
	}
	dangling, byUse, err := f.flag("dangling")
	if err != nil {
		return err
	}
	for kind := range f["type"] {
		if kind != "builtin" && kind != "custom" {
			return invalid("invalid filter: 'type'='%s'", kind)
		}
	}
	all, err := s.networksOf(ctx, c.tenant)
	if err != nil {
		return err
	}
	used := map[string]bool{}
	if byUse {
		if used, err = s.usedNetworks(ctx, c.tenant); err != nil {
			return err
		}
	}
	names, ids := f.patterns("name"), f.patterns("id")
	list := []network.Summary{}
	for _, n := range all {
		kind := "custom"
		if isBuiltIn(n.Name) {
			kind = "builtin"
		}
		unused := kind == "custom" && !used[n.ID]
		switch {
		case byUse && dangling != unused,
			len(names) > 0 && !anyMatch(names, n.Name), len(ids) > 0 && !anyMatch(ids, n.ID),
			!f.exact("driver", n.Driver), !f.exact("scope", n.Scope), !f.exact("type", kind), !f.labels("label", n.Labels):
			continue
		}
		list = append(list, network.Summary{Network: n})
	}
	return c.json(http.StatusOK, list)
}

// usedNetworks are the ids of the users' networks that running containers are in.
func (s *Server) usedNetworks(ctx context.Context, tenant triton.Tenant) (map[string]bool, error) {
	all, err := s.Backend.ListContainers(ctx, tenant)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for i := range all {
		for _, att := range all[i].Attached {
			used[att.Network] = true
		}
	}
	return used, nil
}

func (s *Server) inspectNetwork(ctx context.Context, c *call) error {
	if scope := c.query.Get("scope"); scope != "" && scope != "local" {
		return notFound("network %s not found", c.vars["id"])
	}
	n, err := s.findNetwork(ctx, c.tenant, c.vars["id"])
	if err != nil {
		return err
	}
	if n.Name == triton.ModeBridge { // shown with its addresses, be it in use or not
		def, err := s.Backend.DefaultNetwork(ctx, c.tenant, true)
		if err != nil {
			return err
		}
		n = s.builtInNetwork(n.Name, n.Driver, &def)
	}
	all, err := s.Backend.ListContainers(ctx, c.tenant)
	if err != nil {
		return err
	}
	inside := map[string]network.EndpointResource{}
	for i := range all {
		ctr := &all[i]
		if ep := endpointsOf(ctr)[n.Name]; ep != nil && isRunning(ctr) {
			r := network.EndpointResource{Name: ctr.Name, EndpointID: ep.EndpointID, MacAddress: ep.MacAddress}
			if ep.IPAddress.IsValid() {
				r.IPv4Address = netip.PrefixFrom(ep.IPAddress, ep.IPPrefixLen)
			}
			if ep.GlobalIPv6Address.IsValid() {
				r.IPv6Address = netip.PrefixFrom(ep.GlobalIPv6Address, ep.GlobalIPv6PrefixLen)
			}
			inside[ctr.Key.ID] = r
		}
	}
	return c.json(http.StatusOK, network.Inspect{Network: n, Containers: inside})
}
