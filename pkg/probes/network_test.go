package probes

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// What the test binary is when it was started with one of these as its first argument. A dialer opens a connection to
// the address that follows, tells how long that took, and then, for each line of its input, sends one byte, awaits one,
// and tells the kernel's round trip time. A sink tells the port to which datagrams can be sent that it never reads. Both
// end with their input.
//
// A sender opens a connection to the address that follows, sends as many bytes as the number after it says, waits until all
// have arrived, and tells how many segments the kernel sent again.
const (
	dialerMode = "dialer"
	sinkMode   = "sink"
	senderMode = "sender"
)

// networkMain does not return when the test binary was started as one of these.
func networkMain() {
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == dialerMode:
		err = dialer(os.Args[2])
	case len(os.Args) == 2 && os.Args[1] == sinkMode:
		err = sink()
	case len(os.Args) == 4 && os.Args[1] == senderMode:
		err = sender(os.Args[2], os.Args[3])
	case len(os.Args) == 3 && os.Args[1] == echoerMode:
		err = echoDatagrams(os.Args[2])
	case len(os.Args) == 6 && os.Args[1] == datagramSenderMode:
		err = sendDatagrams(os.Args[2], os.Args[3:])
	default:
		return
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func sink() error {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println(c.LocalAddr().(*net.UDPAddr).Port)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func sender(address, bytes string) error {
	n, err := strconv.Atoi(bytes)
	if err != nil {
		return err
	}
	c, err := net.Dial("tcp4", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(make([]byte, n)); err != nil {
		return err
	}
	for end := time.Now().Add(4 * deadline); time.Now().Before(end); time.Sleep(time.Millisecond) {
		info, err := tcpInfo(c)
		if err != nil {
			return err
		}
		if info.Unacked == 0 && info.Notsent_bytes == 0 {
			fmt.Println(info.Total_retrans)
			_, err = io.Copy(io.Discard, os.Stdin)
			return err
		}
	}
	return fmt.Errorf("not all of %d bytes arrived", n)
}

func tcpInfo(c net.Conn) (*unix.TCPInfo, error) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	var info *unix.TCPInfo
	var infoErr error
	err = raw.Control(func(fd uintptr) { info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if err != nil || infoErr != nil {
		return nil, fmt.Errorf("TCP_INFO: %w, %w", err, infoErr)
	}
	return info, nil
}

func dialer(address string) error {
	began := time.Now()
	c, err := net.Dial("tcp4", address)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println(time.Since(began).Nanoseconds())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if _, err := c.Write([]byte{'?'}); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			return err
		}
		info, err := tcpInfo(c)
		if err != nil {
			return err
		}
		fmt.Println(info.Rtt)
	}
	return nil
}

// number reads a line that is one.
func (p *process) number(t *testing.T) uint64 {
	t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// echoing answers each byte with one.
func echoing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func health(t *testing.T, p *Probes, key triton.ContainerKey) triton.NetworkHealth {
	t.Helper()
	h, ok := p.NetworkHealth()[key]
	if !ok {
		t.Fatal("the container is not in NetworkHealth")
	}
	return h
}

// The witness is TCP_INFO: what the kernel told the client last is what is counted when the client closes. That a
// connection took no longer to open than connect did is the client's clock's word.
func TestKernelNetworkRoundTripsAreTheKernels(t *testing.T) {
	p := open(t, Config{Network: true})
	key, cg := watch(t, p)
	address := echoing(t)
	var connectNs, rttNs uint64
	const connections = 3
	for range connections {
		client := start(t, cg, "/proc/self/exe", dialerMode, address)
		connectNs += client.number(t)
		io.WriteString(client.in, "\n")
		rttNs += client.number(t) * 1000
		client.in.Close()
		if status := client.wait(t); status != 0 {
			t.Fatalf("client ended with status %d", status)
		}
	}
	start(t, cgroup{}, "/proc/self/exe", dialerMode, address).in.Close() // nobody's
	h := health(t, p, key)
	if h.Connect.Count() != connections || h.Connect.SumNs == 0 || h.Connect.SumNs > connectNs {
		t.Errorf("%d connects took %d ns, want %d and at most %d ns", h.Connect.Count(), h.Connect.SumNs, connections, connectNs)
	}
	if h.RTT.Count() != connections || h.RTT.SumNs != rttNs {
		t.Errorf("%d round trips of %d ns, want %d and %d ns", h.RTT.Count(), h.RTT.SumNs, connections, rttNs)
	}
}

// A connection that stays open is sampled while it is in use.
func TestKernelNetworkSamplesOpenConnections(t *testing.T) {
	p := open(t, Config{Network: true})
	key, cg := watch(t, p)
	client := start(t, cg, "/proc/self/exe", dialerMode, echoing(t))
	client.number(t)
	var least, most uint64
	eventually(t, "two samples", func() bool {
		io.WriteString(client.in, "\n")
		us := client.number(t)
		if least == 0 || us < least {
			least = us
		}
		most = max(most, us)
		return health(t, p, key).RTT.Count() >= 2
	})
	// The estimate at a sample may be the one before the client asked, never one beyond all that it was told.
	h := health(t, p, key).RTT
	if mean := h.SumNs / h.Count() / 1000; mean < least/2 || mean > 2*most {
		t.Errorf("round trips of %d us on average, the client saw %d to %d", mean, least, most)
	}
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// fullBacklog is a listener that has no room for a second connection until the first is accepted.
func fullBacklog(t *testing.T) (fd, port int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil { // room for one
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port = at.(*unix.SockaddrInet4).Port
	first, err := net.Dial("tcp4", loopback(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { first.Close() })
	return fd, port
}

// A full backlog drops the SYN; the kernel sends the next one after a second (TCP_TIMEOUT_INIT).
func TestKernelNetworkConnectTimeHasTheWaitForAFullBacklog(t *testing.T) {
	p := open(t, Config{Network: true})
	key, cg := watch(t, p)
	fd, port := fullBacklog(t)
	client := start(t, cg, "/proc/self/exe", dialerMode, loopback(port))
	eventually(t, "the client waits for an answer", func() bool { return connecting(t, port) })
	accepted, _, err := unix.Accept(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(accepted)
	took := client.number(t)
	if h := health(t, p, key).Connect; h.Count() != 1 || h.SumNs < uint64(time.Second) || h.SumNs > took {
		t.Errorf("%d connects took %d ns, want one of 1 s to %d ns", h.Count(), h.SumNs, took)
	}
}

// connecting tells whether some socket waits for port's answer to its SYN.
func connecting(t *testing.T, port int) bool {
	return strings.Contains(readFile(t, "/proc/net/tcp"), fmt.Sprintf(" 0100007F:%04X 02 ", port))
}

func TestKernelNetworkTellsWhyConnectsFail(t *testing.T) {
	p := open(t, Config{Network: true})
	key, cg := watch(t, p)
	address := loopback(unusedPort(t))
	for range 2 {
		start(t, cg, "/proc/self/exe", dialerMode, address).wait(t)
	}
	start(t, cgroup{}, "/proc/self/exe", dialerMode, address).wait(t) // nobody's
	_, port := fullBacklog(t)
	impatient := start(t, cg, "/proc/self/exe", dialerMode, loopback(port))
	eventually(t, "the client waits for an answer", func() bool { return connecting(t, port) })
	impatient.cmd.Process.Kill()
	impatient.wait(t)
	h := health(t, p, key)
	for reason, n := range h.ConnectFailures {
		if want := map[string]uint64{"refused": 2, "abandoned": 1}[reason]; n != want {
			t.Errorf("%d failed as %s, want %d", n, reason, want)
		}
	}
	if h.Connect.Count() != 0 {
		t.Errorf("%d connects succeeded", h.Connect.Count())
	}
}

// A client whose unread data is thrown away resets the connection; one whose server does so is reset. The other end,
// which is told ECONNRESET, is the witness of the first, the client of the second.
func TestKernelNetworkCountsResets(t *testing.T) {
	p := open(t, Config{Network: true})
	key, cg := watch(t, p)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accept := func(client *process) *net.TCPConn {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		client.number(t)
		return c.(*net.TCPConn)
	}
	rude := start(t, cg, "/proc/self/exe", dialerMode, l.Addr().String())
	c := accept(rude)
	if _, err := c.Write(bytes.Repeat([]byte("u"), 1000)); err != nil {
		t.Fatal(err)
	}
	rude.cmd.Process.Kill()
	rude.wait(t)
	if _, err := c.Read(make([]byte, 1)); !isReset(err) {
		t.Fatalf("the server was told %v", err)
	}
	if h := health(t, p, key); h.ResetsSent != 1 || h.ResetsReceived != 0 {
		t.Errorf("%d resets sent and %d received, want 1 and 0", h.ResetsSent, h.ResetsReceived)
	}
	victim := start(t, cg, "/proc/self/exe", dialerMode, l.Addr().String())
	c = accept(victim)
	c.SetLinger(0)
	c.Close()
	eventually(t, "the reset is counted", func() bool { return health(t, p, key).ResetsReceived == 1 })
	if h := health(t, p, key); h.ResetsSent != 1 {
		t.Errorf("%d resets sent, want 1", h.ResetsSent)
	}
}

func isReset(err error) bool {
	return err != nil && strings.Contains(err.Error(), unix.ECONNRESET.Error())
}

// The witness is the socket's own count in /proc/net/udp.
func TestKernelNetworkCountsDropsByReason(t *testing.T) {
	p := open(t, Config{Network: true})
	key, cg := watch(t, p)
	sink, port := overflown(t, cg)
	want := dropsOf(t, port)
	if want == 0 {
		t.Fatal("nothing was dropped")
	}
	if got := health(t, p, key).Drops; len(got) != 1 || got["socket_rcvbuff"] != want {
		t.Errorf("dropped %v, want %d for socket_rcvbuff", got, want)
	}
	// The slot's next container starts from nothing.
	sink.in.Close()
	sink.wait(t)
	if _, err := p.Unwatch(key); err != nil {
		t.Fatal(err)
	}
	if err := p.reap(); err != nil {
		t.Fatal(err)
	}
	next, _ := watch(t, p)
	if got := health(t, p, next).Drops; len(got) != 0 {
		t.Errorf("a new container has drops: %v", got)
	}
}

// overflown starts a process that reads nothing of its UDP port, and sends it more than its buffer takes.
func overflown(t *testing.T, cg cgroup) (sink *process, port int) {
	t.Helper()
	sink = start(t, cg, "/proc/self/exe", sinkMode)
	port = int(sink.number(t))
	c, err := net.Dial("udp4", loopback(port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 400 { // of 1 KiB: more than net.core.rmem_default
		if _, err := c.Write(make([]byte, 1024)); err != nil {
			t.Fatal(err)
		}
	}
	return sink, port
}

// dropsOf is the last column of /proc/net/udp.
func dropsOf(t *testing.T, port int) uint64 {
	t.Helper()
	for line := range strings.Lines(readFile(t, "/proc/net/udp")) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[1] != fmt.Sprintf("0100007F:%04X", port) {
			continue
		}
		n, err := strconv.ParseUint(fields[len(fields)-1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Fatalf("no socket has port %d", port)
	return 0
}

func TestNetworkIsNotMeasuredUnlessAskedFor(t *testing.T) {
	if got := (&Probes{}).NetworkHealth(); got != nil {
		t.Errorf("got %v", got)
	}
}
