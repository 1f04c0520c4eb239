package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/shim/relay"
	"github.com/tritond/triton/pkg/triton"
)

// relayed serves the relays of a container, as its shim does.
func relayed(t *testing.T, n *Network, key triton.ContainerKey) *relay.Relay {
	t.Helper()
	r := relay.New(n.cfg.Log, "")
	t.Cleanup(func() { r.Close(0) })
	var ports []relay.Port
	for _, p := range n.Relays(key) {
		ports = append(ports, relay.Port{Proto: p.Proto, Host: p.Host, Target: p.Target, Socket: p.Socket})
	}
	if err := r.Serve(ports); err != nil || len(ports) == 0 {
		t.Fatalf("serve %d relays: %v", len(ports), err)
	}
	return r
}

// unpublish is what happens at a container's end; r may be nil.
func unpublish(t *testing.T, n *Network, key triton.ContainerKey, r *relay.Relay) {
	t.Helper()
	if r != nil {
		r.Close(0)
	}
	if err := n.Unpublish(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}

func TestKernelContainersWithoutIPv6AreReachedByIt(t *testing.T) {
	setLoopbackUp(t)
	n, out := open(t, testConfig(t, testSubnet)), outside(t)
	command(t, "ip", "addr", "add", "2001:db8::1/64", "dev", "up0", "nodad")
	mustInside(t, out, "ip", "addr", "add", "2001:db8::2/64", "dev", "out0", "nodad")
	six := segmentWith(t, n, dualStack("172.31.0.0/24", "fd00:31::/64"))
	hidden := dualStack("172.31.1.0/24", "fd00:31:1::/64")
	hidden.Internal = true
	within6, internal := join(t, n, six), join(t, n, segmentWith(t, n, hidden))
	if err := n.SetGateway(t.Context(), within6.ep, within6.att.Gateway, within6.att.Gateway6); err != nil {
		t.Fatal(err)
	}
	a := take(t, n, Bridged)
	serve(t, a)
	gateway := n.bridge.gateway.Addr().String()
	who := newKey()
	reqs := []triton.PortRequest{tcp(80, 8080), tcp(80, 8081, "2001:db8::1"), tcp(80, 8082, "::1"), tcp(80, 8083, "::"), tcp(80, 8084, "127.0.0.1")}
	ports, socks, err := n.Publish(t.Context(), who, targetOf(a), reqs)
	if err != nil || len(socks) != len(ports) {
		t.Fatalf("%d sockets of %d ports: %v", len(socks), len(ports), err)
	}
	var hosts []string
	for _, p := range n.Relays(who) {
		hosts = append(hosts, fmt.Sprint(p.Host, " ", p.Target))
	}
	to := " " + netip.AddrPortFrom(addr(a), 80).String()
	if diff := cmp.Diff([]string{"[::]:8080" + to, "[2001:db8::1]:8081" + to, "[::1]:8082" + to, "[::]:8083" + to}, hosts); diff != "" {
		t.Errorf("relays (-want +got):\n%s", diff)
	}
	r := relayed(t, n, who)
	for _, tc := range []struct {
		name string
		from *triton.Endpoint
		to   string
	}{
		{"outside", &out, "[2001:db8::1]:8080"},
		{"outside at one address", &out, "[2001:db8::1]:8081"},
		{"outside at all of IPv6", &out, "[2001:db8::1]:8083"},
		{"the host by its own address", nil, "[2001:db8::1]:8080"},
		{"the host by loopback", nil, "[::1]:8080"},
		{"the host by loopback at that alone", nil, "[::1]:8082"},
		{"the host by the loopback of IPv4", nil, "127.0.0.1:8080"},
		{"a container with IPv6 by the host's address", &within6.ep, "[2001:db8::1]:8080"},
		{"a container with IPv6 by its gateway", &within6.ep, "[fd00:31::1]:8080"},
	} {
		if got, err := knock(t, tc.from, tc.to); err != nil || got != gateway {
			t.Errorf("%s: got %q (%v), want %q", tc.name, got, err, gateway)
		}
	}
	for name, to := range map[string]string{"an address that was not asked for": "[::1]:8081", "IPv4 that was not asked for": "127.0.0.1:8083"} {
		if got, err := knock(t, nil, to); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: got %q (%v), want a refusal", name, got, err)
		}
	}
	if d, err := n.Drops(); err != nil || d != (Drops{}) {
		t.Errorf("drops: got %+v (%v), want none", d, err)
	}
	if got, err := knock(t, &internal.ep, "[fd00:31:1::1]:8080"); !os.IsTimeout(err) {
		t.Errorf("from an internal network: got %q (%v), want silence", got, err)
	}
	if d, err := n.Drops(); err != nil || d.Internal == 0 {
		t.Errorf("drops: got %+v (%v), want those of an internal network", d, err)
	}
	unpublish(t, n, who, r)
	if got, err := knock(t, &out, "[2001:db8::1]:8080"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("after it was unpublished: got %q (%v), want a refusal", got, err)
	}
	if got := elements(t, n, setRelayedAny); len(got) > 0 || len(elements(t, n, setRelayedOne)) > 0 {
		t.Errorf("after it was unpublished: %v in the rules", got)
	}
}

