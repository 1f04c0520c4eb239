package image

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/tritond/triton/pkg/triton"
)

// maxTransfers is how many blobs of one image are downloaded or uploaded at a time: docker's default is three for pulls.
const maxTransfers = 3

// Pull gets an image from a registry, and its layers as far as the tenant has not fetched them before: what another tenant
// has does not count. emit is told what docker's clients draw. Pulls of the same image by the same user share the
// work; when the last who waits goes, it ends. What was downloaded until then stays for a day, for the next attempt.
func (s *Store) Pull(ctx context.Context, tenant triton.Tenant, req triton.PullRequest, emit func(triton.ImageProgress) error) error {
	ctx, err := inTenant(ctx, tenant)
	if err != nil {
		return err
	}
	named, err := parseRemote(req.Ref)
	if err != nil {
		return err
	}
	p := &pull{store: s, tenant: tenant}
	if req.Platform != "" {
		spec, err := platforms.Parse(req.Platform)
		if err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(err.Error())
		}
		p.platform = &spec
	}
	refs := []reference.Named{named}
	if reference.IsNameOnly(named) {
		if refs, err = s.remoteTags(ctx, named, req.Auth); err != nil {
			return registryError("pull", named, err)
		}
	}
	for _, ref := range refs {
		key := fmt.Sprintf("%s %s %s %q", tenant, ref, req.Platform,
			[]string{req.Auth.Username, req.Auth.Password, req.Auth.IdentityToken, req.Auth.RegistryToken, req.Auth.ServerAddress})
		err := s.pulls.ride(ctx, key, func(ctx context.Context, f *flight) error {
			one := *p
			one.ref, one.out = ref, f
			return one.run(ctx, req.Auth)
		}, emit)
		if err != nil {
			return fullDisk(err)
		}
	}
	return nil
}

// remoteTags lists all tags of a repository as references.
func (s *Store) remoteTags(ctx context.Context, named reference.Named, auth triton.RegistryAuth) ([]reference.Named, error) {
	r, err := s.cfg.Registries.open(reference.Domain(named), auth)
	if err != nil {
		return nil, err
	}
	defer r.close()
	tags, err := r.tags(ctx, named)
	if err != nil {
		return nil, err
	}
	var refs []reference.Named
	for _, t := range tags {
		ref, err := reference.WithTag(named, t)
		if err != nil {
			return nil, fmt.Errorf("tag %.200q in the registry: %w", t, err)
		}
		refs = append(refs, ref)
	}
	if len(refs) == 0 {
		return nil, errdefs.ErrNotFound.WithMessage("no tags")
	}
	return refs, nil
}

// pull is one image on its way from a registry. The context of its methods carries the tenant.
type pull struct {
	store    *Store
	tenant   triton.Tenant
	ref      reference.Named // with tag or digest
	platform *ocispec.Platform
	out      *flight

	from     remotes.Fetcher
	resolved ocispec.Descriptor // what the registry has under ref: an index or a manifest
}

// run pulls, and tells clients and events.
func (p *pull) run(ctx context.Context, auth triton.RegistryAuth) error {
	r, err := p.store.cfg.Registries.open(reference.Domain(p.ref), auth)
	if err != nil {
		return err
	}
	defer r.close()
	resolver := r.resolver()
	if _, p.resolved, err = resolver.Resolve(ctx, p.ref.String()); err != nil {
		return registryError("pull", p.ref, err)
	}
	if err := checkDescriptor(p.resolved); err != nil {
		return err
	}
	if p.from, err = resolver.Fetcher(ctx, p.ref.String()); err != nil {
		return registryError("pull", p.ref, err)
	}
	p.out.say(tagOrDigest(p.ref), "Pulling from "+repository(p.ref))
	news := "Image is up to date for "
	if !p.upToDate(ctx) {
		old := p.imageOf(ctx)
		var ready prepared
		err := p.store.resumable(ctx, "pull-"+digest.FromString(p.ref.String()).Encoded(), func(ctx context.Context) error {
			if ready, err = p.fetch(ctx); err != nil {
				return err
			}
			return p.publish(ctx, ready)
		})
		if err != nil {
			return err
		}
		if old != ready.id.String() {
			news = "Downloaded newer image for "
		}
	}
	p.out.say("", "Digest: "+p.resolved.Digest.String())
	p.out.say("", "Status: "+news+reference.FamiliarString(p.ref))
	p.store.emit(p.tenant, actionPull, reference.FamiliarString(p.ref), reference.FamiliarName(p.ref), p.labels(ctx))
	return nil
}

