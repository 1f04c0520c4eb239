package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// watch shows how much of a container is measured, and changes it before if -level is given.
func watch(ctx context.Context, c *client, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("watch", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	level := fs.String("level", "", "")
	ref := ""
	for rest := args; len(rest) > 0; {
		if err := fs.Parse(rest); err != nil {
			return usageError(fmt.Sprintf("watch: %v", err))
		}
		if rest = fs.Args(); len(rest) == 0 {
			break
		}
		if ref != "" {
			return usageError("watch: one container")
		}
		ref, rest = rest[0], rest[1:]
	}
	if ref == "" {
		return usageError("watch: no container")
	}
	method, path := http.MethodGet, wire.WatchPath(ref)
	if *level != "" {
		method = http.MethodPost
	}
	if *level != "" && *level != "default" {
		path += "?level=" + url.QueryEscape(*level)
	}
	var w wire.Watched
	if err := c.do(ctx, method, path, nil, &w); err != nil {
		return err
	}
	switch {
	case w.Asked == "":
		fmt.Fprintf(out, "%s: %s, as this machine\n", w.Name, w.Level)
	case w.Asked != w.Level:
		fmt.Fprintf(out, "%s: %s, as this machine: %s was asked for, and only operators get more than the machine has\n", w.Name, w.Level, w.Asked)
	default:
		fmt.Fprintf(out, "%s: %s, as asked\n", w.Name, w.Level)
	}
	return nil
}
