package e2e

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tritond/triton/test/images"
)

// freePorts finds count adjacent ports that nobody has by IPv4 or IPv6, in the network namespace that holds the bridge.
func (u *under) freePorts(t *testing.T, count int) int {
	t.Helper()
	for range 100 {
		b := make([]byte, 2)
		rand.Read(b)
		first := 10000 + int(binary.BigEndian.Uint16(b))%20000 // below what the kernel gives to clients
		err := u.inNet(t, func() error {
			for port := first; port < first+count; port++ {
				l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
				if err != nil {
					return err
				}
				l.Close()
				c, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
				if err != nil {
					return err
				}
				c.Close()
			}
			return nil
		})
		if err == nil {
			return first
		}
	}
	t.Fatal("no free ports found")
	return 0
}

// neighbour is a machine beside the engine's: a network namespace on a link to the one that holds the bridge.
type neighbour struct {
	netns string // path
	host  string // address of the engine's machine on the link
	self  string
}

func (u *under) neighbour(t *testing.T) neighbour {
	t.Helper()
	id := randomHex()[:8]
	b := make([]byte, 1)
	rand.Read(b)
	link := "th" + id
	// No name for ip netns: that is a mount, and containers that start meanwhile would keep a copy of it.
	alive := exec.Command("unshare", "--net", "sleep", "1000")
	if err := alive.Start(); err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(alive.Process.Pid)
	t.Cleanup(func() {
		if err := alive.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = alive.Wait() // it was killed
		eventually(t, 10*time.Second, "the neighbour's link is gone", func() bool {
			return u.inNet(t, func() error { _, err := net.InterfaceByName(link); return err }) != nil
		})
	})
	nb := neighbour{netns: "/proc/" + pid + "/ns/net", host: fmt.Sprintf("198.18.%d.1", b[0]), self: fmt.Sprintf("198.18.%d.2", b[0])}
	run := func(args ...string) {
		t.Helper()
		if u.netns != "" {
			args = append([]string{"nsenter", "--net=" + u.netns}, args...)
		}
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	eventually(t, 5*time.Second, "the neighbour has a network of its own", func() bool {
		own, err := os.Readlink(nb.netns)
		return err == nil && own != namespace(t, "/proc/self/ns/net")
	})
	run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", pid)
	run("ip", "addr", "add", nb.host+"/24", "dev", link)
	run("ip", "link", "set", link, "up")
	inside := []string{"nsenter", "--net=" + nb.netns, "ip"}
	run(append(inside, "addr", "add", nb.self+"/24", "dev", "eth0")...)
	run(append(inside, "link", "set", "eth0", "up")...)
	run("ip", "link", "show", link) // makes the kernel see the carrier now
	return nb
}

// get fetches http://address/ from the neighbour.
func (nb neighbour) get(t *testing.T, address string) (body string, err error) {
	t.Helper()
	err = inNS(t, nb.netns, func() error { body, err = fetch(address); return err })
	return body, err
}

// published returns the port of the host that leads to a port of a container, as docker port tells it.
func (u *under) published(t *testing.T, name, port string) string {
	t.Helper()
	line := strings.Fields(u.ok(t, "port", name, port))
	if len(line) == 0 {
		t.Fatalf("docker port %s %s says nothing", name, port)
	}
	_, host, err := net.SplitHostPort(line[0])
	if err != nil {
		t.Fatalf("docker port: %q: %v", line, err)
	}
	return host
}

func TestPublishedPortIsReachedFromEverywhere(t *testing.T) {
	u := shared(t)
	nb := u.neighbour(t)
	web := u.detached(t, "--hostname", "web", "-p", "80", images.Programs, "httpd80")
	other := u.detached(t, images.Busybox, "sleep", "1000")
	port := u.published(t, web, "80")
	gateway := u.inspect(t, web, "{{.NetworkSettings.Networks.bridge.Gateway}}")
	u.get(t, u.address(t, web)) // it listens
	for _, host := range []string{"127.0.0.1", nb.host, gateway} {
		equal(t, "from the host by "+host, u.get(t, host+":"+port), "web")
	}
	got, err := nb.get(t, nb.host+":"+port)
	if err != nil || got != "web" {
		t.Errorf("from the neighbour: got %q (%v), want web", got, err)
	}
	for _, from := range []string{other, web} {
		for _, host := range []string{nb.host, gateway} {
			equal(t, "from "+from+" by "+host, u.ok(t, "exec", from, "wget", "-qO-", "http://"+host+":"+port+"/"), "web")
		}
	}
	// By its own address a container is not reached, even where a route leads there.
	if out, err := exec.Command("nsenter", "--net="+nb.netns, "ip", "route", "add", u.address(t, web), "via", nb.host).CombinedOutput(); err != nil {
		t.Fatalf("add a route: %v\n%s", err, out)
	}
	if got, err := nb.get(t, u.address(t, web)); err == nil {
		t.Errorf("by the container's own address: got %q", got)
	}
}

func TestPublishedPortIsShown(t *testing.T) {
	u := shared(t)
	first := u.freePorts(t, 3)
	spec := fmt.Sprintf("127.0.0.1:%d-%d:90-91", first, first+1)
	name := u.detached(t, "-p", spec, "-p", fmt.Sprintf("%d:92/udp", first+2), "--expose", "93", images.Busybox, "sleep", "1000")
	equal(t, "docker port", u.ok(t, "port", name),
		fmt.Sprintf("90/tcp -> 127.0.0.1:%d\n91/tcp -> 127.0.0.1:%d\n92/udp -> 0.0.0.0:%[3]d\n92/udp -> [::]:%[3]d", first, first+1, first+2))
	ps := u.ok(t, "ps", "--filter", "name="+name, "--format", "{{.Ports}}")
	for _, want := range []string{fmt.Sprintf(`127\.0\.0\.1:%d->90/tcp`, first), fmt.Sprintf(`127\.0\.0\.1:%d->91/tcp`, first+1), fmt.Sprintf(`0\.0\.0\.0:%d->92/udp`, first+2), `93/tcp`} {
		matches(t, "docker ps", ps, want)
	}
	asked := u.inspect(t, name, "{{json .HostConfig.PortBindings}}")
	matches(t, "what was asked for", asked, fmt.Sprintf(`"90/tcp":\[{"HostIp":"127\.0\.0\.1","HostPort":"%d"}\]`, first))
	shown := u.inspect(t, name, "{{json .NetworkSettings.Ports}}")
	matches(t, "exposed", shown, `"93/tcp":null`)
	matches(t, "published", shown, fmt.Sprintf(`"92/udp":\[{"HostIp":"0\.0\.0\.0","HostPort":"%d"}`, first+2))
	equal(t, "by published port", u.ok(t, "ps", "-q", "--no-trunc", "--filter", "name="+name, "--filter", fmt.Sprintf("publish=%d/udp", first+2)), u.inspect(t, name, "{{.Id}}"))
	equal(t, "by another port", u.ok(t, "ps", "-q", "--filter", "name="+name, "--filter", "publish=1"), "")

	u.ok(t, "stop", "-t", "0", name)
	equal(t, "of a stopped container", u.inspect(t, name, "{{json .NetworkSettings.Ports}}"), "{}")
	u.ok(t, "start", name)
	equal(t, "after a start", u.published(t, name, "90"), strconv.Itoa(first))
}

func TestAllExposedPortsArePublished(t *testing.T) {
	u := shared(t)
	port := u.freePorts(t, 1)
	name := u.detached(t, "-P", "--expose", "80", "--expose", "81/udp", "-p", fmt.Sprintf("%d:82", port), "--hostname", "all", images.Programs, "httpd80")
	equal(t, "answer", u.get(t, "127.0.0.1:"+u.published(t, name, "80")), "all")
	u.published(t, name, "81/udp")
	equal(t, "the one that was chosen", u.published(t, name, "82"), strconv.Itoa(port))
}

func TestPublishedPortOfOneAddress(t *testing.T) {
	u := shared(t)
	nb := u.neighbour(t)
	web := u.detached(t, "--hostname", "web", "-p", "127.0.0.1::80", "-p", nb.host+"::80", images.Programs, "httpd80")
	var local, public string
	for _, line := range strings.Fields(u.ok(t, "port", web, "80")) {
		host, port, _ := net.SplitHostPort(line)
		if host == "127.0.0.1" {
			local = port
		} else {
			public = port
		}
	}
	equal(t, "loopback", u.get(t, "127.0.0.1:"+local), "web")
	equal(t, "the host by the other address", u.get(t, nb.host+":"+public), "web")
	if got, err := nb.get(t, nb.host+":"+public); err != nil || got != "web" {
		t.Errorf("from the neighbour: got %q (%v), want web", got, err)
	}
	if got, err := nb.get(t, nb.host+":"+local); err == nil && local != public {
		t.Errorf("a port of 127.0.0.1 from the neighbour: got %q", got)
	}
}

func TestPublishedUDPPort(t *testing.T) {
	u := shared(t)
	nb := u.neighbour(t)
	server := u.detached(t, "-p", "90/udp", images.Programs, "netserve", "90")
	port := u.published(t, server, "90/udp")
	ask := func(host string) error {
		conn, err := net.Dial("udp4", net.JoinHostPort(host, port))
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Second))
		if _, err := io.WriteString(conn, "ping"); err != nil {
			return err
		}
		answer := make([]byte, 16)
		n, err := conn.Read(answer)
		if err == nil && string(answer[:n]) != "ping" {
			err = fmt.Errorf("got %q", answer[:n])
		}
		return err
	}
	eventually(t, 30*time.Second, "the host's loopback gets an answer", func() bool { return u.inNet(t, func() error { return ask("127.0.0.1") }) == nil })
	eventually(t, 30*time.Second, "the neighbour gets an answer", func() bool { return inNS(t, nb.netns, func() error { return ask(nb.host) }) == nil })
}

