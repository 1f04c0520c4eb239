package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tritond/triton/test/images"
)

// get fetches http://address/ from the host that holds the bridge; retries cover the moment until the server listens.
func (u *under) get(t *testing.T, address string) string {
	t.Helper()
	var body string
	var last error
	ok := within(30*time.Second, func() bool {
		last = u.inNet(t, func() error {
			b, err := fetch(address)
			body = b
			return err
		})
		return last == nil
	})
	if !ok {
		t.Errorf("get http://%s: %v", address, last)
	}
	return body
}

// fetch dials in the calling thread's network namespace, which http.Client would leave.
func fetch(address string) (string, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		address += ":80"
	}
	conn, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	_, body, found := strings.Cut(string(answer), "\r\n\r\n")
	if err == nil && !found {
		err = fmt.Errorf("not an HTTP answer: %q", answer)
	}
	return strings.TrimSpace(body), err
}

func TestThirtyContainersListenOnPort80(t *testing.T) {
	u := shared(t)
	const n = 30
	names := make([]string, n)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for i := range names {
		names[i] = u.name(t)
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			res, err := u.cli.Run(t.Context(), nil, "run", "-d", "--name", names[i], "--hostname", fmt.Sprintf("web%d", i), images.Programs, "httpd80")
			if err != nil || res.Code != 0 {
				t.Errorf("run %d: %v %s", i, err, res.Stderr)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	seen := map[string]bool{}
	for i, name := range names {
		ip := u.address(t, name)
		if net.ParseIP(ip) == nil || seen[ip] {
			t.Fatalf("%s has address %q, want one of its own", name, ip)
		}
		seen[ip] = true
		equal(t, "answer of "+ip, u.get(t, ip), fmt.Sprintf("web%d", i))
	}
	// And from one of them to another.
	equal(t, "between containers", u.ok(t, "exec", names[0], "wget", "-qO-", "http://"+u.address(t, names[1])+"/"), "web1")
}

func TestContainerKnowsItsNames(t *testing.T) {
	u := shared(t)
	name := u.detached(t, "--hostname", "inside", "--domainname", "example.org", "--add-host", "db:10.9.8.7", "--dns", "9.9.9.9",
		"--dns-search", "corp.example", "--dns-option", "ndots:3", images.Busybox, "sleep", "1000")
	ip := u.address(t, name)
	hosts := u.ok(t, "exec", name, "cat", "/etc/hosts")
	matches(t, "/etc/hosts", hosts, `(?m)^127\.0\.0\.1\s+localhost$`)
	matches(t, "/etc/hosts", hosts, `(?m)^10\.9\.8\.7\s+db$`)
	matches(t, "/etc/hosts", hosts, `(?m)^`+ip+`\s+inside(\.example\.org inside)?$`)
	equal(t, "/etc/hostname", u.ok(t, "exec", name, "cat", "/etc/hostname"), "inside")
	resolv := u.ok(t, "exec", name, "cat", "/etc/resolv.conf")
	matches(t, "resolv.conf", resolv, `(?m)^nameserver 9\.9\.9\.9$`)
	matches(t, "resolv.conf", resolv, `(?m)^search corp\.example$`)
	matches(t, "resolv.conf", resolv, `(?m)^options ndots:3$`)
	link := u.ok(t, "exec", name, "ip", "addr", "show", "eth0")
	matches(t, "eth0", link, "inet "+ip+"/")
	matches(t, "eth0", link, "link/ether "+u.inspect(t, name, "{{.NetworkSettings.Networks.bridge.MacAddress}}"))
	matches(t, "default route", u.ok(t, "exec", name, "ip", "route"), "default via "+u.inspect(t, name, "{{.NetworkSettings.Networks.bridge.Gateway}}"))
	matches(t, "loopback is up", u.ok(t, "exec", name, "ip", "addr", "show", "lo"), `inet 127\.0\.0\.1/8`)
	u.ok(t, "exec", name, "ping", "-c", "1", "-W", "5", u.inspect(t, name, "{{.NetworkSettings.Networks.bridge.Gateway}}"))
}

func TestFilesOfNamesCanBeWritten(t *testing.T) {
	u := shared(t)
	name := u.detached(t, images.Busybox, "sleep", "1000")
	for _, file := range []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"} {
		u.ok(t, "exec", name, "sh", "-c", "echo '# note' >>"+file)
		matches(t, file, u.ok(t, "exec", name, "cat", file), "# note")
	}
}

func TestNetworkNoneHasLoopbackOnly(t *testing.T) {
	u := shared(t)
	name := u.detached(t, "--network", "none", images.Busybox, "sleep", "1000")
	equal(t, "links", u.ok(t, "exec", name, "ls", "/sys/class/net"), "lo")
	matches(t, "lo", u.ok(t, "exec", name, "ip", "addr"), `127\.0\.0\.1/8`)
	equal(t, "mode", u.inspect(t, name, "{{.HostConfig.NetworkMode}}"), "none")
}

func TestNetworkHostSharesTheHostsNamespace(t *testing.T) {
	u := shared(t)
	name := u.detached(t, "--network", "host", images.Busybox, "sleep", "1000")
	want := "/proc/self/ns/net"
	if u.netns != "" {
		want = u.netns
	}
	equal(t, "network namespace", namespace(t, fmt.Sprintf("/proc/%d/ns/net", u.pid(t, name))), namespace(t, want))
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "hostname", u.ok(t, "exec", name, "hostname"), host)
}

func TestNetworkOfAnotherContainerIsShared(t *testing.T) {
	u := shared(t)
	server := u.detached(t, "--hostname", "server", images.Programs, "httpd80")
	u.get(t, u.address(t, server))
	name := u.detached(t, "--network", "container:"+server, images.Busybox, "sleep", "1000")
	equal(t, "through loopback", u.ok(t, "exec", name, "wget", "-qO-", "http://127.0.0.1/"), "server")
	equal(t, "hostname", u.ok(t, "exec", name, "hostname"), "server")
	equal(t, "network namespace", namespace(t, fmt.Sprintf("/proc/%d/ns/net", u.pid(t, name))),
		namespace(t, fmt.Sprintf("/proc/%d/ns/net", u.pid(t, server))))
	u.fails(t, 125, "(?i)no such container", "run", "--rm", "--network", "container:nosuch", images.True)
}

// namespace identifies a namespace by what its link in /proc says.
func namespace(t *testing.T, path string) string {
	t.Helper()
	id, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
