package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tritond/triton/test/engine"
)

func main() {
	bin := flag.String("bin", "bin", "folder of tritond")
	cache := flag.String("cache", ".cache/demo", "folder for packages and images")
	rounds := flag.Int("rounds", 7, "turns of each placement")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *bin, *cache, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "services:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin, cache string, rounds int) (err error) {
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
	m := &measurement{daemon: d, account: account, all: services(), roots: map[string]root{}, seen: map[string][]sample{}}
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
