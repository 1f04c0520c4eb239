package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tritond/triton/pkg/triton"
)

// Commit makes an image of another one and a layer above it, a tar that is not packed. config is what a container was run
// with: what the request's config and changes leave to it. It returns the id.
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
	first := config
	if req.Config != nil {
		first = *req.Config
	}
	asked := dockerConfig(below.Config, first)
	if err := applyChanges(&asked, req.Changes); err != nil {
		return nil, err
	}
	im.Config = dockerConfig(below.Config, imageConfig(&asked).Over(config))
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
	im.History = append(slices.Clone(below.History), ocispec.History{
		Created: &now, CreatedBy: strings.Join(config.Cmd, " "), Author: req.Author, Comment: req.Message,
	})
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

// dockerConfig is the inverse of imageConfig: what an image's document says in place of below, of which it keeps the rest.
// Lists and maps are new.
func dockerConfig(below dockerspec.DockerOCIImageConfig, c triton.ImageConfig) dockerspec.DockerOCIImageConfig {
	below.Entrypoint, below.Cmd, below.Env = slices.Clone(c.Entrypoint), slices.Clone(c.Cmd), slices.Clone(c.Env)
	below.WorkingDir, below.User, below.StopSignal = c.WorkingDir, c.User, c.StopSignal
	below.ExposedPorts, below.Volumes, below.Labels = setOf(c.ExposedPorts), setOf(c.Volumes), maps.Clone(c.Labels)
	below.Shell, below.OnBuild, below.Healthcheck = slices.Clone(c.Shell), slices.Clone(c.OnBuild), nil
	if h := c.Healthcheck; h != nil {
		below.Healthcheck = &dockerspec.HealthcheckConfig{
			Test: slices.Clone(h.Test), Interval: h.Interval, Timeout: h.Timeout,
			StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
		}
	}
	return below
}

// setOf has list's elements as keys.
func setOf(list []string) map[string]struct{} {
	set := make(map[string]struct{}, len(list))
	for _, e := range list {
		set[e] = struct{}{}
	}
	return set
}
