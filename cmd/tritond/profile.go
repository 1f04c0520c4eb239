package main

import (
	"context"
	"os"
	"time"

	"github.com/tritond/triton/pkg/backtrace"
	"github.com/tritond/triton/pkg/profile"
	"github.com/tritond/triton/pkg/triton"
)

// newPusher makes what uploads profiles of all containers, if that is wanted.
func (d *daemon) newPusher() (err error) {
	if d.cfg.Pyroscope == "" {
		return nil
	}
	d.pusher, err = profile.NewPusher(profile.PushConfig{
		URL: d.cfg.Pyroscope, Node: d.static.Name, Taker: d.taker, Subjects: d.node.ProfileSubjects,
		Start: func() (profile.Stacks, error) { return d.probes.StartProfileOfAll(triton.OnCPU) },
		Log:   d.log.With("part", "profiles"),
	})
	if err != nil {
		return err
	}
	return d.telemetry.Register(d.pusher)
}

// pushProfiles runs what newPusher made; that it cannot begin here is no reason to end the daemon.
func (d *daemon) pushProfiles(ctx context.Context) error {
	if d.pusher == nil {
		return nil
	}
	if err := d.pusher.Run(ctx); err != nil {
		d.log.Error("profiles of containers are not uploaded", "err", err)
	}
	return nil
}

// newTaker returns what takes profiles of containers.
func (d *daemon) newTaker() *profile.Taker {
	return &profile.Taker{
		Start: func(key triton.ContainerKey, kind triton.StackKind) (profile.Stacks, error) {
			return d.probes.StartProfile(key, kind)
		},
		CPU: func(path string) (time.Duration, error) {
			u, err := d.cgroups.Usage(path)
			return u.CPUTotal, err
		},
		Name: func(ctx context.Context, p *backtrace.Process, mem backtrace.Memory, files []*os.File) (*backtrace.Result, error) {
			b, _, err := d.analyze(ctx, p, mem, files)
			return b, err
		},
		Now: time.Now,
	}
}
