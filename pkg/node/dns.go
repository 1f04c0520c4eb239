package node

import (
	"context"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// AskedNames tells what a container asked name servers since it was started, and its name. One that does not run, and a machine
// on which nobody counts, are errdefs.ErrFailedPrecondition.
func (n *Node) AskedNames(ctx context.Context, tenant triton.Tenant, ref string) (string, triton.NameService, triton.AskedNames, error) {
	key, name, err := n.runningContainer(ctx, tenant, ref)
	if err != nil {
		return "", triton.NameService{}, triton.AskedNames{}, err
	}
	s, names, err := n.cfg.Probes.AskedNames(key)
	if errdefs.IsFailedPrecondition(err) {
		err = kindf(errdefs.ErrFailedPrecondition, "what containers ask name servers is not seen here: tritond runs without --metrics-dns")
	}
	return name, s, names, err
}