func TestPublishedPortHasOneOwner(t *testing.T) {
	u := shared(t)
	first := u.freePorts(t, 3)
	flag := fmt.Sprintf("%d:80", first)
	one := u.detached(t, "-p", flag, "--hostname", "one", images.Programs, "httpd80")
	two := u.name(t)
	u.fails(t, 125, fmt.Sprintf(`Bind for (0\.0\.0\.0|:::|\[::\]):%d failed: port is already allocated`, first),
		"run", "-d", "--name", two, "-p", flag, "--hostname", "two", images.Programs, "httpd80")
	equal(t, "the second", u.inspect(t, two, "{{.State.Status}}"), "created")
	equal(t, "the first", u.get(t, fmt.Sprintf("127.0.0.1:%d", first)), "one")
	u.ok(t, "stop", "-t", "0", one)
	u.ok(t, "start", two)
	equal(t, "the second, once the port is free", u.get(t, fmt.Sprintf("127.0.0.1:%d", first)), "two")

	// A process of the host keeps its port, and cannot take a container's.
	var mine net.Listener
	err := u.inNet(t, func() (err error) { mine, err = net.Listen("tcp4", fmt.Sprintf(":%d", first+1)); return err })
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	u.fails(t, 125, "address already in use", "run", "--rm", "-p", fmt.Sprintf("%d:80", first+1), images.True)
	err = u.inNet(t, func() error {
		l, err := net.Listen("tcp4", fmt.Sprintf(":%d", first))
		if err == nil {
			l.Close()
		}
		return err
	})
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listen on a published port: got %v", err)
	}
	// Of a range the first free one.
	span := fmt.Sprintf("%d-%d:80", first, first+2)
	three := u.detached(t, "-p", span, "--hostname", "three", images.Programs, "httpd80")
	equal(t, "the free one of a range", u.published(t, three, "80"), strconv.Itoa(first+2))
	u.fails(t, 125, "port is already allocated|already in use", "run", "--rm", "-p", span, images.True)
}

