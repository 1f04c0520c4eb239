package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"time"
)

// newFlags makes a command's flags. It prints nothing: what is wrong with them its usage says.
func newFlags(command string) *flag.FlagSet {
	fs := flag.NewFlagSet(command, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	return fs
}

// oneBetween parses flags that may stand on either side of the one argument.
func oneBetween(fs *flag.FlagSet, args []string) (string, error) {
	if err := fs.Parse(args); err != nil {
		return "", err
	}
	if fs.NArg() == 0 {
		return "", errors.New("no argument")
	}
	ref := fs.Arg(0)
	if err := fs.Parse(fs.Args()[1:]); err != nil {
		return "", err
	}
	if fs.NArg() > 0 {
		return "", errors.New("too many arguments")
	}
	if ref == "" {
		return "", errors.New("an empty argument")
	}
	return ref, nil
}

// show is a command that takes [-json] and one argument, as its usage says: it prints what path has of that.
func show[T any](
	ctx context.Context, c *client, usage string, args []string, path func(ref string) string, out io.Writer, text func(io.Writer, *T) error,
) error {
	fs := newFlags(usage)
	raw := fs.Bool("json", false, "")
	ref, err := oneBetween(fs, args)
	if err != nil {
		return usageError(usage)
	}
	v := new(T)
	if err := c.get(ctx, path(ref), v); err != nil {
		return err
	}
	if *raw {
		return encodeIndented(out, v)
	}
	return text(out, v)
}

// encodeIndented writes v as JSON that people read.
func encodeIndented(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// day is a time as tables have it.
func day(t time.Time) string { return t.Local().Format(time.DateTime) }
