package dockerapi

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/tritond/triton/pkg/triton"
)

// mapPorts reads -p and -P.
func mapPorts(spec *triton.Spec, h *container.HostConfig) error {
	spec.PublishAll = h.PublishAllPorts
	for port, bindings := range h.PortBindings {
		if port.Num() == 0 {
			return invalid("HostConfig.PortBindings: invalid port specification: %q", port)
		}
		if !slices.Contains([]network.IPProtocol{network.TCP, network.UDP, network.SCTP}, port.Proto()) {
			return invalid("HostConfig.PortBindings: invalid protocol: %q", port)
		}
		if len(bindings) == 0 { // a port without a binding is published on any free port
			bindings = []network.PortBinding{{}}
		}
		for _, b := range bindings {
			req := triton.PortRequest{Port: port.Num(), Proto: string(port.Proto()), HostIP: b.HostIP.Unmap()}
			if req.HostIP.Zone() != "" {
				return invalid("HostConfig.PortBindings: %s: an address with a zone is not supported by this version of triton", b.HostIP)
			}
			if err := hostPorts(&req, b.HostPort); err != nil {
				return err
			}
			spec.Ports = append(spec.Ports, req)
		}
	}
	slices.SortFunc(spec.Ports, func(a, b triton.PortRequest) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.HostFirst, b.HostFirst), a.HostIP.Compare(b.HostIP))
	})
	return nil
}

// hostPorts reads "", "8080" or "8000-8010".
func hostPorts(req *triton.PortRequest, text string) error {
	if text == "" {
		return nil
	}
	r, err := network.ParsePortRange(text)
	if err != nil || strings.Contains(text, "/") {
		return invalid("HostConfig.PortBindings: invalid port specification: %q", text)
	}
	req.HostFirst, req.HostLast = r.Start(), r.End()
	if req.HostFirst == 0 && req.HostLast > 0 {
		return invalid("HostConfig.PortBindings: invalid port specification: %q", text)
	}
	return nil
}

// portBindingsOf gives -p back as it was asked for.
func portBindingsOf(spec *triton.Spec) network.PortMap {
	out := network.PortMap{}
	for _, r := range spec.Ports {
		port, ok := network.PortFrom(r.Port, network.IPProtocol(r.Proto))
		if !ok {
			continue
		}
		b := network.PortBinding{HostIP: r.HostIP}
		switch {
		case r.HostLast > r.HostFirst:
			b.HostPort = strconv.Itoa(int(r.HostFirst)) + "-" + strconv.Itoa(int(r.HostLast))
		case r.HostFirst > 0:
			b.HostPort = strconv.Itoa(int(r.HostFirst))
		}
		out[port] = append(out[port], b)
	}
	return out
}

// portsOf are the ports of a running container: those exposed, with the ports of the host that lead to them.
func portsOf(c *triton.Container) network.PortMap {
	out := network.PortMap{}
	for _, text := range visiblePorts(c) {
		if port, err := network.ParsePort(text); err == nil {
			out[port] = nil
		}
	}
	for _, p := range c.Published {
		if port, ok := network.PortFrom(p.Port, network.IPProtocol(p.Proto)); ok {
			out[port] = append(out[port], network.PortBinding{HostIP: p.HostIP, HostPort: strconv.Itoa(int(p.HostPort))})
		}
	}
	return out
}

// portSummary is a port in docker ps: an absent address and an absent port must be absent.
type portSummary struct {
	IP          netip.Addr `json:",omitzero"`
	PrivatePort uint16
	PublicPort  uint16 `json:",omitempty"`
	Type        string
}

// portSummaries lists portsOf in a fixed order.
func portSummaries(c *triton.Container) []portSummary {
	list := []portSummary{}
	for port, bindings := range portsOf(c) {
		if len(bindings) == 0 {
			list = append(list, portSummary{PrivatePort: port.Num(), Type: string(port.Proto())})
		}
		for _, b := range bindings {
			public, err := strconv.ParseUint(b.HostPort, 10, 16)
			if err != nil {
				continue // portsOf writes numbers
			}
			list = append(list, portSummary{IP: b.HostIP, PrivatePort: port.Num(), PublicPort: uint16(public), Type: string(port.Proto())})
		}
	}
	slices.SortFunc(list, func(a, b portSummary) int {
		return cmp.Or(cmp.Compare(a.PrivatePort, b.PrivatePort), cmp.Compare(a.Type, b.Type), cmp.Compare(a.PublicPort, b.PublicPort), a.IP.Compare(b.IP))
	})
	return list
}

// publishedKey tells whether two lists of published ports are the same.
func publishedKey(ports []triton.PublishedPort) string {
	var b strings.Builder
	for _, p := range ports {
		b.WriteString(net.JoinHostPort(p.HostIP.String(), strconv.Itoa(int(p.HostPort))) + ">" + strconv.Itoa(int(p.Port)) + p.Proto + " ")
	}
	return b.String()
}

// publishes reports whether a host's port of the set, as "8080/tcp", leads to the container.
func publishes(c *triton.Container, set map[string]bool) bool {
	return slices.ContainsFunc(c.Published, func(p triton.PublishedPort) bool {
		return set[strconv.Itoa(int(p.HostPort))+"/"+p.Proto]
	})
}
