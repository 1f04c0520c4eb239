package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

// subject is one engine that is measured.
type subject struct {
	name string
	cli  engine.CLI
	api  *engine.API
	// cpu returns the CPU time of the engine, its helpers and its containers so far; nil: not known.
	cpu func() (time.Duration, error)
	// processes are the engine's own: daemon first, then shims and other helpers; nil: not known.
	processes func() []int
	tritond   *engine.Tritond // nil for a peer
	netns     string          // path of the network namespace that the engine pulls in; empty: this process's
	close     func() error
}

// start starts the engines and loads the images. The subjects it returns beside an error must be closed too.
func start(ctx context.Context, cfg config, set images.Set) ([]*subject, error) {
	var subjects []*subject
	if !cfg.alone {
		s, err := startTritond(ctx, cfg)
		if err != nil {
			return subjects, err
		}
		subjects = append(subjects, s)
	}
	if cfg.peer != "" {
		s, err := startPeer(ctx, cfg.peer, cfg.repo)
		if err != nil {
			return subjects, err
		}
		subjects = append(subjects, s)
	}
	for _, s := range subjects {
		if err := s.cli.Load(ctx, set.Archives()...); err != nil {
			return subjects, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return subjects, nil
}

func startTritond(ctx context.Context, cfg config) (*subject, error) {
	d, err := engine.NewTritond(cfg.bin)
	if err != nil {
		return nil, err
	}
	d.LogLevel = "info"
	if d.Account, err = engine.NewAccount("tebench-"+d.Instance, d.Cgroup()); err != nil {
		return nil, err
	}
	s, err := newSubject("tritond", d.Host)
	if err != nil {
		return nil, err
	}
	s.tritond, s.cpu = d, d.Account.CPU
	s.processes = func() []int { return append([]int{d.Pid()}, d.Shims()...) }
	s.close = func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return errors.Join(d.Close(ctx), d.Account.Close(), os.RemoveAll(s.cli.ConfigDir))
	}
	if err := d.Start(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func startPeer(ctx context.Context, peer, repo string) (*subject, error) {
	edition, ok, err := engine.FindEdition(ctx, peer, repo)
	if err != nil {
		return nil, err
	}
	if !ok {
		s, err := newSubject("peer", peer)
		if err != nil {
			return nil, err
		}
		s.close = func() error { return os.RemoveAll(s.cli.ConfigDir) }
		return s, nil
	}
	root := fmt.Sprintf("/tmp/tebenchpeer%d", os.Getpid())
	account, err := engine.NewAccount(engine.DockerdCgroup(root)+"-daemon", engine.DockerdCgroup(root))
	if err != nil {
		return nil, err
	}
	d, err := engine.StartDockerd(ctx, edition, root, account)
	if err != nil {
		return nil, errors.Join(err, account.Close())
	}
	s, err := newSubject("dockerd", d.Host)
	if err != nil {
		return nil, err
	}
	s.cpu, s.processes, s.netns = account.CPU, d.Processes, d.NetNS()
	s.close = func() error { return errors.Join(d.Stop(), account.Close(), os.RemoveAll(s.cli.ConfigDir)) }
	return s, nil
}

func newSubject(name, host string) (*subject, error) {
	dir, err := os.MkdirTemp("", "docker-config")
	if err != nil {
		return nil, err
	}
	return &subject{name: name, cli: engine.CLI{Host: host, ConfigDir: dir}, api: engine.NewAPI(host, 8)}, nil
}

// docker runs a command that must succeed; the result's CPU is the client's own.
func (s *subject) docker(ctx context.Context, args ...string) (engine.Result, error) {
	res, err := s.cli.Run(ctx, nil, args...)
	if err == nil && res.Code != 0 {
		err = fmt.Errorf("%s: docker %s: exit code %d: %s", s.name, strings.Join(args, " "), res.Code, strings.TrimSpace(res.Stderr))
	}
	return res, err
}

// version asks an engine what it is.
func (s *subject) version() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	res, err := s.docker(ctx, "version", "--format",
		"API {{.Server.APIVersion}}{{range .Server.Components}}, {{.Name}} {{.Version}}{{end}}")
	if err != nil {
		return err.Error()
	}
	storage, err := s.docker(ctx, "info", "--format", "{{.Driver}}, cgroup v{{.CgroupVersion}}")
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(res.Stdout) + ", " + strings.TrimSpace(storage.Stdout)
}