func TestKernelDatagramsByIPv6ReachContainersWithout(t *testing.T) {
	setLoopbackUp(t)
	n := open(t, testConfig(t, testSubnet))
	command(t, "ip", "addr", "add", "2001:db8::1/64", "dev", "lo", "nodad")
	command(t, "ip", "addr", "add", "2001:db8::7/64", "dev", "lo", "nodad")
	a := take(t, n, Bridged)
	var c net.PacketConn
	within(t, a, func() (err error) { c, err = net.ListenPacket("udp4", ":90"); return err })
	defer c.Close()
	go func() {
		buf := make([]byte, 64)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(buf[:n], from)
		}
	}()
	who := newKey()
	if _, _, err := n.Publish(t.Context(), who, targetOf(a), []triton.PortRequest{{Port: 90, Proto: triton.ProtoUDP, HostFirst: 8090, HostLast: 8090}}); err != nil {
		t.Fatal(err)
	}
	r := relayed(t, n, who)
	for _, to := range []string{"[::1]:8090", "[2001:db8::1]:8090", "[2001:db8::7]:8090", "127.0.0.1:8090"} {
		client, err := net.Dial("udp", to) // hears only whom it asked
		if err != nil {
			t.Fatal(err)
		}
		client.SetDeadline(time.Now().Add(30 * time.Second))
		fmt.Fprint(client, to)
		buf := make([]byte, 64)
		if n, err := client.Read(buf); err != nil || string(buf[:n]) != to {
			t.Errorf("%s: got %q (%v)", to, buf[:n], err)
		}
		client.Close()
	}
	unpublish(t, n, who, r)
}

func TestKernelPortsOfIPv6HaveOneOwner(t *testing.T) {
	setLoopbackUp(t)
	n := open(t, testConfig(t, testSubnet))
	a, b := take(t, n, Bridged), take(t, n, Bridged)
	who, _ := publish(t, n, a, tcp(80, 8080, "::1"))
	if _, _, err := n.Publish(t.Context(), newKey(), targetOf(b), []triton.PortRequest{tcp(80, 8080)}); !errdefs.IsAlreadyExists(err) ||
		err.Error() != "Bind for ::1:8080 failed: port is already allocated" {
		t.Errorf("the port of another container: got %v", err)
	}
	// Nothing was kept of that.
	l, err := net.Listen("tcp4", ":8080")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	mine, err := net.Listen("tcp6", "[::1]:8081")
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	_, _, err = n.Publish(t.Context(), newKey(), targetOf(b), []triton.PortRequest{tcp(80, 8081)})
	if !errdefs.IsAlreadyExists(err) || err.Error() != "failed to bind host port [::]:8081/tcp: address already in use" {
		t.Errorf("a port of a process of the host: got %v", err)
	}
	unpublish(t, n, who, nil)
	publish(t, n, b, tcp(80, 8080))
}
