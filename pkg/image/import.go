package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tritond/triton/pkg/triton"
)

// Import makes an image of one layer from the tar of a root file system, plain or compressed, and returns its id.
// ref may be empty: no name. message is the image's comment; changes are Dockerfile lines for its config.
func (s *Store) Import(ctx context.Context, tenant triton.Tenant, in io.Reader, ref, message string, changes []string) (string, error) {
	ctx, err := inTenant(ctx, tenant)
	if err != nil {
		return "", err
	}
	var tags []reference.NamedTagged
	if ref != "" {
		tag, err := parseTarget(ref)
		if err != nil {
			return "", err
		}
		tags = append(tags, tag)
	}
	var config dockerspec.DockerOCIImageConfig
	if err := applyChanges(&config, changes); err != nil {
		return "", err
	}
	var id string
	err = s.leased(ctx, func(ctx context.Context) error {
		b, err := s.importLayer(ctx, in, config, message)
		if err != nil {
			return err
		}
		b.tags, id = tags, b.id.String()
		ready, err := s.prepare(ctx, tenant, b)
		if err != nil {
			return err
		}
		if err := s.sync(); err != nil {
			return err
		}
		_, err = s.publish(ctx, []prepared{ready}, func() { s.emitImport(tenant, b) })
		return err
	})
	if err != nil {
		return "", fmt.Errorf("import: %w", fullDisk(err))
	}
	return id, nil
}

func (s *Store) emitImport(tenant triton.Tenant, b *bundle) {
	for _, t := range b.tags {
		s.emit(tenant, actionTag, b.id.String(), reference.FamiliarString(t), b.config.Config.Labels)
	}
	s.emit(tenant, actionImport, b.id.String(), b.id.String(), b.config.Config.Labels)
}

// importLayer stores the unpacked tar as a layer, and a config and a manifest about it.
func (s *Store) importLayer(ctx context.Context, in io.Reader, config dockerspec.DockerOCIImageConfig, message string) (*bundle, error) {
	z, err := decompress(in)
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
	configJSON, err := json.Marshal(importedImage(config, message, layer))
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

// importedImage is the config of an image whose one layer is not packed, so that its digest is its diff id.
func importedImage(config dockerspec.DockerOCIImageConfig, message string, diffID digest.Digest) dockerspec.DockerOCIImage {
	now := time.Now().UTC()
	here := platforms.DefaultSpec()
	im := dockerspec.DockerOCIImage{Config: config}
	im.Created = &now
	im.OS, im.Architecture, im.Variant = here.OS, here.Architecture, here.Variant
	im.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}}
	im.History = []ocispec.History{{Created: &now, Comment: message}}
	return im
}
