package e2e

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/tritond/triton/pkg/tritonapi/wire"
	"github.com/tritond/triton/test/images"
)

// loggingServer answers every question for names below found. with an address, and all others with NXDOMAIN, after a delay.
type loggingServer struct {
	mu  sync.Mutex
	log map[string]uint64 // questions by "NAME TYPE"
}

const serverDelay = 30 * time.Millisecond

func (s *loggingServer) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	q := m.Question[0]
	s.mu.Lock()
	s.log[q.Name+" "+dns.TypeToString[q.Qtype]]++
	s.mu.Unlock()
	<-time.After(serverDelay) // the known delay
	a := new(dns.Msg).SetReply(m)
	switch {
	case !strings.HasSuffix(q.Name, ".found."):
		a.Rcode = dns.RcodeNameError
	case q.Qtype == dns.TypeA:
		a.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, 1)}}
	}
	w.WriteMsg(a)
}

// serveNamesAt listens on port 53 of an address of this machine.
func serveNamesAt(t *testing.T, address string) *loggingServer {
	t.Helper()
	pc, err := net.ListenPacket("udp4", net.JoinHostPort(address, "53"))
	if err != nil {
		t.Fatal(err)
	}
	s := &loggingServer{log: map[string]uint64{}}
	l, err := net.Listen("tcp4", net.JoinHostPort(address, "53"))
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []*dns.Server{{PacketConn: pc, Handler: s}, {Listener: l, Handler: s}} {
		go server.ActivateAndServe()
		t.Cleanup(func() { server.Shutdown() })
	}
	return s
}

// byTCP is a command of a shell that asks a server for an address by TCP, and fails without an answer.
func byTCP(t *testing.T, server, name string) string {
	t.Helper()
	b, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, c := range append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) {
		fmt.Fprintf(&text, `\%03o`, c)
	}
	return fmt.Sprintf(`[ $(printf '%s' | nc %s 53 | wc -c) -gt %d ]`, text.String(), server, len(b))
}

// A container that asks a server, and one that asks the embedded resolver, have every question once: the server's log is
// the witness of the first, the number of look-ups that of the second.
func TestNamesThatContainersAskFor(t *testing.T) {
	t.Parallel()
	u := own(t, "--metrics-dns")
	gateway := u.ok(t, "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge")
	server := serveNamesAt(t, gateway)
	finish := " && echo done; sleep 1000"
	plain := u.detached(t, "--dns", gateway, images.Busybox, "sh", "-c",
		"for i in 1 2 3 4; do nslookup web.found; done; nslookup nobody.lost; "+byTCP(t, gateway, "tcp.found.")+finish)
	network := u.name(t)
	u.ok(t, "network", "create", network)
	peer := u.detached(t, "--network", network, images.Busybox, "sleep", "1000")
	embedded := u.detached(t, "--network", network, images.Busybox, "sh", "-c",
		"for i in 1 2 3 4 5; do nslookup "+peer+"; done; "+byTCP(t, "127.0.0.11", peer+".")+finish)
	for _, name := range []string{plain, embedded} {
		eventually(t, commandTime, name+" is done", func() bool { return strings.HasSuffix(u.docker(t, "logs", name).Stdout, "done\n") })
	}
	asked := func(name string) (wire.DNS, map[string]uint64) {
		var d wire.DNS
		if err := u.api.JSON(t.Context(), http.MethodGet, wire.DNSPath(name), nil, &d); err != nil {
			t.Fatal(err)
		}
		names := map[string]uint64{}
		for _, n := range d.Names {
			names[n.Name+" "+n.Type] = n.Asked
		}
		return d, names
	}
	d, names := asked(plain)
	server.mu.Lock()
	if diff := cmp.Diff(server.log, names); diff != "" {
		t.Errorf("questions (-server +probes):\n%s", diff)
	}
	server.mu.Unlock()
	if n := d.RoundTrip.Count(); n != d.Asked || d.AskedTCP != 1 || time.Duration(d.RoundTrip.SumNs) < time.Duration(n)*serverDelay || d.Answers["NXDOMAIN"] == 0 {
		t.Errorf("%d of %d questions (%d by TCP, want 1) are answered in %v, %v", n, d.Asked, d.AskedTCP, time.Duration(d.RoundTrip.SumNs), d.Answers)
	}
	d, names = asked(embedded)
	if names[peer+". A"] != 6 || d.RoundTrip.Count() != d.Asked || d.AskedTCP != 1 {
		t.Errorf("the embedded resolver was asked %v, %d of %d answered, %d by TCP; want A of %s six times, once by TCP", names, d.RoundTrip.Count(), d.Asked, d.AskedTCP, peer)
	}
	if table := u.triton(t, "dns", plain); !strings.Contains(table, "web.found.") || !strings.Contains(table, "NXDOMAIN") {
		t.Errorf("triton dns:\n%s", table)
	}
	eventually(t, commandTime, "it has series, without names", func() bool {
		_, metrics := get(t, "http://"+u.tritond.HTTP+"/metrics", "")
		return strings.Contains(metrics, "triton_container_dns_duration_seconds_count") && !strings.Contains(metrics, "web.found")
	})
}
