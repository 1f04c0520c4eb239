package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tritond/triton/test/images"
)

// network makes a network, which is removed after the test, and returns its name. Containers of the test must be made
// after it: they are removed before it then.
func (u *under) network(t *testing.T, flags ...string) string {
	t.Helper()
	name := "n" + randomHex()
	t.Cleanup(func() {
		r, err := u.api.Do(context.WithoutCancel(t.Context()), http.MethodDelete, "/v1.41/networks/"+name, "", nil)
		if err != nil || r.Status >= 400 && r.Status != http.StatusNotFound {
			t.Errorf("remove network %s: %d %s %v", name, r.Status, r.Body, err)
		}
	})
	u.ok(t, append(append([]string{"network", "create"}, flags...), name)...)
	return name
}

// addressIn returns a container's address in a network.
func (u *under) addressIn(t *testing.T, name, network string) string {
	t.Helper()
	return u.inspect(t, name, fmt.Sprintf(`{{(index .NetworkSettings.Networks %q).IPAddress}}`, network))
}

// reaches reports whether a container gets an answer from port 80 of address.
func (u *under) reaches(t *testing.T, from, address string) bool {
	t.Helper()
	return u.docker(t, "exec", from, "sh", "-c", "echo GET / | nc -w 2 "+address+" 80 | grep -q 200").Code == 0
}

// freeSubnet24 is a subnet that nothing on this machine is in, for tests that choose their addresses.
func freeSubnet24(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		prefix := fmt.Sprintf("10.%d.%d.", 200+int(randomHex()[0])%50, int(randomHex()[1])+int(randomHex()[2]))
		taken := false
		for _, a := range addrs {
			taken = taken || strings.HasPrefix(a.String(), prefix)
		}
		if !taken {
			return prefix
		}
	}
	t.Fatal("no free subnet")
	return ""
}

func TestNetworkIsMadeShownAndRemoved(t *testing.T) {
	u := shared(t)
	p := freeSubnet24(t)
	name := u.network(t, "--subnet", p+"0/24", "--ip-range", p+"128/25", "--gateway", p+"7", "--aux-address", "printer="+p+"129", "--label", "tier=db", "--attachable")
	show := func(format string) string { return u.ok(t, "network", "inspect", "-f", format, name) }
	equal(t, "config", show(`{{range .IPAM.Config}}{{.Subnet}} {{.IPRange}} {{.Gateway}} {{index .AuxiliaryAddresses "printer"}}{{end}}`),
		p+"0/24 "+p+"128/25 "+p+"7 "+p+"129")
	equal(t, "rest", show("{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}} {{.Attachable}} {{.EnableIPv6}} {{.Labels.tier}}"), name+" bridge local false true false db")
	id := show("{{.Id}}")
	equal(t, "by label", u.ok(t, "network", "ls", "-q", "--no-trunc", "--filter", "label=tier=db", "--filter", "name="+name), id)
	equal(t, "by type", u.ok(t, "network", "ls", "--format", "{{.Name}}", "--filter", "type=custom", "--filter", "id="+id[:12]), name)
	equal(t, "unused", u.ok(t, "network", "ls", "-q", "--no-trunc", "--filter", "dangling=true", "--filter", "name="+name), id)
	u.fails(t, 1, "network with name "+name+" already exists", "network", "create", name)
	u.fails(t, 1, "(?i)overlaps", "network", "create", "--subnet", p+"64/26", "overlap"+randomHex())
	for _, predefined := range []string{"bridge", "host", "none"} {
		u.fails(t, 1, predefined+" is a pre-defined network and cannot be removed", "network", "rm", predefined)
		u.fails(t, 1, "(?i)operation is not permitted on predefined "+predefined+" network|only one instance", "network", "create", predefined)
	}
	web := u.detached(t, "--network", name, images.Programs, "httpd80")
	ip := u.addressIn(t, web, name)
	matches(t, "address from the range, not the reserved one", ip, `^`+strings.ReplaceAll(p, ".", `\.`)+`1[2-9][0-9]|2\d\d$`)
	if ip == p+"129" || ip == p+"7" {
		t.Errorf("%s was handed out", ip)
	}
	equal(t, "containers", show(`{{range $id, $c := .Containers}}{{$c.Name}} {{$c.IPv4Address}}{{end}}`), web+" "+ip+"/24")
	equal(t, "by network", u.ok(t, "ps", "-q", "--no-trunc", "--filter", "network="+name), u.inspect(t, web, "{{.Id}}"))
	equal(t, "used", u.ok(t, "network", "ls", "-q", "--filter", "dangling=true", "--filter", "name="+name), "")
	u.fails(t, 1, "has active endpoints", "network", "rm", name)
	u.ok(t, "rm", "-f", web)
	u.ok(t, "network", "rm", name)
	u.fails(t, 1, "network "+name+" not found", "network", "inspect", name)
	u.fails(t, 125, "network "+name+" not found", "run", "--rm", "--network", name, images.True)
}

