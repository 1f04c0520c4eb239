package main

import (
	"context"
	"encoding/json"
	"flag"
	"io"

	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// explain is `triton explain [--json] CONTAINER`.
func explain(ctx context.Context, c *client, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("explain", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	asJSON := fs.Bool("json", false, "")
	err := fs.Parse(args)
	ref := fs.Arg(0)
	if err == nil && fs.NArg() > 1 { // the flag may follow
		err = fs.Parse(fs.Args()[1:])
	}
	if err != nil || ref == "" || fs.NArg() > 1 {
		return usageError("explain [--json] CONTAINER")
	}
	var p wire.Placement
	if err := c.get(ctx, wire.PlacementPath(ref), &p); err != nil {
		return err
	}
	if !*asJSON {
		_, err := io.WriteString(out, p.Text)
		return err
	}
	p.Text = ""
	return encodeIndented(out, p)
}

// encodeIndented writes v as JSON that people read.
func encodeIndented(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
