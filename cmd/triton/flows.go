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

	"github.com/docker/go-units"

	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// flows is `triton flows [-json] CONTAINER`.
func flows(ctx context.Context, c *client, args []string, out io.Writer) error {
	return show(ctx, c, "flows [-json] CONTAINER", args, wire.ContainerFlowsPath, out, printFlows)
}

// printFlows prints the remotes since the container's start, and the connections there are now.
func printFlows(out io.Writer, f *wire.Flows) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "REMOTE\tDIR\tPORT\tOPEN\tOPENED\tFAILED\tSENT\tRECEIVED\tDATAGRAMS\tRETRANS\tRESETS\tDROPS\tRTT")
	for i := range f.Remotes {
		r := &f.Remotes[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", endName(r.End), dash(r.Direction), portName(r.Port, r.Protocol),
			r.Open+r.Opening, r.Opened, reasons(r.Failed), size(r.SentBytes), size(r.ReceivedBytes), datagrams(&r.Traffic), r.Retransmits,
			r.ResetsSent+r.ResetsReceived, reasons(r.Drops), roundTrip(r.RTT))
	}
	if len(f.Open) > 0 {
		fmt.Fprintln(w, "\nOPEN CONNECTION\tDIR\tLOCAL\tSTATE\tAGE\tSENT\tRECEIVED\tRETRANS\tRTT")
	}
	for i := range f.Open {
		o := &f.Open[i]
		remote := endName(o.End)
		if o.RemotePort != 0 {
			remote += fmt.Sprintf(":%d", o.RemotePort)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", remote, o.Direction, o.Local, o.State,
			f.At.Sub(o.Begun).Round(time.Second), size(o.SentBytes), size(o.ReceivedBytes), o.Retransmits, roundTrip(o.RTT))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if f.More > 0 {
		fmt.Fprintf(out, "%d connections more\n", f.More)
	}
	return nil
}

// endName sets what is no container and no address in brackets: a container may be called other.
func endName(e wire.End) string {
	switch {
	case e.Kind == "container" && e.Name != "":
		return e.Name
	case e.Kind == "container": // it is there no more
		return triton.ShortID(e.ID)
	case e.Kind == "address" && e.Address != "":
		return e.Address
	case e.Kind == "address":
		return "(addresses)"
	}
	return "(" + e.Kind + ")"
}

func portName(port uint16, protocol string) string {
	switch {
	case port == 0:
		return "-"
	case protocol == "udp":
		return fmt.Sprintf("%d/udp", port)
	}
	return fmt.Sprint(port)
}

// datagrams is how many were sent and received.
func datagrams(t *wire.Traffic) string {
	if t.SentDatagrams+t.ReceivedDatagrams == 0 {
		return "-"
	}
	return fmt.Sprintf("%d, %d", t.SentDatagrams, t.ReceivedDatagrams)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// reasons is 0, or how often what happened.
func reasons(counts map[string]uint64) string {
	if len(counts) == 0 {
		return "0"
	}
	parts := make([]string, 0, len(counts))
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[reason], reason))
	}
	return strings.Join(parts, ", ")
}

func size(n uint64) string {
	return units.CustomSize("%.4g%s", float64(n), 1000, []string{"B", "kB", "MB", "GB", "TB", "PB"})
}

func roundTrip(seconds float64) string {
	if seconds == 0 {
		return "-"
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Microsecond).String()
}