func TestNetworksAreKeptApart(t *testing.T) {
	u := shared(t)
	one, two := u.network(t), u.network(t)
	a := u.detached(t, "--network", one, images.Programs, "httpd80")
	b := u.detached(t, "--network", two, images.Programs, "httpd80")
	c := u.detached(t, images.Programs, "httpd80")
	peer := u.detached(t, "--network", one, images.Busybox, "sleep", "1000")
	eventually(t, 20*time.Second, "its own network is reached", func() bool { return u.reaches(t, peer, u.addressIn(t, a, one)) })
	for what, to := range map[string]string{"another network": u.addressIn(t, b, two), "the default network": u.address(t, c)} {
		if u.reaches(t, peer, to) {
			t.Errorf("%s was reached", what)
		}
	}
	equal(t, "mode", u.inspect(t, a, "{{.HostConfig.NetworkMode}}"), one)
	equal(t, "networks", u.inspect(t, a, "{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{end}}"), one)
	matches(t, "default route", u.ok(t, "exec", a, "ip", "route"), "default via "+u.ok(t, "network", "inspect", "-f", "{{range .IPAM.Config}}{{.Gateway}}{{end}}", one))
	matches(t, "hosts", u.ok(t, "exec", a, "cat", "/etc/hosts"), `(?m)^`+u.addressIn(t, a, one)+`\s+`+u.inspect(t, a, "{{.Config.Hostname}}"))
}

func TestPublishedPortOfAUsersNetwork(t *testing.T) {
	u := shared(t)
	one, two := u.network(t), u.network(t)
	nb := u.neighbour(t)
	a := u.detached(t, "--network", one, "-p", "80", "--hostname", "a", images.Programs, "httpd80")
	b := u.detached(t, "--network", two, images.Busybox, "sleep", "1000")
	port := u.published(t, a, "80")
	equal(t, "host", u.get(t, "127.0.0.1:"+port), "a")
	if got, err := nb.get(t, nb.host+":"+port); err != nil || got != "a" {
		t.Errorf("from the neighbour: got %q (%v)", got, err)
	}
	for _, from := range []string{a, b} {
		equal(t, "from "+from, u.ok(t, "exec", from, "wget", "-qO-", "http://"+nb.host+":"+port+"/"), "a")
	}
}

func TestStaticAddress(t *testing.T) {
	u := shared(t)
	p := freeSubnet24(t)
	name := u.network(t, "--subnet", p+"0/24")
	free := u.network(t)
	a := u.detached(t, "--network", name, "--ip", p+"50", images.Busybox, "sleep", "1000")
	equal(t, "address", u.addressIn(t, a, name), p+"50")
	u.fails(t, 125, "Address already in use", "run", "--rm", "--network", name, "--ip", p+"50", images.True)
	u.fails(t, 125, "no configured subnet", "run", "--rm", "--network", name, "--ip", "10.1.2.3", images.True)
	u.fails(t, 125, "user configured subnets", "run", "--rm", "--network", free, "--ip", p+"51", images.True)
	u.fails(t, 125, "user specified IP address is supported on user defined networks only", "run", "--rm", "--ip", p+"51", images.True)
	// Once its holder has stopped, another may have it.
	u.ok(t, "stop", "-t", "0", a)
	b := u.detached(t, "--network", name, "--ip", p+"50", images.Busybox, "sleep", "1000")
	equal(t, "address of the next", u.addressIn(t, b, name), p+"50")
	u.fails(t, 1, "Address already in use", "start", a)
	u.ok(t, "rm", "-f", b)
	u.ok(t, "start", a)
	equal(t, "address after a start", u.addressIn(t, a, name), p+"50")
}

