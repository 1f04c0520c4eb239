package probes

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

// answering listens and answers each connection: it reads what the other sends and then writes reply, after hold is closed.
func answering(t *testing.T, network, address string, reply []byte, hold <-chan struct{}) (port int, read <-chan int64) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	counts := make(chan int64, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.Write(reply)
				<-hold
				n, _ := io.Copy(io.Discard, c)
				counts <- n
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port, counts
}

// unusedPort is one that nobody listens on.
func unusedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func peersOf(t *testing.T, p *Probes, key triton.ContainerKey) []triton.Peer {
	t.Helper()
	all, err := p.Peers()
	if err != nil {
		t.Fatal(err)
	}
	return all[key]
}

// The bytes of a connection are those that went through it: while it is open, after it is closed, and on both sides.
func TestKernelPeersCountConnectionsAndBytes(t *testing.T) {
	p := open(t, Config{Peers: 64})
	key, cg := watch(t, p)
	for _, c := range []struct{ network, address string }{{"tcp4", "127.0.0.1"}, {"tcp6", "::1"}} {
		hold := make(chan struct{})
		port, read := answering(t, c.network, net.JoinHostPort(c.address, "0"), bytes.Repeat([]byte("r"), 7000), hold)
		client := start(t, cg, "/bin/busybox", "nc", c.address, strconv.Itoa(port))
		if _, err := io.ReadFull(client.out, make([]byte, 7000)); err != nil {
			t.Fatal(err)
		}
		if _, err := client.in.Write(bytes.Repeat([]byte("s"), 5000)); err != nil {
			t.Fatal(err)
		}
		want := triton.Peer{Address: netip.MustParseAddr(c.address), Port: uint16(port), Protocol: "tcp", Opened: 1, Open: 1, SentBytes: 5000, ReceivedBytes: 7000}
		of := func() triton.Peer {
			for _, peer := range peersOf(t, p, key) {
				if peer.Port == uint16(port) {
					return peer
				}
			}
			return triton.Peer{}
		}
		eventually(t, "the open connection's bytes", func() bool { return cmp.Equal(of(), want, samePeer) })
		close(hold)
		client.in.Close() // nc closes its side at the end of its input, the other then its own
		client.wait(t)
		if n := <-read; n != 5000 {
			t.Fatalf("%d bytes came through", n)
		}
		want.Open = 0
		eventually(t, "the closed connection's bytes", func() bool { return cmp.Equal(of(), want, samePeer) })
	}
}

// samePeer leaves out how long round trips took.
var samePeer = cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmpopts.IgnoreFields(triton.Peer{}, "RTT")}

