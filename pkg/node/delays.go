package node

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// The culprits that triton.Culprit does not have, because they depend on who asks about whom.
const (
	// CulpritSelf is the victim's own other tasks.
	CulpritSelf triton.Culprit = "self"
	// CulpritOther is what a tenant may not see: other tenants' containers, and those that have ended.
	CulpritOther triton.Culprit = "other"
)

// Delayed is a container with those that had the CPU while it waited, longest first.
type Delayed struct {
	Key      triton.ContainerKey
	Name     string
	Culprits []NamedDelay
}

// NamedDelay is a delay with the name of the container that caused it.
type NamedDelay struct {
	triton.Delay
	Name string
}

// Delays tells who had the CPU while a container waited for it. Only an operator sees the containers of other tenants.
// One that does not run is errdefs.ErrFailedPrecondition.
func (n *Node) Delays(ctx context.Context, tenant triton.Tenant, ref string, operator bool) (Delayed, error) {
	key, name, err := n.runningContainer(ctx, tenant, ref)
	if err != nil {
		return Delayed{}, err
	}
	all, err := n.cfg.Probes.Delays()
	if err != nil {
		return Delayed{}, err
	}
	return Delayed{Key: key, Name: name, Culprits: culprits(key, all[key], n.namesByKey(), operator)}, nil
}

// runningContainer resolves ref and tells the container's name; one that does not run is errdefs.ErrFailedPrecondition.
func (n *Node) runningContainer(ctx context.Context, tenant triton.Tenant, ref string) (key triton.ContainerKey, name string, err error) {
	if key, err = n.ResolveContainer(ctx, tenant, ref); err != nil {
		return key, "", err
	}
	c, err := n.get(key)
	if err != nil {
		return key, "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.running() {
		return key, "", kindf(errdefs.ErrFailedPrecondition, "container %s is not running", ref)
	}
	return key, c.rec.Name, nil
}

// AllDelays is Delays of every container that waited, in order of name; for operators.
func (n *Node) AllDelays() ([]Delayed, error) {
	all, err := n.cfg.Probes.Delays()
	if err != nil {
		return nil, err
	}
	names := n.namesByKey()
	out := make([]Delayed, 0, len(all))
	for key, delays := range all {
		out = append(out, Delayed{Key: key, Name: names[key], Culprits: culprits(key, delays, names, true)})
	}
	slices.SortFunc(out, func(a, b Delayed) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Key.ID, b.Key.ID)) })
	return out, nil
}

// culprits names those of a victim's delays, and adds up what whoever asks may not tell apart.
func culprits(victim triton.ContainerKey, delays []triton.Delay, names map[triton.ContainerKey]string, operator bool) []NamedDelay {
	sums := map[triton.Delay]time.Duration{}
	for _, d := range delays {
		wait := d.Wait
		d.Wait = 0
		switch {
		case d.Culprit == triton.CulpritContainer && d.Container == victim:
			d = triton.Delay{Culprit: CulpritSelf}
		case operator:
		case d.Culprit == triton.CulpritEnded, d.Culprit == triton.CulpritContainer && d.Container.Tenant != victim.Tenant:
			d = triton.Delay{Culprit: CulpritOther}
		}
		sums[d] += wait
	}
	out := make([]NamedDelay, 0, len(sums))
	for d, wait := range sums {
		d.Wait = wait
		out = append(out, NamedDelay{Delay: d, Name: names[d.Container]})
	}
	slices.SortFunc(out, func(a, b NamedDelay) int {
		return cmp.Or(cmp.Compare(b.Wait, a.Wait), cmp.Compare(a.Culprit, b.Culprit), cmp.Compare(a.Container.ID, b.Container.ID))
	})
	return out
}

func (n *Node) namesByKey() map[triton.ContainerKey]string {
	names := map[triton.ContainerKey]string{}
	for _, c := range n.all() {
		c.mu.Lock()
		names[c.key] = c.rec.Name
		c.mu.Unlock()
	}
	return names
}
