package image

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// bundle is one image of an archive, checked as far as it can be without unpacking its layers.
type bundle struct {
	id           digest.Digest // of the config
	config       dockerspec.DockerOCIImage
	manifest     ocispec.Descriptor
	manifestJSON []byte
	layers       []ocispec.Descriptor // of content, lowest first, as many as config.RootFS.DiffIDs
	tags         []reference.NamedTagged
	// digests are the names by digest that registries know the image by, and what is behind them: a manifest or an index.
	digests map[string]ocispec.Descriptor
}

// bundles finds the images of an archive. A layout's index is preferred, because it has the manifests as they were
// published; the names may come from docker's manifest.json beside it.
func (a *archive) bundles(ctx context.Context, from shelf) ([]bundle, error) {
	_, isLayout := a.documents[ocispec.ImageIndexFile]
	_, isDocker := a.documents[dockerManifestFile]
	var (
		all []bundle
		err error
	)
	switch {
	case isLayout:
		all, err = a.layoutBundles(ctx, from)
	case isDocker:
		all, err = a.dockerBundles(ctx, from)
	default:
		return nil, badArchive("it has neither %s nor %s", dockerManifestFile, ocispec.ImageIndexFile)
	}
	if err != nil {
		return nil, err
	}
	if isLayout && isDocker {
		if err := a.addDockerTags(all); err != nil {
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, badArchive("there is no image in it")
	}
	return all, nil
}

// dockerImage is one entry of docker's manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// decodeDocument decodes one JSON value and nothing after it.
func decodeDocument(what string, b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return badArchive("%s: %v", what, err)
	}
	return nil
}

func (a *archive) dockerImages() ([]dockerImage, error) {
	var all []dockerImage
	if err := decodeDocument(dockerManifestFile, a.documents[dockerManifestFile], &all); err != nil {
		return nil, err
	}
	if len(all) > maxImages {
		return nil, badArchive("more than %d images", maxImages)
	}
	return all, nil
}

// dockerBundles reads manifest.json, in which the files of an image are named, and makes up the manifests.
func (a *archive) dockerBundles(ctx context.Context, from shelf) ([]bundle, error) {
	list, err := a.dockerImages()
	if err != nil {
		return nil, err
	}
	var all []bundle
	for _, im := range list {
		if len(im.Layers) > maxLayers {
			return nil, badArchive("%d layers, at most %d are possible", len(im.Layers), maxLayers)
		}
		cfg, err := a.find(im.Config)
		if err != nil {
			return nil, err
		}
		m := ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2},
			MediaType: images.MediaTypeDockerSchema2Manifest,
			Config:    ocispec.Descriptor{MediaType: images.MediaTypeDockerSchema2Config, Digest: cfg.digest, Size: cfg.size},
			Layers:    []ocispec.Descriptor{},
		}
		for _, name := range im.Layers {
			l, err := a.find(name)
			if err != nil {
				return nil, err
			}
			m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: l.mediaType(), Digest: l.digest, Size: l.size})
		}
		b, err := newBundle(ctx, from, m)
		if err != nil {
			return nil, err
		}
		if b.tags, err = parseTags(im.RepoTags); err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, nil
}

// mediaType is docker's name for a layer packed like this.
func (b blob) mediaType() string {
	switch b.packed {
	case gzipped:
		return images.MediaTypeDockerSchema2LayerGzip
	case zstandard:
		return images.MediaTypeDockerSchema2LayerZstd
	default:
		return images.MediaTypeDockerSchema2Layer
	}
}

// newBundle makes a bundle of a manifest that is not in the archive.
func newBundle(ctx context.Context, from shelf, m ocispec.Manifest) (bundle, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return bundle{}, fmt.Errorf("encode manifest: %w", err)
	}
	return checkBundle(ctx, from, m, b)
}

// checkBundle reads the config of a manifest and holds the two against each other.
func checkBundle(ctx context.Context, from shelf, m ocispec.Manifest, manifestJSON []byte) (bundle, error) {
	b := bundle{id: m.Config.Digest, layers: m.Layers, manifestJSON: manifestJSON}
	b.manifest = ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(manifestJSON), Size: int64(len(manifestJSON))}
	if b.manifest.MediaType == "" {
		b.manifest.MediaType = ocispec.MediaTypeImageManifest
	}
	raw, err := from.Get(ctx, m.Config.Digest)
	if err != nil {
		return bundle{}, fmt.Errorf("read image config: %w", err)
	}
	if err := decodeDocument("image config", raw, &b.config); err != nil {
		return bundle{}, err
	}
	if os := b.config.OS; os != "" && os != runtime.GOOS {
		return bundle{}, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("cannot load %s image on %s", os, runtime.GOOS))
	}
	ids := b.config.RootFS.DiffIDs
	if len(m.Layers) != len(ids) {
		return bundle{}, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid manifest, layers length mismatch: expected %d, got %d", len(m.Layers), len(ids)))
	}
	if len(ids) > maxLayers {
		return bundle{}, badArchive("%d layers, at most %d are possible", len(ids), maxLayers)
	}
	for i, d := range ids {
		if err := checkDigest(d); err != nil {
			return bundle{}, badArchive("diff id of layer %d: %v", i, err)
		}
	}
	return b, nil
}

// checkDigest accepts what the content store can hold: sha256.
func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %.80q: %w", string(d), err)
	}
	if d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("digest algorithm %s is not supported", d.Algorithm())
	}
	return nil
}

