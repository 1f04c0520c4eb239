package dockerapi

import (
	"net"
	"slices"
	"strings"

	"github.com/tritond/triton/pkg/triton"
)

// userNetwork reports whether a network mode names a network that a user made.
func userNetwork(mode string) bool {
	return mode != "" && !strings.HasPrefix(mode, triton.ContainerModePrefix) &&
		!slices.Contains([]string{triton.ModeBridge, triton.ModeHost, triton.ModeNone, triton.ModeDefault}, mode)
}

// mapNetworking reads which networks a container is to join. Names are resolved by the node.
func mapNetworking(spec *triton.Spec, req *createRequest, resolve containerResolver) error {
	var first []triton.Membership
	if userNetwork(spec.NetworkMode) {
		first = []triton.Membership{{Network: spec.NetworkMode, Name: spec.NetworkMode}}
	}
	if req.NetworkingConfig != nil {
		for _, name := range sortedKeys(req.NetworkingConfig.EndpointsConfig) {
			ref := name
			if ref == triton.ModeDefault {
				ref = triton.ModeBridge
			}
			m, err := membershipOf(ref, req.NetworkingConfig.EndpointsConfig[name])
			if err != nil {
				return err
			}
			switch {
			case ref == triton.ModeBridge && spec.NetworkMode == triton.ModeBridge:
				spec.BridgePriority, spec.BridgeMAC = m.Priority, m.MAC
			case ref == spec.NetworkMode && len(first) > 0:
				first[0] = m
			case ref == spec.NetworkMode: // host and none, which have nothing to say
			case spec.NetworkMode == triton.ModeHost, spec.NetworkMode == triton.ModeNone, ref == triton.ModeHost, ref == triton.ModeNone:
				return invalid("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
			case strings.HasPrefix(spec.NetworkMode, triton.ContainerModePrefix):
				return invalid("conflicting options: a container that shares a network cannot join %s", name)
			default:
				spec.Networks = append(spec.Networks, m)
			}
		}
	}
	spec.Networks = append(first, spec.Networks...)
	if err := mapMAC(spec, req.mac); err != nil {
		return err
	}
	return mapLinks(spec, req.HostConfig.Links, resolve)
}

// mapMAC gives the network that NetworkMode names the address that older clients send for the container as a whole.
func mapMAC(spec *triton.Spec, text string) error {
	if text == "" {
		return nil
	}
	mac, err := unicastMAC(text)
	if err != nil {
		return err
	}
	main := &spec.BridgeMAC
	switch {
	case userNetwork(spec.NetworkMode):
		main = &spec.Networks[0].MAC
	case spec.NetworkMode != triton.ModeBridge:
		return invalid("conflicting options: mac-address and the network mode")
	}
	if *main != "" && *main != mac {
		return invalid("the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty")
	}
	*main = mac
	return nil
}

func unicastMAC(text string) (string, error) {
	const length, multicast = 6, 1
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != length || mac[0]&multicast != 0 {
		return "", invalid("invalid MAC address %s", text)
	}
	return mac.String(), nil
}

// mapLinks reads --link: on the default network lines in hosts, elsewhere names that the resolver knows.
func mapLinks(spec *triton.Spec, links []string, resolve containerResolver) error {
	if len(links) == 0 {
		return nil
	}
	switch {
	case spec.NetworkMode == triton.ModeHost:
		return invalid("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
	case strings.HasPrefix(spec.NetworkMode, triton.ContainerModePrefix):
		return invalid("conflicting options: container type network can't be used with links. This would result in undefined behavior")
	case spec.NetworkMode == triton.ModeNone:
		return invalid("HostConfig.Links: a container without a network has no use for links")
	}
	for _, link := range links {
		name, alias, err := parseLink(link)
		if err != nil {
			return err
		}
		if userNetwork(spec.NetworkMode) { // a name of the network, there or not yet
			if text := name + ":" + alias; !slices.Contains(spec.Networks[0].Links, text) {
				spec.Networks[0].Links = append(spec.Networks[0].Links, text)
			}
			continue
		}
		key, err := resolve(name)
		if err != nil {
			return invalid("HostConfig.Links: could not get container for %s: %s", name, messageOf(err)) // a 404 would have the CLI pull
		}
		spec.Links = append(spec.Links, key.ID+":"+alias)
	}
	return nil
}
