package network

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The kernel gives a bridge 1023 ports (BR_MAX_PORTS, net/bridge/br_private.h). A network of more containers has further
// bridges, its leaves, each tied to the first bridge by a veth pair: frames pass as in one bridge, broadcasts included, and
// the host and its rules meet them at the first bridge, which alone has an address.
const (
	// rootPorts is how many containers are on the first bridge: the rest is for ties, and for links that linger.
	rootPorts = 900
	leafPorts = 1000
	// maxLeaves is enough for a container in each slot.
	maxLeaves = (slots-rootPorts)/leafPorts + 1
	// fewPorts is when the next leaf is made: ports are counted anew each time that many were taken, at the least.
	fewPorts = 32

	upPrefix   = "tu" // the tie's end on the leaf; the rest is the leaf's name's
	downPrefix = "td" // its end on the first bridge
)

// leaves are the further bridges of a network, and where its next port goes.
type leaves struct {
	mu      sync.Mutex
	indexes [maxLeaves]int // 0: not there
	at      int            // index of the bridge that takes the next port
	room    int            // how many it takes before ports are counted again
}

func leafName(root string, i int) string { return bridgeName(fmt.Sprintf("%s/leaf/%d", root, i)) }

// leafNames are the names that leaves of a bridge have, be they there or not.
func leafNames(root string) []string {
	names := make([]string, maxLeaves)
	for i := range names {
		names[i] = leafName(root, i)
	}
	return names
}

func tieNames(leaf string) (up, down string) {
	return upPrefix + leaf[len(bridgePrefix):], downPrefix + leaf[len(bridgePrefix):]
}

// has reports whether index is the bridge's or that of a leaf.
func (b *bridge) has(index int) bool {
	b.leaves.mu.Lock()
	defer b.leaves.mu.Unlock()
	return index != 0 && (index == b.index || slices.Contains(b.leaves.indexes[:], index))
}

// place is the index of the bridge that a new port is to be on. The error is of kind ResourceExhausted where all are full.
func (b *bridge) place(h *netlink.Handle) (int, error) {
	l := &b.leaves
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.room == 0 {
		if err := b.findRoom(h); err != nil {
			return 0, err
		}
	}
	l.room--
	return l.at, nil
}

// findRoom looks for the first bridge with some room, makes a leaf where there is none, and takes what is left at the end.
func (b *bridge) findRoom(h *netlink.Handle) error {
	links, err := dump(h.LinkList)
	if err != nil {
		return fmt.Errorf("count the ports of %s: %w", b.name, err)
	}
	used := map[int]int{}
	for _, l := range links {
		used[l.Attrs().MasterIndex]++
	}
	l := &b.leaves
	l.at, l.room = 0, 0
	consider := func(index, limit int) (found bool) {
		free := limit - used[index]
		if free > l.room {
			l.at, l.room = index, free
		}
		return free > 0 && free >= min(fewPorts, limit)
	}
	if consider(b.index, b.ports) {
		return nil
	}
	for i := range l.indexes {
		if l.indexes[i] == 0 {
			if err := b.makeLeaf(h, i); err != nil {
				return err
			}
		}
		if consider(l.indexes[i], leafPorts) {
			return nil
		}
	}
	if l.room == 0 {
		return fmt.Errorf("the bridges of the network have all their ports: %w", errdefs.ErrResourceExhausted)
	}
	return nil
}

// stay keeps a container's MAC on its port: a packet that comes back from the first bridge would move it to the tie.
func stay(h *netlink.Handle, port string, mac net.HardwareAddr) error {
	link, err := h.LinkByName(port)
	if err != nil {
		return fmt.Errorf("look up %s: %w", port, err)
	}
	entry := netlink.Neigh{
		LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, State: netlink.NUD_NOARP,
		Flags: netlink.NTF_MASTER | netlink.NTF_STICKY, HardwareAddr: mac,
	}
	if err := h.NeighSet(&entry); err != nil {
		return fmt.Errorf("keep %s on %s: %w", mac, port, err)
	}
	return nil
}

