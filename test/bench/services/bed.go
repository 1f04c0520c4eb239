package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

// bed is where services run: a daemon that has their images, and a control group that counts the CPU time of all.
type bed struct {
	daemon  *engine.Tritond
	account *engine.Account
	cli     engine.CLI
	all     []service
	built   map[string]images.Built // by service
}

// newBed makes the images and loads them into a daemon, which does not run afterwards. Close it.
func newBed(ctx context.Context, bin, cache string, all []service) (_ *bed, err error) {
	d, err := engine.NewTritond(bin)
	if err != nil {
		return nil, err
	}
	d.LogLevel = "warn"
	account, err := engine.NewAccount("tebench-"+d.Instance, d.Cgroup())
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(d.Root))
	}
	b := &bed{
		daemon: d, account: account, all: all, built: map[string]images.Built{},
		cli: engine.CLI{Host: d.Host, ConfigDir: filepath.Join(d.Root, "docker-config")},
	}
	if err := b.load(ctx, cache); err != nil {
		return nil, errors.Join(err, b.close(ctx))
	}
	return b, nil
}

func (b *bed) load(ctx context.Context, cache string) error {
	if err := b.daemon.Start(ctx); err != nil {
		return err
	}
	for _, s := range b.all {
		built, err := s.image.Build(ctx, cache)
		if err != nil {
			return err
		}
		if _, err := b.docker(ctx, "load", "-q", "-i", built.Archive); err != nil {
			return err
		}
		b.built[s.name] = built
	}
	return b.daemon.Stop()
}

// close ends all, though ctx has ended.
func (b *bed) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return errors.Join(b.daemon.Close(ctx), b.account.Close())
}

func (b *bed) docker(ctx context.Context, args ...string) (string, error) {
	res, err := b.cli.Run(ctx, nil, args...)
	if err == nil && res.Code != 0 {
		err = fmt.Errorf("docker %s: exit code %d: %s", strings.Join(args, " "), res.Code, strings.TrimSpace(res.Stderr))
	}
	return strings.TrimSpace(res.Stdout), err
}

// startServer runs a server in a container named server, and returns its address once it listens.
func (b *bed) startServer(ctx context.Context, s service, network string) (address string, err error) {
	args := append([]string{"run", "-d", "--name", "server", "--network", network, s.image.Tag}, s.server...)
	if _, err := b.docker(ctx, args...); err != nil {
		return "", err
	}
	address = "127.0.0.1"
	if network == "bridge" {
		if address, err = b.docker(ctx, "inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "server"); err != nil {
			return "", err
		}
	}
	if err := listens(ctx, address+":"+s.port); err != nil {
		logs, _ := b.docker(ctx, "logs", "server") // the error above is what counts
		return "", fmt.Errorf("%w: %s", err, logs)
	}
	return address, nil
}
