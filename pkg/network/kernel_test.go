package network

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/tritond/triton/pkg/triton"
)

var testSubnet = netip.MustParsePrefix("172.30.0.0/16")

func testConfig(t testing.TB, subnet netip.Prefix) Config {
	t.Helper()
	var b [4]byte
	rand.Read(b[:])
	return Config{
		Instance: "t" + hex.EncodeToString(b[:]),
		Subnet:   subnet,
		RunRoot:  t.TempDir(),
		Log:      slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// open opens a network that is ready to take from, and purges it after the test.
func open(t testing.TB, cfg Config, keep ...triton.Endpoint) *Network {
	t.Helper()
	n := opened(t, cfg, keep...)
	t.Cleanup(func() {
		if err := n.Purge(context.Background()); err != nil {
			t.Error("purge:", err)
		}
	})
	return n
}

// opened is open for a test that purges the network itself.
func opened(t testing.TB, cfg Config, keep ...triton.Endpoint) *Network {
	t.Helper()
	n, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Reconcile(t.Context(), keep); err != nil {
		t.Fatal(errors.Join(err, n.Purge(context.Background())))
	}
	return n
}

func take(t testing.TB, n *Network, kind Kind) triton.Endpoint {
	t.Helper()
	ep, err := n.Take(t.Context(), triton.ContainerKey{Tenant: "default", ID: triton.NewID()}, kind, User{}, "")
	if err != nil {
		t.Fatal(err)
	}
	return ep
}

// inside runs a program as root of the endpoint's namespaces.
func inside(t testing.TB, ep triton.Endpoint, argv ...string) (string, error) {
	t.Helper()
	args := []string{"--net=" + ep.NetNS}
	if ep.UserNS != "" {
		args = append(args, "--user="+ep.UserNS)
	}
	out, err := exec.Command("nsenter", append(args, argv...)...).CombinedOutput()
	return string(out), err
}

func mustInside(t testing.TB, ep triton.Endpoint, argv ...string) string {
	t.Helper()
	out, err := inside(t, ep, argv...)
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return out
}

// within runs f on a thread in the endpoint's network namespace: sockets made there stay there.
func within(t testing.TB, ep triton.Endpoint, f func() error) {
	t.Helper()
	ns, err := os.Open(ep.NetNS)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := inNetNS(ns, f); err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatal("timed out waiting until", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func ip(ep triton.Endpoint) string { return netip.MustParsePrefix(ep.Address).Addr().String() }

// serve accepts TCP connections on port 80 of the endpoint and tells each client the address it is seen with.
func serve(t testing.TB, ep triton.Endpoint) {
	t.Helper()
	var l net.Listener
	within(t, ep, func() (err error) {
		l, err = net.Listen("tcp", ":80")
		return err
	})
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, c.RemoteAddr().(*net.TCPAddr).IP)
			c.Close()
		}
	}()
}

// seenBy connects from an endpoint to port 80 of an address and returns the source address that arrived.
func seenBy(t testing.TB, from triton.Endpoint, to string) (string, error) {
	t.Helper()
	var c net.Conn
	var dialErr error
	within(t, from, func() error {
		c, dialErr = net.DialTimeout("tcp4", net.JoinHostPort(to, "80"), 500*time.Millisecond)
		return nil
	})
	if dialErr != nil {
		return "", dialErr
	}
	defer c.Close()
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

func TestKernelContainersReachEachOther(t *testing.T) {
	// The kernel's default: bridged packets go through the tables for routed ones too.
	setSysctl(t, "bridge/bridge-nf-call-iptables", "1")
	n := open(t, testConfig(t, testSubnet))
	a, b := take(t, n, Bridged), take(t, n, BridgedHostUser)
	if a.Address != "172.30.0.2/16" || a.MAC != "02:42:ac:1e:00:02" || a.Gateway != "172.30.0.1" {
		t.Errorf("first endpoint: got %+v", a)
	}
	for _, to := range []string{ip(b), a.Gateway, "127.0.0.1"} {
		mustInside(t, a, "busybox", "ping", "-c", "1", "-W", "2", to)
	}
	serve(t, b)
	if got, err := seenBy(t, a, ip(b)); err != nil || got != ip(a) {
		t.Errorf("address seen by the peer: got %q (%v), want %q", got, err, ip(a))
	}
	if got, err := n.Drops(); err != nil || got != (Drops{}) {
		t.Errorf("drops: got %+v (%v), want none", got, err)
	}
}

func TestKernelPairIsOwnedByItsUserNamespace(t *testing.T) {
	cfg := testConfig(t, testSubnet)
	n := open(t, cfg)
	for _, kind := range []Kind{Bridged, Isolated} {
		ep := take(t, n, kind)
		if want := Range(cfg.Instance, ep.Slot); ep.IDs != want {
			t.Errorf("ids: got %+v, want %+v", ep.IDs, want)
		}
		want := []string{"0", strconv.Itoa(int(ep.IDs.Base)), "65536"}
		for _, file := range []string{"/proc/self/uid_map", "/proc/self/gid_map"} {
			if got := strings.Fields(mustInside(t, ep, "cat", file)); !slices.Equal(got, want) {
				t.Errorf("%s: got %v, want %v", file, got, want)
			}
		}
		if got := strings.TrimSpace(mustInside(t, ep, "cat", "/proc/self/setgroups")); got != "allow" {
			t.Errorf("setgroups: got %q, want allow", got)
		}
		// Only the owner of a network namespace may mount its sysfs.
		out := mustInside(t, ep, "unshare", "--mount", "sh", "-c", "mount -t sysfs sysfs /sys && ls /sys/class/net")
		if got, want := strings.Contains(out, "eth0"), kind == Bridged; got != want {
			t.Errorf("eth0 in sysfs: got %v, want %v (%s)", got, want, out)
		}
	}
}

func TestKernelIsolatedHasOnlyLoopback(t *testing.T) {
	n := open(t, testConfig(t, testSubnet))
	for _, kind := range []Kind{Isolated, IsolatedHostUser} {
		ep := take(t, n, kind)
		within(t, ep, func() error {
			links, err := net.Interfaces()
			if err != nil {
				return err
			}
			if len(links) != 1 || links[0].Name != "lo" || links[0].Flags&net.FlagUp == 0 {
				t.Errorf("interfaces: got %+v, want lo alone, up", links)
			}
			return nil
		})
		mustInside(t, ep, "busybox", "ping", "-c", "1", "-W", "2", "127.0.0.1")
	}
}

func TestKernelTakesAtOnceDiffer(t *testing.T) {
	n := open(t, testConfig(t, testSubnet))
	const many = 30
	eps := make([]triton.Endpoint, many)
	var wg sync.WaitGroup
	for i := range eps {
		wg.Go(func() {
			var err error
			if eps[i], err = n.Take(t.Context(), triton.ContainerKey{}, Bridged, User{}, ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, ep := range eps {
		for _, what := range []string{ep.Address, ep.MAC, ep.HostLink, ep.NetNS, ep.UserNS, fmt.Sprint(ep.IDs)} {
			if seen[what] {
				t.Errorf("%q was handed out twice", what)
			}
			seen[what] = true
		}
	}
	mustInside(t, eps[0], "busybox", "ping", "-c", "1", "-W", "2", ip(eps[many-1]))
}

func TestKernelSmallSubnetRunsOut(t *testing.T) {
	n := open(t, testConfig(t, netip.MustParsePrefix("172.30.9.0/29")))
	var eps []triton.Endpoint
	for range 5 {
		eps = append(eps, take(t, n, Bridged))
	}
	_, err := n.Take(t.Context(), triton.ContainerKey{}, Bridged, User{}, "")
	if !errdefs.IsResourceExhausted(err) || !strings.Contains(err.Error(), "no available IPv4 addresses") {
		t.Fatalf("sixth: got %v, want that no address is free", err)
	}
	take(t, n, Isolated) // needs none
	if err := n.Release(t.Context(), eps[2]); err != nil {
		t.Fatal(err)
	}
	if got := take(t, n, Bridged); got.Address != eps[2].Address {
		t.Errorf("after a release: got %s, want the one free address %s", got.Address, eps[2].Address)
	}
}

// A machine has more endpoints than one bridge has ports, and than one block of ranges of ids.
func TestKernelMoreEndpointsThanABridgeHasPorts(t *testing.T) {
	const many = blockSlots + 26
	n := open(t, testConfig(t, testSubnet))
	var last triton.Endpoint
	for i := range many {
		last = take(t, n, IsolatedHostUser)
		if last.Slot != i {
			t.Fatalf("slot: got %d, want %d", last.Slot, i)
		}
	}
	pair := take(t, n, Bridged)
	if want := Range(n.cfg.Instance, many); pair.IDs != want {
		t.Errorf("ids: got %+v, want %+v", pair.IDs, want)
	}
	if out := mustInside(t, pair, "cat", "/proc/self/uid_map"); !strings.Contains(out, fmt.Sprint(pair.IDs.Base)) {
		t.Errorf("uid_map: %s", out)
	}
	mustInside(t, pair, "busybox", "ping", "-c", "1", "-W", "2", pair.Gateway)
	if err := n.Reconcile(t.Context(), []triton.Endpoint{last, pair}); err != nil { // as a restart does
		t.Fatal(err)
	}
}

func TestKernelPoolRefills(t *testing.T) {
	cfg := testConfig(t, testSubnet)
	n := open(t, cfg)
	done := make(chan error, 1)
	go func() { done <- n.Run(t.Context()) }()
	for range 3 {
		eventually(t, "the pool is full", func() bool { return len(n.idle) == defaultPoolSize })
		ep := take(t, n, Bridged)
		mustInside(t, ep, "busybox", "ping", "-c", "1", "-W", "2", ep.Gateway)
	}
	if got := n.PoolMisses(); got != 0 {
		t.Errorf("misses: got %d, want 0", got)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	left, err := n.pins.slots()
	if err != nil || len(left) != 3 {
		t.Errorf("pins after Close: got %v (%v), want the three that were taken", left, err)
	}
}

// mountLines lists what is mounted here. Mounts of others that were there before may go: the kernel detaches a mount in all
// namespaces when its mount point is removed in one.
func mountLines(t *testing.T) map[string]bool {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		all[line] = true
	}
	return all
}

// machine is the state of the kernel that the package may touch, but for mounts.
func machine(t *testing.T) map[string]string {
	t.Helper()
	state := map[string]string{}
	for name, argv := range map[string][]string{
		"links":   {"ip", "-o", "link"},
		"address": {"ip", "-o", "addr"},
		"routes":  {"ip", "route", "show", "table", "all"},
		"nft":     {"nft", "list", "ruleset"},
		"sysctls": {"sh", "-c", "cd /proc/sys/net && grep -r . ipv4 ipv6 bridge core 2>/dev/null | grep -v 'stable_secret\\|random\\|/neigh/\\|flush' | sort"},
	} {
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if err != nil && name != "sysctls" {
			t.Fatalf("%v: %v %s", argv, err, out)
		}
		state[name] = string(out)
	}
	return state
}

// passing is the name of a host's end of an interface, and what ip says of a list that changed while it was read.
var passing = regexp.MustCompile(`\btv[0-9a-f]{8}\b|Dump was interrupted`)

// settled is machine when the interfaces of an earlier test are gone: the kernel takes a while to remove them, which may be
// between two of the things that machine reads.
func settled(t *testing.T) map[string]string {
	t.Helper()
	var state map[string]string
	eventually(t, "interfaces of an earlier test are gone", func() bool {
		state = machine(t)
		for _, text := range state {
			if passing.MatchString(text) {
				return false
			}
		}
		return true
	})
	return state
}

// unchanged compares what settled gave before with the machine now.
func unchanged(t *testing.T, before map[string]string) {
	t.Helper()
	if diff := cmp.Diff(before, settled(t)); diff != "" {
		t.Error("the machine changed (-before +after):", diff)
	}
}

func TestKernelPurgeLeavesTheMachineAsItWas(t *testing.T) {
	// What turning ip_forward on overwrites must come back too.
	setSysctl(t, ipForward, "0")
	setSysctl(t, acceptRedirects, "0")
	setSysctl(t, "ipv4/conf/lo/forwarding", "1")
	before, mounts := settled(t), mountLines(t)
	cfg := testConfig(t, testSubnet)
	n := opened(t, cfg)
	for _, kind := range []Kind{Bridged, BridgedHostUser, Isolated, IsolatedHostUser} {
		take(t, n, kind)
	}
	if got, _ := readSysctl(ipForward); got != "1" {
		t.Errorf("ip_forward while open: got %q, want 1", got)
	}
	// The daemon is killed here: n is not used any more. Somebody else takes a part of its subnet; that must not hinder.
	command(t, "ip", "link", "add", "other", "type", "bridge")
	command(t, "ip", "address", "add", "172.30.9.1/24", "dev", "other")
	err := Purge(t.Context(), cfg)
	command(t, "ip", "link", "del", "other")
	if err != nil {
		t.Fatal(err)
	}
	unchanged(t, before)
	for line := range mountLines(t) {
		if !mounts[line] {
			t.Errorf("left mounted: %s", line)
		}
	}
	if entries, _ := filepath.Glob(filepath.Join(cfg.RunRoot, "*")); len(entries) > 0 {
		t.Errorf("left in the run root: %v", entries)
	}
}

// setSysctl sets a sysctl for a test.
func setSysctl(t testing.TB, name, value string) {
	t.Helper()
	old, err := readSysctl(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := writeSysctl(name, old); err != nil {
			t.Error(err)
		}
	})
	if err := writeSysctl(name, value); err != nil {
		t.Fatal(err)
	}
}

func linkNames(t *testing.T) []string {
	t.Helper()
	links, err := dump(netlink.LinkList)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range links {
		names = append(names, l.Attrs().Name)
	}
	return names
}
