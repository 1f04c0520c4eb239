package network

import (
	"fmt"
	"path/filepath"
)

// namespacesDir is where namespaces are pinned, below the run root.
const namespacesDir = "ns"

// Change is one thing of the host that is not as it was without us. Purge takes it back.
type Change struct {
	Kind string // link, nft, sysctl, mount
	What string
}

// Changes lists what Open made and set outside containers: the bridge, the tables, the sysctls with their old values.
func (n *Network) Changes() ([]Change, error) {
	b := n.bridge
	cs := []Change{
		{"link", fmt.Sprintf("bridge %s with %s, and a veth pair per container", b.name, b.gateway)},
		{"nft", fmt.Sprintf("tables inet and bridge %s", n.rules.inet.Name)},
		{"mount", "namespaces of containers below " + filepath.Join(n.cfg.RunRoot, namespacesDir)},
	}
	link, err := n.host.LinkByIndex(b.index)
	if err != nil {
		return nil, fmt.Errorf("look up bridge %s: %w", b.name, err)
	}
	was, ok := decodeForwarding(aliasPrefix+n.cfg.Instance, link.Attrs().Alias)
	if ok && was.ipForward == "0" {
		cs = append(cs, Change{"sysctl", "net.ipv4.ip_forward=1, was 0"})
	}
	if ok && was.ip6 != nil { // since there was a network with IPv6
		cs = append(cs, Change{"sysctl", "net.ipv6.conf.all.forwarding=1, was 0"})
	}
	return cs, nil
}