// labels are those of the image that the name now has, for the event.
func (p *pull) labels(ctx context.Context) map[string]string {
	ix, err := p.store.images(ctx)
	if err != nil {
		return nil
	}
	if f := ix.byName(p.ref); f != nil {
		return p.store.labelsOf(ctx, f)
	}
	return nil
}

// tagOrDigest is what docker shows before "Pulling from".
func tagOrDigest(ref reference.Named) string {
	if t, ok := ref.(reference.Tagged); ok {
		return t.Tag()
	}
	if d, ok := ref.(reference.Digested); ok {
		return d.Digest().String()
	}
	return ""
}

// repository is what docker shows after "Pulling from": on Docker Hub the path, elsewhere too, without the host.
func repository(ref reference.Named) string { return reference.Path(ref) }

// imageOf is the id of the image that has the name already, or empty.
func (p *pull) imageOf(ctx context.Context) string {
	ix, err := p.store.images(ctx)
	if err != nil {
		return ""
	}
	if f := ix.byName(p.ref); f != nil {
		return f.anchor.Name
	}
	return ""
}

// upToDate says whether the tenant has what the registry resolved the name to, by this name, for this machine, and whole.
func (p *pull) upToDate(ctx context.Context) bool {
	if p.platform != nil {
		return false
	}
	ix, err := p.store.images(ctx)
	if err != nil {
		return false
	}
	f := ix.byName(p.ref)
	canonical, err := reference.WithDigest(reference.TrimNamed(p.ref), p.resolved.Digest)
	return err == nil && f != nil && ix.byDigest[canonical.String()] == f && p.store.whole(ctx, f)
}

// fetch stores content and layers of the image.
func (p *pull) fetch(ctx context.Context) (prepared, error) {
	m, desc, raw, err := p.manifest(ctx)
	if err != nil {
		return prepared{}, err
	}
	if _, err := p.document(ctx, m.Config); err != nil {
		return prepared{}, err
	}
	m.MediaType = desc.MediaType
	b, err := checkBundle(ctx, contentShelf{p.store.eng.content}, m, raw)
	if err != nil {
		return prepared{}, asRemote(err)
	}
	if err := p.checkConfig(&b); err != nil {
		return prepared{}, err
	}
	if t, ok := p.ref.(reference.NamedTagged); ok {
		b.tags = []reference.NamedTagged{t}
	}
	canonical, err := reference.WithDigest(reference.TrimNamed(p.ref), p.resolved.Digest)
	if err != nil {
		return prepared{}, err
	}
	b.digests = map[string]ocispec.Descriptor{canonical.String(): p.resolved}
	if err := p.checkRoom(ctx, b.layers); err != nil {
		return prepared{}, err
	}
	return p.layers(ctx, &b)
}

// checkConfig holds the image against the platform that was asked for.
func (p *pull) checkConfig(b *bundle) error {
	if p.platform == nil {
		return nil
	}
	is := ocispec.Platform{OS: b.config.OS, Architecture: b.config.Architecture, Variant: b.config.Variant}
	if !platforms.OnlyStrict(*p.platform).Match(is) {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("image with reference %s was found but its platform (%s) does not match the specified platform (%s)",
			reference.FamiliarString(p.ref), platforms.Format(is), platforms.Format(*p.platform)))
	}
	return nil
}

// checkRoom refuses an image that there is no room for, before anything of it is downloaded.
func (p *pull) checkRoom(ctx context.Context, layers []ocispec.Descriptor) error {
	var missing int64
	for _, l := range layers {
		if _, err := p.store.eng.content.Info(ctx, l.Digest); err != nil {
			missing += l.Size
		}
	}
	return p.store.floor.check(missing)
}

