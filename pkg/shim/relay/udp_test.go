package relay

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// bind gives a socket as the daemon reserves it, and the port it stands for.
func bind(t *testing.T, host, target string) Port {
	t.Helper()
	c := must(net.ListenPacket("udp", host)).(*net.UDPConn)
	defer c.Close()
	f := must(c.File())
	t.Cleanup(func() { f.Close() })
	return Port{Proto: triton.ProtoUDP, Host: netip.MustParseAddrPort(c.LocalAddr().String()), Target: addrPort(target), Socket: f}
}

// echo plays a container's program that answers each datagram, with prefix before it.
func echo(t *testing.T, at, prefix string) string {
	t.Helper()
	c := must(net.ListenPacket("udp", at))
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, maxDatagram)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(append([]byte(prefix), buf[:n]...), from)
		}
	})
	t.Cleanup(func() { c.Close(); wg.Wait() })
	return c.LocalAddr().String()
}

func asker(t *testing.T, to string) *net.UDPConn {
	t.Helper()
	c := must(net.Dial("udp", to)).(*net.UDPConn) // connected: answers from another address do not arrive
	t.Cleanup(func() { c.Close() })
	return c
}

func ask(t *testing.T, c *net.UDPConn, text string) (string, error) {
	t.Helper()
	must(0, c.SetDeadline(time.Now().Add(10*time.Second)))
	must(c.Write([]byte(text)))
	buf := make([]byte, maxDatagram)
	n, err := c.Read(buf)
	return string(buf[:n]), err
}

func TestDatagramsFindTheirWayBack(t *testing.T) {
	r := newRelay(t)
	p := bind(t, "[::]:0", echo(t, "127.0.0.1:0", ""))
	serve(t, r, p)
	port := p.Host.Port()
	// A socket of all addresses answers from the one that was asked: 127.0.0.1 does not reach a socket of [::] with
	// IPV6_V6ONLY, as the daemon has it, but does here.
	for _, to := range []string{"::1", "127.0.0.1", "::ffff:127.0.0.9"} {
		one, two := asker(t, netip.AddrPortFrom(netip.MustParseAddr(to), port).String()), asker(t, netip.AddrPortFrom(netip.MustParseAddr(to), port).String())
		for _, text := range []string{"a", "", strings.Repeat("x", 60000)} {
			for name, c := range map[string]*net.UDPConn{"one": one, "two": two} {
				if got, err := ask(t, c, name+text); err != nil || got != name+text {
					t.Errorf("%s at %s: got %.20q (%v), want %.20q", name, to, got, err, name+text)
				}
			}
		}
	}
	const bytes = 6 * (3 + 4 + 60003)
	counts(t, r, "all is counted", Stats{Flows: 6, Begun: 6, UDPIn: bytes, UDPOut: bytes})
}

func TestAProgramThatListensLaterIsReached(t *testing.T) {
	r := newRelay(t)
	c := must(net.ListenPacket("udp", "127.0.0.1:0"))
	target := c.LocalAddr().String()
	c.Close()
	p := bind(t, "[::1]:0", target)
	serve(t, r, p)
	from := asker(t, p.Host.String())
	for range 3 {
		must(from.Write([]byte("nobody hears")))
	}
	eventually(t, "the client is known", func() bool { return r.Stats().Flows == 1 })
	echo(t, target, "")
	eventually(t, "it answers", func() bool {
		got, err := ask(t, from, "now") // what nobody heard may have been under way still
		return err == nil && got == "now"
	})
}

func TestRetargetedDatagrams(t *testing.T) {
	r := newRelay(t)
	p := bind(t, "[::1]:0", echo(t, "127.0.0.1:0", "one "))
	serve(t, r, p)
	c := asker(t, p.Host.String())
	if got, err := ask(t, c, "?"); err != nil || got != "one ?" {
		t.Errorf("got %q (%v), want one ?", got, err)
	}
	p.Target = addrPort(echo(t, "127.0.0.1:0", "two "))
	serve(t, r, p)
	if got, err := ask(t, c, "?"); err != nil || got != "two ?" {
		t.Errorf("led elsewhere: got %q (%v), want two ?", got, err)
	}
	p.Target = netip.AddrPort{}
	serve(t, r, p)
	must(c.Write([]byte("nowhere")))
	counts(t, r, "it is dropped", Stats{Begun: 2, UDPIn: 2, UDPOut: 10, Dropped: 1})
}

func TestFlowsAreBounded(t *testing.T) {
	r := newRelay(t)
	r.flows.most = 3
	p := bind(t, "[::1]:0", echo(t, "127.0.0.1:0", ""))
	serve(t, r, p)
	var conns []*net.UDPConn
	for range 5 {
		c := asker(t, p.Host.String())
		if got, err := ask(t, c, "hello"); err != nil || got != "hello" {
			t.Errorf("got %q (%v), want hello", got, err)
		}
		conns = append(conns, c)
	}
	counts(t, r, "two were forgotten", Stats{Flows: 3, Begun: 5, Evicted: 2, UDPIn: 25, UDPOut: 25})
	// The one that was forgotten is a new client.
	if got, err := ask(t, conns[0], "again"); err != nil || got != "again" {
		t.Errorf("got %q (%v), want again", got, err)
	}
}

func TestSilentFlowsAreForgotten(t *testing.T) {
	r := newRelay(t)
	r.flows.idle = 40 * time.Millisecond
	p := bind(t, "[::1]:0", echo(t, "127.0.0.1:0", ""))
	serve(t, r, p)
	c := asker(t, p.Host.String())
	if _, err := ask(t, c, "hello"); err != nil {
		t.Error(err)
	}
	counts(t, r, "it is forgotten", Stats{Begun: 1, UDPIn: 5, UDPOut: 5})
	if got, err := ask(t, c, "again"); err != nil || got != "again" {
		t.Errorf("got %q (%v), want again", got, err)
	}
}

func TestCloseEndsUDP(t *testing.T) {
	r := newRelay(t)
	p := bind(t, "[::1]:0", echo(t, "127.0.0.1:0", ""))
	serve(t, r, p)
	c := asker(t, p.Host.String())
	if _, err := ask(t, c, "hello"); err != nil {
		t.Error(err)
	}
	r.Close(time.Second)
	must(0, c.SetDeadline(time.Now().Add(50*time.Millisecond)))
	must(c.Write([]byte("hello")))
	if n, err := c.Read(make([]byte, 8)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after close: got %d bytes (%v), want none", n, err)
	}
}

// FuzzPacketInfo: control messages come from the kernel, and are read as if they did not.
func FuzzPacketInfo(f *testing.F) {
	f.Add([]byte{})
	f.Add(unix.PktInfo6(&unix.Inet6Pktinfo{Addr: netip.MustParseAddr("2001:db8::7").As16(), Ifindex: 3}))
	f.Fuzz(func(t *testing.T, oob []byte) {
		info := packetInfo(oob)
		if info == (unix.Inet6Pktinfo{}) {
			return
		}
		if again := packetInfo(unix.PktInfo6(&info)); again != info {
			t.Errorf("%x: got %+v, and %+v when it was written and read again", oob, info, again)
		}
	})
}
