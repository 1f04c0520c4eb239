package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/tritond/triton/test/images"
	"github.com/tritond/triton/test/registry"
)

// heavyRounds are enough for operations of a second and more.
const heavyRounds = 3

// readLogs measures docker logs of a container that has ended.
func (b *bench) readLogs(ctx context.Context) error {
	const lines = 1_000_000
	m := measurement{name: fmt.Sprintf("logs of %d lines", lines), target: "at most 1/2", n: 5, op: command("logs", "target")}
	if !b.cfg.only.MatchString(m.name) {
		return nil
	}
	err := b.each(ctx, func(s *subject) error {
		_, err := s.docker(ctx, "run", "--name", "target", images.Busybox, "seq", fmt.Sprint(lines))
		return err
	})
	if err == nil {
		err = b.timed(ctx, m)
	}
	if err != nil {
		return err
	}
	return b.each(ctx, func(s *subject) error { return removeAll(ctx, s) })
}

// removeFleet measures the forced removal of running containers by one command.
func (b *bench) removeFleet(ctx context.Context) error {
	return b.timed(ctx, measurement{
		name: fmt.Sprintf("rm -f of %d running, one command", fleet), target: "at most 1/4", n: heavyRounds,
		before: func(ctx context.Context, s *subject) error { return s.startSleepers(ctx, fleet) },
		op: func(ctx context.Context, s *subject) (time.Duration, error) {
			var list []struct{ Id string }
			if err := s.api.JSON(ctx, http.MethodGet, "/v1.41/containers/json", nil, &list); err != nil {
				return 0, err
			}
			args := []string{"rm", "-f"}
			for _, c := range list {
				args = append(args, c.Id)
			}
			res, err := s.docker(ctx, args...)
			return res.CPU, err
		},
	})
}

// crowd measures the listing of many containers.
func (b *bench) crowd(ctx context.Context) error {
	m := measurement{name: fmt.Sprintf("ps, %d running", b.cfg.crowd), n: b.cfg.rounds, op: command("ps")}
	if b.cfg.crowd == 0 || !b.cfg.only.MatchString(m.name) {
		return nil
	}
	err := b.each(ctx, func(s *subject) error {
		b.progress(fmt.Sprintf("start %d containers on %s", b.cfg.crowd, s.name))
		return s.startSleepers(ctx, b.cfg.crowd)
	})
	if err == nil {
		err = b.timed(ctx, m)
	}
	if err != nil {
		return err
	}
	return b.each(ctx, func(s *subject) error { return removeAll(ctx, s) })
}

// bigSize is the size of an image's one layer; its bytes do not compress.
const bigSize = 200 << 20

// pull measures the pull of an image from a registry on loopback. The subjects pull the same blobs, each from a registry
// process on the loopback of its own network namespace.
func (b *bench) pull(ctx context.Context) (err error) {
	const repository = "/bench/big:v1"
	m := measurement{name: fmt.Sprintf("pull of %d MiB from a registry on loopback", bigSize>>20), target: "no slower", n: heavyRounds}
	if !b.cfg.only.MatchString(m.name) {
		return nil
	}
	dir, err := os.MkdirTemp("", "tebenchpull")
	if err != nil {
		return err
	}
	var registries []*registry.Registry
	defer func() {
		for _, r := range registries {
			err = errors.Join(err, r.Close())
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	addrs := map[*subject]string{}
	err = b.each(ctx, func(s *subject) error {
		opt := registry.Options{Root: filepath.Join(dir, "data"), NetNS: s.netns}
		r, err := registry.Start(ctx, filepath.Join(b.cfg.repo, ".cache", "bin"), opt)
		if err != nil {
			return err
		}
		registries = append(registries, r)
		addrs[s] = r.Addr
		return nil
	})
	if err != nil {
		return err
	}
	first := b.subjects[0]
	tar := filepath.Join(dir, "big.tar")
	if err := images.WriteBig(tar, filepath.Join(b.set.Bin, "true"), bigSize); err != nil {
		return err
	}
	ref := addrs[first] + repository
	for _, args := range [][]string{{"import", tar, ref}, {"push", "-q", ref}, {"rmi", ref}} {
		if _, err := first.docker(ctx, args...); err != nil {
			return err
		}
	}
	m.op = func(ctx context.Context, s *subject) (time.Duration, error) {
		res, err := s.docker(ctx, "pull", "-q", addrs[s]+repository)
		return res.CPU, err
	}
	m.after = func(ctx context.Context, s *subject) error {
		_, err := s.docker(ctx, "rmi", addrs[s]+repository)
		return err
	}
	return b.timed(ctx, m)
}

// copies measures docker cp of a file into a container that does not run, and out again.
func (b *bench) copies(ctx context.Context) (err error) {
	m := measurement{name: fmt.Sprintf("cp of %d MiB both ways", bigSize>>20), target: "no slower", n: heavyRounds}
	if !b.cfg.only.MatchString(m.name) {
		return nil
	}
	dir, err := os.MkdirTemp("", "tebenchcp")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	if err := images.WriteBig(in, filepath.Join(b.set.Bin, "true"), bigSize); err != nil {
		return err
	}
	want, err := os.Stat(in)
	if err != nil {
		return err
	}
	err = b.each(ctx, func(s *subject) error {
		_, err := s.docker(ctx, "create", "--name", "target", images.Busybox)
		return err
	})
	if err != nil {
		return err
	}
	m.op = func(ctx context.Context, s *subject) (time.Duration, error) {
		there, err := s.docker(ctx, "cp", "-q", in, "target:/big")
		if err != nil {
			return there.CPU, err
		}
		back, err := s.docker(ctx, "cp", "-q", "target:/big", out)
		return there.CPU + back.CPU, err
	}
	m.after = func(context.Context, *subject) error {
		got, err := os.Stat(out)
		if err == nil && got.Size() != want.Size() {
			err = fmt.Errorf("cp: %d bytes came back of %d", got.Size(), want.Size())
		}
		return errors.Join(err, os.Remove(out))
	}
	if err := b.timed(ctx, m); err != nil {
		return err
	}
	return b.each(ctx, func(s *subject) error { return removeAll(ctx, s) })
}
