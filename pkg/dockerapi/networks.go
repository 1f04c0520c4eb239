package dockerapi

import "net/netip"

// Bridge describes the default network of this machine.
type Bridge struct {
	Name    string // of the link
	Subnet  netip.Prefix
	Gateway netip.Addr
}
