package resolver

import (
	"encoding/hex"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// ttl is docker's, in seconds.
const ttl = 600

// Source knows names. All names are in lower case and without a final dot. It must be safe for concurrent use.
type Source interface {
	// Lookup gives the addresses that name has for a client; false: it is none that the source knows.
	Lookup(client netip.Addr, name string) ([]netip.Addr, bool)
	// Reverse gives the name of an address; "": it is none that the client may know.
	Reverse(client, addr netip.Addr) string
	// Upstream are the servers to ask for other names; none: nobody may be asked.
	Upstream(client netip.Addr) []netip.AddrPort
}

// answer answers what the source knows; nil: others must be asked.
func answer(src Source, client netip.Addr, q *dns.Msg) *dns.Msg {
	if len(q.Question) != 1 || q.Response || q.Opcode != dns.OpcodeQuery {
		return reply(q, dns.RcodeFormatError)
	}
	question := q.Question[0]
	if question.Qclass != dns.ClassINET && question.Qclass != dns.ClassANY {
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(question.Name, "."))
	if question.Qtype == dns.TypePTR {
		return answerReverse(src, client, q, name)
	}
	addrs, known := src.Lookup(client, name)
	if !known {
		return nil
	}
	m := reply(q, dns.RcodeSuccess) // the name exists, even where it has nothing of this type
	for _, a := range addrs {
		if rr := record(question, a); rr != nil {
			m.Answer = append(m.Answer, rr)
		}
	}
	return m
}

// record is the one of an address; nil: it is not of the type that is asked for.
func record(q dns.Question, a netip.Addr) dns.RR {
	h := dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}
	if a.Is6() {
		h.Rrtype = dns.TypeAAAA
	}
	switch {
	case q.Qtype != h.Rrtype && q.Qtype != dns.TypeANY:
		return nil
	case a.Is6():
		return &dns.AAAA{Hdr: h, AAAA: a.AsSlice()}
	}
	return &dns.A{Hdr: h, A: a.AsSlice()}
}

func answerReverse(src Source, client netip.Addr, q *dns.Msg, name string) *dns.Msg {
	addr, ok := reverseAddr(name)
	if !ok {
		return nil
	}
	target := src.Reverse(client, addr)
	if target == "" {
		return nil
	}
	m := reply(q, dns.RcodeSuccess)
	m.Answer = []dns.RR{&dns.PTR{
		Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: ttl}, Ptr: dns.Fqdn(target),
	}}
	return m
}

// reverseAddr reads 4.3.2.1.in-addr.arpa, or the 32 digits before ip6.arpa (RFC 3596).
func reverseAddr(name string) (netip.Addr, bool) {
	if labels, ok := strings.CutSuffix(name, ".ip6.arpa"); ok {
		return reverseAddr6(labels)
	}
	labels, ok := strings.CutSuffix(name, ".in-addr.arpa")
	if !ok {
		return netip.Addr{}, false
	}
	parts := strings.Split(labels, ".")
	const octets = 4
	if len(parts) != octets {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(parts[3] + "." + parts[2] + "." + parts[1] + "." + parts[0])
	return addr, err == nil
}

func reverseAddr6(labels string) (netip.Addr, bool) {
	const digits = 32
	if len(labels) != 2*digits-1 {
		return netip.Addr{}, false
	}
	text := make([]byte, 0, digits)
	for i := len(labels) - 1; i >= 0; i -= 2 {
		if i > 0 && labels[i-1] != '.' {
			return netip.Addr{}, false
		}
		text = append(text, labels[i])
	}
	var b [16]byte
	_, err := hex.Decode(b[:], text)
	return netip.AddrFrom16(b), err == nil
}

func reply(q *dns.Msg, code int) *dns.Msg {
	m := &dns.Msg{}
	m.SetRcode(q, code)
	m.RecursionAvailable = true
	return m
}
