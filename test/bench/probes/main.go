package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/tritond/triton/test/bench/machine"
)

// config is what the command line says.
type config struct {
	repo  string
	only  *regexp.Regexp
	scale float64
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "probes:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	var cfg config
	flag.StringVar(&cfg.repo, "repo", ".", "folder of the repository")
	flag.Float64Var(&cfg.scale, "scale", 1, "times as many rounds")
	only := flag.String("only", "", "run parts whose name matches this pattern: calls, waits, connections, profile, memory")
	flag.Parse()
	if cfg.only, err = regexp.Compile(*only); err != nil {
		return err
	}
	before := machine.Conditions(ctx)
	var out strings.Builder
	for _, p := range parts {
		if !cfg.only.MatchString(p.name) {
			continue
		}
		fmt.Fprintln(os.Stderr, "probes:", p.name)
		if err := p.run(ctx, cfg, &out); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if err := machine.Print(os.Stdout, before); err != nil {
		return err
	}
	_, err = io.WriteString(os.Stdout, out.String())
	return err
}

// run runs the part's benchmarks and writes its rows.
func (p part) run(ctx context.Context, cfg config, w io.Writer) error {
	seen := values{}
	if p.name == "calls" {
		if err := installBpftrace(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "probes: no bpftrace to compare with:", err)
		}
	}
	for _, b := range p.benchmarks {
		out, err := command(ctx, cfg.repo, "go", "test", "-run", "^$", "-bench", "^"+b.name+"$", "-count", "1", "-timeout", "10m",
			"-benchtime", rounds(b.rounds, cfg.scale)+"x", b.pack)
		if err != nil {
			return err
		}
		if err := seen.add(out); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "\n### %s\n\n| what | least | median | goal |\n|---|---|---|---|\n", p.title)
	for _, r := range p.rows(seen) {
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", r.what, r.least, r.median, r.goal)
	}
	return nil
}

// rounds is how many of n are run.
func rounds(n int, scale float64) string { return strconv.Itoa(max(1, int(float64(n)*scale))) }

// command runs a program in the repository and returns its output; its complaints are shown.
func command(ctx context.Context, dir string, argv ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, bytes.TrimSpace(out))
	}
	return out, nil
}

// installBpftrace installs it unless it is there.
func installBpftrace(ctx context.Context) error {
	if _, err := exec.LookPath("bpftrace"); err == nil {
		return nil
	}
	for _, argv := range [][]string{{"apt-get", "-qq", "update"}, {"apt-get", "-qq", "install", "-y", "--no-install-recommends", "bpftrace"}} {
		if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, bytes.TrimSpace(out))
		}
	}
	return nil
}
