package node

import (
	"context"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/placement"
	"github.com/tritond/triton/pkg/sched"
	"github.com/tritond/triton/pkg/triton"
)

// Placed is the last decision to have a container here, and what it was seen to use since the daemon started.
type Placed struct {
	Decision *sched.Decision // not to be changed
	Seen     *sched.Own      // nil: nothing yet
}

// Placement tells why a container is where it is. errdefs.ErrNotFound also for one that was made before decisions were kept.
func (n *Node) Placement(ctx context.Context, tenant triton.Tenant, ref string) (Placed, error) {
	key, err := n.ResolveContainer(ctx, tenant, ref)
	if err != nil {
		return Placed{}, err
	}
	c, err := n.get(key)
	if err != nil {
		return Placed{}, err
	}
	c.mu.Lock()
	p := Placed{Decision: c.rec.Placement}
	c.mu.Unlock()
	if p.Decision == nil {
		return Placed{}, kindf(errdefs.ErrNotFound, "container %s was made before decisions were kept", ref)
	}
	if own, ok := n.cfg.Placement.Seen(key); ok {
		p.Seen = &own
	}
	return p, nil
}

// admit asks again for a container that stood still: what it was promised may be somebody else's by now. The decision is
// recorded with the intent to run. The caller holds c.life.
func (n *Node) admit(ctx context.Context, c *container) error {
	d, err := n.cfg.Placement.Admit(ctx, c.key)
	if err != nil {
		return err
	}
	if d != nil {
		c.mu.Lock()
		c.rec.Placement = d
		c.mu.Unlock()
	}
	return nil
}

// promise asks for what an update adds to a container's promises; undo takes it back. The caller holds c.life.
func (n *Node) promise(ctx context.Context, c *container, limits triton.Resources) (undo func(), err error) {
	c.mu.Lock()
	name, spec, before := c.rec.Name, c.rec.Spec, c.rec.Placement
	c.mu.Unlock()
	old := spec
	spec.Resources = limits
	d, err := n.cfg.Placement.Change(ctx, placement.Container{Key: c.key, Name: name, Spec: &spec})
	if err != nil {
		return nil, err
	}
	keep := func(d *sched.Decision) {
		c.mu.Lock()
		c.rec.Placement = d
		c.mu.Unlock()
	}
	if d != nil {
		keep(d)
	}
	return func() {
		keep(before)
		if _, err := n.cfg.Placement.Change(ctx, placement.Container{Key: c.key, Name: name, Spec: &old}); err != nil {
			n.log.Error("old limits not planned with", "container", c.key, "err", err)
		}
	}, nil
}

// endOf says what a run used and how it ended. Its control group is still there.
func (n *Node) endOf(c *container, rec triton.ExitRecord) placement.End {
	e := placement.End{At: rec.At}
	u, err := n.cfg.Cgroups.Usage(n.cgroupPath(c.key))
	switch {
	case err == nil:
		e.Usage = &u
	case !errdefs.IsNotFound(err):
		n.log.Warn("last use of a container not read", "container", c.key, "err", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e.Crashed = crash(rec, c.state.ByHand || c.lastRun)
	return e
}

// crash tells ends that nobody wanted: of asked ones, and of those that nobody knows, nothing can be learnt.
func crash(rec triton.ExitRecord, asked bool) bool {
	return rec.Code != 0 && !asked && rec.Source != triton.ExitLost
}
