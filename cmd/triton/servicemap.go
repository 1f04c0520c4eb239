package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// serviceMap is `triton map [-a] [-d TIME] [-json]`.
func serviceMap(ctx context.Context, c *client, args []string, out io.Writer) error {
	fs := newFlags("map")
	raw := fs.Bool("json", false, "")
	all := fs.Bool("a", false, "")
	during := fs.Duration("d", 2*time.Second, "")
	if err := fs.Parse(args); err != nil || fs.NArg() > 0 || *during < 0 || *during > 30*time.Second {
		return usageError("map [-a] [-d TIME] [-json]: TIME is 0 (since the start) to 30s")
	}
	path := wire.MapPath
	if *all {
		path += "?all=1"
	}
	if *raw {
		*during = 0
	}
	before, after, err := readTwice[wire.Map](ctx, c, path, *during)
	if err != nil {
		return err
	}
	if *raw {
		return encodeIndented(out, after)
	}
	return printMap(out, before, after)
}

// edgeName tells edges of two readings apart.
type edgeName struct {
	from, to wire.End
	port     uint16
	protocol string
}

func nameOf(m *wire.Map, e *wire.Edge) edgeName {
	return edgeName{m.Points[e.From], m.Points[e.To], e.Port, e.Protocol}
}

// printMap prints the edges that there are, with what came each second between two readings; without a first one, what there
// was so far.
func printMap(out io.Writer, before, after wire.Map) error {
	had := map[edgeName]*wire.Edge{}
	for i := range before.Edges {
		e := &before.Edges[i]
		had[nameOf(&before, e)] = e
	}
	per, unit := 1.0, ""
	if !before.At.IsZero() {
		per, unit = after.At.Sub(before.At).Seconds(), "/S"
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "FROM\tTO\tPORT\tOPEN\tOPENED%[1]s\tSENT%[1]s\tRECEIVED%[1]s\tFAILED\tRETRANS\tDROPS\tRTT\n", unit)
	for i := range after.Edges {
		e := &after.Edges[i]
		var b wire.Edge
		if h := had[nameOf(&after, e)]; h != nil {
			b = *h
		}
		rate := func(now, then uint64) float64 { return float64(now-min(now, then)) / per }
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%.4g\t%s\t%s\t%s\t%d\t%s\t%s\n", endName(after.Points[e.From]), endName(after.Points[e.To]),
			portName(e.Port, e.Protocol), e.Open, rate(e.Opened, b.Opened), size(uint64(rate(e.SentBytes, b.SentBytes))),
			size(uint64(rate(e.ReceivedBytes, b.ReceivedBytes))), reasons(e.Failed), e.Retransmits, reasons(e.Drops), roundTrip(e.RTT))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if after.More > 0 {
		fmt.Fprintf(out, "%d edges more\n", after.More)
	}
	return nil
}
