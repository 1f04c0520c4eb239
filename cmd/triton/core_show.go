package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// dump is what is shown of a record: the client does not link the package that makes them.
type dump struct {
	ID, Kind     string
	Pause        time.Duration `json:"pauseNs"`
	Container    triton.ContainerKey
	Name         string
	Image        string
	ImageID      string
	Run          int
	At           time.Time
	OperatorOnly bool
	Pid, NSPid   int
	UID          int
	Comm, Exe    string
	Cmdline      []string
	Cwd          string
	Signal, Note string
	Code         int
	Fault        uint64
	Threads      []struct {
		TID           int
		Comm          string
		PC, SP        uint64
		Syscall, Call string
		Calls         []triton.Call
	}
	Modules []struct {
		Path       string
		Start, End uint64
		BuildID    string
		Deleted    bool
	}
	Files                    []struct{ FD, Target string }
	Sockets                  []struct{ FD, Proto, Local, Peer, State string }
	Limits                   string
	EnvNames, Log            []string
	Telemetry                []triton.Sample
	Body, Cut                string
	MemoryBytes, StoredBytes uint64
	MiniAfter                time.Duration `json:"miniAfterNs"`
	HeldFor                  time.Duration `json:"heldForNs"`
	Repeats                  uint64
	LastRepeat               time.Time
	Missing                  []string
	Death                    *wire.Death
}

// shownRows is how much showCore prints of threads, modules and files each; -json has all.
const shownRows = 32

func showCore(ctx context.Context, c *client, args []string, out io.Writer) error {
	fs := newFlags("cores show")
	raw := fs.Bool("json", false, "")
	ref, err := oneBetween(fs, args)
	if err != nil {
		return usageError("cores show [-json] DUMP")
	}
	var raws json.RawMessage
	if err := c.get(ctx, wire.CorePath(ref, ""), &raws); err != nil {
		return err
	}
	if *raw {
		return encodeIndented(out, raws) // as it came: numbers that are read and written again lose digits
	}
	var d dump
	if err := json.Unmarshal(raws, &d); err != nil {
		return fmt.Errorf("decode the dump's record: %w", err)
	}
	return d.print(out)
}

func (d *dump) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	d.printHead(w)
	fmt.Fprintln(w, "\nTHREAD\tNAME\tPC\tSYSTEM CALL")
	for _, t := range d.Threads[:min(len(d.Threads), shownRows)] {
		fmt.Fprintf(w, "%d\t%s\t%#x\t%s\n", t.TID, oneLine(t.Comm), t.PC, oneLine(t.Call))
	}
	more(w, len(d.Threads))
	fmt.Fprintln(w, "\nMODULE\tBUILD ID\tFROM")
	for _, m := range d.Modules[:min(len(d.Modules), shownRows)] {
		fmt.Fprintf(w, "%s\t%s\t%#x\n", oneLine(m.Path), m.BuildID, m.Start)
	}
	more(w, len(d.Modules))
	fmt.Fprintln(w, "\nFD\tFILE")
	for _, f := range d.Files[:min(len(d.Files), shownRows)] {
		fmt.Fprintf(w, "%s\t%s\n", f.FD, oneLine(f.Target))
	}
	more(w, len(d.Files))
	if len(d.Sockets) > 0 {
		fmt.Fprintln(w, "\nFD\tSOCKET\tLOCAL\tPEER\tSTATE")
	}
	for _, s := range d.Sockets[:min(len(d.Sockets), shownRows)] {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.FD, s.Proto, oneLine(s.Local), oneLine(s.Peer), s.State)
	}
	more(w, len(d.Sockets))
	printSamples(w, d.Telemetry)
	if err := w.Flush(); err != nil {
		return err
	}
	d.printCalls(out)
	fmt.Fprintf(out, "\nlimits:\n%s\n", strings.TrimSuffix(d.Limits, "\n"))
	fmt.Fprintf(out, "\nenvironment (names): %s\n", oneLine(strings.Join(d.EnvNames, " ")))
	lines := d.Log[max(0, len(d.Log)-shownLines):]
	fmt.Fprintf(out, "\nlast %d lines of output:\n", len(lines))
	for _, l := range lines {
		fmt.Fprintln(out, oneLine(l))
	}
	return nil
}

func (d *dump) printHead(w io.Writer) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, oneLine(fmt.Sprintf(format, args...)))
	}
	row("dump", "%s, %s", d.ID, d.At.Local().Format(time.RFC3339Nano))
	if d.Kind != "" {
		row(d.Kind, "the process stood for %s", d.Pause.Round(10*time.Microsecond))
	} else {
		row("signal", "%s, code %d, address %#x", d.Signal, d.Code, d.Fault)
	}
	if d.Note != "" {
		row("", "%s", d.Note)
	}
	row("program", "%s (%s), pid %d, %d in the container, uid %d", d.Exe, d.Comm, d.Pid, d.NSPid, d.UID)
	row("command", "%q in %s", d.Cmdline, d.Cwd)
	row("container", "%s (%.12s), run %d", d.Name, d.Container.ID, d.Run)
	row("image", "%s (%s)", d.Image, d.ImageID)
	if d.Death != nil {
		row("end", "%s (%s)", d.Death.Reason, d.Death.ID)
	}
	body := d.Body
	if d.Cut != "" {
		body += ", cut: " + d.Cut
	}
	row("memory", "%s of %s, %s on disk", body, mebibytes(d.MemoryBytes), mebibytes(d.StoredBytes))
	row("held", "%s, mini core after %s", d.HeldFor.Round(time.Microsecond), d.MiniAfter.Round(time.Microsecond))
	if d.Repeats > 0 {
		row("repeats", "%d crashes at the same place, until %s, were only counted: --core-cpu", d.Repeats, day(d.LastRepeat))
	}
	if d.OperatorOnly {
		row("access", "operators only: a program with more rights than its caller")
	}
	for _, m := range d.Missing {
		row("not known", "%s", m)
	}
}

// printCalls prints what the threads asked of the kernel before, the crashed one first.
func (d *dump) printCalls(out io.Writer) {
	title := "\nlast system calls:"
	for _, t := range d.Threads[:min(len(d.Threads), shownRows)] {
		if len(t.Calls) == 0 {
			continue
		}
		if title != "" {
			fmt.Fprintln(out, title)
			title = ""
		}
		fmt.Fprintf(out, "thread %d, %s\n", t.TID, oneLine(t.Comm))
		printCalls(out, t.Calls)
	}
}

// more says how many rows are left out.
func more(w io.Writer, n int) {
	if n > shownRows {
		fmt.Fprintf(w, "%d more: -json\n", n-shownRows)
	}
}
