package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tritond/triton/pkg/death"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// deaths is `triton deaths VERB`.
func deaths(ctx context.Context, c *client, verb string, args []string, out io.Writer) error {
	switch {
	case verb == "ls" && len(args) == 0:
		return listDeaths(ctx, c, out)
	case verb == "show":
		return showDeath(ctx, c, args, out)
	}
	return usageError(fmt.Sprintf("unknown command or wrong number of arguments: deaths %s %q", verb, args))
}

func listDeaths(ctx context.Context, c *client, out io.Writer) error {
	var l wire.DeathList
	if err := c.get(ctx, wire.DeathsPath, &l); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DEATH\tTIME\tCONTAINER\tIMAGE\tAGE\tRESTARTS\tREASON")
	for _, d := range l.Deaths {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", d.ID, day(d.At), d.Name, d.Image,
			d.At.Sub(d.Started).Round(time.Millisecond), d.Restarts, oneLine(d.Reason))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if l.Damaged > 0 {
		return fmt.Errorf("%d records could not be read", l.Damaged)
	}
	return nil
}

// oneLine makes what a container may have chosen harmless to a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '.'
		}
		return r
	}, s)
}

// shownLines and shownGoroutines are how much showDeath prints; -json has all.
const (
	shownLines      = 20
	shownSeconds    = 10
	shownGoroutines = 3
)

func showDeath(ctx context.Context, c *client, args []string, out io.Writer) error {
	return show(ctx, c, "deaths show [-json] DEATH|CONTAINER", args, wire.DeathPath, out, printDeath)
}

func printDeath(out io.Writer, r *death.Record) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "reason\t%s\n", oneLine(r.Reason))
	fmt.Fprintf(w, "container\t%s (%.12s), run %d, %d restarts before\n", r.Name, r.Container.ID, r.Run, r.Restarts)
	fmt.Fprintf(w, "image\t%s (%s)\n", r.Image, r.ImageID)
	fmt.Fprintf(w, "ended\t%s, %s after its start, code %d\n", r.At.Local().Format(time.RFC3339Nano), r.At.Sub(r.Started).Round(time.Millisecond), r.Code)
	fmt.Fprintf(w, "memory\t%s\n", oneLine(r.Memory.String()))
	printOOM(w, r.Memory.OOM)
	if r.Sender != nil {
		fmt.Fprintf(w, "%s\tfrom %s, %s before the end\n", r.Sender.Signal, oneLine(r.Sender.String()), r.At.Sub(r.Sender.At).Round(time.Microsecond))
	}
	if r.Core != nil {
		fmt.Fprintf(w, "core dump\t%s: %q died of %s\n", r.Core.ID, r.Core.Comm, r.Core.Signal)
	}
	for _, m := range r.Missing {
		fmt.Fprintf(w, "not known\t%s\n", oneLine(m))
	}
	printSamples(w, r.Telemetry)
	if err := w.Flush(); err != nil {
		return err
	}
	if r.Panic != nil {
		printPanic(out, r.Panic)
	}
	if len(r.Threads) > 0 {
		fmt.Fprintln(out, "\nlast system calls:")
		printRecordings(out, r.Threads)
	}
	lines := r.Log[max(0, len(r.Log)-shownLines):]
	fmt.Fprintf(out, "\nlast %d lines of output:\n", len(lines))
	for _, l := range lines {
		fmt.Fprintln(out, oneLine(l))
	}
	return nil
}

// printOOM prints the memory as it was at the last kill for want of some.
func printOOM(w io.Writer, o *death.OOM) {
	if o == nil {
		return
	}
	what := "the container's limit was met"
	switch o.Scope {
	case death.OOMAbove:
		what = "a group of several containers was out of memory"
	case death.OOMMachine:
		what = "the machine was out of memory"
	}
	if o.Source == death.OOMAfter {
		what += " (read after the kill: the kernel's log does not tell)"
	}
	fmt.Fprintf(w, "out of memory\t%s\n", what)
	if o.Limit > 0 {
		fmt.Fprintf(w, "in use\t%s of %s\n", mebibytes(o.Usage), mebibytes(o.Limit))
	}
	if o.Asked != "" {
		fmt.Fprintf(w, "asked for by\t%q\n", o.Asked)
	}
	for _, k := range oomStats {
		if v := o.Stat[k]; v > 0 {
			fmt.Fprintf(w, "  %s\t%s\n", k, mebibytes(v))
		}
	}
	fmt.Fprintln(w, "\nPID\tUID\tNAME\tRSS\tANON\tFILE\tSHMEM\tSWAP\tADJ\tSCORE")
	for _, t := range o.Tasks[:min(len(o.Tasks), shownRows)] {
		chosen := ""
		if t.Pid == o.Chosen {
			chosen = "  killed"
		}
		fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%.1f MiB%s\n", t.Pid, t.UID, oneLine(t.Comm), mebibytes(t.RSS), mebibytes(t.Anon),
			mebibytes(t.File), mebibytes(t.Shmem), mebibytes(t.Swap), t.ScoreAdj, float64(t.Score)/(1<<20), chosen)
	}
	more(w, len(o.Tasks)+o.More)
	fmt.Fprintln(w)
}

// oomStats are the sizes of memory.stat that are printed, in both versions' words.
var oomStats = []string{
	"total_rss", "anon", "rss", "total_cache", "file", "cache", "total_shmem", "shmem", "total_mapped_file", "file_mapped", "kernel", "kernel_stack",
	"pagetables", "slab", "sock", "total_swap", "swapcached",
}

// printSamples prints the last seconds as rates.
func printSamples(w io.Writer, all []triton.Sample) {
	if len(all) < 2 {
		return
	}
	fmt.Fprintln(w, "\nTIME\tCPU\tMEMORY\tPIDS\tSYSCALLS/S\tERRORS/S")
	all = all[max(0, len(all)-shownSeconds-1):]
	for i, s := range all[1:] {
		before := all[i]
		seconds := max(s.At.Sub(before.At).Seconds(), 1e-3)
		rate := func(now, then uint64) float64 { return float64(now-min(now, then)) / seconds }
		fmt.Fprintf(w, "%s\t%.2f\t%s\t%d\t%.0f\t%.0f\n", s.At.Local().Format(time.TimeOnly), (s.CPU-before.CPU).Seconds()/seconds,
			mebibytes(s.Memory), s.Pids, rate(s.Syscalls, before.Syscalls), rate(s.Errors, before.Errors))
	}
}

func printPanic(out io.Writer, p *death.Panic) {
	fmt.Fprintln(out)
	for _, l := range strings.Split(p.Message, "\n") {
		fmt.Fprintln(out, oneLine(l))
	}
	for _, g := range p.Goroutines[:min(len(p.Goroutines), shownGoroutines)] {
		fmt.Fprintf(out, "goroutine %d [%s]:\n", g.ID, oneLine(g.State))
		for _, f := range g.Frames {
			fmt.Fprintf(out, "  %s  %s:%d\n", oneLine(f.Func), oneLine(f.File), f.Line)
		}
	}
	if n := len(p.Goroutines) - shownGoroutines; n > 0 {
		fmt.Fprintf(out, "%d more goroutines: -json\n", n)
	}
}
