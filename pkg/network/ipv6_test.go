package network

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

func dualStack(subnet4, subnet6 string) triton.NetworkSpec {
	return triton.NetworkSpec{
		Name: "dual", Pool: triton.Pool{Subnet: netip.MustParsePrefix(subnet4)}, IPv6: &triton.Pool{Subnet: netip.MustParsePrefix(subnet6), Chosen: true},
	}
}

func (j joined) ip6() string { return j.att.Address6.Addr().String() }

// listen6 opens a UDP socket for probePort in a container.
func listen6(t *testing.T, j joined) net.PacketConn {
	t.Helper()
	var c net.PacketConn
	within(t, j.ep, func() (err error) {
		c, err = net.ListenPacket("udp6", "[::]:9999")
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// heard reads one datagram and returns its text and its source.
func heard(t *testing.T, c net.PacketConn) (text, from string) {
	t.Helper()
	buf := make([]byte, 64)
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	size, src, err := c.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:size]), src.(*net.UDPAddr).IP.String()
}

func TestKernelContainersReachEachOtherByIPv6(t *testing.T) {
	// The kernel's default: bridged packets go through the tables for routed ones too.
	setSysctl(t, "bridge/bridge-nf-call-ip6tables", "1")
	n := open(t, testConfig(t, testSubnet))
	key := segmentWith(t, n, dualStack("172.31.0.0/24", "fd00:31::/64"))
	n.segments[key.ID].bridge.ports = 1 // the second container is on a leaf
	a, b := join(t, n, key), join(t, n, key)
	if got := a.att.Address6.String() + " " + a.att.Gateway6.String(); got != "fd00:31::2/64 fd00:31::1" {
		t.Errorf("first place: got %s", got)
	}
	if err := n.SetGateway(t.Context(), a.ep, a.att.Gateway, a.att.Gateway6); err != nil {
		t.Fatal(err)
	}
	m, _ := memberOfAttachment(b.att)
	for _, to := range []string{b.ip6(), a.att.Gateway6.String(), "::1", b.att.Address.Addr().String()} {
		if err := ping(t, a, to); err != nil {
			t.Error(err)
		}
	}
	mustInside(t, a.ep, "busybox", "ping", "-I", "eth0", "-c", "1", "-W", "2", linkLocal(m.mac).String())
	command(t, "busybox", "ping", "-c", "1", "-W", "2", a.ip6())
	if out := mustInside(t, a.ep, "ip", "-6", "route"); !strings.Contains(out, "default via fd00:31::1") {
		t.Errorf("routes: got %s", out)
	}
	if got, err := n.Drops(); err != nil || got != (Drops{}) {
		t.Errorf("drops: got %+v (%v), want none", got, err)
	}
	// A network without IPv6 has none, not even between its containers.
	plain := segmentWith(t, n, triton.NetworkSpec{Name: "plain", Pool: triton.Pool{Subnet: netip.MustParsePrefix("172.31.1.0/24")}})
	c := join(t, n, plain)
	if out := mustInside(t, c.ep, "ip", "-6", "addr", "show", "dev", "eth0"); strings.TrimSpace(out) != "" {
		t.Errorf("addresses without IPv6: got %s", out)
	}
}

func TestKernelNetworksAreApartByIPv6(t *testing.T) {
	n := open(t, testConfig(t, testSubnet))
	one := segmentWith(t, n, dualStack("172.31.0.0/24", "fd00:31::/64"))
	two := segmentWith(t, n, dualStack("172.31.1.0/24", "fd00:32::/64"))
	spec := dualStack("172.31.2.0/24", "fd00:33::/64")
	spec.Internal = true
	three := segmentWith(t, n, spec)
	a, b, c := join(t, n, one), join(t, n, two), join(t, n, three)
	for _, j := range []joined{a, b} {
		if err := n.SetGateway(t.Context(), j.ep, j.att.Gateway, j.att.Gateway6); err != nil {
			t.Fatal(err)
		}
	}
	if c.att.Gateway6.IsValid() {
		t.Errorf("gateway of an internal network: got %s, want none", c.att.Gateway6)
	}
	mustInside(t, c.ep, "ip", "-6", "route", "add", "default", "via", "fd00:33::1")
	for _, to := range []joined{b, c} {
		if err := ping(t, a, to.ip6()); err == nil {
			t.Errorf("%s reaches %s of another network", a.ip6(), to.ip6())
		}
	}
	if err := ping(t, c, a.ip6()); err == nil {
		t.Error("a container leaves an internal network")
	}
	drops, err := n.Drops()
	if err != nil || drops.CrossBridge != 3 {
		t.Errorf("drops: got %+v (%v), want three between bridges", drops, err)
	}
}

func TestKernelOutsideSeesTheHostsIPv6Address(t *testing.T) {
	setSysctl(t, ip6Conf("all", "forwarding"), "0")
	n, out := open(t, testConfig(t, testSubnet)), outside(t)
	command(t, "ip", "addr", "add", "2001:db8::1/64", "dev", "up0", "nodad")
	mustInside(t, out, "ip", "addr", "add", "2001:db8::2/64", "dev", "out0", "nodad")
	key := segmentWith(t, n, dualStack("172.31.0.0/24", "fd00:31::/64"))
	a := join(t, n, key)
	if err := n.SetGateway(t.Context(), a.ep, a.att.Gateway, a.att.Gateway6); err != nil {
		t.Fatal(err)
	}
	c := listen6(t, joined{ep: out})
	within(t, a.ep, func() error {
		out, err := net.Dial("udp6", "[2001:db8::2]:9999")
		if err != nil {
			return err
		}
		defer out.Close()
		_, err = out.Write([]byte("hello"))
		return err
	})
	if text, from := heard(t, c); from != "2001:db8::1" || text != "hello" {
		t.Errorf("heard outside: got %q from %s, want it from the host's address", text, from)
	}
	// And nothing comes in, be it routed here by others.
	mustInside(t, out, "ip", "route", "add", "fd00:31::/64", "via", "2001:db8::1")
	if err := ping(t, joined{ep: out}, a.ip6()); err == nil {
		t.Error("a container is reached from outside by its own address")
	}
	if drops, err := n.Drops(); err != nil || drops.RoutedIn != 1 {
		t.Errorf("drops: got %+v (%v), want one that was routed in", drops, err)
	}
}

// packet6 is an IPv6 packet.
func packet6(src, dst string, next byte, payload []byte) []byte {
	const hops = 255 // without which no message of neighbour discovery is believed
	s, d := netip.MustParseAddr(src).As16(), netip.MustParseAddr(dst).As16()
	b := []byte{0x60, 0, 0, 0, byte(len(payload) >> 8), byte(len(payload)), next, hops}
	return append(append(append(b, s[:]...), d[:]...), payload...)
}

// sum6 writes the checksum of a packet6 at an offset of its payload.
func sum6(b []byte, offset int) []byte {
	const header = 40
	pseudo := append(append([]byte{}, b[8:header]...), 0, 0, b[4], b[5], 0, 0, 0, b[6])
	all := slices.Concat(pseudo, b[header:])
	var sum uint32
	for i := 0; i+1 < len(all); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(all[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(b[header+offset:], ^uint16(sum))
	return b
}

func datagram6(src, dst, text string) []byte {
	b := binary.BigEndian.AppendUint16(nil, probePort)
	b = binary.BigEndian.AppendUint16(b, probePort)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(text)))
	b = append(append(b, 0, 0), text...)
	if len(text)%2 == 1 {
		panic("the checksum is of whole words")
	}
	return sum6(packet6(src, dst, unix.IPPROTO_UDP, b), 6)
}

// discovery is a message of neighbour discovery about an address.
func discovery(typ byte, src, dst, target string) []byte {
	const override = 0x20
	a := netip.MustParseAddr(target).As16()
	return sum6(packet6(src, dst, unix.IPPROTO_ICMPV6, append([]byte{typ, 0, 0, 0, override, 0, 0, 0}, a[:]...)), 2)
}

func TestKernelSpoofedIPv6IsDroppedAndCounted(t *testing.T) {
	n := open(t, testConfig(t, testSubnet))
	key := segmentWith(t, n, dualStack("172.31.0.0/24", "fd00:31::/64"))
	a, b, victim := join(t, n, key), join(t, n, key), join(t, n, key)
	c := listen6(t, b)
	send := sender(t, a.ep)
	ma, _ := memberOfAttachment(a.att)
	mb, _ := memberOfAttachment(b.att)
	local := linkLocal(ma.mac).String()
	eth := func(mac string, payload []byte) { send(frame(b.att.MAC, mac, unix.ETH_P_IPV6, payload)) }
	eth(a.att.MAC, datagram6(a.ip6(), b.ip6(), "own address."))
	eth(a.att.MAC, datagram6(local, linkLocal(mb.mac).String(), "link-local.."))
	for range 2 {
		eth(victim.att.MAC, datagram6(a.ip6(), b.ip6(), "false MAC.  "))
	}
	for range 3 {
		eth(a.att.MAC, datagram6(victim.ip6(), b.ip6(), "false source"))
	}
	for range 4 {
		eth(a.att.MAC, datagram6("::", b.ip6(), "no source..."))
	}
	for range 5 {
		eth(a.att.MAC, discovery(ndAdvertisement, a.ip6(), b.ip6(), victim.ip6()))
	}
	for range 6 {
		eth(a.att.MAC, discovery(ndSolicitation, "::", "ff02::1", victim.ip6())) // "that address is mine, is it not?"
	}
	for range 7 {
		eth(a.att.MAC, discovery(ndRouterAdvertisement, local, "ff02::1", "::"))
	}
	eth(a.att.MAC, discovery(ndRedirect, local, b.ip6(), victim.ip6()))
	eth(a.att.MAC, packet6(a.ip6(), b.ip6(), unix.IPPROTO_ICMPV6, []byte{ndAdvertisement, 0, 0, 0})) // cut short
	// What is its own to say.
	eth(a.att.MAC, discovery(ndAdvertisement, a.ip6(), b.ip6(), a.ip6()))
	eth(a.att.MAC, discovery(ndAdvertisement, local, b.ip6(), local))
	eth(a.att.MAC, discovery(ndSolicitation, "::", "ff02::1", a.ip6()))
	eth(a.att.MAC, discovery(ndSolicitation, a.ip6(), "ff02::1:ff00:3", b.ip6()))
	eth(a.att.MAC, datagram6(a.ip6(), b.ip6(), "at the end.."))
	for _, want := range []string{"own address. " + a.ip6(), "link-local.. " + local, "at the end.. " + a.ip6()} {
		if text, from := heard(t, c); text+" "+from != want {
			t.Errorf("heard %s %s, want %s", text, from, want)
		}
	}
	drops, err := n.Drops()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Drops{SpoofedMAC: 2, SpoofedIP: 7, SpoofedND: 20}, drops); diff != "" {
		t.Errorf("drops (-want +got):\n%s", diff)
	}
}