func TestRunningContainerJoinsAndLeaves(t *testing.T) {
	u := shared(t)
	p := freeSubnet24(t)
	one, two := u.network(t), u.network(t, "--subnet", p+"0/24")
	a := u.detached(t, "--network", one, "--hostname", "joiner", "-p", "80", images.Programs, "httpd80")
	peer := u.detached(t, "--network", two, images.Busybox, "sleep", "1000")
	u.ok(t, "network", "connect", "--ip", p+"77", "--alias", "other", two, a)
	equal(t, "address", u.addressIn(t, a, two), p+"77")
	matches(t, "interface", u.ok(t, "exec", a, "ip", "addr", "show", "eth1"), `inet `+p+`77/24`)
	matches(t, "hosts", u.ok(t, "exec", a, "cat", "/etc/hosts"), `(?m)^`+p+`77\s+joiner$`)
	eventually(t, 20*time.Second, "the new network reaches it", func() bool { return u.reaches(t, peer, p+"77") })
	u.fails(t, 1, "already exists in network", "network", "connect", two, a)
	// The default route is the first network's by name; with a priority it moves, and published ports with it.
	u.ok(t, "restart", "-t", "0", a)
	equal(t, "address after a restart", u.addressIn(t, a, two), p+"77")
	u.ok(t, "network", "disconnect", one, a)
	equal(t, "networks", u.inspect(t, a, "{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{end}}"), two)
	matches(t, "default route", u.ok(t, "exec", a, "ip", "route"), "default via "+p+"1 ")
	equal(t, "its port", u.get(t, "127.0.0.1:"+u.published(t, a, "80")), "joiner")
	u.fails(t, 1, "is not connected to", "network", "disconnect", one, a)
	u.ok(t, "network", "disconnect", two, a)
	matches(t, "no interface left", u.ok(t, "exec", a, "ls", "/sys/class/net"), `^lo$`)
	u.ok(t, "network", "connect", "bridge", a)
	if u.address(t, a) == "" {
		t.Error("no address in the default network")
	}
}

func TestDefaultNetworkIsLeft(t *testing.T) {
	u := shared(t)
	name := u.network(t)
	a := u.detached(t, images.Programs, "httpd80")
	u.ok(t, "network", "connect", name, a)
	u.ok(t, "network", "disconnect", "bridge", a)
	equal(t, "networks", u.inspect(t, a, "{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{end}}"), name)
	u.ok(t, "restart", "-t", "0", a)
	peer := u.detached(t, "--network", name, images.Busybox, "sleep", "1000")
	eventually(t, 20*time.Second, "it is reached", func() bool { return u.reaches(t, peer, u.addressIn(t, a, name)) })
	u.ok(t, "network", "connect", "bridge", a)
	if u.address(t, a) == "" {
		t.Error("no address in the default network")
	}
}

func TestNetworksThatCannotBeJoined(t *testing.T) {
	u := shared(t)
	name := u.network(t)
	host := u.detached(t, "--network", "host", images.Busybox, "sleep", "1000")
	none := u.detached(t, "--network", "none", images.Busybox, "sleep", "1000")
	base := u.detached(t, images.Busybox, "sleep", "1000")
	guest := u.detached(t, "--network", "container:"+base, images.Busybox, "sleep", "1000")
	u.fails(t, 1, "(?i)network namespace with another container or host|host network", "network", "connect", name, host)
	u.fails(t, 1, "(?i)private \\(none\\) mode", "network", "connect", name, none)
	u.fails(t, 1, "(?i)network namespace with another container or host", "network", "connect", name, guest)
	u.fails(t, 1, "(?i)host network", "network", "connect", "host", base)
	u.fails(t, 1, "(?i)network-scoped alias", "network", "connect", "--alias", "x", "bridge", none)
}

