package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// askedNames is `triton dns [-json] CONTAINER`.
func askedNames(ctx context.Context, c *client, args []string, out io.Writer) error {
	return show(ctx, c, "dns [-json] CONTAINER", args, wire.DNSPath, out, printDNS)
}

func printDNS(out io.Writer, d *wire.DNS) error {
	fmt.Fprintf(out, "%d questions", d.Asked)
	if d.AskedTCP > 0 {
		fmt.Fprintf(out, " (%d by TCP)", d.AskedTCP)
	}
	for _, code := range slices.Sorted(maps.Keys(d.Answers)) {
		fmt.Fprintf(out, ", %d %s", d.Answers[code], code)
	}
	for _, l := range []struct {
		n    uint64
		what string
	}{
		{d.Unanswered, "unanswered"}, {d.Truncated, "truncated"}, {d.Untimed, "of which nothing more is known"},
		{d.Unasked, "answers to none"}, {d.Malformed, "malformed"},
		{d.Unfollowed, "connections not followed to their end"},
	} {
		if l.n > 0 {
			fmt.Fprintf(out, ", %d %s", l.n, l.what)
		}
	}
	if n := d.RoundTrip.Count(); n > 0 {
		fmt.Fprintf(out, "; answers in %s, p50 %s, p99 %s", seconds(float64(d.RoundTrip.SumNs)/float64(n)/1e9),
			seconds(d.RoundTrip.Quantile(0.5).Seconds()), seconds(d.RoundTrip.Quantile(0.99).Seconds()))
	}
	fmt.Fprint(out, "\n\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tTYPE\tASKED\tNXDOMAIN\tFAILED\tUNANSWERED\tMEAN\tLAST")
	for _, n := range d.Names {
		mean := "-"
		if n.Answered > 0 {
			mean = seconds(n.Seconds / float64(n.Answered))
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s ago\n", printable(n.Name), n.Type, n.Asked, n.Missing, n.Failed, n.Unanswered, mean,
			max(0, d.At.Sub(n.Last)).Round(time.Second))
	}
	if d.Other > 0 {
		fmt.Fprintf(w, "(others)\t\t%d\n", d.Other)
	}
	return w.Flush()
}

// printable keeps a foreign name from moving the cursor.
func printable(name string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, name)
}
