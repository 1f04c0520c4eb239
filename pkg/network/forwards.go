package network

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// forward leads a port of the host to a port of a container.
type forward struct {
	proto    uint8      // IPPROTO_TCP, …
	host     netip.Addr // 0.0.0.0: any address of the host
	hostPort uint16
	target   netip.AddrPort
}

// Names of the maps that published ports are elements of: one rule for any number of ports, and changing one is one
// message. A rule for each port costs more, and a thousand of them do not fit into one transaction of the library.
const (
	mapOneAddress = "pub4ip"  // host address . protocol . port : address . port
	mapAnyAddress = "pub4"    // protocol . port : address . port
	setTargets    = "targets" // address . protocol . port: where published ports lead to
)

// Each field of a concatenation is padded to four bytes.
func padded(proto uint8, port uint16) []byte {
	b := []byte{proto, 0, 0, 0}
	b = binary.BigEndian.AppendUint16(b, port)
	return append(b, 0, 0)
}

func addrBytes(a netip.Addr) []byte {
	b := a.As4()
	return b[:]
}

func (f forward) key() []byte {
	if f.host.IsUnspecified() {
		return padded(f.proto, f.hostPort)
	}
	return append(addrBytes(f.host), padded(f.proto, f.hostPort)...)
}

func (f forward) value() []byte {
	b := binary.BigEndian.AppendUint16(addrBytes(f.target.Addr()), f.target.Port())
	return append(b, 0, 0)
}

func (f forward) targetKey() []byte {
	return append(addrBytes(f.target.Addr()), padded(f.proto, f.target.Port())...)
}

// forwardFromElement reads what key and value wrote.
func forwardFromElement(e nftables.SetElement) (forward, error) {
	const short, long, value = 8, 12, 8
	f := forward{host: netip.IPv4Unspecified()}
	key := e.Key
	if len(key) == long {
		f.host = netip.AddrFrom4([4]byte(key))
		key = key[4:]
	}
	if len(key) != short || len(e.Val) != value {
		return f, fmt.Errorf("element of a map of ports has %d and %d bytes", len(e.Key), len(e.Val))
	}
	f.proto, f.hostPort = key[0], binary.BigEndian.Uint16(key[4:])
	f.target = netip.AddrPortFrom(netip.AddrFrom4([4]byte(e.Val)), binary.BigEndian.Uint16(e.Val[4:]))
	return f, nil
}

type forwardSets struct {
	one, any, targets *nftables.Set
}

func (f *firewall) forwardSets() forwardSets {
	value := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	full := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)
	return forwardSets{
		one: &nftables.Set{Table: f.inet, Name: mapOneAddress, IsMap: true, Concatenation: true, KeyType: full, DataType: value},
		any: &nftables.Set{Table: f.inet, Name: mapAnyAddress, IsMap: true, Concatenation: true,
			KeyType: nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService), DataType: value},
		targets: &nftables.Set{Table: f.inet, Name: setTargets, Concatenation: true, KeyType: full},
	}
}

// elements sorts forwards by the map that they belong to, for one message each.
func (s forwardSets) elements(fs []forward) map[*nftables.Set][]nftables.SetElement {
	by := map[*nftables.Set][]nftables.SetElement{}
	for _, fw := range fs {
		set := s.one
		if fw.host.IsUnspecified() {
			set = s.any
		}
		by[set] = append(by[set], nftables.SetElement{Key: fw.key(), Val: fw.value()})
	}
	return by
}

// addForwards and dropForwards change the kernel's maps; f.forwards is changed by the caller, who holds f.mu. Adding an
// element that is there does nothing.
func (f *firewall) addForwards(c *nftables.Conn, fs []forward) error {
	sets := f.forwardSets()
	by := sets.elements(fs)
	for _, fw := range fs {
		by[sets.targets] = append(by[sets.targets], nftables.SetElement{Key: fw.targetKey()})
	}
	for set, elements := range by {
		if err := c.SetAddElements(set, elements); err != nil {
			return err
		}
	}
	return nil
}

func (f *firewall) dropForwards(c *nftables.Conn, fs []forward) error {
	sets := f.forwardSets()
	by := sets.elements(fs)
	gone := map[string]bool{}
	for _, fw := range fs {
		gone[string(fw.targetKey())] = true
	}
	for _, other := range f.forwards { // a port of a container may be published more than once
		delete(gone, string(other.targetKey()))
	}
	for key := range gone {
		by[sets.targets] = append(by[sets.targets], nftables.SetElement{Key: []byte(key)})
	}
	for set, elements := range by {
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
		if s.Name != mapOneAddress && s.Name != mapAnyAddress {
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

// The registers of a lookup of a published port, and of its result.
const (
	regKey    = unix.NFT_REG32_00
	regResult = regKey + 4
)

// addPublished adds the maps and the chain in which they are looked up.
func (f *firewall) addPublished(c *nftables.Conn) error {
	sets := f.forwardSets()
	for _, s := range []*nftables.Set{sets.one, sets.any, sets.targets} {
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
	translate := func(m *nftables.Set) []expr.Any {
		return []expr.Any{
			&expr.Lookup{SourceRegister: regKey, SetName: m.Name, SetID: m.ID, DestRegister: regResult, IsDestRegSet: true},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: regResult, RegProtoMin: regResult + 1},
		}
	}
	pub := c.AddChain(&nftables.Chain{Name: "published", Table: f.inet})
	addRule(c, f.inet, pub, isIPv4(), loadDestination(regKey), loadProtoPort(regKey+1), translate(sets.one))
	addRule(c, f.inet, pub, isIPv4(), loadProtoPort(regKey), translate(sets.any))
	for name, hook := range map[string]*nftables.ChainHook{"prerouting": nftables.ChainHookPrerouting, "output": nftables.ChainHookOutput} {
		chain := addChain(c, f.inet, name, nftables.ChainTypeNAT, hook, *nftables.ChainPriorityNATDest)
		addRule(c, f.inet, chain, destinationIsLocal(), []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: pub.Name}})
	}
	return nil
}

func isIPv4() []expr.Any { return isFamily(unix.NFPROTO_IPV4) }

func loadDestination(reg uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offsetDestination, Len: net.IPv4len}}
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

// toTarget matches packets to a published port of a container, after translation.
func (f *firewall) toTarget() []expr.Any {
	s := f.forwardSets().targets
	return append(append(loadDestination(regKey), loadProtoPort(regKey+1)...),
		&expr.Lookup{SourceRegister: regKey, SetName: s.Name, SetID: s.ID})
}
