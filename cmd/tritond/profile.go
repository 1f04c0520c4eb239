package main

import (
	"time"

	"github.com/tritond/triton/pkg/profile"
	"github.com/tritond/triton/pkg/triton"
)

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
		Name: d.analyze, Now: time.Now,
	}
}
