package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/tritond/triton/pkg/cgroup"
	"github.com/tritond/triton/pkg/placement"
	"github.com/tritond/triton/pkg/triton"
)

// openPlacement makes what decides about new containers, and gives /metrics what it counts.
func (d *daemon) openPlacement() (err error) {
	d.placement, err = placement.New(placement.Config{
		Node: d.static.Name, Labels: d.machineLabels(), Promises: placement.Promises(d.cfg.Promises),
		Dir: filepath.Join(d.cfg.DataRoot, "placement"), Samples: d.telemetry, Machine: cgroup.ReadMachine, Images: d.imageNames,
		Now: time.Now, Log: d.log.With("part", "placement"),
	})
	if err != nil {
		return err
	}
	return d.telemetry.Register(d.placement.Collectors()...)
}

// machineLabels are what constraints find this machine by: Swarm's own, and over them the operator's.
func (d *daemon) machineLabels() map[string]string {
	labels := map[string]string{
		"storagedriver": d.static.StorageDriver, "kernelversion": d.static.KernelVersion, "operatingsystem": d.static.OperatingSystem,
	}
	for _, text := range d.cfg.Labels {
		if key, value, err := machineLabel(text); err == nil { // the settings were validated
			labels[key] = value
		}
	}
	return labels
}

// imageNames are the tags of a tenant's images.
func (d *daemon) imageNames(ctx context.Context, tenant triton.Tenant) ([]string, error) {
	images, err := d.images.List(ctx, tenant)
	var names []string
	for _, i := range images {
		names = append(names, i.RepoTags...)
	}
	return names, err
}
