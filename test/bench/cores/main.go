package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

const corePattern = "/proc/sys/kernel/core_pattern"

func main() {
	bin := flag.String("bin", "bin", "folder of tritond and triton")
	rounds := flag.Int("rounds", 5, "crashes of each kind")
	mib := flag.Int("mib", 1536, "size of the process")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *bin, *rounds, *mib); err != nil {
		fmt.Fprintln(os.Stderr, "cores:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, rounds, mib int) (err error) {
	if bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	before, err := os.ReadFile(corePattern)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.WriteFile(corePattern, before, 0)) }()
	set, err := images.Build(ctx, ".cache")
	if err != nil {
		return err
	}
	d, err := engine.NewTritond(bin, "--core-pattern", "take")
	if err != nil {
		return err
	}
	d.LogLevel = "warn"
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, d.Close(ctx))
	}()
	if err := d.Start(ctx); err != nil {
		return err
	}
	b := &bench{daemon: d, mib: mib, cli: engine.CLI{Host: d.Host, ConfigDir: filepath.Join(d.Root, "docker-config")}}
	if _, err := b.docker(ctx, "load", "-i", set.Programs); err != nil {
		return err
	}
	crashes := map[string][]crash{}
	if b.idle, err = b.residentPeak(); err != nil {
		return err
	}
	for range rounds {
		for _, policy := range []string{"off", "mini", "full"} {
			c, err := b.crash(ctx, policy)
			if err != nil {
				return fmt.Errorf("%s: %w", policy, err)
			}
			crashes[policy] = append(crashes[policy], c)
			fmt.Fprintf(os.Stderr, "cores: %s %+v\n", policy, c)
		}
		// The pattern is the kernel's only one: the daemon's rests meanwhile.
		for _, written := range []bool{false, true} {
			s, err := b.stream(ctx, filepath.Join(set.Bin, "crash"), written)
			if err != nil {
				return fmt.Errorf("stream: %w", err)
			}
			if written {
				b.written = append(b.written, s)
			} else {
				b.streams = append(b.streams, s)
			}
			fmt.Fprintf(os.Stderr, "cores: stream, written: %t, %s\n", written, s)
		}
	}
	if err := b.together(ctx); err != nil {
		return err
	}
	b.print(os.Stdout, crashes)
	return nil
}

// load is what /proc/loadavg begins with.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "not known"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}
