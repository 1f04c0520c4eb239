package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tritond/triton/pkg/triton"
)

// savedImage is one image of an archive, with the names it was asked for by.
type savedImage struct {
	found    *found
	manifest ocispec.Manifest
	tags     []reference.NamedTagged
}

// Save writes images as `docker save` does since version 25: an OCI layout with docker's manifest.json beside it. refs are
// names, names without a tag (all of its tags), and ids; platform, if not empty, must be that of each. begin is called
// when nothing stands against it any more, before the first byte. Layers are written as they are stored.
func (s *Store) Save(ctx context.Context, tenant triton.Tenant, refs []string, platform string, begin func() error, out io.Writer) error {
	ctx, err := inTenant(ctx, tenant)
	if err != nil {
		return err
	}
	if len(refs) == 0 {
		return errdefs.ErrInvalidArgument.WithMessage("no image to save")
	}
	return s.leased(ctx, func(ctx context.Context) error {
		all, err := s.saved(ctx, refs)
		if err != nil {
			return err
		}
		for _, im := range all {
			if err := s.checkSaved(ctx, im, platform); err != nil {
				return err
			}
		}
		if err := begin(); err != nil {
			return err
		}
		w := &layoutWriter{store: s, tar: tar.NewWriter(out), written: map[string]bool{}}
		if err := w.images(ctx, all); err != nil {
			return err
		}
		return w.tar.Close()
	})
}

// saved finds the images, each once, in the order they were asked for.
func (s *Store) saved(ctx context.Context, refs []string) (all []*savedImage, err error) {
	byID := map[string]*savedImage{}
	add := func(f *found, tags ...reference.NamedTagged) {
		im := byID[f.anchor.Name]
		if im == nil {
			im = &savedImage{found: f}
			byID[f.anchor.Name] = im
			all = append(all, im)
		}
		im.tags = addTags(im.tags, tags)
	}
	ix, err := s.images(ctx)
	if err != nil {
		return nil, err
	}
	for _, ref := range refs {
		named, err := reference.ParseNormalizedNamed(ref)
		if err == nil && reference.IsNameOnly(named) {
			some := false
			for _, name := range slices.Sorted(maps.Keys(ix.byTag)) {
				for _, t := range ix.byTag[name].tags {
					if t.String() == name && t.Name() == named.Name() {
						add(ix.byTag[name], t)
						some = true
					}
				}
			}
			if some {
				continue
			}
		}
		f, err := s.find(ctx, ref)
		if err != nil {
			return nil, err
		}
		if t, ok := f.nameOf(ref).(reference.NamedTagged); ok {
			add(f, t)
		} else {
			add(f)
		}
	}
	return all, nil
}

// checkSaved reads the manifest and looks for all content, so that most errors come before the first byte. The lease in ctx
// keeps the content until the end.
func (s *Store) checkSaved(ctx context.Context, im *savedImage, platform string) (err error) {
	if platform != "" {
		want, err := platforms.Parse(platform)
		if err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(err.Error())
		}
		c, err := s.config(ctx, im.found.anchor.Name)
		if err != nil {
			return err
		}
		if !platforms.OnlyStrict(want).Match(c.Platform) {
			return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("image %s does not provide the specified platform (%s)", im.found.anchor.Name, platform))
		}
	}
	if im.manifest, err = s.manifestOf(ctx, im.found); err != nil {
		return err
	}
	if err := s.hold(ctx, im.found, im.manifest); err != nil {
		return err
	}
	for _, d := range append([]ocispec.Descriptor{im.manifest.Config}, im.manifest.Layers...) {
		ra, err := s.openBlob(ctx, d)
		if err != nil {
			return err
		}
		ra.Close()
	}
	return nil
}

