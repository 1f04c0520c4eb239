package resolver

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// table is a Source of one client.
type table map[string][]netip.Addr

var (
	client = netip.MustParseAddr("172.18.0.9")
	web    = netip.MustParseAddr("172.18.0.2")
	web6   = netip.MustParseAddr("fd00:18::2")
)

func (t table) Lookup(c netip.Addr, name string) ([]netip.Addr, bool) {
	a, ok := t[name]
	return a, ok && c == client
}

func (t table) Reverse(c, addr netip.Addr) string {
	if c == client && (addr == web || addr == web6) {
		return "web.mine"
	}
	return ""
}

func (table) Upstream(netip.Addr) []netip.AddrPort { return nil }

func ask(name string, typ uint16) *dns.Msg {
	q := &dns.Msg{}
	q.SetQuestion(name, typ)
	return q
}

func TestAnswers(t *testing.T) {
	src := table{"web": {web, netip.MustParseAddr("172.18.0.3")}, "both": {web6, web}}
	const reverse6 = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.1.0.0.0.0.d.f.ip6.arpa."
	for _, tc := range []struct {
		name string
		typ  uint16
		want string // the records' data; "-": others are asked
	}{
		{"web.", dns.TypeA, "172.18.0.2 172.18.0.3"},
		{"WEB.", dns.TypeA, "172.18.0.2 172.18.0.3"},
		{"web.", dns.TypeAAAA, ""},
		{"web.", dns.TypeMX, ""},
		{"both.", dns.TypeA, "172.18.0.2"},
		{"both.", dns.TypeAAAA, "fd00:18::2"},
		{"both.", dns.TypeANY, "fd00:18::2 172.18.0.2"},
		{reverse6, dns.TypePTR, "web.mine."},
		{strings.ToUpper(reverse6), dns.TypePTR, "web.mine."},
		{"3" + reverse6[1:], dns.TypePTR, "-"},
		{"g" + reverse6[1:], dns.TypePTR, "-"},
		{"0." + reverse6, dns.TypePTR, "-"},
		{reverse6[2:], dns.TypePTR, "-"},
		{"20" + reverse6[2:], dns.TypePTR, "-"},
		{"other.", dns.TypeA, "-"},
		{"2.0.18.172.in-addr.arpa.", dns.TypePTR, "web.mine."},
		{"3.0.18.172.in-addr.arpa.", dns.TypePTR, "-"},
		{"300.0.18.172.in-addr.arpa.", dns.TypePTR, "-"},
		{"1.2.0.18.172.in-addr.arpa.", dns.TypePTR, "-"},
	} {
		m := answer(src, client, ask(tc.name, tc.typ))
		got := "-"
		if m != nil {
			var data []string
			for _, rr := range m.Answer {
				data = append(data, dns.Field(rr, 1))
			}
			got = strings.Join(data, " ")
			if m.Rcode != dns.RcodeSuccess || !m.RecursionAvailable || !m.Response {
				t.Errorf("%s: header %v", tc.name, m.MsgHdr)
			}
		}
		if got != tc.want {
			t.Errorf("%s %s: got %q, want %q", tc.name, dns.TypeToString[tc.typ], got, tc.want)
		}
	}
	if m := answer(src, web, ask("web.", dns.TypeA)); m != nil {
		t.Errorf("a stranger got %v", m)
	}
	two := ask("web.", dns.TypeA)
	two.Question = append(two.Question, two.Question[0])
	if m := answer(src, client, two); m == nil || m.Rcode != dns.RcodeFormatError {
		t.Errorf("two questions: got %v", m)
	}
}

// FuzzAnswer: whatever a container sends either is no message to the library, or gets an answer that can be sent.
func FuzzAnswer(f *testing.F) {
	for _, q := range []*dns.Msg{ask("web.", dns.TypeA), ask("2.0.18.172.in-addr.arpa.", dns.TypePTR), ask("x.y.z.", dns.TypeANY), ask("web.", dns.TypeAAAA),
		ask("2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.1.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR), {}} {
		b, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	src := table{"web": {web, web6}}
	f.Fuzz(func(t *testing.T, b []byte) {
		q := &dns.Msg{}
		if q.Unpack(b) != nil {
			return
		}
		m := answer(src, client, q)
		if m == nil {
			return
		}
		m.Truncate(dns.MinMsgSize)
		if _, err := m.Pack(); err != nil && len(q.Question) == 1 {
			t.Errorf("the answer to %v cannot be sent: %v", q, err)
		}
	})
}
