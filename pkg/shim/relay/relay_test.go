package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

// newRelay makes a Relay of which nothing may be left after the test.
func newRelay(t *testing.T) *Relay {
	t.Helper()
	before := runtime.NumGoroutine()
	r := New(slog.New(slog.DiscardHandler), "")
	t.Cleanup(func() {
		r.Close(0)
		eventually(t, "its goroutines end", func() bool { return runtime.NumGoroutine() <= before })
	})
	return r
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("not within 30 s: %s\n%s", what, buf[:runtime.Stack(buf, true)])
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// listen gives a socket as the daemon reserves it, and the port it stands for.
func listen(t *testing.T, host, target string) Port {
	t.Helper()
	ln := must(net.Listen("tcp", host))
	defer ln.Close()
	f := must(ln.(*net.TCPListener).File())
	t.Cleanup(func() { f.Close() })
	return Port{Proto: triton.ProtoTCP, Host: netip.MustParseAddrPort(ln.Addr().String()), Target: addrPort(target), Socket: f}
}

// counts waits until the counters are these.
func counts(t *testing.T, r *Relay, what string, want Stats) {
	t.Helper()
	var got Stats
	defer func() {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Logf("stats (-want +got):\n%s", diff)
		}
	}()
	eventually(t, what, func() bool {
		got = r.Stats()
		return got == want
	})
}

func addrPort(text string) netip.AddrPort {
	if text == "" {
		return netip.AddrPort{}
	}
	return netip.MustParseAddrPort(text)
}

// program plays the container's: serve is called with each connection, in a goroutine that the test waits for.
func program(t *testing.T, serve func(*net.TCPConn)) string {
	t.Helper()
	ln := must(net.Listen("tcp", "127.0.0.1:0"))
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

func dial(t *testing.T, p Port) *net.TCPConn {
	t.Helper()
	c := must(net.Dial("tcp", p.Host.String())).(*net.TCPConn)
	t.Cleanup(func() { c.Close() })
	must(0, c.SetDeadline(time.Now().Add(20*time.Second)))
	return c
}

func serve(t *testing.T, r *Relay, ports ...Port) {
	t.Helper()
	if err := r.Serve(ports); err != nil {
		t.Fatal(err)
	}
}

// echoAll answers only when the client has said all.
func echoAll(c *net.TCPConn) {
	all, _ := io.ReadAll(c)
	_, _ = c.Write(all)
}

func TestBytesPassBothWaysAndEndsAreKeptApart(t *testing.T) {
	r := newRelay(t)
	p := listen(t, "[::1]:0", program(t, echoAll))
	serve(t, r, p)
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB: more than buffers hold
	c := dial(t, p)
	go func() {
		must(c.Write(want))
		must(0, c.CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes (%v), want the %d that were sent", len(got), err, len(want))
	}
	c.Close()
	n := uint64(len(want))
	counts(t, r, "the connection is forgotten", Stats{Accepted: 1, TCPIn: n, TCPOut: n})
}

func TestAnEndOfTheContainerReachesTheClientFirst(t *testing.T) {
	r := newRelay(t)
	heard := make(chan string, 1)
	p := listen(t, "[::1]:0", program(t, func(c *net.TCPConn) {
		must(io.WriteString(c, "bye"))
		must(0, c.CloseWrite())
		all, _ := io.ReadAll(c)
		heard <- string(all)
	}))
	serve(t, r, p)
	c := dial(t, p)
	if got, err := io.ReadAll(c); err != nil || string(got) != "bye" {
		t.Errorf("got %q (%v), want bye", got, err)
	}
	must(io.WriteString(c, "late"))
	c.Close()
	if got := <-heard; got != "late" {
		t.Errorf("the container heard %q, want late", got)
	}
}

func TestResetsPassOn(t *testing.T) {
	r := newRelay(t)
	end := make(chan error, 1)
	fromContainer := listen(t, "[::1]:0", program(t, func(c *net.TCPConn) {
		must(io.WriteString(c, "half of it"))
		must(c.Read(make([]byte, 1)))
		must(0, c.SetLinger(0))
	}))
	fromClient := listen(t, "[::1]:0", program(t, func(c *net.TCPConn) {
		_, err := io.ReadAll(c)
		end <- err
	}))
	serve(t, r, fromContainer, fromClient)

	c := dial(t, fromContainer)
	must(io.ReadFull(c, make([]byte, len("half of it"))))
	must(c.Write([]byte{1}))
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after a reset by the container: got %v, want a reset", err)
	}
	c = dial(t, fromClient)
	must(io.WriteString(c, "half of it"))
	must(0, c.SetLinger(0))
	c.Close()
	if err := <-end; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after a reset by the client: got %v, want a reset", err)
	}
}

func TestAClientThatKeepsADeadConnectionIsLetGo(t *testing.T) {
	r := newRelay(t)
	gone := make(chan struct{})
	p := listen(t, "[::1]:0", program(t, func(c *net.TCPConn) {
		must(0, c.CloseWrite())
		<-gone
		must(0, c.SetLinger(0)) // as its kernel does with what no process holds any more
	}))
	serve(t, r, p)
	c := dial(t, p)
	if got, err := io.ReadAll(c); err != nil || len(got) > 0 {
		t.Fatalf("got %q (%v), want the end", got, err)
	}
	close(gone)
	eventually(t, "the connection is let go", func() bool { return r.Stats().Connections == 0 })
}

