package probes

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

// onlyPeer is a container's peer, if it has one.
func onlyPeer(t *testing.T, p *Probes, key triton.ContainerKey) triton.Peer {
	t.Helper()
	if all := peersOf(t, p, key); len(all) == 1 {
		return all[0]
	}
	return triton.Peer{}
}

// Every fifth full segment is dropped as it leaves the container. nft counts them, and the kernel's reason is its own.
func TestKernelPeersCountDropsWithReason(t *testing.T) {
	const bytes = 200_000
	p := open(t, Config{Peers: 64})
	key, cg := watch(t, p)
	clientNS, serverNS := netnsPair(t)
	must(t, in(clientNS, "nft", "add table ip t; add chain ip t out { type filter hook output priority 0; }; "+
		"add rule ip t out tcp dport 80 ip length > 1000 numgen inc mod 5 0 counter drop")...)
	server := start(t, cgroup{}, in(serverNS, "/bin/busybox", "nc", "-l", "-p", "80")...)
	listens(t, server, 80)
	go io.Copy(io.Discard, server.out)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	client := start(t, cg, in(clientNS, self, senderMode, "192.0.2.2:80", strconv.Itoa(bytes))...)
	again := client.number(t)
	dropped := nftDropped(t, clientNS)
	peer := onlyPeer(t, p, key)
	if dropped == 0 || len(peer.Drops) != 1 || peer.Drops["netfilter_drop"] != dropped {
		t.Errorf("dropped %v, nft says %d", peer.Drops, dropped)
	}
	// To TCP, what was dropped before it left has not been sent: it is sent another time, and counted again, but not as a retransmit.
	if peer.SentBytes < bytes || peer.Retransmits != again {
		t.Errorf("%d bytes and %d retransmits, want %d at least and TCP_INFO's %d", peer.SentBytes, peer.Retransmits, bytes, again)
	}
}

// Nobody answers: the attempt fails as the program is told, and each SYN that nft dropped is a drop of that peer.
func TestKernelPeersThatDoNotAnswer(t *testing.T) {
	p := open(t, Config{Peers: 64})
	key, cg := watch(t, p)
	clientNS, _ := netnsPair(t)
	must(t, in(clientNS, "nft", "add table ip t; add chain ip t out { type filter hook output priority 0; }; add rule ip t out tcp dport 80 counter drop")...)
	must(t, in(clientNS, "sysctl", "-q", "net.ipv4.tcp_syn_retries=1")...)
	client := start(t, cg, in(clientNS, "/bin/busybox", "nc", "192.0.2.2", "80")...)
	eventually(t, "an attempt", func() bool {
		peer := onlyPeer(t, p, key)
		return peer.Opening == 1 && peer.Open == 0
	})
	if status := client.wait(t); status == 0 {
		t.Fatal("somebody answered")
	}
	peer := onlyPeer(t, p, key)
	if dropped := nftDropped(t, clientNS); dropped < 2 || peer.Drops["netfilter_drop"] != dropped {
		t.Errorf("dropped %v, nft says %d", peer.Drops, dropped)
	}
	if peer.ConnectFailures["timeout"] != 1 || peer.Failed() != 1 || peer.Opening != 0 || peer.Opened != 0 || peer.Port != 80 {
		t.Errorf("%+v, want one attempt that timed out", peer)
	}
}

// A datagram for which there is no room is a drop of whoever sent it, at the port that it was for. The witness is the socket's
// own count in /proc/net/udp.
func TestKernelPeersCountDropsOfDatagrams(t *testing.T) {
	p := open(t, Config{Peers: 64})
	key, cg := watch(t, p)
	_, port := overflown(t, cg)
	want := dropsOf(t, port)
	peer := onlyPeer(t, p, key)
	if want == 0 || peer.Drops["socket_rcvbuff"] != want || peer.Dropped() != want || peer.Protocol != triton.ProtoUDP || peer.Address != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("%+v, want %d drops for socket_rcvbuff", peer, want)
	}
}

