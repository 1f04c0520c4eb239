package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
	"github.com/tritond/triton/test/registry"
)

// suite is what all scripts share.
type suite struct {
	target   *engine.Target
	cli      engine.CLI
	images   images.Set
	repo     string
	registry *registry.Registry
	private  *registry.Registry // asks for someone's secret
}

// all is set once by TestMain, before any test runs.
var all suite

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) (code int) {
	stop, err := prepare()
	if err == nil {
		code = m.Run()
	}
	if err := errors.Join(err, stop()); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL conformance:", err)
		code = 1
	}
	return code
}

// prepare fills all. The function it returns is never nil and stops what was started.
func prepare() (stop func() error, err error) {
	var stops []func() error
	stop = func() error {
		var errs []error
		for i := range stops {
			errs = append(errs, stops[len(stops)-1-i]())
		}
		return errors.Join(errs...)
	}
	repo, err := filepath.Abs("../..")
	if err != nil {
		return stop, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if all.images, err = images.Build(ctx, filepath.Join(repo, ".cache")); err != nil {
		return stop, err
	}
	if all.target, err = engine.StartTarget(ctx, os.Getenv("TRITON_E2E_HOST"), engine.BinDir(repo), repo); err != nil {
		return stop, err
	}
	stops = append(stops, all.target.Stop)
	config, err := os.MkdirTemp("", "docker-config")
	if err != nil {
		return stop, err
	}
	stops = append(stops, func() error { return os.RemoveAll(config) })
	all.cli = engine.CLI{Host: all.target.Host, ConfigDir: config}
	all.repo = repo
	for _, r := range []struct {
		to  **registry.Registry
		opt registry.Options
	}{
		{&all.registry, registry.Options{NetNS: all.target.NetNS}},
		{&all.private, registry.Options{NetNS: all.target.NetNS, User: "someone", Password: "secret"}},
	} {
		if *r.to, err = registry.Start(context.WithoutCancel(ctx), filepath.Join(repo, ".cache", "bin"), r.opt); err != nil {
			return stop, err
		}
		stops = append(stops, (*r.to).Close)
	}
	return stop, all.cli.Load(ctx, all.images.Archives()...)
}
