package e2e

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/tritond/triton/pkg/tritonapi/wire"
	"github.com/tritond/triton/test/images"
)

// asks runs a container that says "done" when it was answered, and stays.
func (u *under) asks(t *testing.T, network, image string, command ...string) string {
	t.Helper()
	name := u.detached(t, append([]string{"--network", network, image}, command...)...)
	eventually(t, commandTime, name+" was answered", func() bool { return u.docker(t, "logs", name).Stdout == "done\n" })
	return name
}

// joined waits until both have each other by name in their flows, at the port inside, and one edge of the map is between them:
// enough says what is to be in it. Nothing of a client with an address of the machine is left at either.
func (u *under) joined(t *testing.T, client, server string, port uint16, protocol string, enough func(wire.Traffic) bool) {
	t.Helper()
	eventually(t, commandTime, "the edge of "+client, func() bool {
		var m wire.Map
		if err := u.api.JSON(t.Context(), http.MethodGet, wire.MapPath, nil, &m); err != nil {
			t.Fatal(err)
		}
		for _, e := range m.Edges {
			if m.Points[e.From].Name == client && m.Points[e.To].Name == server && e.Port == port && e.Protocol == protocol {
				return enough(e.Traffic)
			}
		}
		return false
	})
	flows := readFlows(t, u.triton(t, "flows", "-json", client))
	var asked wire.Traffic
	for _, r := range flows.Remotes {
		if r.Protocol != protocol || r.Direction != "out" {
			continue
		}
		if r.Name != server || r.Port != port {
			t.Errorf("%s asked by %s: %+v, want nothing but %s", client, protocol, r, server)
		}
		asked.Opened += r.Opened
		asked.SentBytes += r.SentBytes
		asked.ReceivedBytes += r.ReceivedBytes
		asked.SentDatagrams += r.SentDatagrams
		asked.ReceivedDatagrams += r.ReceivedDatagrams
	}
	if !enough(asked) {
		t.Errorf("the flows of %s: %+v", client, flows)
	}
	for _, f := range flows.Open {
		if f.Name != server || f.RemotePort != port {
			t.Errorf("%s has a connection to %+v, want %s", client, f, server)
		}
	}
}

// Whoever asks a container through its published port is joined to it in the map and in the flows of both: by an address of the
// machine, and with the machine's own network. Neither half is left.
func TestBothSidesOfAPublishedPortAreJoined(t *testing.T) {
	u := shared(t)
	tritonOnly(t)
	server := u.name(t)
	const bytes = 30000
	u.ok(t, "run", "-d", "--name", server, "-p", "80", images.Busybox, "sh", "-c", fmt.Sprintf("head -c %d /dev/zero >/tmp/f; exec httpd -f -p 80 -h /tmp", bytes))
	published := u.published(t, server, "80/tcp")
	gateway := u.ok(t, "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge")
	enough := func(e wire.Traffic) bool { return e.Opened > 0 && e.SentBytes > 0 && e.ReceivedBytes >= bytes }
	for network, address := range map[string]string{"bridge": gateway, "host": "127.0.0.1"} {
		// One connection stays.
		script := fmt.Sprintf(`a="%s %s"; until [ $(printf 'GET /f HTTP/1.0\r\n\r\n' | nc $a | wc -c) -gt %d ]; do sleep .1; done; sleep 1000 | nc $a & echo done; wait`,
			address, published, bytes)
		u.joined(t, u.asks(t, network, images.Busybox, "sh", "-c", script), server, 80, "tcp", enough)
	}
	u.noHalves(t, server, published)
}

// The same by UDP, where there are no connections to go by: translated within one network, with the machine's own network, and by
// the relay from IPv6 to a container that has IPv4 alone.
func TestBothSidesOfAPublishedUDPPortAreJoined(t *testing.T) {
	u := shared(t)
	tritonOnly(t)
	server := u.detached(t, "-p", "90/udp", images.Programs, "netserve", "90")
	published := u.published(t, server, "90/udp")
	gateway := u.ok(t, "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge")
	const count, size = 20, 100
	enough := func(e wire.Traffic) bool {
		return e.SentDatagrams >= count && e.SentBytes == size*e.SentDatagrams && e.ReceivedDatagrams >= count && e.ReceivedBytes == size*e.ReceivedDatagrams
	}
	for _, c := range []struct{ network, address string }{{"bridge", gateway}, {"host", "127.0.0.1"}, {"host", "::1"}} {
		u.joined(t, u.asks(t, c.network, images.Programs, "datagrams", c.address, published, fmt.Sprint(count)), server, 90, "udp", enough)
	}
	u.noHalves(t, server, published)
}

// noHalves checks that a server of the tests was asked by containers alone, and that nobody asked the machine's port.
func (u *under) noHalves(t *testing.T, server, published string) {
	t.Helper()
	for _, r := range readFlows(t, u.triton(t, "flows", "-json", server)).Remotes {
		if r.Kind == "address" {
			t.Errorf("half a conversation is left of who was asked: %+v", r)
		}
	}
	var m wire.Map
	if err := u.api.JSON(t.Context(), http.MethodGet, wire.MapPath, nil, &m); err != nil {
		t.Fatal(err)
	}
	for _, e := range m.Edges {
		from, to := m.Points[e.From], m.Points[e.To]
		if from.Kind == "address" && to.Name == server || to.Kind == "address" && fmt.Sprint(e.Port) == published {
			t.Errorf("half a conversation is left in the map: %+v asks %+v: %+v", from, to, e)
		}
	}
}