// listens waits until a process's network namespace has a listener at a port.
func listens(t *testing.T, p *process, port uint16) {
	t.Helper()
	at := ":" + strings.ToUpper(strconv.FormatUint(0x10000|uint64(port), 16)[1:]) + " "
	eventually(t, "the server listens", func() bool {
		dir := "/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/net/"
		for line := range strings.Lines(readFile(t, dir+"tcp") + readFile(t, dir+"tcp6")) {
			if f := strings.Fields(line); len(f) > 3 && strings.HasSuffix(f[1]+" ", at) && f[3] == "0A" {
				return true
			}
		}
		return false
	})
}

// Whose an address was counts when the connection begins: whoever has it next is another peer, and so is the next run of the
// same container's slot.
func TestKernelPeersRememberWhoseTheAddressWas(t *testing.T) {
	p := open(t, Config{Peers: 64, MaxContainers: 2})
	client, cg := watch(t, p)
	address := netip.MustParseAddr("127.0.0.9")
	attempt := func() {
		start(t, cg, "/bin/busybox", "nc", address.String(), "1").wait(t)
	}
	attempt() // nobody's yet
	var owners []triton.ContainerKey
	for range 3 {
		owner, _ := watch(t, p) // all in one slot
		if err := p.SetAddresses(owner, []netip.Addr{address}); err != nil {
			t.Fatal(err)
		}
		attempt()
		owners = append(owners, owner)
		if _, err := p.Unwatch(owner); err != nil {
			t.Fatal(err)
		}
		if err := p.reap(); err != nil {
			t.Fatal(err)
		}
	}
	attempt() // nobody's again
	got := map[triton.ContainerKey]uint64{}
	for _, peer := range peersOf(t, p, client) {
		if peer.Address == address {
			got[peer.Other] += peer.ConnectFailures["refused"]
		}
	}
	if len(got) != 4 || got[triton.ContainerKey{}] != 2 || got[owners[0]] != 1 || got[owners[1]] != 1 || got[owners[2]] != 1 {
		t.Errorf("%v, want two of nobody and one of each of %v", got, owners)
	}
	if _, err := p.Unwatch(client); err != nil {
		t.Fatal(err)
	}
	if err := p.reap(); err != nil {
		t.Fatal(err)
	}
	last, _ := watch(t, p) // with its end, nothing names the owners any more
	if _, err := p.Unwatch(last); err != nil {
		t.Fatal(err)
	}
	if err := p.reap(); err != nil {
		t.Fatal(err)
	}
	if n := len(p.peers.owned); n != 0 {
		t.Errorf("%d addresses are somebody's", n)
	}
}

// An address that a container gives away is nobody's, and the one who has it next keeps it when the first ends.
func TestKernelAddressesMoveBetweenContainers(t *testing.T) {
	p := open(t, Config{Peers: 64})
	client, cg := watch(t, p)
	first, _ := watch(t, p)
	second, _ := watch(t, p)
	a, b := netip.MustParseAddr("127.0.0.7"), netip.MustParseAddr("127.0.0.8")
	set := func(key triton.ContainerKey, addresses ...netip.Addr) {
		t.Helper()
		if err := p.SetAddresses(key, addresses); err != nil {
			t.Fatal(err)
		}
	}
	set(first, a, b)
	set(second, a)
	set(first)
	if _, err := p.Unwatch(first); err != nil {
		t.Fatal(err)
	}
	for _, address := range []netip.Addr{a, b} {
		start(t, cg, "/bin/busybox", "nc", address.String(), "1").wait(t)
	}
	for _, peer := range peersOf(t, p, client) {
		want := triton.ContainerKey{}
		if peer.Address == a {
			want = second
		}
		if peer.Other != want {
			t.Errorf("%s is %v's, want %v", peer.Address, peer.Other, want)
		}
	}
}

