package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// recorder is `triton recorder [-json] CONTAINER`.
func recorder(ctx context.Context, c *client, args []string, out io.Writer) error {
	return show(ctx, c, "recorder [-json] CONTAINER", args, wire.RecorderPath, out, printRecorder)
}

func printRecorder(out io.Writer, r *wire.Recorder) error {
	printRecordings(out, r.Threads)
	if r.More > 0 {
		fmt.Fprintf(out, "%d threads more, whose last calls are older\n", r.More)
	}
	return nil
}

// printRecordings prints the calls of each thread as strace does, with the time of their entry.
func printRecordings(out io.Writer, threads []triton.Recording) {
	for i := range threads {
		t := &threads[i]
		fmt.Fprintf(out, "%s, pid %d, thread %d", oneLine(t.Comm), t.Pid, t.Tid)
		if !t.Ended.IsZero() {
			fmt.Fprintf(out, ", ended %s", t.Ended.Local().Format("15:04:05.000000"))
		}
		fmt.Fprintln(out)
		printCalls(out, t.Calls)
	}
}

func printCalls(out io.Writer, calls []triton.Call) {
	for i := range calls {
		fmt.Fprintln(out, "  "+callLine(&calls[i]))
	}
}

func callLine(c *triton.Call) string {
	line := c.At.Local().Format("15:04:05.000000") + "  " + oneLine(c.Text) + " "
	switch {
	case c.InCall:
		return line + "has not returned"
	case c.Error != "":
		line += "= -1 " + oneLine(c.Error)
	case c.Result > 1<<32:
		line += fmt.Sprintf("= %#x", c.Result)
	default:
		line += fmt.Sprintf("= %d", c.Result)
	}
	if c.Duration == 0 {
		return line
	}
	return line + fmt.Sprintf(" <%s>", c.Duration.Round(10*time.Nanosecond))
}
