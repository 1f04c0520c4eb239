package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

func addr(ep triton.Endpoint) netip.Addr { return netip.MustParsePrefix(ep.Address).Addr() }

func targetOf(ep triton.Endpoint) Target { return Target{Address: addr(ep), Link: ep.HostLink} }

func newKey() triton.ContainerKey { return triton.ContainerKey{Tenant: "default", ID: triton.NewID()} }

func tcp(port, host uint16, at ...string) triton.PortRequest {
	r := triton.PortRequest{Port: port, Proto: triton.ProtoTCP, HostFirst: host, HostLast: host}
	if len(at) > 0 {
		r.HostIP = netip.MustParseAddr(at[0])
	}
	return r
}

func publish(t testing.TB, n *Network, ep triton.Endpoint, reqs ...triton.PortRequest) (triton.ContainerKey, []triton.PublishedPort) {
	t.Helper()
	key := newKey()
	ports, _, err := n.Publish(t.Context(), key, targetOf(ep), reqs)
	if err != nil {
		t.Fatal(err)
	}
	return key, ports
}

// knock connects to address, in an endpoint's namespace or in the host's own, and returns who the server says it sees.
func knock(t testing.TB, from *triton.Endpoint, address string) (string, error) {
	t.Helper()
	dial := func() (c net.Conn, err error) { return net.DialTimeout("tcp", address, 2*time.Second) }
	var c net.Conn
	var err error
	if from == nil {
		c, err = dial()
	} else {
		within(t, *from, func() error { c, err = dial(); return nil })
	}
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

func TestKernelPublishedPortIsReachedFromEverywhere(t *testing.T) {
	withAndWithoutNetfilter(t, func(t *testing.T) {
		for _, onRoot := range []int{rootPorts, 1, 0} {
			t.Run(fmt.Sprint("ports=", onRoot), func(t *testing.T) { testReachedFromEverywhere(t, onRoot) })
		}
	})
}

func testReachedFromEverywhere(t *testing.T, onRoot int) {
	setLoopbackUp(t)
	n, out := open(t, testConfig(t, testSubnet)), outside(t)
	n.bridge.ports = onRoot // the containers are on the first bridge, on different ones, or on a leaf
	a, b := take(t, n, Bridged), take(t, n, Bridged)
	serve(t, a)
	gateway := n.bridge.gateway.Addr().String()
	key, ports := publish(t, n, a, tcp(80, 8080))
	if diff := cmp.Diff([]triton.PublishedPort{
		{Port: 80, Proto: "tcp", HostIP: anyIPv4, HostPort: 8080}, {Port: 80, Proto: "tcp", HostIP: anyIPv6, HostPort: 8080},
	}, ports, cmp.Comparer(sameAddr)); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
	for _, tc := range []struct {
		name     string
		from     *triton.Endpoint
		to, seen string
	}{
		{"outside", &out, uplinkAddr, outsideAddr},
		{"the host by its own address", nil, uplinkAddr, gateway},
		{"the host by loopback", nil, "127.0.0.1", gateway},
		{"the host by the gateway", nil, gateway, gateway},
		{"another container by the host's address", &b, uplinkAddr, gateway},
		{"another container by the gateway", &b, gateway, gateway},
		{"the container itself by the host's address", &a, uplinkAddr, gateway},
		{"the container itself by the gateway", &a, gateway, gateway},
	} {
		if got, err := knock(t, tc.from, tc.to+":8080"); err != nil || got != tc.seen {
			t.Errorf("%s: got %q (%v), want %q", tc.name, got, err, tc.seen)
		}
	}
	if err := n.Unpublish(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if got, err := knock(t, &out, uplinkAddr+":8080"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("after it was unpublished: got %q (%v), want a refusal", got, err)
	}
	if d, err := n.Drops(); err != nil || d != (Drops{}) {
		t.Errorf("drops: got %+v (%v), want none", d, err)
	}
}

func sameAddr(a, b netip.Addr) bool { return a == b }

// setLoopbackUp gives the test's network namespace what every machine has.
func setLoopbackUp(t testing.TB) {
	t.Helper()
	command(t, "ip", "link", "set", "lo", "up")
}

func TestKernelPortOfOneAddressIsClosedOnOthers(t *testing.T) {
	setLoopbackUp(t)
	n, out := open(t, testConfig(t, testSubnet)), outside(t)
	a := take(t, n, Bridged)
	serve(t, a)
	publish(t, n, a, tcp(80, 8080, "127.0.0.1"), tcp(80, 8081, uplinkAddr))
	for _, tc := range []struct {
		from *triton.Endpoint
		to   string
		open bool
	}{
		{nil, "127.0.0.1:8080", true}, {&out, uplinkAddr + ":8080", false}, {nil, uplinkAddr + ":8080", false},
		{nil, uplinkAddr + ":8081", true}, {&out, uplinkAddr + ":8081", true}, {nil, "127.0.0.1:8081", false},
		{&a, "127.0.0.1:8080", false}, // its own loopback
	} {
		if got, err := knock(t, tc.from, tc.to); (err == nil) != tc.open {
			t.Errorf("%s: got %q (%v), want it open: %v", tc.to, got, err, tc.open)
		}
	}
}

func TestKernelContainersDoNotReachTheHostsLoopback(t *testing.T) {
	setLoopbackUp(t)
	n := open(t, testConfig(t, testSubnet))
	a := take(t, n, Bridged)
	got, err := net.ListenPacket("udp4", "127.0.0.1:9999")
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	mac := hardwareAddr(n.bridge.gateway.Addr()).String()
	sender(t, a)(frame(mac, a.MAC, unix.ETH_P_IP, datagram(ip(a), "127.0.0.1", []byte("intruder"))))
	eventually(t, "the packet is dropped and counted", func() bool { d, err := n.Drops(); return err == nil && d.Loopback == 1 })
	got.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, _, err := got.ReadFrom(make([]byte, 16)); err == nil {
		t.Error("a container's packet reached 127.0.0.1")
	}
}

func TestKernelPortsHaveOneOwner(t *testing.T) {
	setLoopbackUp(t)
	n := open(t, testConfig(t, testSubnet))
	a := take(t, n, Bridged)
	mine, err := net.Listen("tcp4", ":8090")
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	publish(t, n, a, tcp(80, 8080), tcp(80, 8081, "127.0.0.1"))
	refused := func(want string, reqs ...triton.PortRequest) {
		t.Helper()
		key := newKey()
		_, _, err := n.Publish(t.Context(), key, targetOf(a), reqs)
		if !errdefs.IsAlreadyExists(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if len(n.published[key]) != 0 {
			t.Errorf("%v kept after a refusal", n.published[key])
		}
	}
	refused("Bind for 0.0.0.0:8080 failed: port is already allocated", tcp(80, 8082), tcp(80, 8080))
	refused("Bind for 0.0.0.0:8080 failed: port is already allocated", tcp(80, 8080, "127.0.0.1"))
	refused("Bind for 127.0.0.1:8081 failed: port is already allocated", tcp(80, 8081))
	refused("Bind for 0.0.0.0:8083 failed: port is already allocated", tcp(80, 8083), tcp(81, 8083))
	refused("failed to bind host port 0.0.0.0:8090/tcp: address already in use", tcp(80, 8090))
	if _, err := net.Listen("tcp4", ":8080"); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a process of the host took a published port: %v", err)
	}
	if _, _, err := n.Publish(t.Context(), newKey(), targetOf(a), []triton.PortRequest{tcp(80, 8084, "203.0.113.9")}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("an address that is not the host's: got %v", err)
	}
	// UDP has ports of its own, and what was refused with others is free.
	publish(t, n, a, triton.PortRequest{Port: 80, Proto: triton.ProtoUDP, HostFirst: 8080, HostLast: 8080}, tcp(80, 8082))
	// Another instance on this machine is a process like any other.
	two := open(t, testConfig(t, netip.MustParsePrefix("172.31.0.0/24")))
	c := take(t, two, Bridged)
	if _, _, err := two.Publish(t.Context(), newKey(), targetOf(c), []triton.PortRequest{tcp(80, 8080)}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("another instance: got %v", err)
	}
}

func TestKernelRangesAndFreePorts(t *testing.T) {
	setLoopbackUp(t)
	n := open(t, testConfig(t, testSubnet))
	a := take(t, n, Bridged)
	serve(t, a)
	span := triton.PortRequest{Port: 80, Proto: triton.ProtoTCP, HostFirst: 8100, HostLast: 8102}
	var got []uint16
	for range 3 {
		_, ports := publish(t, n, a, span)
		got = append(got, ports[0].HostPort)
	}
	if diff := cmp.Diff([]uint16{8100, 8101, 8102}, got); diff != "" {
		t.Errorf("ports of a range (-want +got):\n%s", diff)
	}
	if _, _, err := n.Publish(t.Context(), newKey(), targetOf(a), []triton.PortRequest{span}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a range that is used up: got %v", err)
	}
	_, ports := publish(t, n, a, tcp(80, 0))
	if seen, err := knock(t, nil, "127.0.0.1:"+strconv.Itoa(int(ports[0].HostPort))); err != nil {
		t.Errorf("a free port: got %q (%v)", seen, err)
	}
	// More than one transaction.
	var many []triton.PortRequest
	for i := range 450 {
		many = append(many, tcp(uint16(1000+i), 0))
	}
	key, _ := publish(t, n, a, many...)
	if len(elements(t, n, setTargets)) != 451 {
		t.Errorf("targets: got %d, want 451", len(elements(t, n, setTargets)))
	}
	if err := n.Unpublish(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	// Port 80 is published four times still.
	if left, ports := elements(t, n, setTargets), elements(t, n, mapAnyAddress); len(left) != 1 || len(ports) != 4 {
		t.Errorf("got %d targets and %d ports, want 1 and 4", len(left), len(ports))
	}
}

func elements(t testing.TB, n *Network, set string) []nftables.SetElement {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.GetSetByName(n.rules.inet, set)
	if err != nil {
		t.Fatal(err)
	}
	all, err := c.GetSetElements(s)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// echoUDP answers each datagram on port 90 with what it got and a word of its own.
func echoUDP(t testing.TB, ep triton.Endpoint, word string) {
	t.Helper()
	var c net.PacketConn
	within(t, ep, func() (err error) { c, err = net.ListenPacket("udp4", ":90"); return err })
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 64)
		for {
			size, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(fmt.Appendf(nil, "%s %s", buf[:size], word), from)
		}
	}()
}

// TestKernelUDPClientFindsTheNextContainer: a client that never stops sending from one port is a flow to conntrack.
func TestKernelUDPClientFindsTheNextContainer(t *testing.T) {
	setLoopbackUp(t)
	n, out := open(t, testConfig(t, testSubnet)), outside(t)
	a, b := take(t, n, Bridged), take(t, n, Bridged)
	echoUDP(t, a, "a")
	echoUDP(t, b, "b")
	var client net.Conn
	within(t, out, func() (err error) { client, err = net.Dial("udp4", uplinkAddr+":9090"); return err })
	defer client.Close()
	ask := func() string {
		buf := make([]byte, 64)
		client.SetDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := client.Write([]byte("x")); err != nil {
			return err.Error()
		}
		size, err := client.Read(buf)
		if err != nil {
			return err.Error()
		}
		return string(buf[:size])
	}
	ask() // before there is anything
	port := triton.PortRequest{Port: 90, Proto: triton.ProtoUDP, HostFirst: 9090, HostLast: 9090}
	key, _ := publish(t, n, a, port)
	eventually(t, "the first container answers", func() bool { return ask() == "x a" })
	if err := n.Unpublish(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	publish(t, n, b, port)
	eventually(t, "the second container answers", func() bool { return ask() == "x b" })
}

// TestKernelPublishedPortOutlivesTheDaemon kills the daemon under a connection through a published port.
func TestKernelPublishedPortOutlivesTheDaemon(t *testing.T) {
	setLoopbackUp(t)
	cfg, out := testConfig(t, testSubnet), outside(t)
	n := open(t, cfg)
	a := take(t, n, Bridged)
	var l net.Listener
	within(t, a, func() (err error) { l, err = net.Listen("tcp4", ":81"); return err })
	defer l.Close()
	key := newKey()
	ports, socks, err := n.Publish(t.Context(), key, targetOf(a), []triton.PortRequest{tcp(81, 8081, "0.0.0.0"), tcp(81, 8082, "0.0.0.0"), tcp(81, 8083, "127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	// The second socket is lost with the daemon: nobody has a copy.
	kept := []*os.File{duplicate(t, socks[2]), duplicate(t, socks[0])}
	var client net.Conn
	within(t, out, func() (err error) { client, err = net.Dial("tcp4", uplinkAddr+":8081"); return err })
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	// Killed: sockets go, nothing is cleaned up.
	closeSockets(n.published[key])
	clear(n.published)
	n.rules.stop()
	echo(t, client, server)
	if _, err := net.Listen("tcp4", ":8081"); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a process of the host took a port that is held: %v", err)
	}
	thief, err := net.Listen("tcp4", ":8082")
	if err != nil {
		t.Fatal(err)
	}
	defer thief.Close()

	next, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { next.Purge(context.Background()) })
	echo(t, client, server)
	lost, err := next.KeepPublished(key, targetOf(a), ports, kept)
	if err != nil || len(lost) != 1 || lost[0].HostPort != 8082 {
		t.Errorf("lost: got %v (%v), want 8082", lost, err)
	}
	if err := next.Reconcile(t.Context(), []triton.Endpoint{a}); err != nil {
		t.Fatal(err)
	}
	echo(t, client, server)
	within(t, out, func() (err error) {
		c, err := net.Dial("tcp4", uplinkAddr+":8081")
		if err == nil {
			c.Close()
		}
		return err
	})
	if got := len(elements(t, next, mapAnyAddress)) + len(elements(t, next, mapOneAddress)); got != 3 {
		t.Errorf("got %d ports after reconciliation, want 3", got)
	}
	if _, _, err := next.Publish(t.Context(), newKey(), targetOf(a), []triton.PortRequest{tcp(80, 8081)}); err == nil || !strings.Contains(err.Error(), "port is already allocated") {
		t.Errorf("a kept port was given to another: %v", err)
	}
	if err := next.Unpublish(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	// A second reconciliation, and one after ports of a container that is gone, leaves no port.
	if err := next.Reconcile(t.Context(), []triton.Endpoint{a}); err != nil {
		t.Fatal(err)
	}
	if got := elements(t, next, mapAnyAddress); len(got) != 0 {
		t.Errorf("%d ports left", len(got))
	}
	free, err := net.Listen("tcp4", ":8081")
	if err != nil {
		t.Fatal("the port is not free:", err)
	}
	free.Close()
}

func duplicate(t *testing.T, f *os.File) *os.File {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), f.Name())
}

func TestForwardsSurviveTheirEncoding(t *testing.T) {
	for _, f := range []forward{
		{unix.IPPROTO_TCP, netip.IPv4Unspecified(), 80, netip.MustParseAddrPort("172.30.0.2:8080"), false},
		{unix.IPPROTO_UDP, netip.MustParseAddr("127.0.0.1"), 65535, netip.MustParseAddrPort("172.30.255.254:1"), false},
		{unix.IPPROTO_TCP, netip.IPv6Unspecified(), 80, netip.MustParseAddrPort("[fd00::2]:8080"), false},
		{unix.IPPROTO_UDP, netip.MustParseAddr("2001:db8::1"), 65535, netip.MustParseAddrPort("[fd00::ffff]:1"), false},
	} {
		got, err := forwardFromElement(nftables.SetElement{Key: f.key(), Val: f.value()})
		if err != nil || got != f {
			t.Errorf("got %+v (%v), want %+v", got, err, f)
		}
		if _, err := forwardFromElement(nftables.SetElement{Key: slices.Concat(f.key(), []byte{1}), Val: f.value()}); err == nil {
			t.Error("a key of a wrong length is read")
		}
	}
	six := forward{unix.IPPROTO_TCP, netip.MustParseAddr("2001:db8::1"), 80, netip.MustParseAddrPort("[fd00::2]:8080"), false}
	four := forward{unix.IPPROTO_TCP, netip.MustParseAddr("192.0.2.1"), 80, netip.MustParseAddrPort("172.30.0.2:8080"), false}
	if got, err := forwardFromElement(nftables.SetElement{Key: six.key(), Val: four.value()}); err == nil {
		t.Errorf("from one family to the other: got %+v", got)
	}
}
