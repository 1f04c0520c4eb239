// Package network owns what connects this machine's containers: the instance's bridge, the pinned pairs of user and
// network namespaces, their veth links and addresses, the nftables rules, and the hosts and resolv.conf files.
// It must not know of containers' lives: it keeps no records of its own, and holds only the endpoints its caller stores.
//
// Everything in the kernel is named after the instance (bridge tn….., tables triton-INSTANCE, pins below the run root), so
// that a later daemon finds and adopts what a killed one left, and several instances live side by side.
package network
