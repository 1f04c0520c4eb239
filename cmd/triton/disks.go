package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// disks is `triton disks [-d TIME] [-json] CONTAINER`.
func disks(ctx context.Context, c *client, args []string, out io.Writer) error {
	fs := newFlags("disks")
	during := fs.Duration("d", 5*time.Second, "")
	raw := fs.Bool("json", false, "")
	ref, err := oneBetween(fs, args)
	if err != nil || *during < 0 || *during > 30*time.Second {
		return usageError("disks [-d TIME] [-json] CONTAINER: TIME is 0 (since its start) to 30s")
	}
	before, after, err := readTwice[wire.Disks](ctx, c, wire.DisksPath(ref), *during)
	if err != nil {
		return err
	}
	if *raw {
		return encodeIndented(out, since(before, after))
	}
	return printDisks(out, since(before, after), after.At.Sub(before.At), *during > 0)
}

// since leaves of a reading what came after an earlier one, which may be empty.
func since(before, after wire.Disks) wire.Disks {
	type direction struct{ device, operation string }
	had := map[direction]wire.Disk{}
	for _, d := range before.Disks {
		had[direction{d.Device, d.Operation}] = d
	}
	left := after
	left.Disks = nil
	for _, d := range after.Disks {
		b := had[direction{d.Device, d.Operation}]
		if d.Requests < b.Requests || d.Bytes < b.Bytes {
			b = wire.Disk{} // the container was started again meanwhile
		}
		d.Requests, d.Bytes, d.Untimed, d.Durations = d.Requests-b.Requests, d.Bytes-b.Bytes, d.Untimed-b.Untimed, d.Durations.Sub(b.Durations)
		left.Disks = append(left.Disks, d)
	}
	return left
}

// printDisks prints a row for each device and direction, with numbers per second when they are of a time.
func printDisks(out io.Writer, r wire.Disks, took time.Duration, rates bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	per, unit := 1.0, ""
	if rates {
		per, unit = took.Seconds(), "/S"
	}
	fmt.Fprintf(w, "DEVICE\tOPERATION\tREQUESTS%s\tMIB%s\tMEAN\tP50\tP99\n", unit, unit)
	for _, d := range r.Disks {
		timed := d.Durations.Count()
		mean, p50, p99 := "-", "-", "-"
		if timed > 0 {
			mean = seconds(float64(d.Durations.SumNs) / float64(timed) / 1e9)
			p50, p99 = seconds(d.Durations.Quantile(0.5).Seconds()), seconds(d.Durations.Quantile(0.99).Seconds())
		}
		requests := fmt.Sprintf("%d", d.Requests)
		if rates {
			requests = fmt.Sprintf("%.1f", float64(d.Requests)/per)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.2f\t%s\t%s\t%s\n", d.Device, d.Operation, requests, float64(d.Bytes)/(1<<20)/per, mean, p50, p99)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, d := range r.Disks {
		if d.Untimed > 0 {
			fmt.Fprintf(out, "%s %s: %d requests without a time, since the device keeps no statistics\n", d.Device, d.Operation, d.Untimed)
		}
	}
	return nil
}
