package node

import (
	"context"

	"github.com/tritond/triton/pkg/triton"
)

// Disks tells what block devices did for a container since it was started, and its name. One that does not run is
// errdefs.ErrFailedPrecondition.
func (n *Node) Disks(ctx context.Context, tenant triton.Tenant, ref string) (name string, disks []triton.Disk, err error) {
	key, name, err := n.runningContainer(ctx, tenant, ref)
	if err != nil {
		return "", nil, err
	}
	disks, err = n.cfg.Probes.DisksOf(key)
	return name, disks, err
}
