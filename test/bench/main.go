package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"

	"github.com/tritond/triton/test/bench/machine"
	"github.com/tritond/triton/test/images"
)

// config is what the command line and environment say.
type config struct {
	peer   string // PEER: "", docker.io, moby or a host
	alone  bool   // measure the peer only
	bin    string
	rounds int
	crowd  int // containers of the largest listing; 0: none
	only   *regexp.Regexp
	repo   string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	cfg, err := parse()
	if err != nil {
		return err
	}
	set, err := images.Build(ctx, filepath.Join(cfg.repo, ".cache"))
	if err != nil {
		return err
	}
	before := machine.Conditions(ctx)
	subjects, err := start(ctx, cfg, set)
	defer func() {
		for _, s := range subjects {
			err = errors.Join(err, s.close())
		}
	}()
	if err != nil {
		return err
	}
	b := bench{cfg: cfg, set: set, subjects: subjects}
	if err := b.all(ctx); err != nil {
		return err
	}
	return b.print(os.Stdout, before)
}

func parse() (config, error) {
	cfg := config{peer: os.Getenv("PEER")}
	only := ""
	flag.StringVar(&cfg.repo, "repo", ".", "folder of the repository, for its cache")
	flag.StringVar(&cfg.bin, "bin", "bin", "folder of tritond")
	flag.IntVar(&cfg.rounds, "rounds", 15, "rounds of the short operations")
	flag.IntVar(&cfg.crowd, "crowd", 500, "containers of the largest listing; starting them takes most of the time; 0 leaves it out")
	flag.BoolVar(&cfg.alone, "peer-only", false, "measure the peer without tritond")
	flag.StringVar(&only, "only", "", "run measurements whose name matches this pattern")
	flag.Parse()
	var err error
	if cfg.only, err = regexp.Compile(only); err != nil {
		return cfg, err
	}
	if cfg.bin, err = filepath.Abs(cfg.bin); err != nil {
		return cfg, err
	}
	if cfg.alone && cfg.peer == "" {
		return cfg, errors.New("-peer-only needs PEER")
	}
	return cfg, nil
}
