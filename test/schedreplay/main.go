package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "schedreplay:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("schedreplay", flag.ContinueOnError)
	dir := flags.String("traces", "", "folder of traces")
	generated := flags.Bool("generated", false, "replay a generated workload instead of traces")
	record := flags.String("record", "", "file of a recorded snapshot and requests to decide again")
	plots := flags.String("out", "", "folder for the plots (SVG); empty: none")
	seeds := flags.Int("seeds", 3, "seeds of arrivals and lifetimes")
	calendar := flags.Bool("calendar", false, "all instances play their series at its own time: containers swing together")
	only := flags.String("only", "", "regular expression of the policies to replay; empty: all")
	quick := flags.Bool("quick", false, "one seed, the main policies only")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *record != "" {
		return replayRecord(*record, out)
	}
	sets, err := inputs(*dir, *generated)
	if err != nil {
		return err
	}
	entries := policies()
	if *quick {
		*seeds, entries = 1, mainPolicies(entries)
	}
	if entries, err = named(entries, *only); err != nil {
		return err
	}
	for _, s := range sets {
		start, end := s.window()
		fmt.Fprintf(out, "%s: %d images (%d fit no node), history %.1f days, window %.1f days, memory %v\n", s.name, s.images, s.dropped,
			float64(start)/stepsPerDay, float64(end-start)/stepsPerDay, s.mem != nil)
	}
	began := time.Now()
	curves := sweep(sets, entries, *seeds, *calendar)
	fmt.Fprintf(out, "%d replays in %s\n\n", len(sets)*len(modes)*len(entries)**seeds, time.Since(began).Round(time.Second))
	for _, c := range curves {
		c.table(out)
	}
	summary(out, curves)
	if *plots == "" {
		return nil
	}
	for _, c := range curves {
		file := filepath.Join(*plots, strings.ReplaceAll(c.name(), " ", "-")+".svg")
		if err := os.WriteFile(file, c.plot(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// named keeps the policies that the expression matches.
func named(all []entry, only string) (out []entry, err error) {
	re, err := regexp.Compile(only)
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	for _, e := range all {
		if re.MatchString(e.policy) {
			out = append(out, e)
		}
	}
	return out, nil
}

func inputs(dir string, generated bool) ([]*set, error) {
	switch {
	case generated:
		return []*set{generate(1)}, nil
	case dir == "":
		return nil, errors.New("name a folder with -traces, or -generated")
	}
	return loadSets(dir, nodeCores, nodeMemMiB)
}
