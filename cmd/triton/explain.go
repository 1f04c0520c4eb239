package main

import (
	"context"
	"io"

	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// explain is `triton explain [--json] CONTAINER`.
func explain(ctx context.Context, c *client, args []string, out io.Writer) error {
	fs := newFlags("explain")
	asJSON := fs.Bool("json", false, "")
	ref, err := oneBetween(fs, args)
	if err != nil {
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
