package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// watch shows how much of a container is measured, and changes it before if -level is given.
func watch(ctx context.Context, c *client, args []string, out io.Writer) error {
	fs := newFlags("watch")
	level := fs.String("level", "", "")
	ref, err := oneBetween(fs, args)
	if err != nil {
		return usageError(fmt.Sprintf("watch [-level LEVEL] CONTAINER: %v", err))
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
