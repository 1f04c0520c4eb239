package image

import (
	"context"
	"slices"
	"strconv"

	"github.com/distribution/reference"

	"github.com/tritond/triton/pkg/triton"
)

// History returns how an image was made, the last step first.
func (s *Store) History(ctx context.Context, tenant triton.Tenant, ref string) ([]triton.ImageStep, error) {
	ctx, err := inTenant(ctx, tenant)
	if err != nil {
		return nil, err
	}
	f, err := s.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	c, err := s.config(ctx, f.anchor.Name)
	if err != nil {
		return nil, err
	}
	chains, err := s.chainsOf(ctx, f.anchor.Name)
	if err != nil {
		return nil, err
	}
	var steps []triton.ImageStep
	layer := 0
	for _, h := range c.History {
		step := triton.ImageStep{CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			step.Created = *h.Created
		}
		if !h.EmptyLayer && layer < len(chains) {
			step.Size = s.layerSize(ctx, chains[layer])
			layer++
		}
		steps = append(steps, step)
	}
	// Images that say less than they have: a step for each layer that is left.
	for ; layer < len(chains); layer++ {
		steps = append(steps, triton.ImageStep{Size: s.layerSize(ctx, chains[layer])})
	}
	slices.Reverse(steps)
	if len(steps) > 0 {
		steps[0].ID = f.anchor.Name
		for _, t := range f.tags {
			steps[0].Tags = append(steps[0].Tags, reference.FamiliarString(t))
		}
	}
	return steps, nil
}

// layerSize is the size of an unpacked layer's files; 0 if it is not known.
func (s *Store) layerSize(ctx context.Context, chain string) int64 {
	info, err := s.eng.layers.Stat(ctx, chain)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(info.Labels[labelSize], 10, 64)
	if err != nil {
		return 0
	}
	return n
}
