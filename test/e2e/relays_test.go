package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tritond/triton/test/images"
)

// dial6 connects to [::1]:port in the namespace of the engine, once somebody listens there.
func (u *under) dial6(t *testing.T, port int) *net.TCPConn {
	t.Helper()
	var conn net.Conn
	eventually(t, 30*time.Second, fmt.Sprintf("[::1]:%d is connected", port), func() bool {
		return u.inNet(t, func() (err error) {
			conn, err = net.DialTimeout("tcp6", fmt.Sprintf("[::1]:%d", port), time.Second)
			return err
		}) == nil
	})
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

func TestPortsByIPv6OfContainersWithout(t *testing.T) {
	u := shared(t)
	first := u.freePorts(t, 2)
	web := u.detached(t, "-p", "80", "-p", "[::1]::80", "-p", fmt.Sprintf("[::]:%d:80", first), "--hostname", "four", images.Programs, "httpd80")
	ports := strings.Fields(u.ok(t, "port", web, "80"))
	if len(ports) != 4 {
		t.Fatalf("docker port: got %v, want four", ports)
	}
	loopbackOnly := ""
	for _, at := range ports {
		_, port, _ := net.SplitHostPort(at)
		if !strings.HasPrefix(at, "0.0.0.0:") {
			equal(t, "by "+at, u.get(t, "[::1]:"+port), "four")
		}
		if strings.HasPrefix(at, "[::1]:") {
			loopbackOnly = port
		}
	}
	if err := u.inNet(t, func() error { _, err := fetch("127.0.0.1:" + loopbackOnly); return err }); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("IPv4 of a port of [::1]: got %v, want a refusal", err)
	}
	// What the client has said is at an end, what the container says is not.
	all := u.detached(t, "-p", fmt.Sprintf("[::1]:%d:90", first+1), images.Busybox, "nc", "-ll", "-p", "90", "-e", "cat")
	want := strings.Repeat("0123456789abcdef", 1<<16)
	eventually(t, 30*time.Second, "all comes back after the client's end", func() bool {
		conn := u.dial6(t, first+1)
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		go func() {
			_, _ = io.WriteString(conn, want) // a reset while nobody listens yet: the reader sees it too
			_ = conn.CloseWrite()
		}()
		got, err := io.ReadAll(conn)
		return err == nil && string(got) == want
	})
	u.ok(t, "stop", "-t", "0", all)
	eventually(t, 10*time.Second, "nobody listens after the container's end", func() bool {
		err := u.inNet(t, func() error {
			c, err := net.DialTimeout("tcp6", fmt.Sprintf("[::1]:%d", first+1), time.Second)
			if err == nil {
				c.Close()
			}
			return err
		})
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	u.ok(t, "start", all)
	u.dial6(t, first+1)
}

func TestUDPByIPv6OfContainersWithout(t *testing.T) {
	u := shared(t)
	server := u.detached(t, "-p", "90/udp", images.Programs, "netserve", "90")
	port := u.published(t, server, "90/udp")
	eventually(t, 30*time.Second, "an answer", func() bool {
		return u.inNet(t, func() error {
			conn, err := net.Dial("udp6", "[::1]:"+port)
			if err != nil {
				return err
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(time.Second))
			answer := make([]byte, 64)
			if _, err := io.WriteString(conn, "ping"); err != nil {
				return err
			}
			n, err := conn.Read(answer)
			if err == nil && string(answer[:n]) != "ping" {
				t.Errorf("got %q, want ping", answer[:n])
			}
			return err
		}) == nil
	})
}

func TestPortOfIPv6HasOneOwner(t *testing.T) {
	u := shared(t)
	first := u.freePorts(t, 2)
	u.detached(t, "-p", fmt.Sprintf("[::1]:%d:80", first), images.Programs, "httpd80")
	u.fails(t, 125, fmt.Sprintf(`Bind for ::1:%d failed: port is already allocated`, first), "run", "--rm", "-p", fmt.Sprintf("%d:80", first), images.True)
	u.fails(t, 125, fmt.Sprintf(`Bind for ::1:%d failed: port is already allocated`, first), "run", "--rm", "-p", fmt.Sprintf("[::1]:%d:80", first), images.True)
	u.ok(t, "run", "--rm", "-p", fmt.Sprintf("0.0.0.0:%d:80", first), images.True)
	var mine net.Listener
	if err := u.inNet(t, func() (err error) { mine, err = net.Listen("tcp6", fmt.Sprintf("[::1]:%d", first+1)); return err }); err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	u.fails(t, 125, fmt.Sprintf(`failed to bind host port \[::\]:%d/tcp: address already in use`, first+1), "run", "--rm", "-p", fmt.Sprintf("%d:80", first+1), images.True)
	u.fails(t, 125, `cannot assign requested address`, "run", "--rm", "-p", "[2001:db8::77]::80", images.True)
}

// TestRelayFollowsTheContainersNetworks: what was led to an address that is given back must not reach its next owner.
func TestRelayFollowsTheContainersNetworks(t *testing.T) {
	u := shared(t)
	one, two := u.network(t), u.network(t)
	port := u.freePorts(t, 1)
	web := u.detached(t, "--network", one, "-p", fmt.Sprintf("%d:80", port), "--hostname", "moves", images.Programs, "httpd80")
	at := fmt.Sprintf("[::1]:%d", port)
	equal(t, "in the first network", u.get(t, at), "moves")
	u.ok(t, "network", "connect", two, web)
	was := u.inspect(t, web, fmt.Sprintf("{{(index .NetworkSettings.Networks %q).IPAddress}}", one))
	u.ok(t, "network", "disconnect", one, web)
	u.ok(t, "run", "-d", "--name", u.name(t), "--network", one, "--hostname", "other", images.Programs, "httpd80")
	equal(t, "in the second", u.get(t, at), "moves")
	if was == "" {
		t.Error("the container had no address in the first network")
	}
	six := u.network(t, "--ipv6")
	u.ok(t, "network", "connect", "--gw-priority", "10", six, web)
	equal(t, "in one with IPv6", u.get(t, at), "moves")
	u.ok(t, "network", "disconnect", six, web)
	equal(t, "in none with IPv6 again", u.get(t, at), "moves")
}

// TestTransferByIPv6OutlivesTheDaemon: it goes on while the daemon is killed and started again. A killed shim ends what it
// carried; the next one serves the port.
func TestTransferByIPv6OutlivesTheDaemon(t *testing.T) {
	t.Parallel()
	u := own(t)
	port := u.freePorts(t, 1)
	u.ok(t, "run", "-d", "--name", "pour", "-p", fmt.Sprintf("[::1]:%d:90", port), images.Programs, "netserve", "90")
	var got atomic.Int64
	pouring := func() chan error {
		t.Helper()
		done := make(chan error, 1)
		buf := make([]byte, 1<<16)
		var conn net.Conn
		eventually(t, 30*time.Second, "the program answers", func() bool { // before it listens, clients are reset
			conn = u.dial6(t, port)
			_, err := io.ReadFull(conn, buf[:1])
			return err == nil
		})
		go func() {
			for {
				n, err := conn.Read(buf)
				got.Add(int64(n))
				if err != nil {
					done <- err
					return
				}
			}
		}()
		return done
	}
	flows := func(when string) {
		t.Helper()
		from := got.Load()
		eventually(t, 20*time.Second, "bytes flow "+when, func() bool { return got.Load() > from+1<<20 })
	}
	done := pouring()
	flows("before")
	u.kill(t)
	flows("without a daemon")
	u.dial6(t, port).Close() // a new connection too
	if l, err := net.Listen("tcp6", "[::1]:"+strconv.Itoa(port)); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a published port was free while no daemon lived: %v, %v", l, err)
	}
	u.restart(t)
	flows("after a restart")
	equal(t, "docker port", u.ok(t, "port", "pour"), fmt.Sprintf("90/tcp -> [::1]:%d", port))
	select {
	case err := <-done:
		t.Fatalf("the transfer broke: %v", err)
	default:
	}
	if err := syscall.Kill(u.shimOf(t, "pour"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a transfer whose shim was killed: got %v, want a reset", err)
	}
	done = pouring()
	flows("through the next shim")
	u.ok(t, "rm", "-f", "pour")
	if err := <-done; err == nil {
		t.Error("the transfer went on after the container's end")
	}
	l, err := net.Listen("tcp6", "[::1]:"+strconv.Itoa(port))
	if err != nil {
		t.Fatalf("the port of a container that is gone: %v", err)
	}
	l.Close()
}

// TestRelayedPortsAreCounted: what passed on, by which containers, and that no series is there of those nobody came to.
func TestRelayedPortsAreCounted(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	echo := u.detached(t, "-p", "[::1]::90", "-p", "90/udp", images.Programs, "netserve", "90")
	quiet := u.detached(t, "-p", "90", images.Programs, "netserve", "90")
	value := func(name, container string, labels ...string) float64 {
		return u.seriesOf(t, "triton_container_relay_"+name, append(labels, `name="`+container+`"`)...)
	}
	at, _, _ := strings.Cut(u.ok(t, "port", echo, "90/tcp"), "\n")
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	const taken = 3 << 20
	conn := u.dial6(t, number)
	if n, err := io.CopyN(io.Discard, conn, taken); err != nil {
		t.Fatalf("got %d bytes: %v", n, err)
	}
	udp := u.published(t, echo, "90/udp")
	eventually(t, 30*time.Second, "datagrams and bytes are counted", func() bool {
		_ = u.inNet(t, func() error {
			c, err := net.Dial("udp6", "[::1]:"+udp)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = io.WriteString(c, "ping")
			return err
		})
		return value("bytes_total", echo, `direction="out"`, `protocol="tcp"`) >= taken &&
			value("bytes_total", echo, `direction="in"`, `protocol="udp"`) >= 4
	})
	if n := value("open", echo, `protocol="tcp"`); n != 1 {
		t.Errorf("%v connections are open, want 1", n)
	}
	conn.Close()
	eventually(t, 30*time.Second, "the connection is gone", func() bool { return value("open", echo, `protocol="tcp"`) == 0 })
	if n := value("clients_total", echo, `protocol="tcp"`); n < 1 {
		t.Errorf("%v connections came", n)
	}
	if n := value("clients_total", quiet); n != 0 {
		t.Errorf("a container to which nobody came has a series: %v", n)
	}
}

// TestRelayedPortsOfOtherTenants: of another tenant's container, a container reaches what was published at an address that it
// can reach, and nothing else: neither what is published at ::1, nor the port behind it, nor by an address of its own.
func TestRelayedPortsOfOtherTenants(t *testing.T) {
	operator, acme, globex, _ := withTenants(t)
	web := acme.ok(t, "run", "-d", "--name", "web", "--hostname", "acmeweb", "-p", "80", "-p", "[::1]::80", images.Programs, "httpd80")
	all, local := "", ""
	for _, at := range strings.Fields(acme.ok(t, "port", "web", "80")) {
		if port, ok := strings.CutPrefix(at, "[::1]:"); ok {
			local = port
		} else if port, ok := strings.CutPrefix(at, "[::]:"); ok {
			all = port
		}
	}
	equal(t, "by the host", operator.get(t, "[::1]:"+local), "acmeweb")
	equal(t, "by the host", operator.get(t, "[::1]:"+all), "acmeweb")

	globex.ok(t, "network", "create", "four")
	globex.ok(t, "network", "create", "--ipv6", "six")
	globex.ok(t, "run", "-d", "--name", "four", "--network", "four", images.Busybox, "sleep", "1000")
	globex.ok(t, "run", "-d", "--name", "six", "--network", "six", images.Busybox, "sleep", "1000")
	gateway4 := globex.inspect(t, "four", "{{.NetworkSettings.Networks.four.Gateway}}")
	gateway6 := globex.inspect(t, "six", "{{.NetworkSettings.Networks.six.IPv6Gateway}}")
	own := acme.inspect(t, "web", "{{.NetworkSettings.Networks.bridge.IPAddress}}")
	ask := func(from, host, port string) string {
		return strings.TrimSpace(globex.docker(t, "exec", from, "timeout", "3", "wget", "-qO-", "http://"+net.JoinHostPort(host, port)+"/").Stdout)
	}
	equal(t, "published at all addresses, by IPv4", ask("four", gateway4, all), "acmeweb")
	equal(t, "published at all addresses, by IPv6", ask("six", gateway6, all), "acmeweb")
	for _, from := range []string{"four", "six"} {
		for _, host := range []string{"::1", "127.0.0.1", "::ffff:127.0.0.1", gateway4, gateway6} {
			equal(t, "published at ::1, from "+from+" by "+host, ask(from, host, local), "")
		}
		equal(t, "the port behind it, from "+from, ask(from, own, "80"), "")
		for _, host := range []string{"::1", "127.0.0.1"} {
			equal(t, "published at all addresses, from "+from+" by "+host, ask(from, host, all), "")
		}
	}
	// Who has it is not said.
	res := globex.docker(t, "run", "--rm", "-p", "[::1]:"+local+":80", images.True)
	if res.Code != 125 || !strings.Contains(res.Stderr, "port is already allocated") || strings.Contains(res.Stderr, web[:12]) {
		t.Errorf("a port of another tenant: exit code %d, %s", res.Code, res.Stderr)
	}
	// What is at the port next is not led to by what was.
	acme.ok(t, "rm", "-f", "web")
	globex.ok(t, "run", "-d", "--name", "web", "--hostname", "globexweb", "-p", "[::1]:"+local+":80", images.Programs, "httpd80")
	equal(t, "the next owner", operator.get(t, "[::1]:"+local), "globexweb")
}
