package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// member is a container that may send from its MAC and its addresses, and from no others.
type member struct {
	link string
	mac  [6]byte
	ip   netip.Addr
	ip6  netip.Addr // zero: it has no IPv6
}

// newMember makes a member of a link's name and addresses. Where there is one of IPv6, the link-local address that the kernel
// makes of the MAC is the member's too. Errors are of kind InvalidArgument.
func newMember(link, mac string, addrs ...netip.Addr) (member, error) {
	hw, err := net.ParseMAC(mac)
	if err != nil || len(hw) != 6 {
		return member{}, fmt.Errorf("endpoint %s: MAC %q has not six bytes: %w", link, mac, errdefs.ErrInvalidArgument)
	}
	m := member{link: link, mac: [6]byte(hw)}
	for _, a := range addrs {
		if a.Is6() {
			m.ip6 = a
		} else {
			m.ip = a
		}
	}
	if !m.ip.IsValid() {
		return member{}, fmt.Errorf("endpoint %s: there is no IPv4 address: %w", link, errdefs.ErrInvalidArgument)
	}
	return m, nil
}

func memberOf(ep triton.Endpoint) (member, error) {
	p, err := netip.ParsePrefix(ep.Address)
	if err != nil {
		return member{}, fmt.Errorf("endpoint %s: address %q is not IPv4/length: %w", ep.HostLink, ep.Address, errdefs.ErrInvalidArgument)
	}
	return newMember(ep.HostLink, ep.MAC, p.Addr())
}

func memberOfAttachment(att triton.Attachment) (member, error) {
	return newMember(att.HostLink, att.MAC, att.Addresses()...)
}

// linkLocal is the address that the kernel gives an interface of its own accord (RFC 4291, appendix A).
func linkLocal(mac [6]byte) netip.Addr {
	const universal = 2 // the bit of a MAC whose meaning is the other way round in an address
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ universal, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}

// The sets of the bridge table. One table with a few elements for each container costs less than a chain for each, and
// carries more traffic.
const (
	setMembers  = "members"  // ifname . ether . ipv4: what may pass
	setMembers6 = "members6" // ifname . ether . ipv6: what may pass
	setMACs     = "macs"     // ifname . ether: to tell a false MAC from a false address
	setPorts    = "ports"    // ifname: whose packets these rules are about
	setTies     = "ties"     // ifname . ifname: the tie of a leaf and itself
)

// Offsets in a member's key. Each field is padded to whole 32-bit registers.
const (
	keyMAC = unix.IFNAMSIZ
	keyIP  = keyMAC + 8
)

// key is the member's key in setMembers, or in setMembers6.
func (m member) key(ip netip.Addr) []byte {
	b := make([]byte, keyIP, keyIP+net.IPv6len)
	copy(b, m.link)
	copy(b[keyMAC:], m.mac[:])
	return append(b, ip.AsSlice()...)
}

// withKey adds to m what an element of a set says.
func (m member) withKey(b []byte) (member, error) {
	ip, ok := netip.Addr{}, len(b) > keyIP
	if ok {
		ip, ok = netip.AddrFromSlice(b[keyIP:])
	}
	if !ok {
		return m, fmt.Errorf("element of a set of members has %d bytes, want %d and an address", len(b), keyIP)
	}
	m.link, m.mac = linkOfKey(b), [6]byte(b[keyMAC:])
	switch {
	case ip.Is4():
		m.ip = ip
	case !ip.IsLinkLocalUnicast():
		m.ip6 = ip
	}
	return m, nil
}

func linkOfKey(b []byte) string {
	return strings.TrimRight(string(b[:min(len(b), unix.IFNAMSIZ)]), "\x00")
}

type memberSets struct {
	members, members6, macs, ports *nftables.Set
}

func (f *firewall) sets() memberSets {
	return memberSets{
		members: &nftables.Set{Table: f.bridge, Name: setMembers, Concatenation: true, KeyType: nftables.MustConcatSetType(
			nftables.TypeIFName, nftables.TypeEtherAddr, nftables.TypeIPAddr)},
		members6: &nftables.Set{Table: f.bridge, Name: setMembers6, Concatenation: true, KeyType: nftables.MustConcatSetType(
			nftables.TypeIFName, nftables.TypeEtherAddr, nftables.TypeIP6Addr)},
		macs: &nftables.Set{Table: f.bridge, Name: setMACs, Concatenation: true, KeyType: nftables.MustConcatSetType(
			nftables.TypeIFName, nftables.TypeEtherAddr)},
		// The byte order only tells the nft command how to print names.
		ports: &nftables.Set{Table: f.bridge, Name: setPorts, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian},
	}
}

