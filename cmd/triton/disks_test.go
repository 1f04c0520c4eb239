package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

func TestDisksPrintsWhatCameBetweenTwoReadings(t *testing.T) {
	at := time.Unix(1000, 0)
	reading := func(at time.Time, requests, bytes, untimed uint64) wire.Disks {
		took := triton.Histogram{Schema: 2, First: -39, Counts: []uint64{0, requests - untimed}, SumNs: (requests - untimed) * 1_000_000}
		return wire.Disks{At: at, Name: "db", Disks: []wire.Disk{
			{Device: "vda", Operation: "write", Requests: requests, Bytes: bytes, Durations: took, Untimed: untimed},
		}}
	}
	for _, c := range []struct {
		before, after wire.Disks
		rates         bool
		want          []string
	}{
		{reading(at, 100, 1<<20, 0), reading(at.Add(2*time.Second), 300, 5<<20, 0), true, []string{
			"DEVICE  OPERATION  REQUESTS/S  MIB/S  MEAN  P50     P99", "vda     write      100.0       2.00   1ms   1.38ms  1.38ms",
		}},
		{wire.Disks{}, reading(at, 3, 1<<20, 3), false, []string{
			"DEVICE  OPERATION  REQUESTS  MIB   MEAN  P50  P99", "vda     write      3         1.00  -     -    -",
			"vda write: 3 requests without a time, since the device keeps no statistics",
		}},
		{reading(at, 100, 1<<20, 0), reading(at.Add(time.Second), 7, 1<<20, 0), true, []string{ // started again
			"DEVICE  OPERATION  REQUESTS/S  MIB/S  MEAN  P50     P99", "vda     write      7.0         1.00   1ms   1.38ms  1.38ms",
		}},
	} {
		var out strings.Builder
		if err := printDisks(&out, since(c.before, c.after), c.after.At.Sub(c.before.At), c.rates); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, strings.Split(strings.TrimSpace(out.String()), "\n")); diff != "" {
			t.Error(diff)
		}
	}
}
