package main

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

// bench collects the rows.
type bench struct {
	cfg      config
	set      images.Set
	subjects []*subject
	rows     []row
}

// fleet is how many containers run while a busy engine is measured.
const fleet = 50

func (b *bench) progress(what string) { fmt.Fprintln(os.Stderr, "bench:", what) }

// all runs the measurements in the order of the table.
func (b *bench) all(ctx context.Context) error {
	for _, step := range []func(context.Context) error{b.idle, b.logs, b.readLogs, b.busy, b.removeFleet, b.pull, b.copies, b.listMany, b.crowd} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// command is an operation that runs one docker command.
func command(args ...string) operation {
	return func(ctx context.Context, s *subject) (time.Duration, error) {
		res, err := s.docker(ctx, args...)
		return res.CPU, err
	}
}

// removeAll removes every container, which is what an operation left.
func removeAll(ctx context.Context, s *subject) error {
	var list []struct{ Id string }
	if err := s.api.JSON(ctx, http.MethodGet, "/v1.41/containers/json?all=1", nil, &list); err != nil {
		return err
	}
	for _, c := range list {
		if err := s.api.Remove(ctx, c.Id); err != nil {
			return err
		}
	}
	return nil
}

// idle measures an engine that runs nothing else.
func (b *bench) idle(ctx context.Context) error {
	n := b.cfg.rounds
	for _, m := range []measurement{
		{name: "docker --version (client alone)", n: n, op: command("--version")},
		{name: "docker version (client and one request)", n: n, op: command("version", "--format", "{{.Server.Version}}")},
		{name: "run --rm true", target: "at most 1/4 of dockerd, aim 1/5", n: n, op: command("run", "--rm", images.True)},
		{name: "run --rm --network none true", n: n, op: command("run", "--rm", "--network", "none", images.True)},
		{name: "run -d sleep", target: "at most 1/5", n: n, op: command("run", "-d", images.Busybox, "sleep", "1000"), after: removeAll},
		{name: "create, start, wait by API", n: n, op: runByAPI, after: removeAll},
	} {
		if err := b.timed(ctx, m); err != nil {
			return err
		}
	}
	return b.beside(ctx,
		measurement{name: "exec true", target: "at most 1/2", n: n, op: command("exec", "target", "true")},
		measurement{name: "ps, 1 running", n: n, op: command("ps")})
}

// beside times what needs one running container, named target.
func (b *bench) beside(ctx context.Context, ms ...measurement) error {
	if !slices.ContainsFunc(ms, func(m measurement) bool { return b.cfg.only.MatchString(m.name) }) {
		return nil
	}
	err := b.each(ctx, func(s *subject) error {
		_, err := s.docker(ctx, "run", "-d", "--name", "target", images.Busybox, "sleep", "100000")
		return err
	})
	for _, m := range ms {
		if err == nil {
			err = b.timed(ctx, m)
		}
	}
	if err != nil {
		return err
	}
	return b.each(ctx, func(s *subject) error { return removeAll(ctx, s) })
}

func runByAPI(ctx context.Context, s *subject) (time.Duration, error) {
	_, _, err := s.api.RunOnce(ctx, map[string]any{"Image": images.True})
	return 0, err
}

func (b *bench) each(ctx context.Context, f func(*subject) error) error {
	for _, s := range b.subjects {
		if err := f(s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return ctx.Err()
}

const (
	logSize = 40 << 20
	logLine = 80
)

// logs measures how fast a container's output reaches its log: a file of lines, mounted, is written by cat.
func (b *bench) logs(ctx context.Context) error {
	name := fmt.Sprintf("%d MiB of %d-byte lines to the log", logSize>>20, logLine)
	if !b.cfg.only.MatchString(name) {
		return nil
	}
	dir, err := os.MkdirTemp("/tmp", "tebenchlog")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	line := make([]byte, logLine)
	for i := range line {
		line[i] = byte('a' + i%26)
	}
	line[logLine-1] = '\n'
	data := make([]byte, 0, logSize)
	for len(data) < logSize {
		data = append(data, line...)
	}
	if err := os.WriteFile(filepath.Join(dir, "lines"), data, 0o644); err != nil {
		return err
	}
	body := map[string]any{
		"Image": images.Busybox, "Cmd": []string{"cat", "/data/lines"},
		"HostConfig": map[string]any{"Binds": []string{dir + ":/data:ro"}},
	}
	return b.timed(ctx, measurement{name: name, n: 5, op: func(ctx context.Context, s *subject) (time.Duration, error) {
		_, code, err := s.api.RunOnce(ctx, body)
		if err == nil && code != 0 {
			err = fmt.Errorf("cat ended with %d", code)
		}
		return 0, err
	}, after: removeAll})
}

// busy measures engines that run a fleet of idle containers.
func (b *bench) busy(ctx context.Context) error {
	names := []string{"memory per idle container", "ps", "GET /containers/json", "kill -9 until it serves again"}
	wanted := false
	for i, name := range names {
		if i > 0 {
			names[i] = fmt.Sprintf("%s, %d running", name, fleet)
		}
		wanted = wanted || b.cfg.only.MatchString(names[i])
	}
	if !wanted {
		return nil
	}
	memory := figure{unit: "MiB"}
	err := b.each(ctx, func(s *subject) error {
		mib, err := b.startFleet(ctx, s)
		memory.values = append(memory.values, mib)
		return err
	})
	if err != nil {
		return err
	}
	b.rows = append(b.rows, row{name: names[0], target: "at most 4 MiB", figure: &memory})
	if err := b.timed(ctx, measurement{name: names[1], target: "at most 1/2", n: b.cfg.rounds, op: command("ps")}); err != nil {
		return err
	}
	if err := b.listRate(ctx, names[2]); err != nil {
		return err
	}
	if err := b.restart(ctx, names[3]); err != nil {
		return err
	}
	return b.each(ctx, func(s *subject) error { return removeAll(ctx, s) })
}

// startFleet starts the containers and returns what one costs: what the engine's processes grew by, in MiB of PSS.
func (b *bench) startFleet(ctx context.Context, s *subject) (float64, error) {
	b.progress(fmt.Sprintf("start %d containers on %s", fleet, s.name))
	before, err := s.pss()
	if err != nil {
		return 0, err
	}
	if err := s.startSleepers(ctx, fleet); err != nil {
		return 0, err
	}
	after, err := s.pss()
	return (after - before) / fleet, err
}

// startSleepers starts n idle containers on the default network.
func (s *subject) startSleepers(ctx context.Context, n int) error {
	for range n {
		body := map[string]any{"Image": images.Busybox, "Cmd": []string{"sleep", "100000"}}
		var created struct{ Id string }
		if err := s.api.JSON(ctx, http.MethodPost, "/v1.41/containers/create", body, &created); err != nil {
			return err
		}
		if err := s.api.JSON(ctx, http.MethodPost, "/v1.41/containers/"+created.Id+"/start", nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// pss returns the proportional memory of all of the engine's processes in MiB: pages that shims share count once.
func (s *subject) pss() (float64, error) {
	if s.processes == nil {
		return math.NaN(), nil
	}
	var sum int64
	for _, pid := range s.processes() {
		n, err := engine.PSS(pid)
		if os.IsNotExist(err) {
			continue // ended meanwhile
		}
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return float64(sum) / (1 << 20), nil
}

const (
	rateConns  = 8
	rateTime   = 2 * time.Second
	rateRounds = 5
)

// listRate measures listings per second over several connections; each subject's figure is the median of its rounds.
func (b *bench) listRate(ctx context.Context, name string) error {
	if !b.cfg.only.MatchString(name) {
		return nil
	}
	b.progress(name)
	rates := make([][]float64, len(b.subjects))
	for range rateRounds {
		for i, s := range b.subjects {
			rate, err := s.rate(ctx, "/v1.41/containers/json")
			if err != nil {
				return err
			}
			rates[i] = append(rates[i], rate)
		}
	}
	f := figure{unit: "requests/s", more: true}
	for _, r := range rates {
		f.values = append(f.values, medianOf(r))
	}
	b.rows = append(b.rows, row{name: name + fmt.Sprintf(", %d connections", rateConns), target: "at least 100 times dockerd's rate", figure: &f})
	return nil
}

// rate counts complete answers to GET path within rateTime.
func (s *subject) rate(ctx context.Context, path string) (float64, error) {
	start := time.Now()
	end := start.Add(rateTime)
	var done atomic.Int64
	var first atomic.Pointer[error]
	var wg sync.WaitGroup
	for range rateConns {
		wg.Go(func() {
			for time.Now().Before(end) {
				r, err := s.api.Do(ctx, http.MethodGet, path, "", nil)
				if err == nil && r.Status != http.StatusOK {
					err = fmt.Errorf("%s answers %d", path, r.Status)
				}
				if err != nil {
					first.CompareAndSwap(nil, &err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	if err := first.Load(); err != nil {
		return 0, *err
	}
	// A slow engine's last answers come after the end: count over the time they took.
	return float64(done.Load()) / time.Since(start).Seconds(), nil
}

// restart kills tritond under its fleet and times the next start until a listing is answered. dockerd loses its
// containers with the daemon as it is configured here, so that there is nothing to compare.
func (b *bench) restart(ctx context.Context, name string) error {
	if !b.cfg.only.MatchString(name) {
		return nil
	}
	peers := b.subjects
	defer func() { b.subjects = peers }()
	b.subjects = nil
	for _, s := range peers {
		if s.tritond != nil {
			b.subjects = append(b.subjects, s)
		}
	}
	if len(b.subjects) == 0 {
		return nil
	}
	return b.timed(ctx, measurement{name: name, target: "under 3 s", n: 5, op: func(ctx context.Context, s *subject) (time.Duration, error) {
		s.api.Close()
		if err := s.tritond.Kill(); err != nil {
			return 0, err
		}
		if err := s.tritond.Start(ctx); err != nil {
			return 0, err
		}
		var list []struct{ State string }
		if err := s.api.JSON(ctx, http.MethodGet, "/v1.41/containers/json", nil, &list); err != nil {
			return 0, err
		}
		if len(list) != fleet {
			return 0, fmt.Errorf("%d of %d containers are listed as running", len(list), fleet)
		}
		return 0, nil
	}})
}
