package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// trace is `triton trace CONTAINER`; it goes on until the container's run ends or somebody interrupts it. Flags may follow
// the container.
func trace(c *client, args []string, out, notes io.Writer) error {
	fs := newFlags("trace")
	var q wire.TraceQuery
	fs.Func("syscall", "", func(s string) error {
		q.Patterns = append(q.Patterns, strings.Split(s, ",")...)
		return nil
	})
	fs.BoolVar(&q.Errors, "errors", false, "")
	fs.BoolVar(&q.Memory, "args", false, "")
	fs.DurationVar(&q.Slower, "slower", 0, "")
	fs.StringVar(&q.Comm, "comm", "", "")
	raw := fs.Bool("json", false, "")
	ref, err := oneBetween(fs, args)
	if err != nil || q.Slower < 0 {
		return usageError("trace CONTAINER [-syscall PATTERN,…] [-errors] [-slower TIME] [-comm NAME] [-args] [-json]")
	}
	resp, err := c.send(context.Background(), http.MethodGet, wire.TracePath(ref, q), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	fmt.Fprintln(notes, "tracing "+ref)
	return printTrace(resp.Body, *raw, out, notes)
}

// printTrace prints events as they come; those that are no calls go to notes, unless raw prints all as it came.
func printTrace(in io.Reader, raw bool, out, notes io.Writer) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			if errors.Is(err, io.EOF) && len(line) == 0 {
				return nil
			}
			return fmt.Errorf("read trace: %w", err)
		}
		var e triton.TraceEvent
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("decode trace: %w", err)
		}
		switch {
		case raw:
			_, err = out.Write(line)
		case e.Failed:
			return errors.New(oneLine(e.Ended))
		case e.Lost > 0:
			_, err = fmt.Fprintf(notes, "%d calls lost\n", e.Lost)
		case e.Ended != "":
			_, err = fmt.Fprintln(notes, oneLine(e.Ended))
		case e.TracedCall != nil:
			_, err = fmt.Fprintf(out, "%s[%d] %s\n", oneLine(e.Comm), e.Tid, callLine(&e.Call))
		}
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