func (s memberSets) add(c *nftables.Conn, ms ...member) error { return s.each(c.SetAddElements, ms) }

func (s memberSets) remove(c *nftables.Conn, m member) error {
	return s.each(c.SetDeleteElements, []member{m})
}

// elementsPerMessage keeps a message below the 64 KiB that one netlink attribute can hold.
const elementsPerMessage = 500 // two each of the longest keys in setMembers6 still fit

func (s memberSets) each(do func(*nftables.Set, []nftables.SetElement) error, ms []member) error {
	for len(ms) > 0 {
		n := min(len(ms), elementsPerMessage)
		var members, members6, macs, ports []nftables.SetElement
		for _, m := range ms[:n] {
			key := m.key(m.ip)
			members = append(members, nftables.SetElement{Key: key})
			macs = append(macs, nftables.SetElement{Key: key[:keyIP]})
			ports = append(ports, nftables.SetElement{Key: key[:keyMAC]})
			if m.ip6.IsValid() {
				members6 = append(members6, nftables.SetElement{Key: m.key(m.ip6)}, nftables.SetElement{Key: m.key(linkLocal(m.mac))})
			}
		}
		err := errors.Join(do(s.members, members), do(s.macs, macs), do(s.ports, ports))
		if len(members6) > 0 {
			err = errors.Join(err, do(s.members6, members6))
		}
		if err != nil {
			return err
		}
		ms = ms[n:]
	}
	return nil
}

// readState reads what a killed daemon left: who may send, and which ports are published; nothing where there is no table.
func (f *firewall) readState() (there bool, err error) {
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nftables: %w", err)
	}
	if there, err = hasTable(c, f.inet); err != nil || !there {
		return there, err
	}
	if there, err = hasTable(c, f.bridge); err != nil || !there {
		return there, err
	}
	if f.forwards, err = f.readForwards(c); err != nil {
		return there, err
	}
	f.members, err = f.readMembers()
	return there, err
}

// readMembers reads who a killed daemon let send; nobody where there is no table.
func (f *firewall) readMembers() (map[string]member, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	if there, err := hasTable(c, f.bridge); err != nil || !there {
		return map[string]member{}, err
	}
	all := map[string]member{}
	sets, err := c.GetSets(f.bridge)
	if err != nil {
		return nil, fmt.Errorf("list sets of %s: %w", f.bridge.Name, err)
	}
	for _, s := range sets {
		if s.Name != setMembers && s.Name != setMembers6 { // the latter is not there where an older daemon was killed
			continue
		}
		elements, err := c.GetSetElements(s)
		if err != nil {
			return nil, fmt.Errorf("read set %s of %s: %w", s.Name, f.bridge.Name, err)
		}
		for _, e := range elements {
			m, err := all[linkOfKey(e.Key)].withKey(e.Key)
			if err != nil {
				return nil, err
			}
			all[m.link] = m
		}
	}
	return all, nil
}

// bridgePriority comes before the bridge family's own filter hook (-200) and before br_netfilter hands a packet to
// the inet tables (0).
const bridgePriority = -300

