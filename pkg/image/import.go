package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tritond/triton/pkg/triton"
)

// Import makes an image of one layer from the tar of a root file system, plain or compressed, and returns its id.
func (s *Store) Import(ctx context.Context, tenant triton.Tenant, in io.Reader, req triton.ImportRequest) (string, error) {
	ctx, err := inTenant(ctx, tenant)
	if err != nil {
		return "", err
	}
	tags, err := targets(req.Ref)
	if err != nil {
		return "", err
	}
	im := dockerspec.DockerOCIImage{}
	im.Platform = platforms.DefaultSpec()
	if req.Platform != "" {
		if im.Platform, err = platforms.Parse(req.Platform); err != nil {
			return "", errdefs.ErrInvalidArgument.WithMessage(err.Error())
		}
	}
	if im.OS != runtime.GOOS {
		return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("operating system %q is not supported", im.OS))
	}
	if err := applyChanges(&im.Config, req.Changes); err != nil {
		return "", err
	}
	id, err := s.single(ctx, tenant, tags, func(ctx context.Context) (*bundle, error) {
		return s.importLayer(ctx, in, im, req.Message)
	}, func(b *bundle) { s.emitImport(tenant, b) })
	if err != nil {
		return "", fmt.Errorf("import: %w", fullDisk(err))
	}
	return id, nil
}

// targets are the tags of an image that is made here: one, or none for the empty reference.
func targets(ref string) ([]reference.NamedTagged, error) {
	if ref == "" {
		return nil, nil
	}
	tag, err := parseTarget(ref)
	if err != nil {
		return nil, err
	}
	return []reference.NamedTagged{tag}, nil
}

// single publishes the one image that build makes, and returns its id. published tells of it.
func (s *Store) single(
	ctx context.Context, tenant triton.Tenant, tags []reference.NamedTagged, build func(context.Context) (*bundle, error), published func(*bundle),
) (id string, err error) {
	err = s.leased(ctx, func(ctx context.Context) error {
		b, err := build(ctx)
		if err != nil {
			return err
		}
		b.tags, id = tags, b.id.String()
		ready, err := s.prepare(ctx, tenant, b, unpackSteps{})
		if err != nil {
			return err
		}
		if err := s.sync(); err != nil {
			return err
		}
		_, err = s.publish(ctx, []prepared{ready}, func() { published(b) })
		return err
	})
	return id, err
}

func (s *Store) emitImport(tenant triton.Tenant, b *bundle) {
	s.emitTags(tenant, b)
	s.emit(tenant, actionImport, b.id.String(), b.id.String(), b.config.Config.Labels)
}

func (s *Store) emitTags(tenant triton.Tenant, b *bundle) {
	for _, t := range b.tags {
		s.emit(tenant, actionTag, b.id.String(), reference.FamiliarString(t), b.config.Config.Labels)
	}
}

// importLayer stores the unpacked tar as a layer, and a config and a manifest about it.
func (s *Store) importLayer(ctx context.Context, in io.Reader, im dockerspec.DockerOCIImage, message string) (*bundle, error) {
	z, err := Decompress(in)
	if err != nil {
		return nil, readError(err)
	}
	defer z.Close()
	m, err := newMeter(ctx, z, s.floor)
	if err != nil {
		return nil, err
	}
	src := &witness{r: m}
	layer, size, err := contentShelf{s.eng.content}.put(ctx, src, unknownSize)
	if src.err != nil {
		return nil, readError(src.err)
	}
	if err != nil {
		return nil, err
	}
	configJSON, err := json.Marshal(importedImage(im, message, layer))
	if err != nil {
		return nil, fmt.Errorf("encode image config: %w", err)
	}
	c := ocispec.Descriptor{MediaType: images.MediaTypeDockerSchema2Config, Digest: digest.FromBytes(configJSON), Size: int64(len(configJSON))}
	if err := s.putDocument(ctx, c, configJSON); err != nil {
		return nil, err
	}
	b, err := newBundle(ctx, contentShelf{s.eng.content}, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: images.MediaTypeDockerSchema2Manifest,
		Config:    c,
		Layers:    []ocispec.Descriptor{{MediaType: images.MediaTypeDockerSchema2Layer, Digest: layer, Size: size}},
	})
	return &b, err
}

// importedImage completes the config of an image whose one layer is not packed, so that its digest is its diff id.
func importedImage(im dockerspec.DockerOCIImage, message string, diffID digest.Digest) dockerspec.DockerOCIImage {
	now := time.Now().UTC()
	im.Created = &now
	im.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}}
	im.History = []ocispec.History{{Created: &now, Comment: message}}
	return im
}
