package node

import (
	"context"

	"github.com/tritond/triton/pkg/triton"
)

// Trace tells each of the system calls of a container that f lets pass, until ctx is done or the container's run ends; see
// probes.Probes.Trace. started is called once nothing is missed any more. A container that does not run is
// errdefs.ErrFailedPrecondition.
func (n *Node) Trace(ctx context.Context, tenant triton.Tenant, ref string, f triton.TraceFilter, started func(), each func([]triton.TraceEvent) error) error {
	key, err := n.ResolveContainer(ctx, tenant, ref)
	if err != nil {
		return err
	}
	if _, _, err := n.needTask(key); err != nil {
		return err
	}
	return n.cfg.Probes.Trace(ctx, key, f, started, each)
}
