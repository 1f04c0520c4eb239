package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tritond/triton/pkg/triton"
)

// Commit makes an image of another one and a layer above it, a tar that is not packed. config is what a container was run
// with, before the changes of the request; what it does not know is the other image's. It returns the id.
func (s *Store) Commit(
	ctx context.Context, tenant triton.Tenant, base string, layer io.Reader, config triton.ImageConfig, req triton.CommitRequest,
) (string, error) {
	ctx, err := inTenant(ctx, tenant)
	if err != nil {
		return "", err
	}
	tags, err := targets(req.Ref)
	if err != nil {
		return "", err
	}
	id, err := s.single(ctx, tenant, tags, func(ctx context.Context) (*bundle, error) {
		return s.committed(ctx, base, layer, config, req)
	}, func(b *bundle) { s.emitTags(tenant, b) })
	if err != nil {
		return "", fmt.Errorf("commit: %w", fullDisk(err))
	}
	return id, nil
}

// committed stores the layer, and a config and a manifest that have it on top.
func (s *Store) committed(ctx context.Context, base string, layer io.Reader, config triton.ImageConfig, req triton.CommitRequest) (*bundle, error) {
	f, err := s.find(ctx, base)
	if err != nil {
		return nil, err
	}
	m, err := s.manifestOf(ctx, f)
	if err != nil {
		return nil, err
	}
	below, err := s.config(ctx, f.anchor.Name)
	if err != nil {
		return nil, err
	}
	im := *below // its lists are replaced, never changed
	im.Config = committedConfig(below.Config, config)
	if err := applyChanges(&im.Config, req.Changes); err != nil {
		return nil, err
	}
	metered, err := newMeter(ctx, layer, s.floor)
	if err != nil {
		return nil, err
	}
	src := &witness{r: metered}
	diffID, size, err := contentShelf{s.eng.content}.put(ctx, src, unknownSize)
	if src.err != nil {
		return nil, src.err // what the caller failed with, and not what became of it here
	}
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	im.Created, im.Author = &now, req.Author
	im.RootFS.DiffIDs = append(slices.Clone(below.RootFS.DiffIDs), diffID)
	im.History = append(slices.Clone(below.History), ocispec.History{Created: &now, Author: req.Author, Comment: req.Message})
	raw, err := json.Marshal(im)
	if err != nil {
		return nil, fmt.Errorf("encode image config: %w", err)
	}
	m.Config = ocispec.Descriptor{MediaType: m.Config.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if err := s.putDocument(ctx, m.Config, raw); err != nil {
		return nil, err
	}
	kind := ocispec.MediaTypeImageLayer
	if m.MediaType == images.MediaTypeDockerSchema2Manifest {
		kind = images.MediaTypeDockerSchema2Layer
	}
	m.Layers = append(slices.Clone(m.Layers), ocispec.Descriptor{MediaType: kind, Digest: diffID, Size: size})
	m.Annotations, m.Subject = nil, nil // they are about the other image
	b, err := newBundle(ctx, contentShelf{s.eng.content}, m)
	if errdefs.IsInvalidArgument(err) {
		return nil, fmt.Errorf("the image %s cannot carry one layer more: %w", base, err)
	}
	return &b, err
}

// committedConfig puts a container's settings over its image's. Lists and maps are new: changes are applied to them.
func committedConfig(below dockerspec.DockerOCIImageConfig, c triton.ImageConfig) dockerspec.DockerOCIImageConfig {
	below.Entrypoint, below.Cmd, below.Env = slices.Clone(c.Entrypoint), slices.Clone(c.Cmd), slices.Clone(c.Env)
	below.WorkingDir, below.User, below.StopSignal = c.WorkingDir, c.User, c.StopSignal
	below.ExposedPorts, below.Volumes, below.Labels = map[string]struct{}{}, map[string]struct{}{}, map[string]string{}
	for _, p := range c.ExposedPorts {
		below.ExposedPorts[p] = struct{}{}
	}
	for _, v := range c.Volumes {
		below.Volumes[v] = struct{}{}
	}
	maps.Copy(below.Labels, c.Labels)
	return below
}