func TestKernelIPv6OutlivesTheDaemon(t *testing.T) {
	setSysctl(t, ip6Conf("all", "forwarding"), "0")
	setSysctl(t, ip6Conf("lo", "forwarding"), "1")
	before := settled(t)
	cfg := testConfig(t, testSubnet)
	n := opened(t, cfg)
	if got, _ := readSysctl(ip6Conf("all", "forwarding")); got != "0" {
		t.Errorf("forwarding before there is a network with IPv6: got %s, want 0", got)
	}
	key := triton.NetworkKey{Tenant: "default", ID: triton.NewID()}
	spec, err := n.AddSegment(t.Context(), key, triton.NetworkSpec{Name: "dual", IPv6: &triton.Pool{}})
	if err != nil {
		t.Fatal(err)
	}
	if !netip.MustParsePrefix("fd00::/8").Overlaps(spec.IPv6.Subnet) || spec.IPv6.Subnet.Bits() != 64 || spec.IPv6.Gateway != addressAt(spec.IPv6.Subnet, 1) {
		t.Errorf("subnet of the instance's own: got %+v", spec.IPv6)
	}
	if got, _ := readSysctl(ip6Conf("all", "forwarding")); got != "1" {
		t.Errorf("forwarding with such a network: got %s, want 1", got)
	}
	a, b := join(t, n, key), join(t, n, key)
	// The daemon is killed here.
	n.rules.stop()
	n.host.Close()
	if err := ping(t, a, b.ip6()); err != nil {
		t.Error(err)
	}
	if n, err = Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	members, err := n.rules.readMembers()
	if want, _ := memberOfAttachment(a.att); err != nil || members[want.link] != want {
		t.Errorf("members: got %v (%v), want %v among them", members, err, want)
	}
	if again, err := n.AddSegment(t.Context(), key, spec); err != nil || again.IPv6.Subnet != spec.IPv6.Subnet {
		t.Fatalf("taken up: got %+v (%v), want %+v", again.IPv6, err, spec.IPv6)
	}
	for _, j := range []joined{a, b} {
		if err := n.KeepAttachment(j.key, j.att); err != nil {
			t.Error(err)
		}
	}
	if err := n.Reconcile(t.Context(), []triton.Endpoint{a.ep, b.ep}); err != nil {
		t.Fatal(err)
	}
	c := join(t, n, key)
	if c.att.Address6 == a.att.Address6 || c.att.Address6 == b.att.Address6 {
		t.Errorf("address %s was given away twice", c.att.Address6)
	}
	for _, to := range []joined{b, c} {
		if err := ping(t, a, to.ip6()); err != nil {
			t.Error(err)
		}
	}
	if err := n.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	unchanged(t, before)
	for name, want := range map[string]string{"all": "0", "lo": "1"} {
		if got, _ := readSysctl(ip6Conf(name, "forwarding")); got != want {
			t.Errorf("forwarding of %s after the purge: got %s, want %s", name, got, want)
		}
	}
}