// What a container accepted is charged to it by its own port, not by the caller's, however many callers there are.
func TestKernelPeersOfAServerAreKnownByItsPort(t *testing.T) {
	p := open(t, Config{Peers: 64})
	key, cg := watch(t, p)
	port := unusedPort(t)
	for i := range 3 {
		server := start(t, cg, "/bin/busybox", "nc", "-l", "-p", strconv.Itoa(port))
		var c net.Conn
		eventually(t, "the server listens", func() bool {
			var err error
			c, err = net.Dial("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			return err == nil
		})
		if _, err := c.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		c.(*net.TCPConn).CloseWrite()
		if _, err := io.ReadFull(server.out, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		server.in.Close()
		server.wait(t)
		c.Close()
		want := triton.Peer{Address: netip.MustParseAddr("127.0.0.1"), Port: uint16(port), Protocol: "tcp", Accepted: true, Opened: uint64(i + 1), ReceivedBytes: uint64(1000 * (i + 1))}
		eventually(t, "the callers are one peer", func() bool {
			got := peersOf(t, p, key)
			return len(got) == 1 && cmp.Equal(got[0], want, samePeer)
		})
	}
}

// Attempts that came to nothing are told by how they ended; processes outside of containers are nobody's.
func TestKernelPeersThatRefuse(t *testing.T) {
	p := open(t, Config{Peers: 64})
	key, cg := watch(t, p)
	port := unusedPort(t)
	for range 2 {
		start(t, cg, "/bin/busybox", "nc", "127.0.0.1", strconv.Itoa(port)).wait(t)
	}
	start(t, cgroup{}, "/bin/busybox", "nc", "127.0.0.1", strconv.Itoa(port)).wait(t)
	want := []triton.Peer{{Address: netip.MustParseAddr("127.0.0.1"), Port: uint16(port), Protocol: "tcp", ConnectFailures: map[string]uint64{"refused": 2}, ResetsReceived: 2}}
	if diff := cmp.Diff(want, peersOf(t, p, key), samePeer); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if all, err := p.Peers(); err != nil || len(all) != 1 {
		t.Errorf("%d containers have peers: %v", len(all), err)
	}
}

// The map is bounded, and so is each container's share; what finds no room is the container's rest, and ended containers make
// room.
func TestKernelPeersAreBounded(t *testing.T) {
	p := open(t, Config{Peers: 8, PeersPerContainer: 4})
	key, cg := watch(t, p)
	attempts := func(cg cgroup, n int) {
		for i := range n {
			start(t, cg, "/bin/busybox", "nc", "127.0.0."+fmt.Sprint(2+i), "1").wait(t)
		}
	}
	attempts(cg, 9)
	got := peersOf(t, p, key)
	if len(got) != 5 || got[0].Address.IsValid() || got[0].ConnectFailures["refused"] != 5 || p.Drops()["peers"] == 0 {
		t.Errorf("%+v, %d dropped, want five: the rest with five failures, and four with one", got, p.Drops()["peers"])
	}
	second, cg2 := watch(t, p)
	attempts(cg2, 6)
	if got := peersOf(t, p, second); len(got) != 5 || got[0].ConnectFailures["refused"] != 2 {
		t.Errorf("another container: %+v", got)
	}
	third, cg3 := watch(t, p)
	attempts(cg3, 3)
	if got := peersOf(t, p, third); len(got) != 1 || got[0].ConnectFailures["refused"] != 3 {
		t.Errorf("one for which the machine has no room: %+v", got)
	}
	for _, k := range []triton.ContainerKey{key, second} {
		if _, err := p.Unwatch(k); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.reap(); err != nil {
		t.Fatal(err)
	}
	if n := entries(t, p.peers.maps[bpf.PeersMapPeers]); n != 0 {
		t.Errorf("%d peers of ended containers", n)
	}
	for k := range p.peers.last {
		if _, ok := p.ownerKey(k.Owner); !ok {
			t.Errorf("%v is remembered of an ended container", k)
		}
	}
	other, cg := watch(t, p)
	attempts(cg, 2)
	if got := peersOf(t, p, other); len(got) != 2 {
		t.Errorf("after the end of others: %v", got)
	}
}

func TestPeersAreNotCountedUnlessAskedFor(t *testing.T) {
	p := &Probes{}
	if all, err := p.Peers(); all != nil || err != nil {
		t.Errorf("got %v, %v", all, err)
	}
}

// Readings of a busy pair never fall, also while connections close between the two maps.
func TestKernelPeersNeverFall(t *testing.T) {
	p := open(t, Config{Peers: 64})
	key, cg := watch(t, p)
	hold := make(chan struct{})
	close(hold)
	port, _ := answering(t, "tcp4", "127.0.0.1:0", bytes.Repeat([]byte("r"), 100), hold)
	stop := make(chan struct{})
	done := make(chan int)
	go func() {
		n := 0
		defer func() { done <- n }()
		for {
			select {
			case <-stop:
				return
			default:
				start(t, cg, "/bin/busybox", "nc", "127.0.0.1", strconv.Itoa(port)).in.Close()
				n++
			}
		}
	}()
	var last triton.Peer
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); {
		if got := peersOf(t, p, key); len(got) == 1 {
			if got[0].ReceivedBytes < last.ReceivedBytes || got[0].Opened < last.Opened {
				t.Fatalf("fell from %+v to %+v", last, got[0])
			}
			last = got[0]
		}
	}
	close(stop)
	if n := <-done; last.Opened == 0 || n < 10 {
		t.Errorf("%d connections, %+v: nothing was tried", n, last)
	}
}
