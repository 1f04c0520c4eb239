package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// forward leads a port of the host to a port of a container. Both addresses are of one family.
type forward struct {
	proto    uint8      // IPPROTO_TCP, …
	host     netip.Addr // 0.0.0.0 or ::: any address of the host
	hostPort uint16
	target   netip.AddrPort
	relayed  bool // there is no target: a process of the host takes who comes. The rules only know who must not.
}

// Names of the maps that published ports are elements of: one rule for any number of ports, and changing one is one
// message. A rule for each port costs more, and a thousand of them do not fit into one transaction of the library.
const (
	mapOneAddress  = "pub4ip"   // host address . protocol . port : address . port
	mapAnyAddress  = "pub4"     // protocol . port : address . port
	setTargets     = "targets"  // address . protocol . port: where published ports lead to
	mapOneAddress6 = "pub6ip"   // as mapOneAddress, of IPv6
	mapAnyAddress6 = "pub6"     // as mapAnyAddress, of IPv6
	setTargets6    = "targets6" // as setTargets, of IPv6
	setRelayedOne  = "relay6ip" // host address of IPv6 . protocol . port: a process of the host listens there for a container
	setRelayedAny  = "relay6"   // protocol . port
)

// Each field of a concatenation is padded to four bytes.
func padded(proto uint8, port uint16) []byte {
	b := []byte{proto, 0, 0, 0}
	b = binary.BigEndian.AppendUint16(b, port)
	return append(b, 0, 0)
}

func (f forward) key() []byte {
	if f.host.IsUnspecified() {
		return padded(f.proto, f.hostPort)
	}
	return append(f.host.AsSlice(), padded(f.proto, f.hostPort)...)
}

func (f forward) value() []byte {
	b := binary.BigEndian.AppendUint16(f.target.Addr().AsSlice(), f.target.Port())
	return append(b, 0, 0)
}

func (f forward) targetKey() []byte {
	return append(f.target.Addr().AsSlice(), padded(f.proto, f.target.Port())...)
}

// forwardFromElement reads what key and value wrote.
func forwardFromElement(e nftables.SetElement) (forward, error) {
	const short, port = 8, 4
	bad := fmt.Errorf("element of a map of ports has %d and %d bytes", len(e.Key), len(e.Val))
	if len(e.Val) < port || len(e.Key) < short {
		return forward{}, bad
	}
	at := len(e.Val) - port
	target, ok := netip.AddrFromSlice(e.Val[:at])
	if !ok {
		return forward{}, bad
	}
	f := forward{host: anyOf(target), target: netip.AddrPortFrom(target, binary.BigEndian.Uint16(e.Val[at:]))}
	host, key := e.Key[:len(e.Key)-short], e.Key[len(e.Key)-short:]
	if len(host) > 0 {
		if f.host, ok = netip.AddrFromSlice(host); !ok || f.host.Is4() != target.Is4() {
			return forward{}, bad
		}
	}
	f.proto, f.hostPort = key[0], binary.BigEndian.Uint16(key[4:])
	return f, nil
}

// anyOf stands for all addresses of a's family.
func anyOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return anyIPv4
	}
	return anyIPv6
}

// forwardSets are the maps of one family.
type forwardSets struct {
	one, any, targets *nftables.Set
}

// forwardSets are those of the family of a.
func (f *firewall) forwardSets(a netip.Addr) forwardSets {
	addr, one, all, targets := nftables.TypeIPAddr, mapOneAddress, mapAnyAddress, setTargets
	if a.Is6() {
		addr, one, all, targets = nftables.TypeIP6Addr, mapOneAddress6, mapAnyAddress6, setTargets6
	}
	value := nftables.MustConcatSetType(addr, nftables.TypeInetService)
	full := nftables.MustConcatSetType(addr, nftables.TypeInetProto, nftables.TypeInetService)
	return forwardSets{
		one: &nftables.Set{Table: f.inet, Name: one, IsMap: true, Concatenation: true, KeyType: full, DataType: value},
		any: &nftables.Set{Table: f.inet, Name: all, IsMap: true, Concatenation: true,
			KeyType: nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService), DataType: value},
		targets: &nftables.Set{Table: f.inet, Name: targets, Concatenation: true, KeyType: full},
	}
}

// relaySets are those of ports which no translation leads from.
func (f *firewall) relaySets() (one, all *nftables.Set) {
	return &nftables.Set{Table: f.inet, Name: setRelayedOne, Concatenation: true,
			KeyType: nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeInetProto, nftables.TypeInetService)},
		&nftables.Set{Table: f.inet, Name: setRelayedAny, Concatenation: true,
			KeyType: nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)}
}

