package network

import (
	"net/netip"

	"github.com/tritond/triton/pkg/triton"
)

// segmentID is where segments has a network, and what its bridge is named after. BridgeNetwork is the instance's own for the
// default tenant, and another one for each other tenant.
func segmentID(key triton.NetworkKey) string {
	if key.ID == BridgeNetwork && key.Tenant != triton.DefaultTenant {
		return BridgeNetwork + "@" + string(key.Tenant)
	}
	return key.ID
}

// chooseSmallSubnet looks through a thousand addresses at a time, from the end of docker's default address pools: there are many
// tenants, and what they make themselves is chosen from the beginning.
func chooseSmallSubnet(taken func(netip.Prefix) bool) (netip.Prefix, error) {
	const step, bits = 4, 22 // a /22 in the third byte
	for third := 256 - step; third >= 0; third -= step {
		if p := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(third)}), bits); !taken(p) {
			return p, nil
		}
	}
	return chooseSubnet(taken)
}
