package image

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"

	"github.com/tritond/triton/pkg/triton"
)

// Tag gives an image another name; a name that another image has moves.
func (s *Store) Tag(ctx context.Context, tenant triton.Tenant, source, target string) error {
	ctx, err := inTenant(ctx, tenant)
	if err != nil {
		return err
	}
	tag, err := parseTarget(target)
	if err != nil {
		return err
	}
	s.names.Lock()
	defer s.names.Unlock()
	f, err := s.find(ctx, source)
	if err != nil {
		return err
	}
	if err := s.put(ctx, tagRecord(tag, f.anchor)); err != nil {
		return err
	}
	s.changed()
	s.emit(tenant, actionTag, f.anchor.Name, reference.FamiliarString(tag), s.labelsOf(ctx, f))
	return nil
}

// labelsOf are an image's labels, for events; a config that cannot be read has none.
func (s *Store) labelsOf(ctx context.Context, f *found) map[string]string {
	c, err := s.config(ctx, f.anchor.Name)
	if err != nil {
		s.log.Error("event without the image's labels", "image", f.anchor.Name, "err", err)
		return nil
	}
	return c.Config.Labels
}

// Removal is one line of `docker rmi`: exactly one field is set.
type Removal struct{ Untagged, Deleted string }

// Remove takes a name away, and removes the image with its last name; by id it takes the only name and the image.
// Images that containers use, and by id those with several names, need force; images that running containers use
// are not removed at all. Refusals are errdefs.ErrConflict with docker's texts. Layers that a container still
// needs stay on disk as long as it does.
func (s *Store) Remove(ctx context.Context, tenant triton.Tenant, ref string, force bool) ([]Removal, error) {
	ctx, err := inTenant(ctx, tenant)
	if err != nil {
		return nil, err
	}
	s.names.Lock()
	defer s.names.Unlock()
	f, err := s.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	r := &removing{store: s, tenant: tenant, found: f, force: force}
	if r.all, r.running, err = s.users(ctx, tenant, f.anchor.Name); err != nil {
		return nil, err
	}
	if name := f.nameOf(ref); name != nil {
		err = r.byName(ctx, ref, name)
	} else {
		err = r.byID(ctx)
	}
	return r.done, err
}

// users asks which containers were made from an image: all of them, and those that run.
func (s *Store) users(ctx context.Context, tenant triton.Tenant, id string) (all, running []string, err error) {
	if s.cfg.InUse != nil {
		if all, err = s.cfg.InUse(ctx, tenant, id); err != nil {
			return nil, nil, fmt.Errorf("ask who uses image %s: %w", id, err)
		}
	}
	if s.cfg.Running != nil {
		if running, err = s.cfg.Running(ctx, tenant, id); err != nil {
			return nil, nil, fmt.Errorf("ask who runs image %s: %w", id, err)
		}
	}
	return all, running, nil
}

// nameOf gives the name, by tag or digest, that ref is, or nil if it is an id.
func (f *found) nameOf(ref string) reference.Named {
	parsed, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil
	}
	want := reference.TagNameOnly(parsed).String()
	if d, ok := parsed.(reference.Digested); ok {
		if c, err := reference.WithDigest(reference.TrimNamed(parsed), d.Digest()); err == nil {
			want = c.String()
		}
	}
	for _, n := range f.names() {
		if n.String() == want {
			return n
		}
	}
	return nil
}

// names are all names of an image: tags, then those by digest.
func (f *found) names() []reference.Named {
	var all []reference.Named
	for _, t := range f.tags {
		all = append(all, t)
	}
	for _, d := range f.digests {
		all = append(all, d)
	}
	return all
}

// single says whether all names are of one repository, with one tag at most.
func (f *found) single() bool {
	all := f.names()
	for _, n := range all {
		if n.Name() != all[0].Name() {
			return false
		}
	}
	return len(f.tags) <= 1
}

// removing is one call of Remove. Its rules and texts are those of moby's daemon/images/image_delete.go.
type removing struct {
	store        *Store
	tenant       triton.Tenant
	found        *found
	force        bool
	all, running []string // containers
	done         []Removal
}

