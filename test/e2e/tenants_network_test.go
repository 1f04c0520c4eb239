package e2e

import (
	"net/netip"
	"regexp"
	"testing"
	"time"

	"github.com/tritond/triton/test/images"
)

// bridge reads a field of a tenant's default network.
func (u *under) bridge(t *testing.T, format string) string {
	t.Helper()
	return u.ok(t, "network", "inspect", "-f", format, "bridge")
}

// Nothing that a tenant's containers do on the default network reaches those of another, but what these have published.
func TestTenantsDefaultNetworksAreKeptApart(t *testing.T) {
	operator, acme, globex, _ := withTenants(t)
	addresses := map[*under]string{}
	for _, u := range []*under{operator, acme, globex} {
		u.ok(t, "run", "-d", "--name", "web", "-p", "80", images.Programs, "httpd80")
		u.ok(t, "run", "-d", "--name", "peer", "--link", "web:site", images.Busybox, "sleep", "1000")
		addresses[u] = u.address(t, "web")
	}
	apart := func(froms ...*under) {
		t.Helper()
		for _, from := range froms {
			eventually(t, 20*time.Second, "its own container is reached", func() bool { return from.reaches(t, "peer", "site") })
			if others := from.ok(t, "exec", "peer", "arping", "-c", "1", "-w", "5", addresses[from]); others == "" {
				t.Error("its own container does not answer ARP")
			}
			for u, address := range addresses {
				if u == from {
					continue
				}
				if from.reaches(t, "peer", address) {
					t.Errorf("%s was reached by another tenant's container", address)
				}
				if res := from.docker(t, "exec", "peer", "arping", "-c", "1", "-w", "1", address); res.Code == 0 {
					t.Errorf("%s answers another tenant's container: %s", address, res.Stdout)
				}
			}
		}
	}
	apart(operator, acme, globex)
	for _, u := range []*under{acme, globex} {
		u.fails(t, anyFailure, "(?i)no such container|could not get container", "run", "--rm", "--link", operator.inspect(t, "web", "{{.Id}}")+":site", images.True)
		subnet, err := netip.ParsePrefix(u.bridge(t, "{{range .IPAM.Config}}{{.Subnet}}{{end}}"))
		if err != nil || !subnet.Contains(netip.MustParseAddr(addresses[u])) {
			t.Errorf("%s is not in %s (%v)", addresses[u], subnet, err)
		}
		equal(t, "the gateway of inspect", u.bridge(t, "{{range .IPAM.Config}}{{.Gateway}}{{end}}"), u.inspect(t, "web", "{{.NetworkSettings.Networks.bridge.Gateway}}"))
		equal(t, "who is in it", u.bridge(t, `{{range .Containers}}{{if eq .Name "web"}}{{.IPv4Address}}{{end}}{{end}} {{len .Containers}}`),
			netip.PrefixFrom(netip.MustParseAddr(addresses[u]), subnet.Bits()).String()+" 2")
		equal(t, "mode", u.inspect(t, "web", "{{.HostConfig.NetworkMode}} {{range $n, $e := .NetworkSettings.Networks}}{{$n}}{{end}}"), "bridge bridge")
		if u.bridge(t, `{{index .Options "com.docker.network.bridge.name"}}`) == operator.bridge(t, `{{index .Options "com.docker.network.bridge.name"}}`) {
			t.Error("the tenant's bridge is the operator's")
		}
		// What was published is for everybody, as anything on the host's ports is.
		port := u.published(t, "web", "80")
		u.get(t, "127.0.0.1:"+port)
		for _, from := range []*under{operator, acme, globex} {
			gateway := from.bridge(t, "{{range .IPAM.Config}}{{.Gateway}}{{end}}")
			from.ok(t, "exec", "peer", "wget", "-qO-", "http://"+gateway+":"+port+"/")
		}
	}

	// A killed daemon's successor keeps all that as it was.
	before := acme.bridge(t, "{{json .IPAM.Config}} {{json .Options}}")
	if err := operator.tritond.Kill(); err != nil {
		t.Fatal(err)
	}
	startOwn(t, operator.tritond)
	equal(t, "the network after the daemon was killed", acme.bridge(t, "{{json .IPAM.Config}} {{json .Options}}"), before)
	equal(t, "the address", acme.address(t, "web"), addresses[acme])
	apart(acme)

	// It can be left and joined like the operator's.
	acme.ok(t, "network", "disconnect", "bridge", "web")
	equal(t, "networks after it was left", acme.inspect(t, "web", "{{len .NetworkSettings.Networks}}"), "0")
	acme.ok(t, "network", "connect", "bridge", "web")
	addresses[acme] = acme.address(t, "web")
	acme.ok(t, "restart", "-t", "0", "peer")
	apart(acme)
}

// A container that comes back somewhere else is found by who links to it: by its start, by a new place in the network, and
// after a daemon that was killed before it could say so. What the user wrote in the file stays.
func TestLinksFollowAContainerThatMoves(t *testing.T) {
	_, acme, _, _ := withTenants(t)
	acme.ok(t, "run", "-d", "--name", "db", "--hostname", "dbhost", images.Programs, "httpd80")
	acme.ok(t, "run", "-d", "--name", "web", "--link", "db:base", images.Busybox, "sleep", "1000")
	const mine = "10.9.9.9\tbase.example base"
	acme.ok(t, "exec", "web", "sh", "-c", "echo '"+mine+"' >> /etc/hosts")
	follows := func(when, old string) string {
		t.Helper()
		now := acme.address(t, "db")
		if now == old {
			t.Fatalf("%s: it is at %s as before", when, old)
		}
		hosts := acme.ok(t, "exec", "web", "cat", "/etc/hosts")
		matches(t, when, hosts, `(?m)^`+now+`\tbase dbhost db$`)
		matches(t, when, hosts, `(?m)^`+mine+`$`)
		if lines := regexp.MustCompile(`(?m)^.*\tbase dbhost.*$`).FindAllString(hosts, -1); len(lines) != 1 {
			t.Errorf("%s: lines of the link are %q", when, lines)
		}
		eventually(t, 20*time.Second, when+": it is reached by its alias", func() bool { return acme.reaches(t, "web", "base") })
		return now
	}
	at := follows("at first", "")

	acme.ok(t, "stop", "-t", "0", "db")
	acme.ok(t, "run", "-d", images.Busybox, "sleep", "1000")
	acme.ok(t, "start", "db")
	at = follows("after its start", at)

	acme.ok(t, "network", "disconnect", "bridge", "db")
	acme.fails(t, anyFailure, "container [0-9a-f]{64} not attached to default bridge network", "run", "--rm", "--link", "db", images.True)
	acme.ok(t, "network", "connect", "bridge", "db")
	follows("after it joined the network again", at)

	acme.ok(t, "exec", "web", "sh", "-c", `sed 's/^.*\(\tbase dbhost\)/10.9.9.8\1/' /etc/hosts > /tmp/hosts && cat /tmp/hosts > /etc/hosts`)
	acme.kill(t)
	startOwn(t, acme.tritond)
	follows("after the daemon", at)
	acme.ok(t, "rm", "-f", "web")
	acme.ok(t, "restart", "-t", "0", "db")
}
