package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// member is a container that may send from its MAC and its address, and from no other.
type member struct {
	link string
	mac  [6]byte
	ip   netip.Addr
}

func memberOf(ep triton.Endpoint) (member, error) {
	p, err := netip.ParsePrefix(ep.Address)
	if err != nil || !p.Addr().Is4() {
		return member{}, fmt.Errorf("endpoint %s: address %q is not IPv4/length", ep.HostLink, ep.Address)
	}
	mac, err := net.ParseMAC(ep.MAC)
	if err != nil || len(mac) != 6 {
		return member{}, fmt.Errorf("endpoint %s: MAC %q has not six bytes", ep.HostLink, ep.MAC)
	}
	return member{link: ep.HostLink, mac: [6]byte(mac), ip: p.Addr()}, nil
}

// The sets of the bridge table. One table with three elements for each container costs less than a chain for each, and
// carries more traffic.
const (
	setMembers = "members" // ifname . ether . ipv4: what may pass
	setMACs    = "macs"    // ifname . ether: to tell a false MAC from a false address
	setPorts   = "ports"   // ifname: whose packets these rules are about
	setTies    = "ties"    // ifname . ifname: the tie of a leaf and itself
)

// Offsets in a member's key. Each field is padded to whole 32-bit registers.
const (
	keyMAC    = unix.IFNAMSIZ
	keyIP     = keyMAC + 8
	keyLength = keyIP + 4
)

func (m member) key() []byte {
	b := make([]byte, keyLength)
	copy(b, m.link)
	copy(b[keyMAC:], m.mac[:])
	ip := m.ip.As4()
	copy(b[keyIP:], ip[:])
	return b
}

func memberFromKey(b []byte) (member, error) {
	if len(b) != keyLength {
		return member{}, fmt.Errorf("element of set %s has %d bytes, want %d", setMembers, len(b), keyLength)
	}
	return member{
		link: strings.TrimRight(string(b[:unix.IFNAMSIZ]), "\x00"),
		mac:  [6]byte(b[keyMAC:]),
		ip:   netip.AddrFrom4([4]byte(b[keyIP:])),
	}, nil
}

type memberSets struct {
	members, macs, ports *nftables.Set
}

func (f *firewall) sets() memberSets {
	return memberSets{
		members: &nftables.Set{Table: f.bridge, Name: setMembers, Concatenation: true, KeyType: nftables.MustConcatSetType(
			nftables.TypeIFName, nftables.TypeEtherAddr, nftables.TypeIPAddr)},
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
const elementsPerMessage = 500

func (s memberSets) each(do func(*nftables.Set, []nftables.SetElement) error, ms []member) error {
	for len(ms) > 0 {
		n := min(len(ms), elementsPerMessage)
		var members, macs, ports []nftables.SetElement
		for _, m := range ms[:n] {
			key := m.key()
			members = append(members, nftables.SetElement{Key: key})
			macs = append(macs, nftables.SetElement{Key: key[:keyIP]})
			ports = append(ports, nftables.SetElement{Key: key[:keyMAC]})
		}
		if err := errors.Join(do(s.members, members), do(s.macs, macs), do(s.ports, ports)); err != nil {
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
	elements, err := c.GetSetElements(f.sets().members)
	if err != nil {
		return nil, fmt.Errorf("read set %s of %s: %w", setMembers, f.bridge.Name, err)
	}
	all := make(map[string]member, len(elements))
	for _, e := range elements {
		m, err := memberFromKey(e.Key)
		if err != nil {
			return nil, err
		}
		all[m.link] = m
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
	for _, s := range []*nftables.Set{sets.members, sets.macs, sets.ports} {
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
	for _, name := range []string{dropMAC, dropIP, dropARP, dropProtocol} {
		addCounter(c, f.bridge, name, counts)
	}
	rule := func(chain *nftables.Chain, parts ...[]expr.Any) { addRule(c, f.bridge, chain, parts...) }

	spoofed := c.AddChain(&nftables.Chain{Name: "spoofed", Table: f.bridge})
	rule(spoofed, loadPort(), loadEther(), lookup(sets.macs, absent), countedDrop(dropMAC))
	rule(spoofed, protocol(unix.ETH_P_IP), countedDrop(dropIP))
	rule(spoofed, protocol(unix.ETH_P_ARP), countedDrop(dropARP))
	rule(spoofed, countedDrop(dropProtocol))

	pre := addChain(c, f.bridge, "prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, bridgePriority)
	rule(pre, protocol(unix.ETH_P_IP), loadPort(), loadEther(), loadIPSource(), lookup(sets.members, present), verdict(expr.VerdictAccept))
	rule(pre, protocol(unix.ETH_P_ARP), loadPort(), loadEther(), loadARPSource(), lookup(sets.members, present),
		loadARPEther(), lookup(sets.members, present), verdict(expr.VerdictAccept))
	rule(pre, loadPort(), lookup(sets.ports, present), []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: spoofed.Name}})
	return f.addTies(c)
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