// elements sorts forwards by the map that they belong to, for one message each. targets says which of their targets are to be
// in the sets of these.
func (f *firewall) elements(fs []forward, targets func(forward) bool) map[*nftables.Set][]nftables.SetElement {
	by := map[*nftables.Set][]nftables.SetElement{}
	families := map[bool]forwardSets{true: f.forwardSets(anyIPv4), false: f.forwardSets(anyIPv6)}
	seen := map[string]bool{}
	relayedOne, relayedAny := f.relaySets()
	for _, fw := range fs {
		if fw.relayed {
			set := relayedOne
			if fw.host.IsUnspecified() {
				set = relayedAny
			}
			by[set] = append(by[set], nftables.SetElement{Key: fw.key()})
			continue
		}
		sets := families[fw.target.Addr().Is4()]
		set := sets.one
		if fw.host.IsUnspecified() {
			set = sets.any
		}
		by[set] = append(by[set], nftables.SetElement{Key: fw.key(), Val: fw.value()})
		if key := fw.targetKey(); targets(fw) && !seen[string(key)] {
			seen[string(key)] = true
			by[sets.targets] = append(by[sets.targets], nftables.SetElement{Key: key})
		}
	}
	return by
}

// addForwards and dropForwards change the kernel's maps; f.forwards is changed by the caller, who holds f.mu. Adding an
// element that is there does nothing.
func (f *firewall) addForwards(c *nftables.Conn, fs []forward) error {
	for set, elements := range f.elements(fs, func(forward) bool { return true }) {
		if err := c.SetAddElements(set, elements); err != nil {
			return err
		}
	}
	return nil
}

func (f *firewall) dropForwards(c *nftables.Conn, fs []forward) error {
	still := map[string]bool{} // a port of a container may be published more than once
	for _, other := range f.forwards {
		if !other.relayed {
			still[string(other.targetKey())] = true
		}
	}
	for set, elements := range f.elements(fs, func(fw forward) bool { return !still[string(fw.targetKey())] }) {
		if err := c.SetDeleteElements(set, elements); err != nil {
			return err
		}
	}
	return nil
}

// forwardKey tells forwards apart: no two may have the same.
type forwardKey struct {
	proto uint8
	host  netip.Addr
	port  uint16
}

func (f forward) id() forwardKey { return forwardKey{f.proto, f.host, f.hostPort} }

// publish makes forwards.
func (f *firewall) publish(fs []forward) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fw := range fs {
		f.forwards[fw.id()] = fw
	}
	return f.inBatches(fs, f.addForwards)
}

// unpublish removes those of fs that are there.
func (f *firewall) unpublish(fs []forward) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var there []forward
	for _, fw := range fs {
		if f.forwards[fw.id()] == fw {
			delete(f.forwards, fw.id())
			there = append(there, fw)
		}
	}
	return f.inBatches(there, f.dropForwards)
}

func (f *firewall) inBatches(fs []forward, do func(*nftables.Conn, []forward) error) error {
	for batch := range slices.Chunk(fs, elementsPerMessage) {
		if err := f.change(func(c *nftables.Conn) error { return do(c, batch) }); err != nil {
			return err
		}
	}
	return nil
}

// readForwards reads the published ports of a killed daemon.
func (f *firewall) readForwards(c *nftables.Conn) (map[forwardKey]forward, error) {
	all := map[forwardKey]forward{}
	sets, err := c.GetSets(f.inet)
	if err != nil {
		return nil, fmt.Errorf("list sets of %s: %w", f.inet.Name, err)
	}
	for _, s := range sets {
		if !slices.Contains([]string{mapOneAddress, mapAnyAddress, mapOneAddress6, mapAnyAddress6}, s.Name) {
			continue
		}
		elements, err := c.GetSetElements(s)
		if err != nil {
			return nil, fmt.Errorf("read map %s of %s: %w", s.Name, f.inet.Name, err)
		}
		for _, e := range elements {
			fw, err := forwardFromElement(e)
			if err != nil {
				return nil, err
			}
			all[fw.id()] = fw
		}
	}
	return all, nil
}

// The registers of a lookup of a published port, and of its result. An address of IPv6 takes four.
const (
	regKey    = unix.NFT_REG32_00
	regResult = regKey + 6
)

