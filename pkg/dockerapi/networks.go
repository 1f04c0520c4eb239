package dockerapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/moby/moby/api/types/network"

	"github.com/tritond/triton/pkg/triton"
)

// Bridge describes the default network of this machine.
type Bridge struct {
	Link    string // name of the bridge
	Subnet  netip.Prefix
	Gateway netip.Addr
}

// builtIn are the networks that there always are, with their drivers.
var builtIn = []struct{ name, driver string }{{triton.ModeBridge, "bridge"}, {triton.ModeHost, "host"}, {triton.ModeNone, "null"}}

// networkID gives a built-in network the id it has on every machine.
func networkID(name string) string {
	sum := sha256.Sum256([]byte("triton built-in network " + name))
	return hex.EncodeToString(sum[:])
}

// endpointID is fixed by the container and its run: a restart makes a new endpoint.
func endpointID(c *triton.Container) string {
	sum := sha256.Sum256([]byte(networkName(c) + c.Key.ID + c.State.StartedAt.String()))
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

// endpointsOf shows addresses while the container runs, as docker does; they stay reserved when it does not.
func endpointsOf(c *triton.Container) map[string]*network.EndpointSettings {
	networks := map[string]*network.EndpointSettings{}
	name := networkName(c)
	if name == "" {
		return networks
	}
	ep := &network.EndpointSettings{NetworkID: networkID(name)}
	networks[name] = ep
	if !isRunning(c) {
		return networks
	}
	ep.EndpointID = endpointID(c)
	if prefix, err := netip.ParsePrefix(c.Network.Address); err == nil {
		ep.IPAddress, ep.IPPrefixLen = prefix.Addr(), prefix.Bits()
	}
	ep.Gateway, _ = netip.ParseAddr(c.Network.Gateway)
	if mac, err := net.ParseMAC(c.Network.MAC); err == nil {
		ep.MacAddress = network.HardwareAddr(mac)
	}
	return networks
}

func inspectNetworkOf(c *triton.Container) legacyNetwork {
	out := legacyNetwork{Ports: portsOf(c), Networks: endpointsOf(c)}
	if isRunning(c) {
		out.SandboxKey = c.Network.NetNS
	}
	if ep := out.Networks[triton.ModeBridge]; ep != nil && ep.IPAddress.IsValid() {
		out.EndpointID, out.MacAddress = ep.EndpointID, ep.MacAddress.String()
		out.IPAddress, out.IPPrefixLen = ep.IPAddress.String(), ep.IPPrefixLen
		if ep.Gateway.IsValid() {
			out.Gateway = ep.Gateway.String()
		}
	}
	return out
}

func (s *Server) networkOf(name, driver string) network.Network {
	n := network.Network{
		Name: name, ID: networkID(name), Created: s.started.UTC(), Scope: "local", Driver: driver, EnableIPv4: true,
		IPAM:    network.IPAM{Driver: "default", Config: []network.IPAMConfig{}},
		Options: map[string]string{}, Labels: map[string]string{},
	}
	if name == triton.ModeBridge {
		if s.Bridge.Subnet.IsValid() {
			n.IPAM.Config = append(n.IPAM.Config, network.IPAMConfig{Subnet: s.Bridge.Subnet, Gateway: s.Bridge.Gateway})
		}
		n.Options["com.docker.network.bridge.default_bridge"] = "true"
		if s.Bridge.Link != "" {
			n.Options["com.docker.network.bridge.name"] = s.Bridge.Link
		}
	}
	return n
}

// listNetworks serves the built-in networks. Filters select among them as docker's do.
func (s *Server) listNetworks(_ context.Context, c *call) error {
	f, err := parseFilters(c.query.Get("filters"), "dangling", "driver", "id", "label", "name", "scope", "type")
	if err != nil {
		return err
	}
	dangling, byUse, err := f.flag("dangling")
	if err != nil {
		return err
	}
	names, ids := f.patterns("name"), f.patterns("id")
	list := []network.Summary{}
	for _, b := range builtIn {
		n := s.networkOf(b.name, b.driver)
		switch {
		case byUse && dangling, // built-in networks are never unused
			len(names) > 0 && !anyMatch(names, n.Name), len(ids) > 0 && !anyMatch(ids, n.ID),
			!f.exact("driver", n.Driver), !f.exact("scope", n.Scope), !f.exact("type", "builtin"), !f.labels("label", n.Labels):
			continue
		}
		list = append(list, network.Summary{Network: n})
	}
	return c.json(http.StatusOK, list)
}

func (s *Server) inspectNetwork(ctx context.Context, c *call) error {
	for _, b := range builtIn {
		n := s.networkOf(b.name, b.driver)
		if ref := c.vars["id"]; ref != n.Name && !strings.HasPrefix(n.ID, ref) {
			continue
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
				r.IPv4Address, _ = netip.ParsePrefix(ctr.Network.Address)
				inside[ctr.Key.ID] = r
			}
		}
		return c.json(http.StatusOK, network.Inspect{Network: n, Containers: inside})
	}
	return notFound("network %s not found", c.vars["id"])
}