// The list of open connections is what /proc/net/tcp and the client's TCP_INFO tell.
func TestKernelFlowsAreWhatTheClientIsTold(t *testing.T) {
	p := open(t, Config{Peers: 64})
	key, cg := watch(t, p)
	address := echoing(t)
	client := start(t, cg, "/proc/self/exe", dialerMode, address)
	client.number(t)
	start(t, cgroup{}, "/proc/self/exe", dialerMode, address).number(t) // nobody's
	var rttUs uint64
	for range 3 {
		io.WriteString(client.in, "\n")
		rttUs = client.number(t)
	}
	flows, err := p.Flows(key)
	if err != nil || len(flows) != 1 {
		t.Fatalf("%+v, %v", flows, err)
	}
	f := flows[0]
	if f.Remote.String() != address || f.Accepted || f.State != "established" || f.SentBytes != 3 || f.ReceivedBytes != 3 || time.Since(f.Begun) > time.Minute {
		t.Errorf("%+v, want an established flow to %s with 3 bytes each way", f, address)
	}
	if f.RTT != time.Duration(rttUs)*time.Microsecond {
		t.Errorf("round trips of %v, the client is told %d us", f.RTT, rttUs)
	}
	line := fmt.Sprintf(" 0100007F:%04X 0100007F:%04X 01 ", f.Local.Port(), f.Remote.Port())
	if !strings.Contains(readFile(t, "/proc/net/tcp"), line) {
		t.Errorf("/proc/net/tcp has no %q", line)
	}
	client.in.Close()
	client.wait(t)
	eventually(t, "the connection is closed", func() bool {
		flows, err := p.Flows(key)
		return err == nil && len(flows) == 0
	})
}

// Connections that find no room are told when they are closed, as the rest; and of one that outlives its container nothing is
// told of the next that has its slot.
func TestKernelConnectionsAreBounded(t *testing.T) {
	p := open(t, Config{Peers: 2, MaxContainers: 1})
	key, cg := watch(t, p)
	address := echoing(t)
	var clients []*process
	for range 5 {
		c := start(t, cg, "/proc/self/exe", dialerMode, address)
		c.number(t)
		io.WriteString(c.in, "\n")
		c.number(t)
		clients = append(clients, c)
	}
	sum := func() (all triton.Peer) {
		for _, peer := range peersOf(t, p, key) {
			all.Add(&peer)
		}
		return all
	}
	if got := sum(); got.Open != 5 || p.Drops()["connections"] != 3 {
		t.Errorf("%d open, %d found no room, want 5 and 3", got.Open, p.Drops()["connections"])
	}
	end := func(c *process) {
		c.in.Close()
		c.wait(t)
	}
	for _, c := range clients[:4] {
		end(c)
	}
	eventually(t, "all are told of", func() bool {
		got := sum()
		return got.Open == 1 && got.Opened >= 4 && got.SentBytes >= 4
	})
	if _, err := p.Unwatch(key); err != nil {
		t.Fatal(err)
	}
	if err := p.reap(); err != nil {
		t.Fatal(err)
	}
	next, _ := watch(t, p)
	end(clients[4])
	if got := peersOf(t, p, next); len(got) != 0 {
		t.Errorf("the next container has %+v", got)
	}
	if n := entries(t, p.peers.maps["peers"]); n != 0 {
		t.Errorf("%d peers of an ended container", n)
	}
}

// FuzzPeers gives any bytes for what the kernel keeps of a peer and of a connection.
func FuzzPeers(f *testing.F) {
	var c bpf.PeersConnection
	var totals bpf.PeersPeerTotals
	f.Add(make([]byte, unsafe.Sizeof(c)+unsafe.Sizeof(totals)))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c bpf.PeersConnection
		var totals bpf.PeersPeerTotals
		n := copy(unsafe.Slice((*byte)(unsafe.Pointer(&c)), unsafe.Sizeof(c)), b)
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&totals)), unsafe.Sizeof(totals)), b[n:])
		k := &peerPrograms{others: map[uint64]triton.ContainerKey{1: newKey()}}
		peer := k.peerOf(&c.Key, &found{PeersPeerTotals: totals, open: uint64(c.State), openRTT: uint64(c.RttUs), openRTTs: uint64(c.Rest)})
		if peer.Address.IsValid() != (c.Key.Protocol != 0) || peer.RTT < 0 {
			t.Errorf("%+v of %+v", peer, c.Key)
		}
		if flow := k.flowOf(&c, time.Unix(0, 0)); !flow.Remote.IsValid() || flow.State == "" {
			t.Errorf("%+v of %+v", flow, c)
		}
	})
}
