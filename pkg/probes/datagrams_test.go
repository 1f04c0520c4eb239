package probes

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// An echoer binds the address that follows, tells the port, and returns what comes to it. A datagram sender sends to the address that follows as
// many datagrams as the first number after it says, each of the size that the second one says, as many by one call as the third one
// says, and waits until all have returned before the next call. It tells how many bytes came back. Both end with their input.
const (
	echoerMode         = "datagram-echoer"
	datagramSenderMode = "datagram-sender"
)

func echoDatagrams(address string) error {
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println(c.LocalAddr().(*net.UDPAddr).Port)
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			if _, err := c.WriteTo(b[:n], from); err != nil {
				return
			}
		}
	}()
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func sendDatagrams(address string, numbers []string) error {
	var n [3]int // datagrams, bytes of each, of one call
	for i := range n {
		var err error
		if n[i], err = strconv.Atoi(numbers[i]); err != nil {
			return err
		}
	}
	c, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if n[2] > 1 {
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err != nil {
			return err
		}
		var option error
		if err := raw.Control(func(fd uintptr) { option = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, n[1]) }); err != nil || option != nil {
			return errors.Join(err, option)
		}
	}
	back, b := 0, make([]byte, 1<<16)
	for range n[0] / n[2] {
		if _, err := c.Write(make([]byte, n[1]*n[2])); err != nil {
			return err
		}
		for range n[2] {
			if err := c.SetReadDeadline(time.Now().Add(deadline)); err != nil {
				return err
			}
			got, err := c.Read(b)
			if err != nil {
				return err
			}
			back += got
		}
	}
	fmt.Println(back)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// Two containers exchange known datagrams over a veth pair: small ones, ones that the way parts into packets, and many by one call. Both
// have all of them, the one that asks and the one that is asked, by the owner of the socket; a third, in the network of the
// second, has nothing, nor has what is outside.
func TestKernelPeersCountDatagrams(t *testing.T) {
	p := open(t, Config{Peers: 64})
	parent := childCgroup(t, cgroup{dir: cgroup2Root()})
	if err := p.WatchDatagrams(parent.dir); err != nil {
		t.Fatal(err)
	}
	if err := p.WatchDatagrams(parent.dir); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("twice: %v", err)
	}
	container := func() (triton.ContainerKey, cgroup) {
		key, cg := newKey(), childCgroup(t, parent)
		if _, err := p.Watch(key, CgroupIDs{V2: cg.id}); err != nil {
			t.Fatal(err)
		}
		return key, cg
	}
	client, clientIn := container()
	server, serverIn := container()
	third, thirdIn := container()
	if err := p.SetAddresses(server, []netip.Addr{netip.MustParseAddr("192.0.2.2")}); err != nil {
		t.Fatal(err)
	}
	clientNS, serverNS := netnsPair(t)
	for _, ns := range []string{clientNS, serverNS} {
		must(t, "ip", "-n", ns, "link", "set", "lo", "up")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	start(t, serverIn, in(serverNS, self, echoerMode, "192.0.2.2:9")...).number(t)
	start(t, thirdIn, in(serverNS, self, echoerMode, "192.0.2.2:10")...).number(t)
	outside := start(t, cgroup{}, in(clientNS, self, datagramSenderMode, "192.0.2.2:9", "3", "11", "1")...)
	if n := outside.number(t); n != 33 {
		t.Fatalf("%d bytes came back", n)
	}
	sent, all := uint64(0), uint64(0)
	for _, c := range [][3]uint64{{200, 100, 1}, {50, 8000, 1}, {60, 1200, 6}, {5, 0, 1}} {
		proc := start(t, clientIn, in(clientNS, self, datagramSenderMode, "192.0.2.2:9", fmt.Sprint(c[0]), fmt.Sprint(c[1]), fmt.Sprint(c[2]))...)
		if n := proc.number(t); n != c[0]*c[1] {
			t.Fatalf("of %v %d bytes came back", c, n)
		}
		sent, all = sent+c[0], all+c[0]*c[1]
	}
	want := triton.Peer{
		Address: netip.MustParseAddr("192.0.2.2"), Port: 9, Protocol: triton.ProtoUDP, Other: server,
		SentBytes: all, ReceivedBytes: all, SentDatagrams: sent, ReceivedDatagrams: sent,
	}
	same(t, "of the one that asks", onlyPeer(t, p, client), want)
	want.Address, want.Accepted, want.Other = netip.MustParseAddr("192.0.2.1"), true, triton.ContainerKey{}
	want.SentBytes, want.ReceivedBytes, want.SentDatagrams, want.ReceivedDatagrams = all+33, all+33, sent+3, sent+3
	same(t, "of the one that is asked", onlyPeer(t, p, server), want)
	if got := peersOf(t, p, third); len(got) != 0 {
		t.Errorf("of a third: %+v", got)
	}
}

func same(t *testing.T, what string, got, want triton.Peer) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s:\n%+v, want\n%+v", what, got, want)
	}
}

// Datagrams to more ports than a container may have peers are its rest, and what IPv6 carries is counted like the others.
func TestKernelDatagramsThatFindNoRoomAreTheRest(t *testing.T) {
	p := open(t, Config{Peers: 64, PeersPerContainer: 2})
	key, cg := watch(t, p)
	if err := p.WatchDatagrams(filepath.Dir(cg.dir)); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		port := start(t, cgroup{}, self, echoerMode, "[::1]:0").number(t)
		address := net.JoinHostPort("::1", fmt.Sprint(port))
		if n := start(t, cg, self, datagramSenderMode, address, "10", strconv.Itoa(100+i), "1").number(t); n != 10*(100+uint64(i)) {
			t.Fatalf("%d bytes came back", n)
		}
	}
	var own, rest triton.Peer
	for _, peer := range peersOf(t, p, key) {
		if peer.Address.IsValid() {
			own.Add(&peer)
		} else {
			rest.Add(&peer)
		}
	}
	if own.SentBytes != 2010 || own.ReceivedBytes != 2010 || own.SentDatagrams != 20 || own.ReceivedDatagrams != 20 {
		t.Errorf("of two peers: %+v", own)
	}
	if rest.SentBytes != 2050 || rest.ReceivedBytes != 2050 || rest.SentDatagrams != 20 || rest.ReceivedDatagrams != 20 || p.Drops()["peers"] == 0 {
		t.Errorf("of the rest: %+v, dropped %v", rest, p.Drops())
	}
}
