package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tritond/triton/test/bench/machine"
)

// config is what the command line says.
type config struct {
	bin, cache, compare, keep string
	rounds                    int
	slice                     time.Duration
	levels                    []string
	all                       []service
	places                    *regexp.Regexp
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg, err := parse(os.Args[1:])
	if err == nil {
		err = run(ctx, cfg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "services:", err)
		os.Exit(1)
	}
}

// parse reads the command line.
func parse(args []string) (cfg config, err error) {
	fs := flag.NewFlagSet("services", flag.ExitOnError)
	fs.StringVar(&cfg.bin, "bin", "bin", "folder of tritond")
	fs.StringVar(&cfg.cache, "cache", ".cache/demo", "folder for packages and images")
	fs.StringVar(&cfg.compare, "compare", "levels", "levels: of the probes, with off, while one load runs; places: containers with processes of the host")
	fs.IntVar(&cfg.rounds, "rounds", 0, "of levels, of a block of each (0: 120); of places, of a turn of each (0: 7)")
	fs.DurationVar(&cfg.slice, "slice", 150*time.Millisecond, "of levels: how long one lasts before another takes its turn")
	fs.StringVar(&cfg.keep, "keep", "", "file that blocks are added to, and earlier runs' are read from, so that levels may be compared in several short runs")
	levels := fs.String("levels", "", "those compared (empty: counters,auto,detail); of places, the daemon's --probes, the first is what others are compared with (empty: off)")
	only := fs.String("only", "", "services whose name matches this pattern")
	where := fs.String("places", "", "places of the client whose name matches this pattern; processes of the host are one of them")
	if err := fs.Parse(args); err != nil {
		return cfg, err
	}
	known, rounds := []string{"counters", "sampled", "auto", "detail"}, 120
	cfg.levels = []string{"counters", "auto", "detail"}
	switch cfg.compare {
	case "levels":
	case "places": // turns are too short for windows and steps
		known, rounds, cfg.levels = []string{"off", "counters", "detail"}, 7, []string{"off"}
	default:
		return cfg, fmt.Errorf("-compare %q: must be levels or places", cfg.compare)
	}
	if *levels != "" {
		cfg.levels = strings.Split(*levels, ",")
	}
	for _, l := range cfg.levels {
		if !slices.Contains(known, l) {
			return cfg, fmt.Errorf("-levels %q: -compare %s has %s", l, cfg.compare, strings.Join(known, ", "))
		}
	}
	if cfg.rounds == 0 {
		cfg.rounds = rounds
	}
	if cfg.rounds < 1 || cfg.slice <= 0 {
		return cfg, fmt.Errorf("-rounds %d, -slice %v: must be more than 0", cfg.rounds, cfg.slice)
	}
	wanted, errOnly := regexp.Compile(*only)
	cfg.places, err = regexp.Compile(*where)
	if err := errors.Join(errOnly, err); err != nil {
		return cfg, err
	}
	cfg.all = slices.DeleteFunc(services(), func(s service) bool { return !wanted.MatchString(s.name) })
	cfg.bin, err = filepath.Abs(cfg.bin)
	return cfg, err
}

func run(ctx context.Context, cfg config) (err error) {
	b, err := newBed(ctx, cfg.bin, cfg.cache, cfg.all)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close(ctx)) }()
	if cfg.compare == "places" {
		m := &placeTurns{bed: b, levels: cfg.levels, places: cfg.places, roots: map[string]root{}, seen: map[string][]sample{}}
		return m.run(ctx, cfg.rounds, os.Stdout)
	}
	before := machine.Conditions(ctx)
	t := &levelTurns{
		bed: b, levels: cfg.levels, rounds: cfg.rounds, slice: cfg.slice, kept: keeper{cfg.keep},
		random: rand.New(rand.NewPCG(1, 1)), // the same slices give the same intervals
	}
	table, err := t.run(ctx)
	if err != nil {
		return err
	}
	if err := machine.Print(os.Stdout, before); err != nil {
		return err
	}
	_, err = os.Stdout.WriteString(table)
	return err
}
