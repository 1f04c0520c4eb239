package network

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

const (
	uplinkAddr  = "192.0.2.1"
	outsideAddr = "192.0.2.2"
)

// outside makes a network beside this machine: 192.0.2.2, which knows no way to containers.
func outside(t testing.TB) triton.Endpoint {
	t.Helper()
	p, err := openPins(filepath.Join(t.TempDir(), "ns"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.purge(); err != nil {
			t.Error(err)
		}
		eventually(t, "the uplink is gone", func() bool { _, err := netlink.LinkByName("up0"); return err != nil })
	})
	if err := p.makeNetNS(0); err != nil {
		t.Fatal(err)
	}
	ep := triton.Endpoint{NetNS: p.path(0, pinNet)}
	command(t, "ip", "link", "add", "up0", "type", "veth", "peer", "name", "out0")
	command(t, "ip", "addr", "add", uplinkAddr+"/24", "dev", "up0")
	command(t, "ip", "link", "set", "up0", "up")
	// A namespace that no process is in is named by a file.
	command(t, "sh", "-c", "exec ip link set out0 netns /proc/self/fd/9 9<"+ep.NetNS)
	mustInside(t, ep, "ip", "addr", "add", outsideAddr+"/24", "dev", "out0")
	mustInside(t, ep, "ip", "link", "set", "out0", "up")
	command(t, "ip", "link", "show", "up0") // makes the kernel see the carrier now
	return ep
}

func command(t testing.TB, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
}

func TestKernelOutsideSeesTheHostsAddress(t *testing.T) {
	n, out := open(t, testConfig(t, testSubnet)), outside(t)
	serve(t, out)
	for _, kind := range []Kind{Bridged, BridgedHostUser} {
		if got, err := seenBy(t, take(t, n, kind), outsideAddr); err != nil || got != uplinkAddr {
			t.Errorf("seen outside: got %q (%v), want %q", got, err, uplinkAddr)
		}
	}
}

func TestKernelNoWayInFromOutside(t *testing.T) {
	n, out := open(t, testConfig(t, testSubnet)), outside(t)
	a := take(t, n, Bridged)
	serve(t, a)
	mustInside(t, out, "ip", "route", "add", testSubnet.String(), "via", uplinkAddr)
	if got, err := seenBy(t, out, ip(a)); err == nil {
		t.Errorf("routed from outside: got an answer to %q, want none", got)
	}
	// Another's DNAT rule leads past the first check, to the second.
	command(t, "nft", "add table ip other; add chain ip other pre { type nat hook prerouting priority -100; }; "+
		"add rule ip other pre tcp dport 80 dnat to "+ip(a))
	t.Cleanup(func() { command(t, "nft", "delete table ip other") })
	if got, err := seenBy(t, out, uplinkAddr); err == nil {
		t.Errorf("through another's DNAT: got an answer to %q, want none", got)
	}
	drops, err := n.Drops()
	if err != nil || drops.RoutedIn == 0 || drops.ForwardIn == 0 {
		t.Errorf("drops: got %+v (%v), want routed and forwarded ones", drops, err)
	}
	if drops.RoutedIn, drops.ForwardIn = 0, 0; drops != (Drops{}) {
		t.Errorf("drops: got others too: %+v", drops)
	}
}

func TestKernelInstancesLiveSideBySide(t *testing.T) {
	setSysctl(t, ipForward, "0")
	out := outside(t)
	serve(t, out)
	one, two := testConfig(t, testSubnet), testConfig(t, netip.MustParsePrefix("172.31.0.0/24"))
	n1 := open(t, one)
	n2 := open(t, two)
	a, b := take(t, n1, Bridged), take(t, n2, Bridged)
	serve(t, b)
	if got, err := seenBy(t, a, ip(b)); err == nil {
		t.Errorf("container of another instance: got an answer to %q, want none", got)
	}
	if drops, err := n2.Drops(); err != nil || drops.CrossBridge == 0 {
		t.Errorf("drops: got %+v (%v), want some between bridges", drops, err)
	}
	for _, ep := range []triton.Endpoint{a, b} {
		if _, err := seenBy(t, ep, outsideAddr); err != nil {
			t.Errorf("out from %s: %v", ep.Address, err)
		}
	}
	// The one that turned forwarding on leaves; the other still needs it.
	if err := n1.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := seenBy(t, b, outsideAddr); err != nil {
		t.Errorf("out after the other instance was purged: %v", err)
	}
	if err := n2.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := readSysctl(ipForward); err != nil || got != "0" {
		t.Errorf("ip_forward after both were purged: got %q (%v), want 0", got, err)
	}
}

const probePort = 9999

