package e2e

import (
	"fmt"
	"regexp"
	"testing"

	"github.com/tritond/triton/test/images"
)

// A container that opens a connection, and one to a port that nobody listens on, has both in its series.
func TestNetworkHealthIsInMetrics(t *testing.T) {
	t.Parallel()
	u := own(t, "--metrics-network")
	server := u.detached(t, images.Busybox, "sh", "-c", "sleep 1000 | nc -l -p 80 >/dev/null")
	address := u.inspect(t, server, "{{.NetworkSettings.Networks.bridge.IPAddress}}")
	client := u.name(t)
	script := fmt.Sprintf("until echo hello | nc %s 80; do :; done; nc %s 81; echo done; sleep 1000", address, address)
	u.ok(t, "run", "-d", "--name", client, images.Busybox, "sh", "-c", script)
	eventually(t, commandTime, "the client is done", func() bool { return u.docker(t, "logs", client).Stdout == "done\n" })
	eventually(t, commandTime, "the client's series", func() bool {
		_, metrics := get(t, "http://"+u.tritond.HTTP+"/metrics", "")
		labels := `\{id="[^"]*",image="[^"]*",name="` + client + `"`
		for _, w := range []string{
			"triton_container_tcp_connect_duration_seconds_count" + labels + `\} 1`,
			"triton_container_tcp_rtt_seconds_count" + labels + `\} [1-9]\d*`,
			"triton_container_tcp_connect_failures_total" + labels + `,reason="refused"\} [1-9]\d*`,
		} {
			if !regexp.MustCompile(`(?m)^` + w + `$`).MatchString(metrics) {
				return false
			}
		}
		return true
	})
}