func TestWhoCannotReachTheContainerIsReset(t *testing.T) {
	r := newRelay(t)
	ln := must(net.Listen("tcp", "127.0.0.1:0"))
	nobody := ln.Addr().String()
	ln.Close()
	refused, nowhere := listen(t, "[::1]:0", nobody), listen(t, "[::1]:0", "")
	serve(t, r, refused, nowhere)
	for _, p := range []Port{refused, nowhere} {
		c, err := net.Dial("tcp", p.Host.String()) // a quick reset comes before the connection is known to be there
		if err == nil {
			_, err = io.ReadAll(c)
			c.Close()
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("target %s: got %v, want a reset", p.Target, err)
		}
	}
	counts(t, r, "two are unreached", Stats{Accepted: 2, Unreached: 2})
}

func TestRetargetCutsOffAndLeadsElsewhere(t *testing.T) {
	r := newRelay(t)
	named := func(name string) string {
		return program(t, func(c *net.TCPConn) { must(io.WriteString(c, name)); _, _ = io.Copy(io.Discard, c) })
	}
	one, two := named("one"), named("two")
	p := listen(t, "[::1]:0", one)
	serve(t, r, p)
	hears := func(want string) *net.TCPConn {
		t.Helper()
		c, got := dial(t, p), make([]byte, len(want))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
			t.Errorf("got %q (%v), want %q", got, err, want)
		}
		return c
	}
	stays := hears("one")
	serve(t, r, p) // the same again
	p.Target = addrPort(two)
	must(io.WriteString(stays, "still here"))
	serve(t, r, p)
	if _, err := io.ReadAll(stays); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a client of the old target: got %v, want a reset", err)
	}
	hears("two")
}

func TestNoMoreThanSoManyAtOnce(t *testing.T) {
	r := newRelay(t)
	r.slots = make(chan struct{}, 2)
	p := listen(t, "[::1]:0", program(t, func(c *net.TCPConn) { must(io.WriteString(c, "x")); _, _ = io.Copy(io.Discard, c) }))
	serve(t, r, p)
	var conns []*net.TCPConn
	for range 3 {
		conns = append(conns, dial(t, p))
	}
	for _, c := range conns[:2] {
		must(io.ReadFull(c, make([]byte, 1)))
	}
	must(0, conns[2].SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	if n, err := conns[2].Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one too many: got %d bytes (%v), want to wait", n, err)
	}
	conns[0].Close()
	if got := r.Stats(); got.Waited != 1 || got.Connections != 2 {
		t.Errorf("one too many: got %+v, want one that waited, and two open", got)
	}
	must(0, conns[2].SetReadDeadline(time.Now().Add(10*time.Second)))
	if _, err := io.ReadFull(conns[2], make([]byte, 1)); err != nil {
		t.Errorf("once there is room: %v", err)
	}
}

func TestCloseDeliversWhatWasSaid(t *testing.T) {
	r := newRelay(t)
	want := strings.Repeat("x", 8<<20)
	said := make(chan struct{})
	p := listen(t, "[::1]:0", program(t, func(c *net.TCPConn) {
		if b := make([]byte, 1); must(c.Read(b)) == 1 && b[0] == 'q' {
			_, _ = c.Read(b) // quiet until the end
			return
		}
		must(io.WriteString(c, want))
		close(said)
	}))
	serve(t, r, p)
	quiet, loud := dial(t, p), dial(t, p)
	must(io.WriteString(quiet, "q"))
	must(io.WriteString(loud, "l"))
	got := make(chan string, 1)
	go func() { got <- string(must(io.ReadAll(loud))) }()
	<-said
	r.Close(300 * time.Millisecond)
	if all := <-got; all != want {
		t.Errorf("the client got %d bytes, want %d", len(all), len(want))
	}
	if _, err := io.ReadAll(quiet); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a client that was not told all: got %v, want a reset", err)
	}
	if err := r.Serve([]Port{p}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("serve after close: got %v", err)
	}
	// The caller's socket listens still: nobody else gets the port.
	if ln, err := net.Listen("tcp", p.Host.String()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the port after close: got %v (%v), want it in use", ln, err)
	}
}

func TestPortsThatCannotBeServedAreNamed(t *testing.T) {
	r := newRelay(t)
	p := listen(t, "[::1]:0", "127.0.0.1:1")
	wrong := []Port{p, p, p}
	wrong[0].Proto = "sctp"
	wrong[1].Proto = triton.ProtoUDP
	wrong[2].Socket = must(os.Open(os.DevNull))
	defer wrong[2].Socket.Close()
	for _, w := range wrong {
		if err := r.Serve([]Port{w}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("serve %s/%s", w.Host, w.Proto)) {
			t.Errorf("%s, %s: got %v, want an error that names it", w.Proto, w.Socket.Name(), err)
		}
	}
	if diff := cmp.Diff(0, len(r.ports)); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
}

// BenchmarkStream is what a transfer through a relay costs, beside one without.
func BenchmarkStream(b *testing.B) {
	const size = 64 << 20
	ln := must(net.Listen("tcp", "127.0.0.1:0"))
	defer ln.Close()
	chunk := make([]byte, 1<<20)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			for range size / len(chunk) {
				must(c.Write(chunk))
			}
			c.Close()
		}
	}()
	host := must(net.Listen("tcp", "[::1]:0"))
	f := must(host.(*net.TCPListener).File())
	defer f.Close()
	r := New(slog.New(slog.DiscardHandler), "")
	defer r.Close(0)
	must(0, r.Serve([]Port{{Proto: triton.ProtoTCP, Host: addrPort(host.Addr().String()), Target: addrPort(ln.Addr().String()), Socket: f}}))
	host.Close()
	for name, to := range map[string]string{"direct": ln.Addr().String(), "relay": host.Addr().String()} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			for range b.N {
				c := must(net.Dial("tcp", to))
				if n := must(io.Copy(struct{ io.Writer }{io.Discard}, c)); n != size {
					b.Fatalf("got %d bytes", n)
				}
				c.Close()
			}
		})
	}
}
