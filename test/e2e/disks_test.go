package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tritond/triton/pkg/tritonapi/wire"
	"github.com/tritond/triton/test/images"
)

// A container that writes directly finds its requests, with their times, in the API, in the client's table and in the metrics.
func TestDisksOfAContainer(t *testing.T) {
	t.Parallel()
	u := own(t, "--metrics-per-device")
	name := u.detached(t, "-v", "/data", images.Busybox, "sh", "-c",
		"dd if=/dev/zero of=/data/f bs=4096 count=64 oflag=direct && echo written && sleep 1000")
	eventually(t, commandTime, "it has written", func() bool { return u.docker(t, "logs", name).Stdout == "written\n" })
	var d wire.Disks
	if err := u.api.JSON(t.Context(), http.MethodGet, wire.DisksPath(name), nil, &d); err != nil {
		t.Fatal(err)
	}
	var written *wire.Disk
	for i := range d.Disks {
		if d.Disks[i].Operation == "write" {
			written = &d.Disks[i]
		}
	}
	if written == nil || written.Requests < 64 || written.Bytes < 64*4096 || written.Durations.Count()+written.Untimed != written.Requests {
		t.Fatalf("%+v", d)
	}
	if table := u.triton(t, "disks", "-d", "0", name); !strings.Contains(table, written.Device) {
		t.Errorf("triton disks does not name %s:\n%s", written.Device, table)
	}
	eventually(t, commandTime, "it has series", func() bool {
		_, metrics := get(t, "http://"+u.tritond.HTTP+"/metrics", "")
		return strings.Contains(metrics, `triton_container_block_io_bytes_total{device="`+written.Device+`",`)
	})
}
