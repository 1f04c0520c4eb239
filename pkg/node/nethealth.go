package node

import (
	"context"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// NetworkHealth tells how the network of a container fared since it was started, and its name. One that does not run, and a
// machine on which nobody counts, are errdefs.ErrFailedPrecondition.
func (n *Node) NetworkHealth(ctx context.Context, tenant triton.Tenant, ref string) (string, triton.NetworkHealth, error) {
	key, name, err := n.runningContainer(ctx, tenant, ref)
	if err != nil {
		return "", triton.NetworkHealth{}, err
	}
	h, err := n.cfg.Probes.NetworkHealthOf(key)
	if errdefs.IsFailedPrecondition(err) {
		err = kindf(errdefs.ErrFailedPrecondition, "connections are not timed here: tritond runs without --metrics-network, or the kernel refused its programs")
	}
	return name, h, err
}
