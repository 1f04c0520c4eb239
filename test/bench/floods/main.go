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
	"strings"
	"syscall"
	"time"

	"github.com/tritond/triton/test/bench/machine"
	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

const corePattern = "/proc/sys/kernel/core_pattern"

func main() {
	if is, err := other(os.Args); is {
		if err != nil {
			fmt.Fprintf(os.Stderr, "floods: %s: %v\n", os.Args[1], err)
			os.Exit(1)
		}
		return
	}
	b := &bench{}
	flag.IntVar(&b.rounds, "rounds", 3, "turns of each flood")
	flag.DurationVar(&b.window, "window", 5*time.Second, "of a turn, with and without the flood")
	bin := flag.String("bin", "bin", "folder of tritond")
	only := flag.String("only", "", "floods whose name matches this pattern: "+strings.Join(floods, ", "))
	probes := flag.String("probes", "detail", "the daemon's --probes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if b.only, err = regexp.Compile(*only); err == nil {
		err = b.run(ctx, *bin, *probes)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "floods:", err)
		os.Exit(1)
	}
}

// run starts a daemon, its containers, and the floods one after the other.
func (b *bench) run(ctx context.Context, bin, probes string) (err error) {
	before, err := os.ReadFile(corePattern)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.WriteFile(corePattern, before, 0)) }()
	conditions := machine.Conditions(ctx)
	set, err := images.Build(ctx, ".cache")
	if err != nil {
		return err
	}
	if bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	port, err := engine.FreePort()
	if err != nil {
		return err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	d, err := engine.NewTritond(bin, "--core-pattern", "take", "--probes", probes, "-H", "tcp://"+address)
	if err != nil {
		return err
	}
	d.LogLevel = "error"
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, d.Close(ctx))
	}()
	if err := d.Start(ctx); err != nil {
		return err
	}
	b.daemon, b.cli, b.api = d, engine.CLI{Host: d.Host, ConfigDir: filepath.Join(d.Root, "docker-config")}, engine.NewAPI(d.Host, 2)
	defer b.api.Close()
	// In memory: a flooded disk would hold up the neighbour's notes, not its requests.
	if b.seen, err = os.MkdirTemp("/dev/shm", "tefloods"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.seen)) }()
	if err := os.Chmod(b.seen, 0o777); err != nil {
		return err
	}
	if b.programs, err = filepath.Abs(set.Bin); err != nil {
		return err
	}
	if b.group, err = newGroup(d.Instance + "-bare"); err != nil {
		return errors.Join(err, b.group.remove())
	}
	defer func() { err = errors.Join(err, b.group.remove()) }()
	if _, err := b.docker(ctx, "load", "-q", "-i", set.Programs); err != nil {
		return err
	}
	if err := b.addTenant(ctx, bin, set.Programs, address); err != nil {
		return err
	}
	if _, err := b.docker(ctx, "run", "-d", "--name", "neighbour", "-v", b.seen+":/seen", images.Programs, "requests", "/seen/all", "500"); err != nil {
		return err
	}
	var rows []row
	for _, f := range floods {
		if !b.only.MatchString(f) {
			continue
		}
		r, err := b.flood(ctx, f)
		if err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		rows = append(rows, r)
	}
	if err := machine.Print(os.Stdout, conditions); err != nil {
		return err
	}
	return errors.Join(printRows(os.Stdout, rows), printWaits(os.Stdout, rows))
}

func (b *bench) docker(ctx context.Context, args ...string) (string, error) {
	return run(ctx, b.cli, args...)
}

// run is a command of docker, which must succeed.
func run(ctx context.Context, cli engine.CLI, args ...string) (string, error) {
	res, err := cli.Run(ctx, nil, args...)
	if err == nil && res.Code != 0 {
		err = fmt.Errorf("docker %s: exit code %d: %s", strings.Join(args, " "), res.Code, strings.TrimSpace(res.Stderr))
	}
	return strings.TrimSpace(res.Stdout), err
}