// frame is an Ethernet frame with a payload.
func frame(dst, src string, etherType uint16, payload []byte) []byte {
	d, _ := net.ParseMAC(dst)
	s, _ := net.ParseMAC(src)
	b := append(append([]byte{}, d...), s...)
	return append(binary.BigEndian.AppendUint16(b, etherType), payload...)
}

// datagram is an IPv4 packet with a UDP datagram for probePort. A UDP checksum of zero means none.
func datagram(src, dst string, data []byte) []byte {
	s, d := netip.MustParseAddr(src).As4(), netip.MustParseAddr(dst).As4()
	b := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	b = append(append(b, s[:]...), d[:]...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)+8+len(data)))
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
	b = binary.BigEndian.AppendUint16(b, probePort)
	b = binary.BigEndian.AppendUint16(b, probePort)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(data)))
	return append(append(b, 0, 0), data...)
}

// claimARP is a gratuitous ARP request: mac has address ip.
func claimARP(mac, ip string) []byte {
	m, _ := net.ParseMAC(mac)
	a := netip.MustParseAddr(ip).As4()
	b := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	b = append(append(b, m...), a[:]...)
	return append(append(b, 0, 0, 0, 0, 0, 0), a[:]...)
}

// sender opens a raw socket on eth0 of an endpoint, as a container with docker's default capabilities can.
func sender(t *testing.T, ep triton.Endpoint) func([]byte) {
	t.Helper()
	var fd int
	within(t, ep, func() (err error) {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		link, err := net.InterfaceByName(containerLink)
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: link.Index})
	})
	t.Cleanup(func() { unix.Close(fd) })
	return func(b []byte) {
		t.Helper()
		if _, err := unix.Write(fd, b); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKernelSpoofedPacketsAreDroppedAndCounted(t *testing.T) {
	n := open(t, testConfig(t, testSubnet))
	a, b, victim := take(t, n, Bridged), take(t, n, Bridged), take(t, n, Bridged)
	var got net.PacketConn
	within(t, b, func() (err error) {
		got, err = net.ListenPacket("udp4", ":9999")
		return err
	})
	defer got.Close()
	send := sender(t, a)
	udp := func(mac, src, text string) []byte {
		return frame(b.MAC, mac, unix.ETH_P_IP, datagram(src, ip(b), []byte(text)))
	}
	send(udp(a.MAC, ip(a), "first"))
	for range 5 {
		send(udp(victim.MAC, ip(a), "false MAC"))
	}
	for range 7 {
		send(udp(a.MAC, ip(victim), "false address"))
	}
	for range 3 {
		send(frame("ff:ff:ff:ff:ff:ff", a.MAC, unix.ETH_P_ARP, claimARP(a.MAC, ip(victim))))
	}
	for range 2 {
		send(frame("ff:ff:ff:ff:ff:ff", a.MAC, unix.ETH_P_ARP, claimARP(victim.MAC, ip(a))))
	}
	for range 4 {
		send(frame("ff:ff:ff:ff:ff:ff", a.MAC, 0x88b5, make([]byte, 46)))
	}
	send(frame("ff:ff:ff:ff:ff:ff", a.MAC, unix.ETH_P_ARP, claimARP(a.MAC, ip(a))))
	send(udp(a.MAC, ip(a), "last"))

	var texts []string
	for len(texts) < 2 {
		buf := make([]byte, 64)
		got.SetReadDeadline(time.Now().Add(30 * time.Second))
		size, from, err := got.ReadFrom(buf)
		if err != nil {
			t.Fatalf("after %q: %v", texts, err)
		}
		if host := from.(*net.UDPAddr).IP.String(); host != ip(a) {
			t.Errorf("source: got %s, want %s", host, ip(a))
		}
		texts = append(texts, string(bytes.TrimRight(buf[:size], "\x00")))
	}
	if diff := cmp.Diff([]string{"first", "last"}, texts); diff != "" {
		t.Errorf("what arrived (-want +got):\n%s", diff)
	}
	drops, err := n.Drops()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Drops{SpoofedMAC: 5, SpoofedIP: 7, SpoofedARP: 5, OtherProtocol: 4}, drops); diff != "" {
		t.Errorf("drops (-want +got):\n%s", diff)
	}
}

func TestKernelRulesComeBackAfterAFlush(t *testing.T) {
	n := open(t, testConfig(t, testSubnet))
	a := take(t, n, Bridged)
	command(t, "nft", "flush ruleset")
	b := take(t, n, Bridged) // finds that there is no table
	members, err := n.rules.readMembers()
	if err != nil || len(members) != 2 {
		t.Fatalf("members: got %v (%v), want both", members, err)
	}
	sender(t, a)(frame(b.MAC, b.MAC, unix.ETH_P_IP, datagram(ip(a), ip(b), nil)))
	eventually(t, "the false MAC is counted", func() bool {
		drops, err := n.Drops()
		return err == nil && drops.SpoofedMAC == 1
	})
}
