package dockerapi

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/volume"

	"github.com/tritond/triton/pkg/triton"
)

func (s *Server) containerChanges(ctx context.Context, c *call) error {
	key, err := s.key(ctx, c)
	if err != nil {
		return err
	}
	changes, err := s.Backend.ContainerChanges(ctx, key)
	if err != nil {
		return err
	}
	list := make([]container.FilesystemChange, len(changes))
	for i, ch := range changes {
		list[i] = container.FilesystemChange{Kind: container.ChangeType(ch.Kind), Path: ch.Path}
	}
	return c.json(http.StatusOK, list)
}

func (s *Server) pruneContainers(ctx context.Context, c *call) error {
	prunable, err := s.pruneFilter(c)
	if err != nil {
		return err
	}
	gone, freed, err := s.Backend.PruneContainers(context.WithoutCancel(ctx), c.tenant, func(ctr *triton.Container) bool {
		return prunable(ctr.Spec.Labels, ctr.Created)
	})
	if err != nil {
		return fmt.Errorf("prune containers: %w", err)
	}
	return c.json(http.StatusOK, map[string]any{"ContainersDeleted": gone, "SpaceReclaimed": freed})
}

// sizes are the bytes of a container's own layer and of all its files. One that has gone meanwhile has none.
func (s *Server) sizes(ctx context.Context, ctr *triton.Container, images map[string]int64) (rw, rootFs int64, err error) {
	rw, err = s.Backend.ContainerSize(ctx, ctr.Key)
	if errdefs.IsNotFound(err) {
		return 0, 0, nil
	}
	return rw, rw + images[ctr.Spec.ImageID], err
}

// imageSizes are the sizes of images, by id.
func imageSizes(images []triton.Image) map[string]int64 {
	sizes := make(map[string]int64, len(images))
	for i := range images {
		sizes[images[i].ID] = images[i].Size
	}
	return sizes
}

// sized are rows of docker ps -s, which are not kept: nobody tells when files are written.
func (s *Server) sized(ctx context.Context, tenant triton.Tenant, ctrs []*triton.Container, images []triton.Image) ([]summary, error) {
	names, err := s.imageNames(ctx, tenant)
	if err != nil {
		return nil, err
	}
	sizes := imageSizes(images)
	rows := make([]summary, len(ctrs))
	for i := range ctrs {
		ctr := ctrs[i]
		rows[i] = summaryOf(ctr, names.shown(ctr, familiarTag(ctr.Spec.Image)), statusText(&ctr.State, ctr.Health, s.Now()))
		if rows[i].SizeRw, rows[i].SizeRootFs, err = s.sizes(ctx, ctr, sizes); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// listSized is docker ps -s.
func (s *Server) listSized(ctx context.Context, c *call) error {
	filter, err := s.containerFilter(ctx, c)
	if err != nil {
		return err
	}
	all, err := s.Backend.ListContainers(ctx, c.tenant)
	if err != nil {
		return err
	}
	images, err := s.Backend.ListImages(ctx, c.tenant)
	if err != nil {
		return err
	}
	rows, err := s.sized(ctx, c.tenant, filter.selectFrom(all), images)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, rows)
}

// diskUsage is GET /system/df. Kinds that are not asked for are left out.
func (s *Server) diskUsage(ctx context.Context, c *call) error {
	kinds := c.query.Values["type"]
	for _, kind := range kinds {
		if !slices.Contains([]string{"container", "image", "volume", "build-cache"}, kind) {
			return invalid("unknown object type: %s", kind)
		}
	}
	wants := func(kind string) bool { return len(kinds) == 0 || slices.Contains(kinds, kind) }
	out := map[string]any{}
	all, err := s.Backend.ListContainers(ctx, c.tenant)
	if err != nil {
		return err
	}
	images, err := s.Backend.ListImages(ctx, c.tenant)
	if err != nil {
		return err
	}
	if wants("container") {
		if out["Containers"], err = s.sized(ctx, c.tenant, (&containerFilter{all: true}).selectFrom(all), images); err != nil {
			return err
		}
	}
	if wants("image") {
		out["Images"], out["LayersSize"] = imageUsage(c, all, images)
	}
	if wants("volume") {
		if out["Volumes"], err = s.volumeUsage(ctx, c.tenant); err != nil {
			return err
		}
	}
	if wants("build-cache") {
		out["BuildCache"], out["BuilderSize"] = []any{}, 0 // there is no builder
	}
	return c.json(http.StatusOK, out)
}

func imageUsage(c *call, ctrs []triton.Container, images []triton.Image) (rows []imageSummary, total int64) {
	users := usersOf(ctrs)
	rows = []imageSummary{}
	for i := range images {
		row := imageSummaryOf(&images[i], c.version, users)
		row.SharedSize = 0 // each image's layers are counted as its own
		rows = append(rows, row)
		total += images[i].Size
	}
	return rows, total
}

func (s *Server) volumeUsage(ctx context.Context, tenant triton.Tenant) ([]volume.Volume, error) {
	all, err := s.volumes(ctx, tenant)
	if err != nil {
		return nil, err
	}
	rows := []volume.Volume{}
	for i := range all {
		size, err := s.Backend.VolumeSize(ctx, all[i].Key)
		if err != nil {
			return nil, err
		}
		row := volumeOf(&all[i])
		row.UsageData = &volume.UsageData{RefCount: int64(len(all[i].Users)), Size: size}
		rows = append(rows, row)
	}
	return rows, nil
}
