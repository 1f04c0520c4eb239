package dockerapi

import (
	"regexp"
	"strings"

	"github.com/tritond/triton/pkg/triton"
)

// The options of an endpoint that docker's bridge driver and its common part have (libnetwork/netlabel).
const (
	endpointName    = "com.docker.network.endpoint.ifname"
	endpointSysctls = "com.docker.network.endpoint.sysctls"
)

// An interface's name as the kernel has it: at most 15 bytes, no slash, no white space (dev_valid_name in net/core/dev.c);
// dots are left out, since a sysctl's name would be ambiguous, and a percent sign stands for a number there.
var interfaceName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,15}$`)

// A sysctl of one interface: net.ipv4.conf.IFNAME.log_martians=1, with the word IFNAME where the interface's name goes.
var interfaceSysctl = regexp.MustCompile(`^net\.(ipv4|ipv6|mpls)\.(conf|neigh)\.IFNAME\.([a-z0-9_]+)=([^,\s]+)$`)

// mapEndpointOptions reads the driver options of an endpoint into m. Others than docker's two are refused by name.
func mapEndpointOptions(m *triton.Membership, opts map[string]string) error {
	for _, name := range sortedKeys(opts) {
		value := opts[name]
		switch name {
		case endpointName:
			if !interfaceName.MatchString(value) || value == "lo" {
				return invalid("invalid endpoint settings:\ninvalid interface name %q", value)
			}
			m.Interface = value
		case endpointSysctls:
			for _, text := range strings.Split(value, ",") {
				if !interfaceSysctl.MatchString(text) {
					return invalid("invalid endpoint settings:\nunrecognised network interface sysctl %q: "+
						"it must be net.ipv4.conf.IFNAME.NAME=VALUE, or of ipv6, mpls, neigh", text)
				}
				m.Sysctls = append(m.Sysctls, text)
			}
		default:
			return invalid("DriverOpts: %s is not supported by this version of triton: %s and %s are", name, endpointName, endpointSysctls)
		}
	}
	if m.Network == triton.ModeBridge && len(opts) > 0 {
		return invalid("DriverOpts of the default network are not supported by this version of triton: those of other networks are")
	}
	return nil
}

// endpointOptions shows what mapEndpointOptions read; nil for none.
func endpointOptions(m *triton.Membership) map[string]string {
	if m.Interface == "" && len(m.Sysctls) == 0 {
		return nil
	}
	opts := map[string]string{}
	if m.Interface != "" {
		opts[endpointName] = m.Interface
	}
	if len(m.Sysctls) > 0 {
		opts[endpointSysctls] = strings.Join(m.Sysctls, ",")
	}
	return opts
}
