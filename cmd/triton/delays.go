package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// delays is `triton delays [-d TIME] [CONTAINER]`: all containers of the machine, for operators, or one.
func delays(ctx context.Context, c *client, args []string, out io.Writer) error {
	fs := newFlags("delays")
	during := fs.Duration("d", 5*time.Second, "")
	if err := fs.Parse(args); err != nil || fs.NArg() > 1 || *during < 0 || *during > 30*time.Second {
		return usageError("delays [-d TIME] [CONTAINER]: TIME is 0 (since the start) to 30s")
	}
	path := wire.DelaysPath
	if fs.NArg() == 1 {
		path = wire.ContainerDelaysPath(fs.Arg(0))
	}
	before, after, err := readTwice[wire.Delays](ctx, c, path, *during)
	if err != nil {
		return err
	}
	return printDelays(out, before, after)
}

// readTwice reads what there is and, unless during is 0, what there was that long before.
func readTwice[T any](ctx context.Context, c *client, path string, during time.Duration) (before, after T, err error) {
	if during > 0 {
		if err := c.get(ctx, path, &before); err != nil {
			return before, after, err
		}
		select {
		case <-ctx.Done():
			return before, after, ctx.Err()
		case <-time.After(during):
		}
	}
	err = c.get(ctx, path, &after) // before after is read: the order within a return is not said
	return before, after, err
}

// printDelays prints what came between two readings, in seconds per second; without a first one, what there was so far.
func printDelays(out io.Writer, before, after wire.Delays) error {
	type pair struct{ victim, kind, culprit string }
	had := map[pair]float64{}
	for _, v := range before.Victims {
		for _, c := range v.Culprits {
			had[pair{v.ID, c.Kind, c.ID}] = c.Seconds
		}
	}
	unit, per := "SECONDS", 1.0
	if !before.At.IsZero() {
		unit, per = "SECONDS/S", after.At.Sub(before.At).Seconds()
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "VICTIM\tCULPRIT\t%s\tSHARE\n", unit)
	for _, v := range after.Victims {
		var sum float64
		for i, c := range v.Culprits {
			v.Culprits[i].Seconds = max(0, c.Seconds-had[pair{v.ID, c.Kind, c.ID}])
			sum += v.Culprits[i].Seconds
		}
		slices.SortStableFunc(v.Culprits, func(a, b wire.Culprit) int { return cmp.Compare(b.Seconds, a.Seconds) })
		for _, c := range v.Culprits {
			if c.Seconds > 0 {
				fmt.Fprintf(w, "%s\t%s\t%.4f\t%.0f%%\n", v.Name, culpritName(c), c.Seconds/per, 100*c.Seconds/sum)
			}
		}
	}
	return w.Flush()
}

// culpritName sets what is no container in brackets: a container may be called host.
func culpritName(c wire.Culprit) string {
	if c.Kind == "container" {
		return cmp.Or(c.Name, c.ID)
	}
	return "(" + c.Kind + ")"
}