func TestInternalNetworkHasNoWayOut(t *testing.T) {
	u := shared(t)
	nb := u.neighbour(t)
	name := u.network(t, "--internal")
	a := u.detached(t, "--network", name, images.Programs, "httpd80")
	b := u.detached(t, "--network", name, images.Busybox, "sleep", "1000")
	eventually(t, 20*time.Second, "within the network", func() bool { return u.reaches(t, b, u.addressIn(t, a, name)) })
	if out := u.ok(t, "exec", b, "ip", "route"); strings.Contains(out, "default") {
		t.Errorf("a default route out of an internal network: %s", out)
	}
	// Not by a route of its own making either: that takes a capability.
	c := u.detached(t, "--network", name, "--cap-add", "NET_ADMIN", images.Busybox, "sleep", "1000")
	u.ok(t, "exec", c, "ip", "route", "add", "default", "via", u.ok(t, "network", "inspect", "-f", "{{range .IPAM.Config}}{{.Gateway}}{{end}}", name))
	if u.docker(t, "exec", c, "ping", "-c", "1", "-W", "1", nb.self).Code == 0 {
		t.Error("the neighbour answers a container of an internal network")
	}
}

func TestNetworkWithoutInnerTraffic(t *testing.T) {
	u := shared(t)
	name := u.network(t, "-o", "com.docker.network.bridge.enable_icc=false")
	a := u.detached(t, "--network", name, "-p", "80", "--hostname", "a", images.Programs, "httpd80")
	b := u.detached(t, "--network", name, images.Busybox, "sleep", "1000")
	equal(t, "through the published port", u.get(t, "127.0.0.1:"+u.published(t, a, "80")), "a")
	if u.reaches(t, b, u.addressIn(t, a, name)) {
		t.Error("one container reaches the other")
	}
}

func TestNetworkPrune(t *testing.T) {
	t.Parallel()
	u := own(t)
	u.ok(t, "network", "create", "--label", "keep=1", "kept")
	u.ok(t, "network", "create", "used")
	u.ok(t, "network", "create", "unused")
	u.ok(t, "run", "-d", "--name", "user", "--network", "used", images.Busybox, "sleep", "1000")
	matches(t, "pruned", u.ok(t, "network", "prune", "-f", "--filter", "label!=keep"), `(?s)^Deleted Networks:\s+unused$`)
	equal(t, "left", u.ok(t, "network", "ls", "--filter", "type=custom", "--format", "{{.Name}}"), "kept\nused")
	u.ok(t, "rm", "-f", "user")
}

// TestNetworksOutliveTheDaemon: traffic within a network and between its containers and outside goes on.
func TestNetworksOutliveTheDaemon(t *testing.T) {
	t.Parallel()
	u := own(t)
	u.ok(t, "network", "create", "mine")
	u.ok(t, "network", "create", "--internal", "inner")
	u.ok(t, "run", "-d", "--name", "web", "--network", "mine", "--hostname", "web", images.Programs, "httpd80")
	u.ok(t, "network", "connect", "inner", "web")
	u.ok(t, "run", "-d", "--name", "peer", "--network", "mine", images.Busybox, "sleep", "1000")
	u.ok(t, "run", "-d", "--name", "dead", "--network", "mine", images.Busybox, "sleep", "1000")
	before := u.inspect(t, "web", "{{json .NetworkSettings.Networks}}")
	pid := u.pid(t, "peer")
	dead := u.pid(t, "dead")
	address := u.addressIn(t, "web", "mine")
	inPeer := func() error {
		return inNS(t, fmt.Sprintf("/proc/%d/ns/net", pid), func() error { _, err := fetch(address); return err })
	}
	if err := inPeer(); err != nil {
		t.Fatal(err)
	}
	u.kill(t)
	if err := inPeer(); err != nil {
		t.Errorf("without a daemon: %v", err)
	}
	if err := syscall.Kill(dead, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	u.restart(t)
	if err := inPeer(); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	equal(t, "networks", u.inspect(t, "web", "{{json .NetworkSettings.Networks}}"), before)
	u.fails(t, 1, "has active endpoints", "network", "rm", "mine")
	u.ok(t, "start", "dead")
	if a := u.addressIn(t, "dead", "mine"); a == "" || a == address {
		t.Errorf("address of the one that was started again: %q", a)
	}
	u.ok(t, "rm", "-f", "web", "peer", "dead")
	u.ok(t, "network", "rm", "mine", "inner")
}
