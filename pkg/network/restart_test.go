package network

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// killed is a daemon's network that was killed with a full pool: its endpoints stay, and nothing cleans up.
func killed(t *testing.T, cfg Config, kinds ...Kind) []triton.Endpoint {
	t.Helper()
	n, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Reconcile(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	var eps []triton.Endpoint
	for _, k := range kinds {
		eps = append(eps, take(t, n, k))
	}
	ctx, kill := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	eventually(t, "the pool is full", func() bool { return len(n.idle) == defaultPoolSize })
	kill()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	n.rules.stop()
	n.host.Close()
	return eps
}

// connected opens a TCP connection and returns both ends.
func connected(t *testing.T, from, to triton.Endpoint) (client, server net.Conn) {
	t.Helper()
	var l net.Listener
	within(t, to, func() (err error) { l, err = net.Listen("tcp4", ":81"); return err })
	defer l.Close()
	within(t, from, func() (err error) { client, err = net.Dial("tcp4", net.JoinHostPort(ip(to), "81")); return err })
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func echo(t *testing.T, client, server net.Conn) {
	t.Helper()
	buf := make([]byte, 4)
	if _, err := client.Write([]byte("ping")); err != nil {
		t.Error(err)
	} else if _, err := server.Read(buf); err != nil || string(buf) != "ping" {
		t.Errorf("got %q (%v), want ping", buf, err)
	}
}

func TestKernelNextDaemonAdopts(t *testing.T) {
	cfg := testConfig(t, testSubnet)
	eps := killed(t, cfg, Bridged, BridgedHostUser, Isolated)
	a, b := eps[0], eps[1]
	client, server := connected(t, a, b)

	n, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Purge(context.Background()); err != nil {
			t.Error(err)
		}
	})
	echo(t, client, server)
	// Nobody may send what is not its own in the time before the new daemon knows its containers.
	sender(t, a)(frame(b.MAC, b.MAC, unix.ETH_P_IP, datagram(ip(a), ip(b), nil)))
	eventually(t, "the false MAC is counted", func() bool { d, err := n.Drops(); return err == nil && d.SpoofedMAC == 1 })
	if _, err := n.Take(t.Context(), triton.ContainerKey{}, Bridged, User{}, ""); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("take before reconcile: got %v, want a failed precondition", err)
	}

	if err := n.Reconcile(t.Context(), eps); err != nil {
		t.Fatal(err)
	}
	if pinned, err := n.pins.slots(); err != nil || len(pinned) != len(eps) {
		t.Errorf("pins: got %v (%v), want those of %d containers", pinned, err, len(eps))
	}
	links := slices.DeleteFunc(linkNames(t), func(s string) bool { return !strings.HasPrefix(s, linkPrefix) })
	want := []string{a.HostLink, b.HostLink}
	slices.Sort(links)
	slices.Sort(want)
	if diff := cmp.Diff(want, links); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
	for _, ep := range eps {
		got, err := n.Restore(t.Context(), triton.ContainerKey{}, ep)
		if err != nil || got != ep {
			t.Errorf("restore: got %+v (%v), want it unchanged: %+v", got, err, ep)
		}
	}
	echo(t, client, server)
	if d, err := n.Drops(); err != nil || d != (Drops{SpoofedMAC: 1}) {
		t.Errorf("drops after all: got %+v (%v), want the one from before", d, err)
	}
	fresh := take(t, n, Bridged)
	for _, ep := range eps {
		if fresh.Slot == ep.Slot || fresh.Address == ep.Address {
			t.Errorf("new endpoint %+v has what %+v has", fresh, ep)
		}
	}
}

func TestKernelRestoreAfterAReboot(t *testing.T) {
	cfg := testConfig(t, testSubnet)
	eps := killed(t, cfg, Bridged, BridgedHostUser, Isolated, Bridged)
	// A reboot takes everything out of the kernel, and the run root too.
	if err := Purge(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}

	n := open(t, cfg, eps...)
	for _, ep := range eps {
		got, err := n.Restore(t.Context(), triton.ContainerKey{}, ep)
		if err != nil || got != ep {
			t.Fatalf("restore: got %+v (%v), want the same: %+v", got, err, ep)
		}
	}
	mustInside(t, eps[0], "busybox", "ping", "-c", "1", "-W", "2", ip(eps[3]))
	if got, want := strings.Fields(mustInside(t, eps[3], "cat", "/proc/self/uid_map"))[1], strconv.Itoa(int(eps[3].IDs.Base)); got != want {
		t.Errorf("first id after a restore: got %s, want %s", got, want)
	}
	if out := mustInside(t, eps[0], "cat", "/sys/class/net/lo/address", "/proc/net/route"); !strings.Contains(out, containerLink) {
		t.Errorf("no route out after a restore: %s", out)
	}
}

