package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/tritond/triton/test/images"
)

// Two containers that talk are each other's peers, by name, with the bytes that went between them.
func TestPeersOfContainersAreInMetrics(t *testing.T) {
	t.Parallel()
	u := own(t, "--metrics-per-peer")
	server := u.detached(t, images.Busybox, "sh", "-c", "sleep 1000 | nc -l -p 80 >/dev/null")
	address := u.inspect(t, server, "{{.NetworkSettings.Networks.bridge.IPAddress}}")
	client := u.name(t)
	script := fmt.Sprintf("until head -c 30000 /dev/zero | nc %s 80; do :; done; nc %s 81; echo done; sleep 1000", address, address)
	u.ok(t, "run", "-d", "--name", client, images.Busybox, "sh", "-c", script)
	eventually(t, commandTime, "the client is done", func() bool { return u.docker(t, "logs", client).Stdout == "done\n" })
	clients := u.inspect(t, client, "{{.NetworkSettings.Networks.bridge.IPAddress}}")
	series := func(metric, name, peer, peerName, port, role string) string {
		return metric + `\{id="[^"]*",image="[^"]*",name="` + name + `",peer="` + regexp.QuoteMeta(peer) + `",peer_name="` + peerName + `",port="` + port + `",protocol="tcp",` + role
	}
	wanted := []string{
		series("triton_container_peer_sent_bytes_total", client, address, server, "80", `role="client"\} 30000`),
		series("triton_container_peer_received_bytes_total", server, clients, client, "80", `role="server"\} 30000`),
		series("triton_container_peer_connections_total", client, address, server, "80", `result="established",role="client"\} 1`),
		series("triton_container_peer_connections_total", client, address, server, "81", `result="refused",role="client"\} 1`),
	}
	var metrics string
	eventually(t, commandTime, "both sides' series", func() bool {
		_, metrics = get(t, "http://"+u.tritond.HTTP+"/metrics", "")
		for _, w := range wanted {
			if !regexp.MustCompile(`(?m)^` + w + `$`).MatchString(metrics) {
				return false
			}
		}
		return true
	})
	if strings.Contains(metrics, "triton_program_missing{") {
		t.Error("a program is missing")
	}
	_, plain := get(t, "http://"+own(t).tritond.HTTP+"/metrics", "")
	if strings.Contains(plain, "triton_container_peer") {
		t.Error("peers are served without being asked for")
	}
}
