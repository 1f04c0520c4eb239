package main

import (
	"context"
	"fmt"
	"io"
	"path"

	"github.com/tritond/triton/pkg/backtrace"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// coreStacks prints the stacks of a dump.
func coreStacks(ctx context.Context, c *client, args []string, out io.Writer) error {
	fs := newFlags("cores bt")
	all := fs.Bool("all", false, "")
	raw := fs.Bool("json", false, "")
	ref, err := oneBetween(fs, args)
	if err != nil {
		return usageError("cores bt [-all] [-json] DUMP")
	}
	var b backtrace.Result
	if err := c.get(ctx, wire.CorePath(ref, "backtrace"), &b); err != nil {
		return err
	}
	if *raw {
		return encodeIndented(out, b)
	}
	printStacks(out, &b, *all)
	return nil
}

func printStacks(out io.Writer, b *backtrace.Result, all bool) {
	for i, t := range b.Threads {
		if i > 0 && !all {
			fmt.Fprintf(out, "%d more threads: -all\n", len(b.Threads)-i)
			break
		}
		fmt.Fprintf(out, "thread %d %q\n", t.TID, t.Comm)
		printFrames(out, b, t.Frames, t.Cut)
		if len(t.Python) > 0 {
			fmt.Fprintln(out, "  in Python:")
			printFrames(out, b, t.Python, "")
		}
	}
	if len(b.Goroutines) > 0 && !all {
		fmt.Fprintf(out, "%d goroutines that did not run: -all\n", len(b.Goroutines))
	}
	for _, g := range b.Goroutines {
		if !all {
			break
		}
		fmt.Fprintf(out, "goroutine %d [%s]\n", g.ID, g.State)
		printFrames(out, b, g.Frames, g.Cut)
	}
	for _, m := range b.Missing {
		fmt.Fprintf(out, "not known: %s\n", oneLine(m))
	}
	fmt.Fprintf(out, "group %s\n", b.Signature.Fuzzy)
}

func printFrames(out io.Writer, b *backtrace.Result, frames []backtrace.Frame, cut string) {
	for n, f := range frames {
		fmt.Fprintf(out, "  #%-3d %s\n", n, oneLine(frameText(b, f)))
	}
	if cut != "" {
		fmt.Fprintf(out, "  not further: %s\n", oneLine(cut))
	}
}

// frameText is a frame in a line: where, what, the place in the source or in the module.
func frameText(b *backtrace.Result, f backtrace.Frame) string {
	name := f.Func
	if name == "" {
		name = "?"
	}
	switch f.Kind {
	case backtrace.KindSignal:
		name += " [signal]"
	case backtrace.KindJIT:
		name += " [jit]"
	}
	if f.Inline {
		name += " [inline]"
	}
	switch {
	case f.File != "":
		name += fmt.Sprintf(" at %s:%d", f.File, f.Line)
	case f.Module >= 0 && f.Module < len(b.Modules):
		name += fmt.Sprintf(" in %s+%#x", path.Base(b.Modules[f.Module].Path), f.Offset)
	}
	if f.Kind == backtrace.KindPython {
		return name
	}
	return fmt.Sprintf("%#016x %s", f.PC, name)
}
