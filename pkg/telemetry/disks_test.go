package telemetry

import (
	"strings"
	"testing"

	"github.com/tritond/triton/pkg/triton"
)

func TestDisksHaveSeriesByDeviceAndDirection(t *testing.T) {
	key := newKey()
	took := triton.Histogram{Schema: 2, First: -40, Counts: []uint64{3, 1}, SumNs: 5_000_000}
	s := New(Config{Disks: func() (map[triton.ContainerKey][]triton.Disk, error) {
		disks := []triton.Disk{{Name: "vda", Durations: took, Bytes: 4096}, {Name: "vda", Write: true, Durations: took, Bytes: 512, Untimed: 2}}
		return map[triton.ContainerKey][]triton.Disk{key: disks, newKey(): disks}, nil // the second has no row: it has ended
	}})
	s.Add(key, "web", "nginx", func() (Sample, error) { return sampleAt(3), nil })
	s.pass(t.Context())
	_, body := scrape(t, s, "")
	of := func(operation string) string {
		return `{device="vda",id="/docker/` + key.ID + `",image="nginx",name="web",operation="` + operation + `"} `
	}
	for _, want := range []string{
		`triton_container_block_io_duration_seconds_count` + of("read") + `4`,
		`triton_container_block_io_duration_seconds_sum` + of("write") + `0.005`,
		`triton_container_block_io_bytes_total` + of("read") + `4096`,
		`triton_container_block_io_bytes_total` + of("write") + `512`,
		`triton_container_block_io_untimed_total` + of("write") + `2`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
	if n := strings.Count(body, "triton_container_block_io_bytes_total{"); n != 2 {
		t.Errorf("%d series of bytes, want those of the container that is there", n)
	}
}