// addBridge adds what concerns packets that containers send: the bridge family works on this side of br_netfilter, and
// needs none of its optional parts (NFT_BRIDGE_META and NF_CONNTRACK_BRIDGE may be absent).
func (f *firewall) addBridge(c *nftables.Conn, counts map[string]expr.Counter) error {
	sets := f.sets()
	for _, s := range []*nftables.Set{sets.members, sets.members6, sets.macs, sets.ports} {
		if err := c.AddSet(s, nil); err != nil {
			return fmt.Errorf("add set %s: %w", s.Name, err)
		}
	}
	all := make([]member, 0, len(f.members))
	for _, m := range f.members {
		all = append(all, m)
	}
	if err := sets.add(c, all...); err != nil {
		return err
	}
	for _, name := range []string{dropMAC, dropIP, dropARP, dropND, dropProtocol} {
		addCounter(c, f.bridge, name, counts)
	}
	rule := func(chain *nftables.Chain, parts ...[]expr.Any) { addRule(c, f.bridge, chain, parts...) }

	spoofed := c.AddChain(&nftables.Chain{Name: "spoofed", Table: f.bridge})
	rule(spoofed, loadPort(), loadEther(), lookup(sets.macs, absent), countedDrop(dropMAC))
	rule(spoofed, protocol(unix.ETH_P_IP), countedDrop(dropIP))
	rule(spoofed, protocol(unix.ETH_P_ARP), countedDrop(dropARP))
	rule(spoofed, protocol(unix.ETH_P_IPV6), countedDrop(dropIP))
	rule(spoofed, countedDrop(dropProtocol))

	pre := addChain(c, f.bridge, "prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, bridgePriority)
	rule(pre, protocol(unix.ETH_P_IP), loadPort(), loadEther(), loadIPSource(), lookup(sets.members, present), verdict(expr.VerdictAccept))
	rule(pre, protocol(unix.ETH_P_ARP), loadPort(), loadEther(), loadARPSource(), lookup(sets.members, present),
		loadARPEther(), lookup(sets.members, present), verdict(expr.VerdictAccept))
	f.addNeighbours(c, sets, pre)
	rule(pre, protocol(unix.ETH_P_IPV6), loadPort(), loadEther(), loadIP6(offsetSource6), lookup(sets.members6, present), verdict(expr.VerdictAccept))
	rule(pre, loadPort(), lookup(sets.ports, present), []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: spoofed.Name}})
	return f.addTies(c)
}

// Messages of neighbour discovery (RFC 4861). Those of a router are the host's to send, and it sends none.
const (
	ndRouterAdvertisement = 134
	ndSolicitation        = 135
	ndAdvertisement       = 136
	ndRedirect            = 137
)

// addNeighbours lets a container say in neighbour discovery where its own addresses are, and ask where others' are.
func (f *firewall) addNeighbours(c *nftables.Conn, sets memberSets, pre *nftables.Chain) {
	rule := func(chain *nftables.Chain, parts ...[]expr.Any) { addRule(c, f.bridge, chain, parts...) }
	chain := c.AddChain(&nftables.Chain{Name: "neighbours", Table: f.bridge})
	own := func(load []expr.Any) []expr.Any {
		return slices.Concat(loadPort(), loadEther(), load, lookup(sets.members6, present))
	}
	source, target := own(loadIP6(offsetSource6)), own(loadNDTarget())
	rule(chain, loadPort(), loadEther(), lookup(sets.macs, absent), countedDrop(dropMAC))
	rule(chain, icmp6Type(ndAdvertisement, ndAdvertisement), source, target, verdict(expr.VerdictAccept))
	rule(chain, icmp6Type(ndSolicitation, ndSolicitation), source, verdict(expr.VerdictAccept))
	// Whether somebody else has an address is asked from no address: about one's own only.
	rule(chain, icmp6Type(ndSolicitation, ndSolicitation), sourceIsUnspecified6(), target, verdict(expr.VerdictAccept))
	rule(chain, countedDrop(dropND))
	rule(pre, protocol(unix.ETH_P_IPV6), icmp6Type(ndRouterAdvertisement, ndRedirect), loadPort(), lookup(sets.ports, present),
		[]expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain.Name}})
}

// addTies lets no broadcast or multicast back to the leaf it came from, though ties let packets return.
func (f *firewall) addTies(c *nftables.Conn) error {
	ties := &nftables.Set{Table: f.bridge, Name: setTies, Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName)}
	var elements []nftables.SetElement
	for _, z := range f.zones {
		for _, leaf := range leafNames(z.bridge) {
			_, down := tieNames(leaf)
			elements = append(elements, nftables.SetElement{Key: append(ifnameKey(down), ifnameKey(down)...)})
		}
	}
	if err := fillSet(c, ties, elements); err != nil {
		return err
	}
	forward := addChain(c, f.bridge, "forward", nftables.ChainTypeFilter, nftables.ChainHookForward, bridgePriority)
	addRule(c, f.bridge, forward, bothIn(ties, present), toGroup(), verdict(expr.VerdictDrop))
	return nil
}
