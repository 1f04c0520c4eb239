package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tritond/triton/test/images"
)

// freeSubnet64 is the beginning of a subnet of IPv6 for tests that choose their addresses: nothing is likely to be in it.
func freeSubnet64() string { return "fd00:" + randomHex()[:4] + ":" + randomHex()[:4] + ":" }

// address6In returns a container's IPv6 address in a network.
func (u *under) address6In(t *testing.T, name, network string) string {
	t.Helper()
	return u.inspect(t, name, fmt.Sprintf(`{{(index .NetworkSettings.Networks %q).GlobalIPv6Address}}`, network))
}

func TestNetworkWithIPv6(t *testing.T) {
	u := shared(t)
	p := freeSubnet64()
	subnet := netip.MustParsePrefix(p + ":/64").String()
	addr := func(host string) string { return netip.MustParseAddr(p + ":" + host).String() }
	one := u.network(t, "--ipv6", "--subnet", subnet, "--gateway", addr("1"))
	two := u.network(t, "--ipv6")
	equal(t, "enabled", u.ok(t, "network", "inspect", "-f", "{{.EnableIPv6}} {{.EnableIPv4}} {{(index .IPAM.Config 1).Subnet}} {{(index .IPAM.Config 1).Gateway}}", one),
		"true true "+subnet+" "+addr("1"))
	matches(t, "subnet of the default pool", u.ok(t, "network", "inspect", "-f", "{{(index .IPAM.Config 1).Subnet}}", two), `^fd[0-9a-f]{2}:.*::/64$`)

	web := u.detached(t, "--network", one, "--ip6", addr("80"), "--network-alias", "www", "--hostname", "webhost", images.Programs, "httpd80")
	ask := u.detached(t, "--network", one, images.Busybox, "sleep", "1000")
	stranger := u.detached(t, "--network", two, images.Busybox, "sleep", "1000")
	equal(t, "inspect", u.inspect(t, web, fmt.Sprintf(`{{with index .NetworkSettings.Networks %q}}{{.GlobalIPv6Address}}/{{.GlobalIPv6PrefixLen}} {{.IPv6Gateway}} {{.IPAMConfig.IPv6Address}}{{end}}`, one)),
		addr("80")+"/64 "+addr("1")+" "+addr("80"))
	var inside map[string]struct{ Name, IPv6Address string }
	if err := json.Unmarshal([]byte(u.ok(t, "network", "inspect", "-f", "{{json .Containers}}", one)), &inside); err != nil {
		t.Fatal(err)
	}
	equal(t, "network inspect", inside[u.inspect(t, web, "{{.Id}}")].IPv6Address, addr("80")+"/64")
	matches(t, "default route", u.ok(t, "exec", ask, "ip", "-6", "route"), "default via "+addr("1")+" ")
	matches(t, "hosts", u.ok(t, "exec", web, "cat", "/etc/hosts"), `(?m)^`+addr("80")+`\s+webhost`)

	for _, name := range []string{web, "www"} {
		matches(t, name, u.resolves(t, ask, name), `(?m)Address: `+addr("80")+`$`)
		u.ok(t, "exec", ask, "ping", "-6", "-c", "1", "-W", "5", name)
	}
	matches(t, "reverse", u.resolves(t, ask, addr("80")), web+`\.`+one)
	equal(t, "tcp", u.ok(t, "exec", ask, "wget", "-qO-", "http://["+addr("80")+"]/"), "webhost")
	if u.docker(t, "exec", stranger, "ping", "-6", "-c", "1", "-W", "2", addr("80")).Code == 0 {
		t.Error("a container of another network was reached")
	}
	// A hot connect, with an address of one's own choice, and its end.
	u.ok(t, "network", "connect", "--ip6", addr("99"), "--alias", "late", one, stranger)
	equal(t, "after connect", u.address6In(t, stranger, one), addr("99"))
	u.ok(t, "exec", ask, "ping", "-6", "-c", "1", "-W", "5", "late")
	u.fails(t, 125, "(?i)address already in use|is already allocated", "run", "--rm", "--network", one, "--ip6", addr("99"), images.True)
	u.ok(t, "network", "disconnect", one, stranger)
	if strings.Contains(u.ok(t, "exec", stranger, "ip", "-6", "addr"), addr("99")) {
		t.Error("the address is left after disconnect")
	}
	u.fails(t, 125, "user configured subnets", "run", "--rm", "--network", two, "--ip6", addr("5"), images.True)
	u.fails(t, 125, "no configured subnet contains IP address", "run", "--rm", "--network", one, "--ip6", "fd00:1:2:3::4", images.True)
	u.fails(t, 1, "(?i)overlaps", "network", "create", "--ipv6", "--subnet", subnet, "overlap"+randomHex())
}