// addPublished adds the maps and the chain in which they are looked up.
func (f *firewall) addPublished(c *nftables.Conn) error {
	pub := c.AddChain(&nftables.Chain{Name: "published", Table: f.inet})
	for _, a := range []netip.Addr{anyIPv4, anyIPv6} {
		sets := f.forwardSets(a)
		for _, s := range []*nftables.Set{sets.one, sets.any, sets.targets} {
			if err := c.AddSet(s, nil); err != nil {
				return fmt.Errorf("add set %s: %w", s.Name, err)
			}
		}
		to := destinationOf(a)
		registers := to.length / 4
		translate := func(m *nftables.Set) []expr.Any {
			return append(lookupInto(m),
				&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(to.family), RegAddrMin: regResult, RegProtoMin: regResult + registers})
		}
		addRule(c, f.inet, pub, to.load(regKey), loadProtoPort(regKey+registers), translate(sets.one))
		addRule(c, f.inet, pub, isFamily(to.family), loadProtoPort(regKey), translate(sets.any))
	}
	one, anywhere := f.relaySets()
	for _, s := range []*nftables.Set{one, anywhere} {
		if err := c.AddSet(s, nil); err != nil {
			return fmt.Errorf("add set %s: %w", s.Name, err)
		}
	}
	all := make([]forward, 0, len(f.forwards))
	for _, fw := range f.forwards {
		all = append(all, fw)
	}
	for batch := range slices.Chunk(all, elementsPerMessage) {
		if err := f.addForwards(c, batch); err != nil {
			return err
		}
	}
	for name, hook := range map[string]*nftables.ChainHook{"prerouting": nftables.ChainHookPrerouting, "output": nftables.ChainHookOutput} {
		chain := addChain(c, f.inet, name, nftables.ChainTypeNAT, hook, *nftables.ChainPriorityNATDest)
		// No answer comes back to ::1 by another interface: there is no route_localnet of IPv6. Relays serve that.
		addRule(c, f.inet, chain, daddrIn(loopback6), verdict(expr.VerdictAccept))
		addRule(c, f.inet, chain, destinationIsLocal(), []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: pub.Name}})
	}
	return nil
}

var loopback6 = netip.PrefixFrom(netip.IPv6Loopback(), 128)

// refuseRelays keeps containers of internal networks from what a relay would lead them to: the rules of forwarding see
// nothing of it. And it answers at once who asks for a port of SCTP at ::1, where nothing leads to it: the socket that
// keeps the port would let them wait.
func (f *firewall) refuseRelays(c *nftables.Conn, input *nftables.Chain, internal *nftables.Set) {
	one, anywhere := f.relaySets()
	to := destinationOf(anyIPv6)
	addRule(c, f.inet, input, nameIn(expr.MetaKeyIIFNAME, internal), to.load(regKey), loadProtoPort(regKey+to.length/4), isIn(one), countedDrop(dropInternal))
	addRule(c, f.inet, input, nameIn(expr.MetaKeyIIFNAME, internal), isFamily(to.family), loadProtoPort(regKey), isIn(anywhere), countedDrop(dropInternal))
	addRule(c, f.inet, input, daddrIn(loopback6), isProtocol(unix.IPPROTO_SCTP), loadProtoPort(regKey), lookupInto(f.forwardSets(anyIPv6).any),
		[]expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}})
}

// isIn matches packets whose key, which starts in regKey, is in a set.
func isIn(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: regKey, SetName: s.Name, SetID: s.ID}}
}

// lookupInto looks for the key that starts in regKey, and leaves what it leads to in regResult.
func lookupInto(m *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: regKey, SetName: m.Name, SetID: m.ID, DestRegister: regResult, IsDestRegSet: true}}
}

func isProtocol(proto byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
	}
}

// loadProtoPort loads the protocol into reg and the destination port, which TCP, UDP and SCTP have in the same place, into
// the next register.
func loadProtoPort(reg uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Payload{DestRegister: reg + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

func addressIsLocal(f expr.Fib) []expr.Any {
	f.ResultADDRTYPE, f.Register = true, 1
	return []expr.Any{&f, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)}}
}

func destinationIsLocal() []expr.Any { return addressIsLocal(expr.Fib{FlagDADDR: true}) }
func sourceIsLocal() []expr.Any      { return addressIsLocal(expr.Fib{FlagSADDR: true}) }

// ipsDstNAT is IPS_DST_NAT of include/uapi/linux/netfilter/nf_conntrack_common.h.
const ipsDstNAT = 1 << 5

// translated matches packets of a connection whose destination was translated, by whomever.
func translated() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(ipsDstNAT), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// toTarget matches packets of a family to a published port of a container, after translation.
func (f *firewall) toTarget(a netip.Addr) []expr.Any {
	s, to := f.forwardSets(a).targets, destinationOf(a)
	return slices.Concat(to.load(regKey), loadProtoPort(regKey+to.length/4), isIn(s))
}