// layoutBundles reads an OCI layout's index.json.
func (a *archive) layoutBundles(ctx context.Context, from shelf) ([]bundle, error) {
	var layout ocispec.ImageLayout
	if b, ok := a.documents[ocispec.ImageLayoutFile]; ok {
		if err := decodeDocument(ocispec.ImageLayoutFile, b, &layout); err != nil {
			return nil, err
		}
		if layout.Version != ocispec.ImageLayoutVersion {
			return nil, badArchive("layout version %.20q is not supported", layout.Version)
		}
	}
	var index ocispec.Index
	if err := decodeDocument(ocispec.ImageIndexFile, a.documents[ocispec.ImageIndexFile], &index); err != nil {
		return nil, err
	}
	if len(index.Manifests) > maxImages {
		return nil, badArchive("more than %d images", maxImages)
	}
	var all []bundle
	byDigest := map[digest.Digest]int{}
	for _, d := range forThisMachine(index.Manifests) {
		b, ok, err := a.layoutBundle(ctx, from, d, 0)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		tags, err := layoutTags(d.Annotations)
		if err != nil {
			return nil, err
		}
		// An index has one entry per tag: the same image comes several times.
		if i, ok := byDigest[b.id]; ok {
			all[i].tags = addTags(all[i].tags, tags)
			continue
		}
		b.tags = tags
		byDigest[b.id] = len(all)
		all = append(all, b)
	}
	return all, nil
}

// maxNesting is how deep indexes may lie in indexes.
const maxNesting = 4

// layoutBundle follows a descriptor to the image for this machine; false: there is none behind it.
func (a *archive) layoutBundle(ctx context.Context, from shelf, d ocispec.Descriptor, depth int) (bundle, bool, error) {
	if depth > maxNesting {
		return bundle{}, false, badArchive("indexes are nested more than %d deep", maxNesting)
	}
	raw, err := a.document(ctx, from, d)
	if err != nil {
		return bundle{}, false, err
	}
	if images.IsIndexType(d.MediaType) {
		var index ocispec.Index
		if err := decodeDocument("index "+d.Digest.String(), raw, &index); err != nil {
			return bundle{}, false, err
		}
		for _, m := range forThisMachine(index.Manifests) {
			if !a.has(m) {
				continue // platforms that were not saved
			}
			b, ok, err := a.layoutBundle(ctx, from, m, depth+1)
			if err != nil || ok {
				return b, ok, err
			}
		}
		return bundle{}, false, nil
	}
	if !images.IsManifestType(d.MediaType) {
		return bundle{}, false, nil // an artifact that is not an image
	}
	var m ocispec.Manifest
	if err := decodeDocument("manifest "+d.Digest.String(), raw, &m); err != nil {
		return bundle{}, false, err
	}
	if len(m.Layers) > maxLayers {
		return bundle{}, false, badArchive("%d layers, at most %d are possible", len(m.Layers), maxLayers)
	}
	for _, part := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if _, err := a.descriptor(part); err != nil {
			return bundle{}, false, err
		}
	}
	m.MediaType = d.MediaType
	b, err := checkBundle(ctx, from, m, raw)
	return b, err == nil, err
}

// layoutPath is where a layout keeps a blob.
func layoutPath(d digest.Digest) string {
	return ocispec.ImageBlobsDir + "/" + d.Algorithm().String() + "/" + d.Encoded()
}

func (a *archive) has(d ocispec.Descriptor) bool {
	_, err := a.descriptor(d)
	return err == nil
}

// descriptor finds the blob of a descriptor; its digest was checked when it was stored.
func (a *archive) descriptor(d ocispec.Descriptor) (blob, error) {
	if err := checkDigest(d.Digest); err != nil {
		return blob{}, badArchive("%v", err)
	}
	b, err := a.find(layoutPath(d.Digest))
	if err != nil {
		return blob{}, err
	}
	if b.digest != d.Digest {
		return blob{}, badArchive("blob %s has the digest %s", d.Digest, b.digest)
	}
	if b.size != d.Size {
		return blob{}, badArchive("blob %s has %d bytes, not %d", d.Digest, b.size, d.Size)
	}
	return b, nil
}

// document reads the manifest or index of a descriptor.
func (a *archive) document(ctx context.Context, from shelf, d ocispec.Descriptor) ([]byte, error) {
	if _, err := a.descriptor(d); err != nil {
		return nil, err
	}
	return from.Get(ctx, d.Digest)
}

// annotationAttests marks what buildkit puts beside images in an index: statements about them.
const annotationAttests = "vnd.docker.reference.type"

// forThisMachine leaves out attestations, and what other platforms are for if there is something for this one; what is
// best comes first. A single image is taken whatever it says, as docker does.
func forThisMachine(all []ocispec.Descriptor) []ocispec.Descriptor {
	here := platforms.DefaultStrict()
	var candidates, matching []ocispec.Descriptor
	for _, d := range all {
		if _, attests := d.Annotations[annotationAttests]; attests {
			continue
		}
		candidates = append(candidates, d)
		if d.Platform == nil || here.Match(*d.Platform) {
			matching = append(matching, d)
		}
	}
	if len(matching) > 0 {
		return matching
	}
	if len(candidates) == 1 {
		return candidates
	}
	return nil
}
