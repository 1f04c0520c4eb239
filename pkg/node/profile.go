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
	return profile.Subject{Key: key, Name: c.rec.Name, CgroupPath: n.cgroupPath(key)}, nil
}