func TestPortIsPublishedByIPv6(t *testing.T) {
	u := shared(t)
	name := u.network(t, "--ipv6")
	gateway := u.ok(t, "network", "inspect", "-f", "{{(index .IPAM.Config 1).Gateway}}", name)
	web := u.detached(t, "--network", name, "-p", "80", "--hostname", "six", images.Programs, "httpd80")
	ports := strings.Split(u.ok(t, "port", web, "80"), "\n")
	port := strings.TrimPrefix(ports[0], "0.0.0.0:")
	equal(t, "both families have one number", strings.Join(ports, " "), "0.0.0.0:"+port+" [::]:"+port)
	matches(t, "ps", u.ok(t, "ps", "--filter", "name="+web, "--format", "{{.Ports}}"), `0\.0\.0\.0:`+port+`->80/tcp, \[::\]:`+port+`->80/tcp`)
	equal(t, "by IPv6", u.get(t, "["+gateway+"]:"+port), "six")
	equal(t, "by IPv4", u.get(t, "127.0.0.1:"+port), "six")
	equal(t, "by the container itself", u.ok(t, "exec", web, "wget", "-qO-", "http://["+gateway+"]:"+port+"/"), "six")
	one := u.detached(t, "--network", name, "-p", "["+gateway+"]::80", "--hostname", "one", images.Programs, "httpd80")
	at := u.ok(t, "port", one, "80")
	matches(t, "at one address", at, `^\[`+gateway+`\]:\d+$`)
	equal(t, "by that", u.get(t, at), "one")
	equal(t, "by the loopback of IPv6", u.get(t, "[::1]:"+port), "six")
}

func TestIPv6OfContainersOutlivesTheDaemon(t *testing.T) {
	u := own(t)
	name := u.network(t, "--ipv6")
	web := u.detached(t, "--network", name, "-p", "80", images.Programs, "httpd80")
	port := u.ok(t, "port", web, "80")
	ask := u.detached(t, "--network", name, images.Busybox, "sleep", "1000")
	was := u.address6In(t, web, name)
	reached := func() bool {
		return u.docker(t, "exec", ask, "ping", "-6", "-c", "1", "-W", "2", web).Code == 0
	}
	eventually(t, 20*time.Second, "the other is reached", reached)
	u.kill(t)
	u.restart(t)
	equal(t, "after a crash", u.address6In(t, web, name), was)
	eventually(t, 20*time.Second, "the other is reached after a crash", reached)
	equal(t, "ports after a crash", u.ok(t, "port", web, "80"), port)
	_, number, _ := strings.Cut(strings.Split(port, "\n")[0], ":")
	gateway := u.ok(t, "network", "inspect", "-f", "{{(index .IPAM.Config 1).Gateway}}", name)
	equal(t, "by a port that was published before", u.get(t, "["+gateway+"]:"+number), u.inspect(t, web, "{{.Config.Hostname}}"))
	u.fails(t, 125, "port is already allocated", "run", "--rm", "--network", name, "-p", "[::]:"+number+":80", images.True)
	next := u.detached(t, "--network", name, images.Busybox, "sleep", "1000")
	if got := u.address6In(t, next, name); got == was || got == "" {
		t.Errorf("the next container's address: got %q, want another than %s", got, was)
	}
}