// manifest fetches the manifest, through an index if there is one.
func (p *pull) manifest(ctx context.Context) (m ocispec.Manifest, desc ocispec.Descriptor, raw []byte, err error) {
	desc = p.resolved
	for depth := 0; ; depth++ {
		if depth > maxNesting {
			return m, desc, nil, badRemote("indexes are nested more than %d deep", maxNesting)
		}
		if raw, err = p.document(ctx, desc); err != nil {
			return m, desc, nil, err
		}
		if images.IsManifestType(desc.MediaType) {
			break
		}
		if !images.IsIndexType(desc.MediaType) {
			return m, desc, nil, errdefs.ErrNotImplemented.WithMessage(
				fmt.Sprintf("unsupported manifest media type %q for %s", bounded(desc.MediaType), reference.FamiliarString(p.ref)))
		}
		var index ocispec.Index
		if err := decodeRemote(desc, raw, &index); err != nil {
			return m, desc, nil, err
		}
		if desc, err = p.choose(index.Manifests); err != nil {
			return m, desc, nil, err
		}
	}
	if err := decodeRemote(desc, raw, &m); err != nil {
		return m, desc, nil, err
	}
	if !images.IsConfigType(m.Config.MediaType) {
		return m, desc, nil, errdefs.ErrNotImplemented.WithMessage(
			fmt.Sprintf("unsupported media type %s: %s is no container image", bounded(m.Config.MediaType), reference.FamiliarString(p.ref)))
	}
	if len(m.Layers) > maxLayers {
		return m, desc, nil, badRemote("%d layers, at most %d are possible", len(m.Layers), maxLayers)
	}
	for i, d := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if err := checkDescriptor(d); err != nil {
			return m, desc, nil, err
		}
		if i > 0 && !images.IsLayerType(d.MediaType) {
			return m, desc, nil, errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("unsupported layer media type %q", bounded(d.MediaType)))
		}
	}
	return m, desc, raw, nil
}

// choose picks the manifest for the platform out of an index.
func (p *pull) choose(all []ocispec.Descriptor) (ocispec.Descriptor, error) {
	want := platforms.DefaultSpec()
	if p.platform != nil {
		want = *p.platform
	}
	match := platforms.Only(want)
	var fit []ocispec.Descriptor
	for _, d := range all {
		if _, attests := d.Annotations[annotationAttests]; !attests && (d.Platform == nil || match.Match(*d.Platform)) {
			fit = append(fit, d)
		}
	}
	if len(fit) == 0 {
		return ocispec.Descriptor{}, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("no matching manifest for %s in the manifest list entries", platforms.Format(want)))
	}
	slices.SortStableFunc(fit, func(a, b ocispec.Descriptor) int {
		switch {
		case a.Platform == nil && b.Platform == nil:
			return 0
		case a.Platform == nil:
			return 1
		case b.Platform == nil, match.Less(*a.Platform, *b.Platform):
			return -1
		case match.Less(*b.Platform, *a.Platform):
			return 1
		}
		return 0
	})
	return fit[0], checkDescriptor(fit[0])
}

// layers downloads the layers, some at a time, and unpacks each as soon as it and those below it are there.
func (p *pull) layers(ctx context.Context, b *bundle) (prepared, error) {
	there := make([]chan struct{}, len(b.layers))
	for i, l := range b.layers {
		there[i] = make(chan struct{})
		p.out.say(shortDigest(l.Digest), "Pulling fs layer")
	}
	g, gctx := errgroup.WithContext(ctx)
	downloads, dctx := errgroup.WithContext(gctx)
	downloads.SetLimit(maxTransfers)
	g.Go(func() error {
		for i, l := range b.layers {
			downloads.Go(func() error {
				defer close(there[i])
				return p.download(dctx, l)
			})
		}
		return downloads.Wait()
	})
	var ready prepared
	g.Go(func() (err error) {
		ready, err = p.unpack(gctx, b, there)
		return err
	})
	return ready, g.Wait()
}

// unpack waits for each layer and unpacks it.
func (p *pull) unpack(ctx context.Context, b *bundle, there []chan struct{}) (prepared, error) {
	steps := unpackSteps{
		before: func(i int) error {
			select {
			case <-there[i]:
				return ctx.Err()
			case <-ctx.Done():
				return ctx.Err()
			}
		},
		read: func(i int, n int64) {
			p.out.move(shortDigest(b.layers[i].Digest), "Extracting", n, b.layers[i].Size)
		},
		refetch: func(i int) error { return p.download(ctx, b.layers[i]) },
		after: func(i int, existed bool) {
			status := "Pull complete"
			if existed {
				status = "Already exists"
			}
			p.out.say(shortDigest(b.layers[i].Digest), status)
		},
	}
	chain, size, err := p.store.unpackBy(ctx, p.tenant, b, steps)
	if err != nil {
		return prepared{}, err
	}
	return prepared{bundle: b, chain: chain, size: size}, nil
}

// publish makes the image and its names last.
func (p *pull) publish(ctx context.Context, ready prepared) error {
	if err := p.store.sync(); err != nil {
		return err
	}
	_, err := p.store.publish(ctx, []prepared{ready}, func() {})
	return err
}

// shortDigest is how progress names a layer.
func shortDigest(d digest.Digest) string {
	return triton.ShortID(strings.TrimPrefix(d.String(), chainAlgorithm))
}