// adoptLeaves finds the leaves that an earlier daemon made, and makes good what it did not come to.
func (b *bridge) adoptLeaves(h *netlink.Handle) error {
	b.leaves.mu.Lock()
	defer b.leaves.mu.Unlock()
	for i := range b.leaves.indexes {
		_, err := h.LinkByName(leafName(b.name, i))
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look up a leaf of %s: %w", b.name, err)
		}
		if err := b.makeLeaf(h, i); err != nil {
			return err
		}
	}
	return nil
}

// makeLeaf makes what is missing of a leaf and its tie. b.leaves.mu is held.
func (b *bridge) makeLeaf(h *netlink.Handle, i int) error {
	leaf := bridge{name: leafName(b.name, i), owner: b.leafOwner, mtu: b.mtu}
	link, err := leaf.ensure(h)
	if err != nil {
		return err
	}
	if err := h.LinkSetAlias(link, leaf.owner); err != nil {
		return fmt.Errorf("name the owner of %s: %w", leaf.name, err)
	}
	up, down := tieNames(leaf.name)
	if _, err := h.LinkByName(up); errors.As(err, new(netlink.LinkNotFoundError)) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU, attrs.MasterIndex, attrs.Flags = up, b.mtu, link.Attrs().Index, net.FlagUp
		if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: down, PeerMTU: uint32(b.mtu)}); err != nil {
			return fmt.Errorf("tie %s to %s: %w", leaf.name, b.name, err)
		}
	} else if err != nil {
		return fmt.Errorf("look up %s: %w", up, err)
	}
	for _, name := range []string{leaf.name, up, down} {
		if err := writeSysctlIfPresent(ip6Conf(name, "disable_ipv6"), "1"); err != nil {
			return err
		}
	}
	// The host has the gateway's address at the first bridge; by itself it would answer for it at a leaf too.
	if err := writeSysctl("ipv4/conf/"+leaf.name+"/arp_ignore", "8"); err != nil {
		return err
	}
	if err := b.tie(h, down); err != nil {
		return err
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", leaf.name, err)
	}
	for _, name := range []string{up, down, leaf.name} {
		if err := b.sync(h, name); err != nil {
			return err
		}
	}
	b.leaves.indexes[i] = link.Attrs().Index
	return nil
}

// tie puts a tie's end on the first bridge.
func (b *bridge) tie(h *netlink.Handle, down string) error {
	link, err := h.LinkByName(down)
	if err != nil {
		return fmt.Errorf("look up %s: %w", down, err)
	}
	if link.Attrs().MasterIndex != b.index {
		if err := h.LinkSetMasterByIndex(link, b.index); err != nil {
			return fmt.Errorf("put %s on %s: %w", down, b.name, err)
		}
	}
	// Where br_netfilter is on, a packet to a published port of a container of the same leaf is bridged back. What else would
	// come back is kept from it by a rule.
	if err := h.LinkSetHairpin(link, true); err != nil {
		return fmt.Errorf("let packets return through %s: %w", down, err)
	}
	if b.noICC { // so that the isolated ports of a leaf reach none of the first bridge's, nor another leaf's
		if err := h.LinkSetIsolated(link, true); err != nil {
			return fmt.Errorf("isolate %s: %w", down, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", down, err)
	}
	return nil
}

// removeLeaves removes the bridge's leaves and their ties.
func (b *bridge) removeLeaves(h *netlink.Handle) error {
	b.leaves.mu.Lock()
	defer b.leaves.mu.Unlock()
	for i := range b.leaves.indexes {
		name := leafName(b.name, i)
		if err := removeTie(h, name); err != nil {
			return err
		}
		if err := removeLink(h, name); err != nil {
			return err
		}
		b.leaves.indexes[i] = 0
	}
	b.leaves.room = 0
	return nil
}

// removeTie removes the tie of a bridge; one that has none is no leaf.
func removeTie(h *netlink.Handle, leaf string) error {
	up, _ := tieNames(leaf)
	return removeLink(h, up)
}

// removeLink removes an interface; one that is gone is no error.
func removeLink(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up %s: %w", name, err)
	}
	if err := h.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
