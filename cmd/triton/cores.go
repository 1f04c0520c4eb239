package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// cores is `triton cores VERB`. It has no time limit as a whole: a core may take long to come.
func cores(c *client, verb string, args []string, out io.Writer) error {
	ctx := context.Background()
	switch {
	case verb == "ls" && len(args) < 2:
		return listCores(ctx, c, strings.Join(args, ""), out)
	case verb == "groups":
		return coreGroups(ctx, c, args, out)
	case verb == "show":
		return showCore(ctx, c, args, out)
	case verb == "bt":
		return coreStacks(ctx, c, args, out)
	case verb == "pull":
		return pullCore(ctx, c, args, out)
	case verb == "gdb" && len(args) > 0:
		return debugCore(ctx, c, args[0], args[1:])
	case verb == "rm" && len(args) > 0:
		var errs []error
		for _, ref := range args {
			errs = append(errs, c.do(ctx, http.MethodDelete, wire.CorePath(ref, ""), nil, nil))
		}
		return errors.Join(errs...)
	}
	return usageError(fmt.Sprintf("unknown command or wrong number of arguments: cores %s %q", verb, args))
}

func listCores(ctx context.Context, c *client, query string, out io.Writer) error {
	var l wire.CoreList
	path := wire.CoresPath
	if query != "" {
		path += "?" + url.Values{"query": {query}}.Encode()
	}
	if err := c.get(ctx, path, &l); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DUMP\tTIME\tCONTAINER\tIMAGE\tPROGRAM\tSIGNAL\tTHREADS\tBODY\tMEMORY\tSTORED\tGROUP")
	for _, k := range l.Cores {
		what := k.Signal
		if k.Kind != "" {
			what = k.Kind
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%q\t%s\t%d\t%s\t%s\t%s\t%s\n", k.ID, day(k.At), k.Name, k.Image,
			k.Comm, what, k.ThreadCount, bodyOf(k), mebibytes(k.MemoryBytes), mebibytes(k.StoredBytes), cmp.Or(k.Group, "-"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if l.Damaged > 0 {
		return fmt.Errorf("%d records could not be read", l.Damaged)
	}
	return nil
}

func mebibytes(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// snapshot is `triton snapshot CONTAINER`.
func snapshot(c *client, args []string, out io.Writer) error {
	fs := newFlags("snapshot")
	query := url.Values{}
	pid := fs.Int("pid", 1, "")
	mini := fs.Bool("mini", false, "")
	pause := fs.Duration("max-pause", 0, "")
	ref, err := oneBetween(fs, args)
	if err != nil {
		return usageError("snapshot [-pid N] [-mini] [-max-pause TIME] CONTAINER")
	}
	query.Set("pid", strconv.Itoa(*pid))
	query.Set("mini", strconv.FormatBool(*mini))
	if *pause != 0 {
		query.Set("max-pause", pause.String())
	}
	var k wire.Core
	if err := c.do(context.Background(), http.MethodPost, wire.SnapshotPath(ref)+"?"+query.Encode(), nil, &k); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s  %s, %d threads, %s of memory; the process stood for %s\n", k.ID, bodyOf(k), k.ThreadCount,
		mebibytes(k.MemoryBytes), k.Pause.Round(10*time.Microsecond))
	return err
}

// bodyOf says how much of the memory a dump has.
func bodyOf(k wire.Core) string {
	if k.Cut != "" {
		return k.Body + " (" + k.Cut + ")"
	}
	return k.Body
}
