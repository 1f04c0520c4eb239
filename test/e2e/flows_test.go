package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/tritond/triton/pkg/tritonapi/wire"
	"github.com/tritond/triton/test/images"
)

// serving runs a container that takes one connection to port 80 and reads what comes.
func serving(t *testing.T, u *under, name, network string, flags ...string) {
	t.Helper()
	script := "sleep 1000 | nc -l -p 80 >/dev/null"
	args := append([]string{"run", "-d", "--name", name, "--network", network}, flags...)
	u.ok(t, append(args, images.Busybox, "sh", "-c", script)...)
}

// sending runs a container that sends 30,000 bytes to a port of a host, tries its port 81, and stays.
func sending(t *testing.T, u *under, name, network, host, port string) {
	t.Helper()
	script := fmt.Sprintf("until head -c 30000 /dev/zero | nc %[1]s %[2]s; do :; done; nc %[1]s 81; echo done; sleep 1000", host, port)
	u.ok(t, "run", "-d", "--name", name, "--network", network, images.Busybox, "sh", "-c", script)
	eventually(t, commandTime, "the client is done", func() bool { return u.docker(t, "logs", name).Stdout == "done\n" })
}

func readFlows(t *testing.T, text string) wire.Flows {
	t.Helper()
	var f wire.Flows
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return f
}

// Two containers of a network name each other, in the flows of both and in the map; what came through is what was sent.
func TestContainersOfANetworkNameEachOther(t *testing.T) {
	u := shared(t)
	tritonOnly(t)
	network := u.name(t)
	u.ok(t, "network", "create", network)
	t.Cleanup(func() { u.docker(t, "network", "rm", network) })
	server, client := u.name(t), u.name(t)
	serving(t, u, server, network)
	sending(t, u, client, network, server, "80")
	remote := func(f wire.Flows, name, direction string, port uint16) wire.Remote {
		for _, r := range f.Remotes {
			if r.Name == name && r.Direction == direction && r.Port == port {
				return r
			}
		}
		return wire.Remote{}
	}
	eventually(t, commandTime, "the client's flows", func() bool {
		f := readFlows(t, u.triton(t, "flows", "-json", client))
		asked, refused := remote(f, server, "out", 80), remote(f, server, "out", 81)
		return asked.Kind == "container" && asked.Opened == 1 && asked.SentBytes == 30000 && refused.Failed["refused"] == 1
	})
	eventually(t, commandTime, "the server's flows", func() bool {
		r := remote(readFlows(t, u.triton(t, "flows", "-json", server)), client, "in", 80)
		return r.Opened == 1 && r.ReceivedBytes == 30000
	})
	if table := u.triton(t, "flows", client); !regexp.MustCompile(`(?m)^` + server + ` +out +80 `).MatchString(table) {
		t.Errorf("triton flows does not name %s:\n%s", server, table)
	}
	if table := u.triton(t, "map", "-d", "0"); !regexp.MustCompile(`(?m)^` + client + ` +` + server + ` +80 `).MatchString(table) {
		t.Errorf("triton map has no edge from %s to %s:\n%s", client, server, table)
	}

	// Who has the address next is not who had it.
	address := u.inspect(t, server, "{{(index .NetworkSettings.Networks \""+network+"\").IPAddress}}")
	u.ok(t, "rm", "-f", server)
	next := u.detached(t, "--network", network, images.Busybox, "sh", "-c", "sleep 1000")
	if got := u.inspect(t, next, "{{(index .NetworkSettings.Networks \""+network+"\").IPAddress}}"); got != address {
		t.Logf("the next container has %s, not %s: nothing is shown by this", got, address)
	}
	f := readFlows(t, u.triton(t, "flows", "-json", client))
	if r := remote(f, next, "out", 80); r.Opened != 0 {
		t.Errorf("%s is told to have been asked: %+v", next, r)
	}
}

// Containers of two tenants that talk by a published port: each tenant learns how much, not with whom; the operator does.
func TestTenantsDoNotSeeWhoForeignRemotesAre(t *testing.T) {
	operator, acme, globex, _ := withTenants(t)
	const server, client = "globexs-server", "acmes-client"
	serving(t, globex, server, "bridge", "-p", "80")
	address := globex.address(t, server)
	published := globex.published(t, server, "80")
	sending(t, acme, client, "bridge", acme.bridge(t, "{{(index .IPAM.Config 0).Gateway}}"), published)
	asTenant := func(u *under, args ...string) string {
		t.Helper()
		res := u.client(t, u.dockerEnv(), args...)
		if res.Code != 0 {
			t.Fatalf("triton %q: %s", args, res.Stderr)
		}
		return res.Stdout
	}
	clients := acme.address(t, client)
	for _, c := range []struct {
		u         *under
		container string
		direction string
		port      string
		secrets   []string
	}{{acme, client, "out", published, []string{server, address}}, {globex, server, "in", "80", []string{client, clients}}} {
		text := asTenant(c.u, "flows", "-json", c.container)
		found := false
		for _, r := range readFlows(t, text).Remotes {
			found = found || r.Kind == "other" && r.Direction == c.direction && fmt.Sprint(r.Port) == c.port && r.Opened == 1 && r.SentBytes+r.ReceivedBytes == 30000
		}
		if !found {
			t.Errorf("%s does not see the other: %s", c.container, text)
		}
		for _, text := range []string{text, asTenant(c.u, "flows", c.container), asTenant(c.u, "map", "-json"), asTenant(c.u, "map", "-d", "0")} {
			for _, secret := range c.secrets {
				if strings.Contains(text, secret) {
					t.Errorf("%s is told %q: %s", c.container, secret, text)
				}
			}
		}
	}
	if res := acme.client(t, acme.dockerEnv(), "map", "-a"); res.Code == 0 || !strings.Contains(res.Stderr, "operators") {
		t.Errorf("a tenant gets the map of all: %+v", res)
	}
	var m wire.Map
	if err := operator.api.JSON(t.Context(), http.MethodGet, wire.MapPath+"?all=1", nil, &m); err != nil {
		t.Fatal(err)
	}
	named := false
	for _, e := range m.Edges {
		named = named || m.Points[e.From].Name == client && m.Points[e.To].Name == server && e.Port == 80
	}
	if !named {
		t.Errorf("the operator's map has no edge from %s to %s: %+v", client, server, m)
	}
}
