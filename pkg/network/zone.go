package network

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// zone is a bridge as the rules see it.
type zone struct {
	bridge   string
	subnets  []netip.Prefix // of IPv4, and of IPv6 where it has that
	internal bool           // nothing passes between it and anything but the host
	unmasked bool           // what leaves keeps its address
}

// The sets that tell zones apart, so that the number of rules a packet meets does not grow with their number.
const (
	setBridges  = "bridges"  // ifname
	setInternal = "internal" // ifname
	setMasked   = "masked"   // ifname: what leaves from there is masqueraded
	setWithin   = "within"   // ifname . ifname: a bridge and itself
	setSubnets  = "subnets"  // intervals of IPv4
	setSubnets6 = "subnets6" // intervals of IPv6
	setLeaves   = "leaves"   // ifname: further bridges of the zones, which only bridge
)

type zoneSets struct {
	bridges, internal, masked, within, subnets, subnets6, leaves *nftables.Set
}

// of is the set of the subnets of an address's family.
func (s zoneSets) of(a netip.Addr) *nftables.Set {
	if a.Is4() {
		return s.subnets
	}
	return s.subnets6
}

func ifnameKey(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// addZones adds the sets with what they hold.
func (f *firewall) addZones(c *nftables.Conn) (zoneSets, error) {
	names := func(name string) *nftables.Set {
		return &nftables.Set{Table: f.inet, Name: name, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}
	}
	s := zoneSets{
		bridges: names(setBridges), internal: names(setInternal), masked: names(setMasked), leaves: names(setLeaves),
		within: &nftables.Set{Table: f.inet, Name: setWithin, Concatenation: true,
			KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName)},
		subnets:  &nftables.Set{Table: f.inet, Name: setSubnets, Interval: true, KeyType: nftables.TypeIPAddr},
		subnets6: &nftables.Set{Table: f.inet, Name: setSubnets6, Interval: true, KeyType: nftables.TypeIP6Addr},
	}
	content := map[*nftables.Set][]nftables.SetElement{}
	add := func(set *nftables.Set, key []byte) {
		content[set] = append(content[set], nftables.SetElement{Key: key})
	}
	for _, z := range f.zones {
		name := ifnameKey(z.bridge)
		add(s.bridges, name)
		add(s.within, append(ifnameKey(z.bridge), name...))
		for _, leaf := range leafNames(z.bridge) { // there or not: the tables need not change when one is made
			add(s.leaves, ifnameKey(leaf))
			add(s.within, append(ifnameKey(leaf), ifnameKey(leaf)...))
		}
		if z.internal {
			add(s.internal, name)
		}
		if !z.unmasked && !z.internal {
			add(s.masked, name)
		}
		for _, p := range z.subnets {
			set, end := s.of(p.Addr()), lastAddress(p).Next() // a user's subnet never reaches the end of all addresses
			content[set] = append(content[set], nftables.SetElement{Key: p.Addr().AsSlice()}, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	for _, set := range []*nftables.Set{s.bridges, s.internal, s.masked, s.within, s.subnets, s.subnets6, s.leaves} {
		if err := fillSet(c, set, content[set]); err != nil {
			return s, err
		}
	}
	return s, nil
}

// fillSet adds a set with its elements, in messages that are not too long.
func fillSet(c *nftables.Conn, s *nftables.Set, elements []nftables.SetElement) error {
	if err := c.AddSet(s, nil); err != nil {
		return fmt.Errorf("add set %s: %w", s.Name, err)
	}
	for batch := range slices.Chunk(elements, elementsPerMessage) { // an even number: intervals are pairs
		if err := c.SetAddElements(s, batch); err != nil {
			return fmt.Errorf("fill set %s: %w", s.Name, err)
		}
	}
	return nil
}

// addInet adds what concerns routed packets. Each base chain accepts what it does not know: no rule here touches a
// packet that neither comes from nor goes to a bridge of the instance, nor to a port that it has published.
func (f *firewall) addInet(c *nftables.Conn, counts map[string]expr.Counter) error {
	for _, name := range []string{dropRoutedIn, dropCross, dropForwardIn, dropLoopback, dropInternal} {
		addCounter(c, f.inet, name, counts)
	}
	sets, err := f.addZones(c)
	if err != nil {
		return err
	}
	if err := f.addPublished(c); err != nil {
		return err
	}
	f.addRaw(c, sets)
	rule := func(chain *nftables.Chain, parts ...[]expr.Any) { addRule(c, f.inet, chain, parts...) }

	forward := addChain(c, f.inet, "forward", nftables.ChainTypeFilter, nftables.ChainHookForward, *nftables.ChainPriorityFilter)
	// Bridged packets come by where net.bridge.bridge-nf-call-iptables is on, which is the kernel's default.
	rule(forward, bothIn(sets.within, present), verdict(expr.VerdictAccept))
	// A container that sends to the address of a leaf itself, not to the gateway's, would be routed past what follows.
	rule(forward, nameIn(expr.MetaKeyIIFNAME, sets.leaves), countedDrop(dropCross))
	rule(forward, nameIn(expr.MetaKeyIIFNAME, sets.internal), countedDrop(dropInternal))
	rule(forward, nameIn(expr.MetaKeyOIFNAME, sets.internal), countedDrop(dropInternal))
	rule(forward, nameIn(expr.MetaKeyOIFNAME, sets.bridges), established(), verdict(expr.VerdictAccept))
	// Others' translations lead to containers as well: only what was published is let through.
	for _, a := range []netip.Addr{anyIPv4, anyIPv6} {
		rule(forward, nameIn(expr.MetaKeyOIFNAME, sets.bridges), translated(), f.toTarget(a), verdict(expr.VerdictAccept))
	}
	rule(forward, nameIn(expr.MetaKeyOIFNAME, sets.bridges), countedDrop(dropForwardIn))

	// Broadcasts come in by the first bridge as well.
	input := addChain(c, f.inet, "input", nftables.ChainTypeFilter, nftables.ChainHookInput, *nftables.ChainPriorityFilter)
	rule(input, nameIn(expr.MetaKeyIIFNAME, sets.leaves), verdict(expr.VerdictDrop))
	f.refuseRelays(c, input, sets.internal)

	post := addChain(c, f.inet, "postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource)
	masquerade := []expr.Any{&expr.Masq{}}
	rule(post, nameIn(expr.MetaKeyIIFNAME, sets.masked), bothIn(sets.within, absent), masquerade)
	// The host itself through a published port: from 127.0.0.1 no answer would come back. And a container through a port
	// that leads to its own network, or to itself: the answer has to come back this way. No input interface is asked for:
	// br_netfilter, where it is on, bridges such a packet, and gives none here.
	rule(post, nameIn(expr.MetaKeyOIFNAME, sets.bridges), translated(), sourceIsLocal(), masquerade)
	rule(post, nameIn(expr.MetaKeyOIFNAME, sets.bridges), translated(), addressIn(sourceOf(anyIPv4), sets.subnets), masquerade)
	rule(post, nameIn(expr.MetaKeyOIFNAME, sets.bridges), translated(), addressIn(sourceOf(anyIPv6), sets.subnets6), masquerade)
	return nil
}

// addRaw keeps packets out that are for a container's own address and do not come from its own network. Answers to
// masqueraded packets still carry the host's address here; packets of the host itself come from lo.
func (f *firewall) addRaw(c *nftables.Conn, sets zoneSets) {
	rule := func(chain *nftables.Chain, parts ...[]expr.Any) { addRule(c, f.inet, chain, parts...) }
	guard := c.AddChain(&nftables.Chain{Name: "guard", Table: f.inet})
	for _, z := range f.zones {
		for _, p := range z.subnets {
			rule(guard, iifname(z.bridge, whole), daddrIn(p), verdict(expr.VerdictReturn))
		}
	}
	rule(guard, nameIn(expr.MetaKeyIIFNAME, sets.bridges), countedDrop(dropCross))
	rule(guard, iifname(bridgePrefix, prefix), countedDrop(dropCross)) // of other instances
	rule(guard, iifnameNot("lo"), countedDrop(dropRoutedIn))

	raw := addChain(c, f.inet, "raw", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw)
	// br_netfilter, where it is on, shows what a leaf bridges. Whatever is routed or translated comes by the first bridge,
	// and is judged and tracked there: tracked twice, an answer would belong to two connections.
	rule(raw, nameIn(expr.MetaKeyIIFNAME, sets.leaves), []expr.Any{&expr.Notrack{}}, verdict(expr.VerdictAccept))
	rule(raw, nameIn(expr.MetaKeyIIFNAME, sets.bridges), daddrIn(loopback), countedDrop(dropLoopback))
	for _, a := range []netip.Addr{anyIPv4, anyIPv6} {
		rule(raw, addressIn(destinationOf(a), sets.of(a)), []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: guard.Name}})
	}
}

// anyIPv4 and anyIPv6 stand for their family, and for all addresses of the host.
var anyIPv4, anyIPv6 = netip.IPv4Unspecified(), netip.IPv6Unspecified()

// loopback is what route_localnet on the bridges lets in.
var loopback = netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)

// nameIn matches packets whose interface, of the kind that key says, is in a set of names.
func nameIn(key expr.MetaKey, s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: regKey}, &expr.Lookup{SourceRegister: regKey, SetName: s.Name, SetID: s.ID}}
}

// bothIn matches packets by the pair of the interfaces they come and go by.
func bothIn(s *nftables.Set, m membership) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: regKey},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: regKey + unix.IFNAMSIZ/4},
		&expr.Lookup{SourceRegister: regKey, SetName: s.Name, SetID: s.ID, Invert: m == absent},
	}
}

// addressIn matches packets of a family by an address of theirs.
func addressIn(k addressKind, s *nftables.Set) []expr.Any {
	return append(k.load(1), &expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID})
}
