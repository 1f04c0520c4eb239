package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tritond/triton/pkg/tritonapi/wire"
	"github.com/tritond/triton/test/images"
)

// Two containers that want the same CPU delay one another, and each finds the other's name in the API, in the client's
// table and in the metrics.
func TestContainersThatShareACPUAreNamedAsCulprits(t *testing.T) {
	u := shared(t)
	tritonOnly(t)
	busy := func() string {
		return u.detached(t, "--cpuset-cpus", "0", images.Busybox, "sh", "-c", "while :; do :; done")
	}
	victim, culprit := busy(), busy()
	eventually(t, commandTime, "the victim names its culprit", func() bool {
		var d wire.Delays
		if err := u.api.JSON(t.Context(), http.MethodGet, wire.ContainerDelaysPath(victim), nil, &d); err != nil || len(d.Victims) != 1 {
			t.Fatalf("%+v, %v", d, err)
		}
		for _, c := range d.Victims[0].Culprits {
			if c.ID != "" && strings.HasPrefix(c.ID, culprit[:12]) || c.Name == culprit {
				return c.Kind == "container" && c.Seconds > 0.05
			}
		}
		return false
	})
	id := u.inspect(t, culprit, "{{.Id}}")
	name := strings.TrimPrefix(u.inspect(t, culprit, "{{.Name}}"), "/")
	if table := u.triton(t, "delays", "-d", "0", victim); !strings.Contains(table, name) {
		t.Errorf("triton delays does not name %s:\n%s", name, table)
	}
	if table := u.triton(t, "delays", "-d", "0"); !strings.Contains(table, name) {
		t.Errorf("triton delays of all does not name %s:\n%s", name, table)
	}
	eventually(t, commandTime, "the culprit has a series", func() bool { // a container has some with its first sample
		_, metrics := get(t, "http://"+u.tritond.HTTP+"/metrics", "")
		return strings.Contains(metrics, `triton_container_cpu_delay_seconds_total{culprit="container",culprit_id="`+id+`"`)
	})
}