func TestKernelRestoreMendsALinkThatIsGone(t *testing.T) {
	n := open(t, testConfig(t, testSubnet))
	a, b := take(t, n, Bridged), take(t, n, Bridged)
	command(t, "ip", "link", "del", a.HostLink)
	command(t, "ip", "link", "set", b.HostLink, "nomaster")
	for _, ep := range []triton.Endpoint{a, b} {
		if got, err := n.Restore(t.Context(), triton.ContainerKey{}, ep); err != nil || got != ep {
			t.Fatalf("restore: got %+v (%v), want %+v", got, err, ep)
		}
	}
	mustInside(t, a, "busybox", "ping", "-c", "1", "-W", "2", ip(b))
}

func TestKernelReconcileKeepsWhatIsOfAnOlderSubnet(t *testing.T) {
	cfg := testConfig(t, testSubnet)
	old := killed(t, cfg, Bridged)[0]
	cfg.Subnet = netip.MustParsePrefix("172.31.0.0/24")
	n, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Purge(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := n.Reconcile(t.Context(), []triton.Endpoint{old}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v, want that the address is not the subnet's", err)
	}
	if !n.pins.pinned(old.Slot, old.UserNS) || !slices.Contains(linkNames(t), old.HostLink) {
		t.Error("the namespaces or the link of a container that may run are gone")
	}
	if fresh := take(t, n, Bridged); fresh.Slot == old.Slot || fresh.Gateway != "172.31.0.1" {
		t.Errorf("new endpoint: got %+v", fresh)
	}
	if err := n.Release(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the old link is gone", func() bool { return !slices.Contains(linkNames(t), old.HostLink) })
}

func TestKernelReleaseFreesTheNamespace(t *testing.T) {
	n := open(t, testConfig(t, testSubnet))
	a := take(t, n, Bridged)
	for range 2 { // the second time does nothing
		if err := n.Release(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the link is gone", func() bool { return !slices.Contains(linkNames(t), a.HostLink) })
	if members, err := n.rules.readMembers(); err != nil || len(members) != 0 {
		t.Errorf("members: got %v (%v), want none", members, err)
	}
	if b := take(t, n, Bridged); b.Slot == a.Slot || b.Address == a.Address {
		t.Errorf("slot or address came up again at once: %+v after %+v", b, a)
	}
}

func TestKernelOpenRefusesASubnetInUse(t *testing.T) {
	n := open(t, testConfig(t, testSubnet))
	before := linkNames(t)
	_, err := Open(t.Context(), testConfig(t, netip.MustParsePrefix("172.30.8.0/24")))
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), n.bridge.name) {
		t.Errorf("got %v, want that %s has it", err, n.bridge.name)
	}
	if diff := cmp.Diff(before, linkNames(t)); diff != "" {
		t.Errorf("links after a refusal (-before +after):\n%s", diff)
	}
}

func TestOpenNamesAllMistakes(t *testing.T) {
	_, err := Open(t.Context(), Config{
		Instance: "a b", Subnet: netip.MustParsePrefix("fd00::/64"), RunRoot: "run", PoolSize: -1, MTU: 5, DNS: []string{"x"},
	})
	if !errdefs.IsInvalidArgument(err) {
		t.Fatalf("got %v, want an invalid argument", err)
	}
	for _, want := range []string{"instance", "subnet", "run root", "pool size", "mtu", "dns"} {
		if !strings.Contains(err.Error(), want+" ") {
			t.Errorf("got %q, want %s named", err, want)
		}
	}
}

// A container that shares another's user namespace has a network namespace that this owns: its root may change it.
func TestKernelNetworkOfASharedUserNamespace(t *testing.T) {
	n := open(t, testConfig(t, testSubnet))
	owner := take(t, n, Bridged)
	key := triton.ContainerKey{Tenant: "default", ID: triton.NewID()}
	guest, err := n.Take(t.Context(), key, Bridged, User{NS: owner.UserNS, IDs: owner.IDs}, "")
	if err != nil {
		t.Fatal(err)
	}
	if guest.Slot == owner.Slot || guest.UserNS != owner.UserNS || guest.IDs != owner.IDs || guest.Address == owner.Address {
		t.Errorf("owner %+v, guest %+v", owner, guest)
	}
	change := func() {
		t.Helper()
		if out, err := inside(t, guest, "ip", "link", "set", "eth0", "down"); err != nil {
			t.Errorf("root inside may not change the network: %v: %s", err, out)
		}
	}
	change()
	if err := n.pins.remove(guest.Slot); err != nil { // as a reboot does
		t.Fatal(err)
	}
	if _, err := n.Restore(t.Context(), key, guest); err != nil {
		t.Fatal(err)
	}
	change()
	if err := n.Release(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Restore(t.Context(), key, guest); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("restore without the owner: got %v, want a failed precondition", err)
	}
	if err := n.Release(t.Context(), guest); err != nil {
		t.Fatal(err)
	}
}
