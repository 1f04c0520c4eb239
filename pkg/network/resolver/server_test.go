package resolver

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// forwarder answers its own client's names, and sends others to a server.
type forwarder struct {
	table
	to []netip.AddrPort
}

func (forwarder) Lookup(netip.Addr, string) ([]netip.Addr, bool) { return nil, false }
func (f forwarder) Upstream(netip.Addr) []netip.AddrPort         { return f.to }

func serveOn(t *testing.T, src Source) *net.UDPConn {
	t.Helper()
	s := New(src, slog.New(slog.DiscardHandler))
	loopback := netip.MustParseAddr("127.0.0.1")
	s.mu.Lock()
	l, err := s.listen(netip.AddrPortFrom(loopback, 0))
	s.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	s.at[loopback] = l
	for _, srv := range []*dns.Server{l.udp, l.tcp} {
		s.serving.Go(func() {
			if err := srv.ActivateAndServe(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return l.udp.PacketConn.(*net.UDPConn)
}

func TestUnknownNamesAreAskedElsewhere(t *testing.T) {
	known := netip.MustParseAddr("192.0.2.7")
	upstream := serveOn(t, anyone{"example.org": {known}}).LocalAddr().(*net.UDPAddr).AddrPort()
	dead := netip.MustParseAddrPort("127.0.0.1:1") // refuses at once
	at := serveOn(t, forwarder{to: []netip.AddrPort{dead, upstream}}).LocalAddr().String()
	for _, network := range []string{"udp", "tcp"} {
		c := &dns.Client{Net: network, Timeout: 5 * time.Second}
		m, _, err := c.Exchange(ask("example.org.", dns.TypeA), at)
		if err != nil || len(m.Answer) != 1 || dns.Field(m.Answer[0], 1) != known.String() {
			t.Errorf("%s: got %v (%v)", network, m, err)
		}
	}
	none := serveOn(t, forwarder{}).LocalAddr().String()
	m, _, err := (&dns.Client{Timeout: 5 * time.Second}).Exchange(ask("example.org.", dns.TypeA), none)
	if err != nil || m.Rcode != dns.RcodeServerFailure {
		t.Errorf("nobody to ask: got %v (%v)", m, err)
	}
}

// anyone is a Source that tells everybody.
type anyone map[string][]netip.Addr

func (t anyone) Lookup(_ netip.Addr, name string) ([]netip.Addr, bool) {
	a, ok := t[name]
	return a, ok
}
func (anyone) Reverse(_, _ netip.Addr) string       { return "" }
func (anyone) Upstream(netip.Addr) []netip.AddrPort { return nil }
