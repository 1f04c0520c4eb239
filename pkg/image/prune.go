package image

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// actionPrune is docker's name for the event at the end of a prune.
const actionPrune = "prune"

// Prune removes the images that no container uses and that pick takes, without tags only or, if all, the others too; and
// what pulls left that do not go on. It returns what `docker image prune` prints and the bytes of unpacked layers that went.
func (s *Store) Prune(ctx context.Context, tenant triton.Tenant, all bool, pick func(*triton.Image) bool) (gone []Removal, freed int64, err error) {
	list, err := s.List(ctx, tenant)
	if err != nil {
		return nil, 0, err
	}
	for i := range list {
		im := &list[i]
		if len(im.RepoTags) > 0 && !all || !pick(im) {
			continue
		}
		users, _, err := s.users(ctx, tenant, im.ID)
		if err != nil {
			return gone, freed, err
		}
		if len(users) > 0 {
			continue
		}
		done, bytes, err := s.pruneOne(ctx, tenant, im)
		gone, freed = append(gone, done...), freed+bytes
		// What was tagged, used or removed meanwhile stays, as with docker.
		if err != nil && !errdefs.IsConflict(err) && !errdefs.IsNotFound(err) {
			return gone, freed, err
		}
	}
	if err := s.dropPartial(ctx, tenant); err != nil {
		return gone, freed, err
	}
	if s.cfg.Events != nil {
		s.cfg.Events(triton.Event{Time: time.Now(), Tenant: tenant, Type: triton.EventImage, Action: actionPrune,
			Attributes: map[string]string{"reclaimed": strconv.FormatInt(freed, 10)}})
	}
	return gone, freed, nil
}

// pruneOne removes an image by all its names.
func (s *Store) pruneOne(ctx context.Context, tenant triton.Tenant, im *triton.Image) (gone []Removal, freed int64, err error) {
	nctx, err := inTenant(ctx, tenant)
	if err != nil {
		return nil, 0, err
	}
	chains, err := s.chainsOf(nctx, im.ID)
	if err != nil {
		return nil, 0, err
	}
	sizes := map[string]int64{}
	for _, c := range chains {
		sizes[c] = s.layerSize(nctx, c)
	}
	names := slices.Concat(im.RepoTags, im.RepoDigests)
	if len(names) == 0 {
		names = []string{im.ID}
	}
	for _, name := range names {
		done, err := s.Remove(ctx, tenant, name, false)
		gone = append(gone, done...)
		for _, r := range done {
			freed += sizes[r.Deleted]
		}
		if err != nil && !errdefs.IsNotFound(err) { // a name by digest goes with the last tag
			return gone, freed, err
		}
	}
	return gone, freed, nil
}

// dropPartial ends the leases of pulls that are not under way: what they had downloaded goes with the next collection.
func (s *Store) dropPartial(ctx context.Context, tenant triton.Tenant) error {
	ctx, err := inTenant(ctx, tenant)
	if err != nil {
		return err
	}
	if s.pulls.any() {
		return nil
	}
	left, err := s.eng.leases.List(ctx)
	if err != nil {
		return fmt.Errorf("list leases: %w", err)
	}
	for _, l := range left {
		if !strings.HasPrefix(l.ID, pullLease) {
			continue
		}
		if err := s.eng.leases.Delete(ctx, l); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("end lease: %w", err)
		}
	}
	s.jan.collect()
	return nil
}
