package network

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The pieces rules are made of. Each takes and leaves registers as it says; conditions use register 1.

func addChain(
	c *nftables.Conn, t *nftables.Table, name string,
	typ nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority,
) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	return c.AddChain(&nftables.Chain{
		Name: name, Table: t, Type: typ, Hooknum: hook, Priority: nftables.ChainPriorityRef(priority), Policy: &accept,
	})
}

func addRule(c *nftables.Conn, t *nftables.Table, chain *nftables.Chain, parts ...[]expr.Any) {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: all})
}

// addCounter adds a named counter that goes on from what it had counted before.
func addCounter(c *nftables.Conn, t *nftables.Table, name string, counts map[string]expr.Counter) {
	from := counts[name]
	c.AddObj(&nftables.NamedObj{Table: t, Name: name, Type: nftables.ObjTypeCounter, Obj: &from})
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

func countedDrop(counter string) []expr.Any {
	return []expr.Any{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: counter}, &expr.Verdict{Kind: expr.VerdictDrop}}
}

// match says how much of an interface's name has to be equal.
type match bool

const (
	whole  match = true
	prefix match = false
)

func nameCondition(key expr.MetaKey, op expr.CmpOp, name string, m match) []expr.Any {
	data := []byte(name)
	if m == whole {
		data = make([]byte, unix.IFNAMSIZ)
		copy(data, name)
	}
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: data}}
}

func iifname(name string, m match) []expr.Any {
	return nameCondition(expr.MetaKeyIIFNAME, expr.CmpOpEq, name, m)
}

func iifnameNot(name string) []expr.Any {
	return nameCondition(expr.MetaKeyIIFNAME, expr.CmpOpNeq, name, whole)
}

// Offsets in an IPv4 header (RFC 791), and in one of IPv6 (RFC 8200).
const (
	offsetSource       = 12
	offsetDestination  = 16
	offsetSource6      = 8
	offsetDestination6 = 24
)

// addressKind is an address of a packet, of one family.
type addressKind struct {
	family byte // NFPROTO_*
	offset uint32
	length uint32 // bytes
}

func sourceOf(a netip.Addr) addressKind {
	if a.Is4() {
		return addressKind{unix.NFPROTO_IPV4, offsetSource, net.IPv4len}
	}
	return addressKind{unix.NFPROTO_IPV6, offsetSource6, net.IPv6len}
}

func destinationOf(a netip.Addr) addressKind {
	if a.Is4() {
		return addressKind{unix.NFPROTO_IPV4, offsetDestination, net.IPv4len}
	}
	return addressKind{unix.NFPROTO_IPV6, offsetDestination6, net.IPv6len}
}

// load is for inet tables: it first makes sure that the packet is of the family, by way of register 1.
func (k addressKind) load(reg uint32) []expr.Any {
	return append(isFamily(k.family), &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: k.offset, Len: k.length})
}

func isFamily(family byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
	}
}

func daddrIn(p netip.Prefix) []expr.Any {
	k := destinationOf(p.Addr())
	return append(k.load(1),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: k.length, Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()), Xor: make([]byte, k.length)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	)
}

// established also covers related packets, such as an ICMP error about a connection.
func established() []expr.Any {
	mask := binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func protocol(etherType uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, etherType)},
	}
}

// The registers of a key of the member sets: 32-bit registers (NFT_REG32_00 is 8), one after the other.
const (
	regPort  = unix.NFT_REG32_00
	regEther = regPort + keyMAC/4
	regIP    = regPort + keyIP/4
)

func loadPort() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: regPort}}
}

// loadEther loads the frame's source address.
func loadEther() []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: regEther, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6}}
}

func loadIPSource() []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: regIP, Base: expr.PayloadBaseNetworkHeader, Offset: offsetSource, Len: net.IPv4len}}
}

func loadIP6(offset uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: regIP, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: net.IPv6len}}
}

// loadNDTarget loads the address that a message of neighbour discovery is about.
func loadNDTarget() []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: regIP, Base: expr.PayloadBaseTransportHeader, Offset: 8, Len: net.IPv6len}}
}

func sourceIsUnspecified6() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offsetSource6, Len: net.IPv6len},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: make([]byte, net.IPv6len)},
	}
}

// icmp6Type matches ICMPv6 messages of a range of types. The kernel finds them behind extension headers, too.
func icmp6Type(first, last byte) []expr.Any {
	return append(isProtocol(unix.IPPROTO_ICMPV6),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: []byte{first}},
		&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: []byte{last}},
	)
}

// toGroup matches frames to all, or to a multicast group: the first bit on the wire of the address says so.
func toGroup() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: 0, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{1}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1}},
	}
}

// loadARPEther and loadARPSource load an ARP message's sender (RFC 826, for Ethernet and IPv4).
func loadARPEther() []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: regEther, Base: expr.PayloadBaseNetworkHeader, Offset: 8, Len: 6}}
}

func loadARPSource() []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: regIP, Base: expr.PayloadBaseNetworkHeader, Offset: 14, Len: net.IPv4len}}
}

// membership says whether a key must be in a set.
type membership bool

const (
	present membership = true
	absent  membership = false
)

// lookup looks for the key that starts in regPort.
func lookup(s *nftables.Set, m membership) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: regPort, SetName: s.Name, SetID: s.ID, Invert: m == absent}}
}