func TestKernelIPv6AddressesOfOnesOwnChoice(t *testing.T) {
	n := open(t, testConfig(t, testSubnet))
	spec := dualStack("172.31.0.0/24", "fd00:31::/64")
	spec.IPv6.Aux = map[string]netip.Addr{"router": netip.MustParseAddr("fd00:31::9")}
	key := segmentWith(t, n, spec)
	first := join(t, n, key)
	attach := func(want string) (triton.Attachment, error) {
		return n.Attach(t.Context(), newKey(), take(t, n, IsolatedHostUser),
			AttachRequest{Network: key.ID, Address6: netip.MustParseAddr(want), Interface: containerLink})
	}
	got, err := attach("fd00:31::abcd:ef")
	if err != nil || got.Address6.String() != "fd00:31::abcd:ef/64" {
		t.Errorf("chosen: got %s (%v)", got.Address6, err)
	}
	for want, kind := range map[string]func(error) bool{
		first.ip6(): errdefs.IsAlreadyExists, "fd00:31::9": errdefs.IsAlreadyExists, "fd00:31::1": errdefs.IsAlreadyExists,
		"fd00:31::": errdefs.IsAlreadyExists, "fd00:32::5": errdefs.IsInvalidArgument,
	} {
		if att, err := attach(want); !kind(err) {
			t.Errorf("%s: got %s (%v)", want, att.Address6, err)
		}
	}
	// What was refused has kept no address of the other family.
	if used := len(n.segments[key.ID].addrs.(*pool).used); used != 2 {
		t.Errorf("addresses of IPv4 in use: got %d, want those of two containers", used)
	}
	if _, err := n.AddSegment(t.Context(), triton.NetworkKey{Tenant: "default", ID: triton.NewID()}, dualStack("172.31.1.0/24", "fd00:31::/96")); !errdefs.IsPermissionDenied(err) {
		t.Errorf("a subnet that overlaps: got %v", err)
	}
}
