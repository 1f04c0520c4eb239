package node

import (
	"cmp"
	"context"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/probes"
	"github.com/tritond/triton/pkg/triton"
)

// WatchLabel is a container's label that says how much of it is measured: a probes.Level.
const WatchLabel = "triton.watch"

// Watching is how much of a container was asked to be measured while it was there; it wins over the label.
type Watching struct {
	Level    probes.Level `json:"level"`
	Operator bool         `json:"operator,omitempty"` // who asked
}

// Watched is how much of a container is measured.
type Watched struct {
	Key   triton.ContainerKey
	Name  string
	Asked probes.Level // by the label or since; "": nothing was
	Level probes.Level // that it has: what was asked, or the machine's where that is not asked or not allowed
}

// checkWatchLabel refuses a label that is no level.
func checkWatchLabel(spec *triton.Spec) error {
	if level, ok := spec.Labels[WatchLabel]; ok {
		if err := probes.Level(level).Validate(); err != nil {
			return kindf(errdefs.ErrInvalidArgument, "label %s: %v", WatchLabel, err)
		}
	}
	return nil
}

// wish is what is wanted of a container. What operators want, and what the operator's own containers have in their labels, holds
// though the machine has stepped down: hooks slow everybody, so tenants may only want less. The caller holds c.mu.
func (c *container) wish() probes.Wish {
	if w := c.rec.Watching; w != nil {
		return probes.Wish{Level: w.Level, Firm: w.Operator}
	}
	return probes.Wish{Level: probes.Level(c.rec.Spec.Labels[WatchLabel]), Firm: c.key.Tenant == triton.DefaultTenant}
}

// Watching tells how much of a container is measured, or would be if it ran.
func (n *Node) Watching(ctx context.Context, tenant triton.Tenant, ref string) (Watched, error) {
	c, err := n.containerOf(ctx, tenant, ref)
	if err != nil {
		return Watched{}, err
	}
	return n.watchedOf(c), nil
}

// SetWatching changes how much of a container is measured, now and in its later runs; "" gives it back to its label. What a
// tenant asks for is cut down to the machine's level.
func (n *Node) SetWatching(ctx context.Context, tenant triton.Tenant, ref string, level probes.Level, operator bool) (Watched, error) {
	c, err := n.containerOf(ctx, tenant, ref)
	if err != nil {
		return Watched{}, err
	}
	if err := cmp.Or(level, probes.Detail).Validate(); err != nil {
		return Watched{}, err
	}
	var asked *Watching
	if level != "" {
		asked = &Watching{Level: level, Operator: operator}
	}
	c.watching.Lock() // the last one asked is the last one set
	defer c.watching.Unlock()
	c.mu.Lock()
	byOperator := c.rec.Watching != nil && c.rec.Watching.Operator
	c.mu.Unlock()
	if byOperator && !operator {
		return Watched{}, kindf(errdefs.ErrPermissionDenied, "an operator chose how much is measured of container %s", c.name())
	}
	if err := n.amend(ctx, c, func(r *Record) { r.Watching = asked }); err != nil {
		return Watched{}, err
	}
	c.mu.Lock()
	wish := c.wish()
	c.mu.Unlock()
	if err := n.cfg.Probes.SetWish(c.key, wish); err != nil && !errdefs.IsNotFound(err) { // it does not run, or does no more
		return Watched{}, err
	}
	return n.watchedOf(c), nil
}

func (n *Node) containerOf(ctx context.Context, tenant triton.Tenant, ref string) (*container, error) {
	key, err := n.ResolveContainer(ctx, tenant, ref)
	if err != nil {
		return nil, err
	}
	return n.get(key)
}

func (n *Node) watchedOf(c *container) Watched {
	c.mu.Lock()
	defer c.mu.Unlock()
	wish := c.wish()
	return Watched{Key: c.key, Name: c.rec.Name, Asked: wish.Level, Level: wish.Of(n.cfg.Probes.Level())}
}