// hold puts an image's content into the lease in ctx: it stays, even if the image is removed meanwhile.
func (s *Store) hold(ctx context.Context, f *found, m ocispec.Manifest) error {
	id, ok := leases.FromContext(ctx)
	if !ok {
		return fmt.Errorf("hold image %s: no lease", f.anchor.Name)
	}
	for _, d := range append([]ocispec.Descriptor{f.anchor.Target, m.Config}, m.Layers...) {
		r := leases.Resource{ID: d.Digest.String(), Type: "content"}
		if err := s.eng.leases.AddResource(ctx, leases.Lease{ID: id}, r); err != nil {
			return fmt.Errorf("hold image %s: %w", f.anchor.Name, err)
		}
	}
	return nil
}

// layoutWriter writes an OCI layout that docker's older versions can load as well.
type layoutWriter struct {
	store   *Store
	tar     *tar.Writer
	written map[string]bool
}

// images writes all blobs, and then the documents that name them.
func (w *layoutWriter) images(ctx context.Context, all []*savedImage) error {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	docker := []dockerImage{}
	repositories := map[string]map[string]string{}
	for _, im := range all {
		entry := dockerImage{Config: layoutPath(im.manifest.Config.Digest), Layers: []string{}}
		for _, d := range append([]ocispec.Descriptor{im.manifest.Config, im.found.anchor.Target}, im.manifest.Layers...) {
			if err := w.blob(ctx, d); err != nil {
				return err
			}
		}
		for _, l := range im.manifest.Layers {
			entry.Layers = append(entry.Layers, layoutPath(l.Digest))
		}
		target := im.found.anchor.Target
		target.Annotations = nil
		for _, t := range im.tags {
			entry.RepoTags = append(entry.RepoTags, reference.FamiliarString(t))
			named := target
			named.Annotations = map[string]string{images.AnnotationImageName: t.String(), ocispec.AnnotationRefName: t.Tag()}
			index.Manifests = append(index.Manifests, named)
			if n := len(im.manifest.Layers); n > 0 {
				name := reference.FamiliarName(t)
				if repositories[name] == nil {
					repositories[name] = map[string]string{}
				}
				repositories[name][t.Tag()] = im.manifest.Layers[n-1].Digest.Encoded()
			}
		}
		if len(im.tags) == 0 {
			index.Manifests = append(index.Manifests, target)
		}
		docker = append(docker, entry)
	}
	for _, doc := range []struct {
		name string
		v    any
	}{
		{ocispec.ImageIndexFile, index},
		{dockerManifestFile, docker},
		{ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}},
		{repositoriesFile, repositories},
	} {
		raw, err := json.Marshal(doc.v)
		if err != nil {
			return fmt.Errorf("encode %s: %w", doc.name, err)
		}
		if err := w.file(doc.name, int64(len(raw)), bytes.NewReader(raw)); err != nil {
			return err
		}
	}
	return nil
}

// blob writes a blob, unless it was written for another image; content that is not what its digest says is an error.
func (w *layoutWriter) blob(ctx context.Context, d ocispec.Descriptor) error {
	path := layoutPath(d.Digest)
	if w.written[path] {
		return nil
	}
	w.written[path] = true
	if err := w.dirs(d.Digest); err != nil {
		return err
	}
	ra, err := w.store.openBlob(ctx, d)
	if err != nil {
		return err
	}
	defer ra.Close()
	return w.file(path, d.Size, w.store.readBlob(ctx, ra, d, func(int64) {}))
}

// dirs writes the directories above a blob, once.
func (w *layoutWriter) dirs(d digest.Digest) error {
	for _, dir := range []string{ocispec.ImageBlobsDir + "/", ocispec.ImageBlobsDir + "/" + d.Algorithm().String() + "/"} {
		if w.written[dir] {
			continue
		}
		w.written[dir] = true
		if err := w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: time.Unix(0, 0)}); err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
	}
	return nil
}

func (w *layoutWriter) file(name string, size int64, r io.Reader) error {
	if err := w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)}); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	if _, err := io.Copy(w.tar, struct{ io.Reader }{r}); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