// byName removes one name, and the image if it was the last. With the last tag in a repository go its names by digest there.
func (r *removing) byName(ctx context.Context, ref string, name reference.Named) error {
	gone, left := []reference.Named{name}, 0
	_, isTag := name.(reference.NamedTagged)
	lastTag := isTag && !slices.ContainsFunc(r.found.tags, func(t reference.NamedTagged) bool {
		return t.Name() == name.Name() && t.String() != name.String()
	})
	for _, n := range r.found.names() {
		_, byDigest := n.(reference.Canonical)
		switch {
		case n.String() == name.String():
		case lastTag && byDigest && n.Name() == name.Name():
			gone = append(gone, n)
		default:
			left++
		}
	}
	if !r.force && len(r.all) > 0 && r.found.single() {
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf(
			"conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s",
			ref, triton.ShortID(r.all[0]), r.shortID()))
	}
	for _, n := range gone {
		if err := r.untag(ctx, n); err != nil {
			return err
		}
	}
	if left > 0 {
		return nil
	}
	// By force the name goes even if the image has to stay for a running container.
	if r.conflict(false) == nil {
		return r.delete(ctx)
	}
	return nil
}

// byID removes the image and all its names.
func (r *removing) byID(ctx context.Context) error {
	if err := r.conflict(!r.found.single()); err != nil {
		return err
	}
	for _, n := range r.found.names() {
		if err := r.untag(ctx, n); err != nil {
			return err
		}
	}
	return r.delete(ctx)
}

// conflict says what stands against deleting the image.
func (r *removing) conflict(severalNames bool) error {
	switch {
	case len(r.running) > 0:
		return r.conflictError("cannot be forced", "image is being used by running container "+triton.ShortID(r.running[0]))
	case r.force:
		return nil
	case severalNames:
		return r.conflictError("must be forced", "image is referenced in multiple repositories")
	case len(r.all) > 0:
		return r.conflictError("must be forced", "image is being used by stopped container "+triton.ShortID(r.all[0]))
	}
	return nil
}

func (r *removing) conflictError(force, why string) error {
	return errdefs.ErrConflict.WithMessage(fmt.Sprintf("conflict: unable to delete %s (%s) - %s", r.shortID(), force, why))
}

func (r *removing) shortID() string {
	return triton.ShortID(strings.TrimPrefix(r.found.anchor.Name, chainAlgorithm))
}

func (r *removing) untag(ctx context.Context, name reference.Named) error {
	if err := r.store.eng.images.Delete(ctx, name.String()); err != nil {
		return fmt.Errorf("remove name %s: %w", name, err)
	}
	r.store.changed()
	id := r.found.anchor.Name
	r.store.emit(r.tenant, actionUntag, id, reference.FamiliarString(name), r.store.labelsOf(ctx, r.found))
	r.done = append(r.done, Removal{Untagged: reference.FamiliarString(name)})
	return nil
}

// delete removes the image's record; content and layers go with the next collection.
func (r *removing) delete(ctx context.Context) error {
	id := r.found.anchor.Name
	gone, err := r.store.onlyIn(ctx, id)
	if err != nil {
		return err
	}
	if err := r.store.eng.images.Delete(ctx, id); err != nil {
		return fmt.Errorf("remove image %s: %w", id, err)
	}
	r.store.changed()
	r.store.configs.Delete(id)
	r.store.emit(r.tenant, actionDelete, id, id, nil)
	r.done = append(r.done, Removal{Deleted: id})
	for _, chain := range gone {
		r.done = append(r.done, Removal{Deleted: chain})
	}
	r.store.jan.collect()
	return nil
}

// onlyIn lists the chains of layers, topmost first, that nothing but the image needs.
func (s *Store) onlyIn(ctx context.Context, id string) ([]string, error) {
	ix, err := s.images(ctx)
	if err != nil {
		return nil, err
	}
	needed := map[string]bool{}
	for other := range ix.byID {
		if other == id {
			continue
		}
		chains, err := s.chainsOf(ctx, other)
		if err != nil {
			return nil, err
		}
		for _, c := range chains {
			needed[c] = true
		}
	}
	for _, c := range s.rw.chains() {
		// Another tenant's chain of the same layers has a directory of its own, and is not found here.
		for at := c; at != "" && !needed[at]; {
			needed[at] = true
			info, err := s.eng.layers.Stat(ctx, at)
			if err != nil {
				break
			}
			at = info.Parent
		}
	}
	chains, err := s.chainsOf(ctx, id)
	if err != nil {
		return nil, err
	}
	var gone []string
	for i := len(chains) - 1; i >= 0; i-- {
		if !needed[chains[i]] {
			gone = append(gone, chains[i])
		}
	}
	return gone, nil
}

// chainsOf lists the chains of an image, lowest first.
func (s *Store) chainsOf(ctx context.Context, id string) ([]string, error) {
	c, err := s.config(ctx, id)
	if err != nil {
		return nil, err
	}
	var chains []string
	for _, d := range identity.ChainIDs(append([]digest.Digest(nil), c.RootFS.DiffIDs...)) {
		chains = append(chains, d.String())
	}
	return chains, nil
}
