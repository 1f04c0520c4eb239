package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/tritond/triton/pkg/triton"
)

// Push sends an image, or all that a name has tags for, to the registry of the name. Layers go as they are stored: packed
// if they were pulled or loaded packed. Afterwards the image has a name by digest.
func (s *Store) Push(ctx context.Context, tenant triton.Tenant, req triton.PushRequest, emit func(triton.ImageProgress) error) error {
	ctx, err := inTenant(ctx, tenant)
	if err != nil {
		return err
	}
	named, err := parseRemote(req.Ref)
	if err != nil {
		return err
	}
	if _, ok := named.(reference.Digested); ok {
		return errdefs.ErrInvalidArgument.WithMessage("cannot push a digest reference")
	}
	refs, err := s.pushable(ctx, named)
	if err != nil {
		return err
	}
	if err := s.checkPushPlatform(ctx, refs, req.Platform); err != nil {
		return err
	}
	// The key is the call's own: pushes are not shared, the flight is only what talks to the client.
	return s.pulls.ride(ctx, "push "+triton.NewID(), func(ctx context.Context, f *flight) error {
		f.say("", fmt.Sprintf("The push refers to repository [%s]", named.Name()))
		r, err := s.cfg.Registries.open(reference.Domain(named), req.Auth)
		if err != nil {
			return err
		}
		defer r.close()
		for _, ref := range refs {
			p := &push{store: s, tenant: tenant, ref: ref, out: f}
			if err := p.run(ctx, r.resolver()); err != nil {
				return err
			}
		}
		return nil
	}, emit)
}

// pushable lists the tags that a reference means, sorted.
func (s *Store) pushable(ctx context.Context, named reference.Named) (refs []reference.NamedTagged, err error) {
	ix, err := s.images(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(ix.byTag)) {
		for _, t := range ix.byTag[name].tags {
			if t.String() == name && t.Name() == named.Name() {
				refs = append(refs, t)
			}
		}
	}
	if len(refs) == 0 {
		return nil, errdefs.ErrNotFound.WithMessage("An image does not exist locally with the tag: " + reference.FamiliarName(named))
	}
	tagged, ok := named.(reference.NamedTagged)
	if !ok {
		return refs, nil
	}
	if ix.byTag[tagged.String()] == nil {
		return nil, errdefs.ErrNotFound.WithMessage("tag does not exist: " + reference.FamiliarString(tagged))
	}
	return []reference.NamedTagged{tagged}, nil
}

// checkPushPlatform refuses a platform that an image is not for: each has one.
func (s *Store) checkPushPlatform(ctx context.Context, refs []reference.NamedTagged, platform string) error {
	if platform == "" {
		return nil
	}
	want, err := platforms.Parse(platform)
	if err != nil {
		return errdefs.ErrInvalidArgument.WithMessage(err.Error())
	}
	for _, ref := range refs {
		f, err := s.find(ctx, ref.String())
		if err != nil {
			return err
		}
		c, err := s.config(ctx, f.anchor.Name)
		if err != nil {
			return err
		}
		if !platforms.OnlyStrict(want).Match(c.Platform) {
			return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("image with reference %s was found but does not provide the specified platform (%s)",
				reference.FamiliarString(ref), platform))
		}
	}
	return nil
}

// push is one tag on its way to a registry.
type push struct {
	store  *Store
	tenant triton.Tenant
	ref    reference.NamedTagged
	out    *flight
	to     remotes.Pusher
}

func (p *push) run(ctx context.Context, resolver remotes.Resolver) error {
	return p.store.leased(ctx, func(ctx context.Context) error {
		f, err := p.store.find(ctx, p.ref.String())
		if err != nil {
			return err
		}
		m, err := p.store.manifestOf(ctx, f)
		if err != nil {
			return err
		}
		if err := p.store.hold(ctx, f, m); err != nil {
			return err
		}
		if p.to, err = resolver.Pusher(ctx, p.ref.String()); err == nil {
			err = p.blobs(ctx, m)
		}
		if err == nil {
			err = p.tag(ctx, f)
		}
		return registryError("push", p.ref, err)
	})
}

// blobs sends layers, lowest first, some at a time, and then the config.
func (p *push) blobs(ctx context.Context, m ocispec.Manifest) error {
	for _, l := range m.Layers {
		p.out.say(shortDigest(l.Digest), "Preparing")
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(maxTransfers)
	sent := map[string]bool{}
	for _, l := range m.Layers {
		if sent[l.Digest.String()] {
			continue
		}
		sent[l.Digest.String()] = true
		g.Go(func() error { return p.layer(gctx, l) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	err := p.send(ctx, m.Config, func(int64) {})
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// layer sends one layer unless the registry has it.
func (p *push) layer(ctx context.Context, l ocispec.Descriptor) error {
	id := shortDigest(l.Digest)
	err := p.send(ctx, l, func(at int64) { p.out.move(id, "Pushing", at, l.Size) })
	switch {
	case errdefs.IsAlreadyExists(err):
		p.out.say(id, "Layer already exists")
		return nil
	case err != nil:
		return err
	}
	p.out.say(id, "Pushed")
	return nil
}

// send sends a blob; one that the registry has is errdefs.ErrAlreadyExists.
func (p *push) send(ctx context.Context, d ocispec.Descriptor, tell func(int64)) error {
	d.Annotations, d.URLs, d.Data = nil, nil, nil
	w, err := p.to.Push(ctx, d)
	if err != nil {
		return err
	}
	defer w.Close()
	ra, err := p.store.openBlob(ctx, d)
	if err != nil {
		return err
	}
	defer ra.Close()
	return content.Copy(ctx, w, p.store.readBlob(ctx, ra, d, tell), d.Size, d.Digest)
}

// tag sends the manifest under the tag and remembers the name by digest.
func (p *push) tag(ctx context.Context, f *found) error {
	d := f.anchor.Target
	raw, err := contentShelf{p.store.eng.content}.Get(ctx, d.Digest)
	if err != nil {
		return err
	}
	w, err := p.to.Push(ctx, ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size})
	if err == nil {
		err = errors.Join(content.Copy(ctx, w, bytes.NewReader(raw), d.Size, d.Digest), w.Close())
	}
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	if err := p.remember(ctx, f); err != nil {
		return err
	}
	p.out.line(triton.ImageProgress{
		Status: fmt.Sprintf("%s: digest: %s size: %d", p.ref.Tag(), d.Digest, d.Size),
		Pushed: &triton.PushedImage{Tag: p.ref.Tag(), Digest: d.Digest.String(), Size: d.Size},
	})
	p.store.emit(p.tenant, actionPush, reference.FamiliarString(p.ref), reference.FamiliarName(p.ref), p.store.labelsOf(ctx, f))
	return nil
}

// remember stores the name by digest, unless the image was removed meanwhile.
func (p *push) remember(ctx context.Context, f *found) error {
	canonical, err := reference.WithDigest(reference.TrimNamed(p.ref), f.anchor.Target.Digest)
	if err != nil {
		return err
	}
	s := p.store
	s.names.Lock()
	defer s.names.Unlock()
	ix, err := s.images(ctx)
	if err != nil || ix.byID[f.anchor.Name] == nil {
		return err
	}
	if err := s.put(ctx, digestRecord(canonical.String(), f.anchor.Target, f.anchor)); err != nil {
		return err
	}
	s.changed()
	return nil
}
