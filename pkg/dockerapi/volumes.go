package dockerapi

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/volume"

	"github.com/tritond/triton/pkg/triton"
)

// volumeRules says what becomes of each field of POST /volumes/create.
func volumeRules() ruleTable {
	return ruleTable{
		"Name":              {kind: mapped},
		"Driver":            {kind: mapped},
		"DriverOpts":        {kind: mapped},
		"Labels":            {kind: mapped},
		"ClusterVolumeSpec": {kind: refused, why: "there is no swarm"},
	}
}

func (s *Server) createVolume(ctx context.Context, c *call) error {
	var req volume.CreateRequest
	raw, err := c.body()
	if err != nil {
		return err
	}
	if len(raw) == 0 {
		raw = []byte("{}") // an anonymous volume
	}
	if err := decodeRules(raw, volumeRules(), &req); err != nil {
		return err
	}
	if !localDriver(req.Driver) {
		return noSuchDriver(req.Name, req.Driver)
	}
	spec := triton.VolumeSpec{Options: req.DriverOpts, Labels: req.Labels}
	if err := admitVolume(c.tenant, &spec); err != nil {
		return err
	}
	v, err := s.Backend.CreateVolume(ctx, c.tenant, req.Name, spec)
	if err != nil {
		return err
	}
	return c.json(http.StatusCreated, volumeOf(&v))
}

func localDriver(name string) bool { return name == "" || name == triton.VolumeDriver }

func noSuchDriver(volumeName, driver string) error {
	return notFound("create %s: error looking up volume plugin %s: plugin %q not found", volumeName, driver, driver)
}

func volumeOf(v *triton.VolumeInfo) volume.Volume {
	return volume.Volume{
		Name: v.Key.Name, Driver: triton.VolumeDriver, Scope: "local", Mountpoint: v.Mountpoint,
		CreatedAt: v.Created.Format(time.RFC3339), Labels: v.Spec.Labels, Options: v.Spec.Options,
	}
}

// volumeKey finds the volume of the request's path.
func volumeKey(c *call) triton.VolumeKey {
	return triton.VolumeKey{Tenant: c.tenant, Name: c.vars["name"]}
}

func (s *Server) inspectVolume(ctx context.Context, c *call) error {
	v, err := s.Backend.InspectVolume(ctx, volumeKey(c))
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, volumeOf(&v))
}

// listVolumes serves the volumes that docker's filters select, by name.
func (s *Server) listVolumes(ctx context.Context, c *call) error {
	f, err := parseFilters(c.query.Get("filters"), "dangling", "driver", "label", "name")
	if err != nil {
		return err
	}
	dangling, byUse, err := f.flag("dangling")
	if err != nil {
		return err
	}
	all, err := s.volumes(ctx, c.tenant)
	if err != nil {
		return err
	}
	names := f.patterns("name")
	list := []volume.Volume{}
	for i := range all {
		v := &all[i]
		switch {
		case byUse && dangling != (len(v.Users) == 0), len(names) > 0 && !anyMatch(names, v.Key.Name),
			!f.exact("driver", triton.VolumeDriver), !f.labels("label", v.Spec.Labels):
			continue
		}
		list = append(list, volumeOf(v))
	}
	return c.json(http.StatusOK, volume.ListResponse{Volumes: list})
}

// volumes are all volumes of a tenant, by name.
func (s *Server) volumes(ctx context.Context, tenant triton.Tenant) ([]triton.VolumeInfo, error) {
	all, err := s.Backend.ListVolumes(ctx, tenant)
	slices.SortFunc(all, func(a, b triton.VolumeInfo) int { return strings.Compare(a.Key.Name, b.Key.Name) })
	return all, err
}

// removeVolume takes force as docker does: a volume that is not there is no error then. One in use is, all the same.
func (s *Server) removeVolume(ctx context.Context, c *call) error {
	err := s.Backend.RemoveVolume(context.WithoutCancel(ctx), volumeKey(c))
	if err != nil && !(c.query.bool("force") && errdefs.IsNotFound(err)) {
		return err
	}
	return c.noContent()
}

// anonymousOnlySince is the API version from which prune leaves volumes with names alone unless asked by the filter all.
const anonymousOnlySince = 42

func (s *Server) pruneVolumes(ctx context.Context, c *call) error {
	f, err := parseFilters(c.query.Get("filters"), "all", "label", "label!")
	if err != nil {
		return err
	}
	everything, _, err := f.flag("all")
	if err != nil {
		return err
	}
	everything = everything || c.version < anonymousOnlySince
	gone, freed, err := s.Backend.PruneVolumes(ctx, c.tenant, func(v *triton.VolumeInfo) bool {
		return (everything || v.Spec.Anonymous()) && f.labels("label", v.Spec.Labels) && !f.anyLabel("label!", v.Spec.Labels)
	})
	if err != nil {
		return fmt.Errorf("prune volumes: %w", err)
	}
	return c.json(http.StatusOK, volume.PruneReport{VolumesDeleted: append([]string{}, gone...), SpaceReclaimed: uint64(freed)})
}
