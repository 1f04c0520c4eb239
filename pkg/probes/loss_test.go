package probes

import (
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"

	"github.com/tritond/triton/pkg/triton"
)

// must runs a command of the machine and returns its output.
func must(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", argv, err, out)
	}
	return string(out)
}

// netnsPair makes two network namespaces that a veth joins, 192.0.2.1 and .2, without offloads, so that a segment is a
// packet. It returns their names.
func netnsPair(t *testing.T) (client, server string) {
	t.Helper()
	client, server = "tc"+randomHex(), "ts"+randomHex()
	for _, ns := range []string{client, server} {
		must(t, "ip", "netns", "add", ns)
		t.Cleanup(func() { must(t, "ip", "netns", "del", ns) })
	}
	must(t, "ip", "-n", client, "link", "add", "v0", "gso_max_segs", "1", "type", "veth", "peer", "name", "v0", "netns", server)
	for ns, address := range map[string]string{client: "192.0.2.1/24", server: "192.0.2.2/24"} {
		must(t, "ip", "-n", ns, "address", "add", address, "dev", "v0")
		must(t, "ip", "-n", ns, "link", "set", "v0", "gso_max_segs", "1", "up")
	}
	return client, server
}

// in is a command line in a network namespace.
func in(ns string, argv ...string) []string {
	return append([]string{"nsenter", "--net=/run/netns/" + ns}, argv...)
}

// nftDropped is what the only counter of a namespace's rules has.
func nftDropped(t *testing.T, ns string) uint64 {
	t.Helper()
	counter := regexp.MustCompile(`counter packets (\d+)`).FindStringSubmatch(must(t, in(ns, "nft", "list", "ruleset")...))
	if counter == nil {
		t.Fatal("nft shows no counter")
	}
	return parse(t, counter[1])
}

// Every fifth full segment from one container to another is lost on the way. Two witnesses: TCP_INFO, which is what ss -i
// shows, tells the sender how many segments the kernel sent again, and the count must be that one; nft counts what it
// dropped, and each of those had to be sent again, so there are no fewer. Bytes are those that were sent, each once.
func TestKernelPeersCountRetransmitsOverALossyVeth(t *testing.T) {
	const bytes = 200_000
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, Config{Peers: 64, Network: true})
	clientKey, clientCgroup := watch(t, p)
	serverKey, serverCgroup := watch(t, p)
	clientNS, serverNS := netnsPair(t)
	must(t, in(serverNS, "nft", "add table ip t; add chain ip t in { type filter hook input priority 0; }; "+
		"add rule ip t in tcp dport 80 ip length > 1000 numgen inc mod 5 0 counter drop")...)
	server := start(t, serverCgroup, in(serverNS, "/bin/busybox", "nc", "-l", "-p", "80")...)
	eventually(t, "the server listens", func() bool {
		net := "/proc/" + strconv.Itoa(server.cmd.Process.Pid) + "/net/"
		return regexp.MustCompile(`:0050 0+:0000 0A`).MatchString(readFile(t, net+"tcp") + readFile(t, net+"tcp6"))
	})
	received := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(io.Discard, server.out)
		received <- n
	}()
	client := start(t, clientCgroup, in(clientNS, self, senderMode, net.JoinHostPort("192.0.2.2", "80"), strconv.Itoa(bytes))...)
	again := client.number(t)
	dropped := nftDropped(t, serverNS)
	if dropped == 0 || again < dropped {
		t.Errorf("%d segments were dropped, %d were sent again", dropped, again)
	}
	peer := func(key triton.ContainerKey) triton.Peer {
		if all := peersOf(t, p, key); len(all) == 1 {
			return all[0]
		}
		return triton.Peer{}
	}
	check := func(when string, open uint64) {
		t.Helper()
		c, s := peer(clientKey), peer(serverKey)
		if c.Retransmits != again || c.SentBytes != bytes || c.Opened != 1 || c.Open != open || c.Address != netip.MustParseAddr("192.0.2.2") {
			t.Errorf("%s: client %+v, want %d retransmits and %d bytes", when, c, again, bytes)
		}
		if s.ReceivedBytes != bytes || !s.Accepted || s.Port != 80 {
			t.Errorf("%s: server %+v, want %d bytes", when, s, bytes)
		}
	}
	check("open", 1)
	client.in.Close()
	client.wait(t)
	if n := <-received; n != bytes {
		t.Fatalf("%d bytes came through", n)
	}
	eventually(t, "the connection is closed", func() bool { return peer(clientKey).Open == 0 })
	check("closed", 0)
	if h := health(t, p, clientKey); h.Connect.Count() != 1 || h.ResetsReceived != 0 {
		t.Errorf("%d connects and %d resets, want 1 and 0", h.Connect.Count(), h.ResetsReceived)
	}
}
