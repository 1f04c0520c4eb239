package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/metadata/boltutil"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"

	"github.com/tritond/triton/pkg/triton"
)

// Labels of image records. A record named by an id, the anchor, is the image; a record named by a tag points to it.
const (
	labelID    = "triton.io/image-id"
	labelChain = "triton.io/chain-id" // empty or missing: no layers

	labelContentRef  = "containerd.io/gc.ref.content."
	labelSnapshotRef = "containerd.io/gc.ref.snapshot." + snapshotter
)

// isAnchor says whether a record is the image itself.
func isAnchor(rec images.Image) bool { return rec.Name == rec.Labels[labelID] }

// anchor makes the record that keeps everything of an image alive.
func (p prepared) anchor() images.Image {
	l := map[string]string{
		labelID:                    p.id.String(),
		labelSize:                  strconv.FormatInt(p.size, 10),
		labelContentRef + "config": p.id.String(),
	}
	if p.chain != "" {
		l[labelChain], l[labelSnapshotRef] = p.chain, p.chain
	}
	for i, d := range p.layers {
		l[labelContentRef+"l."+strconv.Itoa(i)] = d.Digest.String()
	}
	return images.Image{Name: p.id.String(), Target: p.manifest, Labels: l}
}

// tagRecord makes the record of a name.
func tagRecord(tag reference.NamedTagged, anchor images.Image) images.Image {
	return images.Image{Name: tag.String(), Target: anchor.Target, Labels: map[string]string{labelID: anchor.Name}}
}

// transaction runs fn with a context in which image records are changed together or not at all. s.names is held.
func (s *Store) transaction(ctx context.Context, fn func(context.Context) error) error {
	return s.eng.db.Update(func(tx *bolt.Tx) error { return fn(boltutil.WithTransaction(ctx, tx)) })
}

// put creates or replaces a record.
func (s *Store) put(ctx context.Context, rec images.Image) error {
	_, err := s.eng.images.Create(ctx, rec)
	if errdefs.IsAlreadyExists(err) {
		_, err = s.eng.images.Update(ctx, rec)
	}
	if err != nil {
		return fmt.Errorf("store record of %s: %w", rec.Name, err)
	}
	return nil
}

// digestRecord makes the record of a name by digest; target is what a registry has under it.
func digestRecord(name string, target ocispec.Descriptor, anchor images.Image) images.Image {
	target.Annotations, target.Data, target.URLs, target.Platform = nil, nil, nil, nil
	return images.Image{Name: name, Target: target, Labels: map[string]string{labelID: anchor.Name}}
}

