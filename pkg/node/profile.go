package node

import (
	"context"

	"github.com/tritond/triton/pkg/profile"
	"github.com/tritond/triton/pkg/triton"
)

// ProfileSubject finds the container that a profile is to be of. One that does not run is errdefs.ErrFailedPrecondition.
func (n *Node) ProfileSubject(ctx context.Context, tenant triton.Tenant, ref string) (profile.Subject, error) {
	key, err := n.ResolveContainer(ctx, tenant, ref)
	if err != nil {
		return profile.Subject{}, err
	}
	c, _, err := n.needTask(key)
	if err != nil {
		return profile.Subject{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return n.subject(c), nil
}

// ProfileSubjects are the containers that run, of all tenants.
func (n *Node) ProfileSubjects() map[triton.ContainerKey]profile.Subject {
	out := map[triton.ContainerKey]profile.Subject{}
	for _, c := range n.all() {
		c.mu.Lock()
		if c.running() {
			out[c.key] = n.subject(c)
		}
		c.mu.Unlock()
	}
	return out
}

// subject describes a container; the caller holds its lock.
func (n *Node) subject(c *container) profile.Subject {
	return profile.Subject{Key: c.key, Name: c.rec.Name, Image: c.rec.Spec.Image, CgroupPath: n.cgroupPath(c.key)}
}