func TestPortsThatCannotBePublished(t *testing.T) {
	u := shared(t)
	u.fails(t, 125, "cannot assign requested address", "run", "--rm", "-p", "203.0.113.77::80", images.True)
	host := u.detached(t, images.Busybox, "sleep", "1000")
	u.fails(t, 125, "(?i)conflicting options: port publishing", "run", "--rm", "-p", "80", "--network", "container:"+host, images.True)
	res := u.docker(t, "run", "--rm", "-p", "80", "--network", "host", images.True)
	if res.Code != 0 {
		t.Errorf("host network: exit code %d, %s", res.Code, res.Stderr)
	}
	matches(t, "warning", res.Stderr, "(?i)published ports are discarded when using host network mode")
}

// TestPublishedPortOutlivesTheDaemon: a transfer through a port goes on while the daemon is killed and started again, and
// nobody gets the port meanwhile.
func TestPublishedPortOutlivesTheDaemon(t *testing.T) {
	t.Parallel()
	u := own(t)
	nb := u.neighbour(t)
	first := u.freePorts(t, 2)
	u.ok(t, "run", "-d", "--name", "pour", "-p", fmt.Sprintf("%d:90", first), images.Programs, "netserve", "90")
	u.ok(t, "run", "-d", "--name", "short", "-p", fmt.Sprintf("%d:80", first+1), images.Busybox, "sleep", "1000")
	var conn net.Conn
	eventually(t, 30*time.Second, "the neighbour is connected", func() bool {
		return inNS(t, nb.netns, func() (err error) {
			conn, err = net.DialTimeout("tcp4", fmt.Sprintf("%s:%d", nb.host, first), time.Second)
			return err
		}) == nil
	})
	defer conn.Close()
	var got atomic.Int64
	done := make(chan error, 1)
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, err := conn.Read(buf)
			got.Add(int64(n))
			if err != nil {
				done <- err
				return
			}
		}
	}()
	flows := func(when string) {
		t.Helper()
		from := got.Load()
		eventually(t, 10*time.Second, "bytes flow "+when, func() bool { return got.Load() > from+1<<20 })
	}
	flows("before")
	pid := u.pid(t, "short")
	u.kill(t)
	flows("without a daemon")
	if l, err := net.Listen("tcp4", fmt.Sprintf(":%d", first)); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a published port was free while no daemon lived: %v, %v", l, err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil { // ends while nobody looks
		t.Fatal(err)
	}
	u.restart(t)
	flows("after a restart")
	if err := inNS(t, nb.netns, func() error {
		c, err := net.DialTimeout("tcp4", fmt.Sprintf("%s:%d", nb.host, first), 5*time.Second)
		if err == nil {
			c.Close()
		}
		return err
	}); err != nil {
		t.Errorf("a new connection after a restart: %v", err)
	}
	equal(t, "docker port", u.published(t, "pour", "90"), strconv.Itoa(first))
	u.fails(t, 125, "port is already allocated", "run", "--rm", "-p", fmt.Sprintf("%d:80", first), images.True)
	eventually(t, 10*time.Second, "the port of the one that ended is free", func() bool {
		return u.docker(t, "run", "--rm", "-p", fmt.Sprintf("%d:80", first+1), images.True).Code == 0
	})
	// Reset, not closed: a socket that waits for answers would keep its network namespace.
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		t.Error(err)
	}
	conn.Close()
	<-done
	u.ok(t, "rm", "-f", "pour", "short")
}
