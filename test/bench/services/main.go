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
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tritond/triton/test/engine"
)

func main() {
	bin := flag.String("bin", "bin", "folder of tritond")
	cache := flag.String("cache", ".cache/demo", "folder for packages and images")
	rounds := flag.Int("rounds", 7, "turns of each placement")
	levels := flag.String("levels", "off,counters,sampled,auto,detail", "of --probes, the first is what the others are compared with")
	only := flag.String("only", "", "services whose name matches this pattern")
	where := flag.String("places", "", "places of the client whose name matches this pattern; processes of the host are one of them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	m := &measurement{levels: strings.Split(*levels, ","), roots: map[string]root{}, seen: map[string][]sample{}}
	err := m.choose(*only, *where)
	if err == nil {
		err = run(ctx, m, *bin, *cache, *rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "services:", err)
		os.Exit(1)
	}
}

// choose keeps the services and places that are wanted.
func (m *measurement) choose(only, where string) error {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	if m.places, err = regexp.Compile(where); err != nil {
		return err
	}
	m.all = slices.DeleteFunc(services(), func(s service) bool { return !wanted.MatchString(s.name) })
	return nil
}

func run(ctx context.Context, m *measurement, bin, cache string, rounds int) (err error) {
	if bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	d, err := engine.NewTritond(bin)
	if err != nil {
		return err
	}
	d.LogLevel = "warn"
	account, err := engine.NewAccount("tebench-"+d.Instance, d.Cgroup())
	if err != nil {
		return errors.Join(err, os.RemoveAll(d.Root))
	}
	m.daemon, m.account = d, account
	m.cli = engine.CLI{Host: d.Host, ConfigDir: filepath.Join(d.Root, "docker-config")}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, d.Close(ctx), account.Close())
	}()
	if err := m.prepare(ctx, cache); err != nil {
		return err
	}
	for i := range rounds + 1 { // the first warms up and is not counted
		fmt.Fprintf(os.Stderr, "services: round %d of %d\n", i, rounds)
		if i == 1 {
			clear(m.seen)
		}
		if err := m.round(ctx); err != nil {
			return err
		}
	}
	return m.print(os.Stdout)
}