// publish makes images and their names visible, all at once, calls tell, and returns what docker prints.
func (s *Store) publish(ctx context.Context, all []prepared, tell func()) ([]string, error) {
	s.names.Lock()
	defer s.names.Unlock()
	var lines []string
	err := s.transaction(ctx, func(ctx context.Context) error {
		for _, p := range all {
			moved, err := s.publishOne(ctx, p)
			if err != nil {
				return err
			}
			lines = append(append(lines, moved...), loadedLines(p.id, p.tags)...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.changed()
	tell() // with the names locked, so that events come in the order of what they tell
	return lines, nil
}

// publishOne stores an image's records and says which names it took from others, in docker's words.
func (s *Store) publishOne(ctx context.Context, p prepared) (moved []string, err error) {
	a := p.anchor()
	if err := s.put(ctx, a); err != nil {
		return nil, err
	}
	for _, t := range p.tags {
		old, err := s.eng.images.Get(ctx, t.String())
		if err == nil && old.Labels[labelID] != a.Name {
			moved = append(moved, fmt.Sprintf("The image %s already exists, renaming the old one with ID %s to empty string",
				reference.FamiliarString(t), old.Labels[labelID]))
		}
		if err := s.put(ctx, tagRecord(t, a)); err != nil {
			return nil, err
		}
	}
	for name, target := range p.digests {
		if err := s.put(ctx, digestRecord(name, target, a)); err != nil {
			return nil, err
		}
	}
	return moved, nil
}

// found is an image with its names.
type found struct {
	anchor images.Image
	tags   []reference.NamedTagged // sorted
	// digests are the names by digest, sorted.
	digests []reference.Canonical
}

// index is a tenant's images as they were at one moment. Nobody changes it once it is made.
type index struct {
	generation uint64
	byID       map[string]*found
	byTag      map[string]*found
	byDigest   map[string]*found // by name@digest
}

// changed makes every index that was read before stale. It is called after each change of records, with s.names held.
func (s *Store) changed() { s.generation.Add(1) }

// images gives the images of the tenant in ctx, from memory unless something changed.
func (s *Store) images(ctx context.Context) (*index, error) {
	namespace, err := namespaces.NamespaceRequired(ctx)
	if err != nil {
		return nil, err
	}
	now := s.generation.Load() // before reading: a change meanwhile makes the result stale
	if ix, ok := s.indexes.Load(namespace); ok && ix.(*index).generation == now {
		return ix.(*index), nil
	}
	recs, err := s.eng.images.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	ix, err := newIndex(recs)
	if err != nil {
		return nil, err
	}
	ix.generation = now
	if len(recs) > 0 { // a tenant that is made up must not take memory
		s.indexes.Store(namespace, ix)
	}
	return ix, nil
}

// newIndex sorts records by what they stand for.
func newIndex(recs []images.Image) (*index, error) {
	ix := &index{byID: map[string]*found{}, byTag: map[string]*found{}, byDigest: map[string]*found{}}
	for _, r := range recs {
		if isAnchor(r) {
			ix.byID[r.Name] = &found{anchor: r}
		}
	}
	for _, r := range recs {
		f := ix.byID[r.Labels[labelID]]
		if f == nil || isAnchor(r) {
			continue
		}
		named, err := reference.ParseNormalizedNamed(r.Name)
		if err != nil {
			return nil, fmt.Errorf("name %q in the store: %w", r.Name, err)
		}
		switch named := named.(type) {
		case reference.Canonical:
			f.digests = append(f.digests, named)
			ix.byDigest[named.String()] = f
		case reference.NamedTagged:
			f.tags = append(f.tags, named)
			ix.byTag[named.String()] = f
		}
	}
	for _, f := range ix.byID {
		slices.SortFunc(f.tags, func(a, b reference.NamedTagged) int { return strings.Compare(a.String(), b.String()) })
		slices.SortFunc(f.digests, func(a, b reference.Canonical) int { return strings.Compare(a.String(), b.String()) })
	}
	return ix, nil
}

// noSuchImage is docker's error for a reference that names nothing.
func noSuchImage(ref string) error {
	if r, err := reference.ParseAnyReference(ref); err == nil {
		if named, ok := r.(reference.Named); ok {
			r = reference.TagNameOnly(named)
		}
		ref = reference.FamiliarString(r)
	}
	return errdefs.ErrNotFound.WithMessage("No such image: " + ref)
}

// minPrefix is the fewest digits that may stand for an id.
const minPrefix = 1

// find resolves what a user calls an image: a name first, then an id or the beginning of only one id.
func (s *Store) find(ctx context.Context, ref string) (*found, error) {
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage("invalid reference format")
	}
	ix, err := s.images(ctx)
	if err != nil {
		return nil, err
	}
	if f := ix.byName(parsed); f != nil {
		return f, nil
	}
	if f := ix.byPrefix(ref); f != nil {
		return f, nil
	}
	return nil, noSuchImage(ref)
}

// byName finds name:tag, name@digest (of a manifest) and sha256:digest.
func (ix *index) byName(ref reference.Reference) *found {
	named, ok := ref.(reference.Named)
	if !ok {
		if d, ok := ref.(reference.Digested); ok {
			return ix.byID[d.Digest().String()]
		}
		return nil
	}
	digested, ok := named.(reference.Canonical)
	if !ok {
		return ix.byTag[reference.TagNameOnly(named).String()]
	}
	if canonical, err := reference.WithDigest(reference.TrimNamed(named), digested.Digest()); err == nil {
		if f := ix.byDigest[canonical.String()]; f != nil {
			return f
		}
	}
	for _, f := range ix.byTag {
		for _, t := range f.tags {
			if t.Name() == named.Name() && f.anchor.Target.Digest == digested.Digest() {
				return f
			}
		}
	}
	return nil
}

// byPrefix finds the one image whose id begins with prefix, which may have the algorithm before it.
func (ix *index) byPrefix(prefix string) (hit *found) {
	prefix = strings.TrimPrefix(prefix, chainAlgorithm)
	if len(prefix) < minPrefix {
		return nil
	}
	for id, f := range ix.byID {
		if strings.HasPrefix(strings.TrimPrefix(id, chainAlgorithm), prefix) {
			if hit != nil {
				return nil
			}
			hit = f
		}
	}
	return hit
}

// List returns the images of a tenant, newest first.
func (s *Store) List(ctx context.Context, tenant triton.Tenant) ([]triton.Image, error) {
	ctx, err := inTenant(ctx, tenant)
	if err != nil {
		return nil, err
	}
	ix, err := s.images(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]triton.Image, 0, len(ix.byID))
	for _, f := range ix.byID {
		im, err := s.describe(ctx, f)
		if err != nil {
			return nil, err
		}
		list = append(list, im)
	}
	slices.SortFunc(list, func(a, b triton.Image) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list, nil
}

// Inspect returns the image that a user calls ref: by name, digest, id or the unique beginning of an id.
func (s *Store) Inspect(ctx context.Context, tenant triton.Tenant, ref string) (triton.Image, error) {
	ctx, err := inTenant(ctx, tenant)
	if err != nil {
		return triton.Image{}, err
	}
	f, err := s.find(ctx, ref)
	if err != nil {
		return triton.Image{}, err
	}
	return s.describe(ctx, f)
}

// config reads what an image says about itself.
func (s *Store) config(ctx context.Context, id string) (*dockerspec.DockerOCIImage, error) {
	if c, ok := s.configs.Load(id); ok {
		return c.(*dockerspec.DockerOCIImage), nil
	}
	raw, err := contentShelf{s.eng.content}.Get(ctx, digest.Digest(id))
	if err != nil {
		return nil, fmt.Errorf("read config of image %s: %w", id, err)
	}
	c := &dockerspec.DockerOCIImage{}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, errors.Join(fmt.Errorf("config of image %s: %w", id, err), errdefs.ErrDataLoss)
	}
	s.configs.Store(id, c)
	return c, nil
}

// describe makes the public form of an image. The caller may change it.
func (s *Store) describe(ctx context.Context, f *found) (triton.Image, error) {
	c, err := s.config(ctx, f.anchor.Name)
	if err != nil {
		return triton.Image{}, err
	}
	size, err := strconv.ParseInt(f.anchor.Labels[labelSize], 10, 64)
	if err != nil {
		return triton.Image{}, fmt.Errorf("size of image %s: %w", f.anchor.Name, err)
	}
	im := triton.Image{
		ID: f.anchor.Name, Target: f.anchor.Target.Digest.String(), Size: size,
		Architecture: c.Architecture, OS: c.OS, Variant: c.Variant, Author: c.Author,
		Labels: maps.Clone(c.Config.Labels), Config: imageConfig(&c.Config),
	}
	if c.Created != nil {
		im.Created = *c.Created
	}
	if n := len(c.History); n > 0 {
		im.Comment = c.History[n-1].Comment
	}
	for _, t := range f.tags {
		im.RepoTags = append(im.RepoTags, reference.FamiliarString(t))
	}
	for _, d := range f.digests {
		im.RepoDigests = append(im.RepoDigests, reference.FamiliarString(d))
	}
	for _, d := range c.RootFS.DiffIDs {
		im.DiffIDs = append(im.DiffIDs, d.String())
	}
	return im, nil
}

// manifestOf reads an image's manifest.
func (s *Store) manifestOf(ctx context.Context, f *found) (ocispec.Manifest, error) {
	var m ocispec.Manifest
	d := f.anchor.Target.Digest
	raw, err := contentShelf{s.eng.content}.Get(ctx, d)
	if errdefs.IsNotFound(err) {
		return m, damageError(d)
	}
	if err != nil {
		return m, fmt.Errorf("read manifest of image %s: %w", f.anchor.Name, err)
	}
	if digest.FromBytes(raw) != d || json.Unmarshal(raw, &m) != nil {
		s.dropDamaged(ctx, d)
		return m, damageError(d)
	}
	return m, nil
}

// imageConfig copies what an image says about how to run it.
func imageConfig(c *dockerspec.DockerOCIImageConfig) triton.ImageConfig {
	var health *triton.Healthcheck
	if h := c.Healthcheck; h != nil {
		health = &triton.Healthcheck{
			Test: slices.Clone(h.Test), Interval: h.Interval, Timeout: h.Timeout,
			StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
		}
	}
	return triton.ImageConfig{
		Healthcheck: health,
		Entrypoint:  slices.Clone(c.Entrypoint), Cmd: slices.Clone(c.Cmd), Env: slices.Clone(c.Env),
		WorkingDir: c.WorkingDir, User: c.User, StopSignal: c.StopSignal, Shell: slices.Clone(c.Shell), OnBuild: slices.Clone(c.OnBuild),
		ExposedPorts: slices.Sorted(maps.Keys(c.ExposedPorts)),
		Volumes:      slices.Sorted(maps.Keys(c.Volumes)),
		Labels:       maps.Clone(c.Labels),
	}
}
