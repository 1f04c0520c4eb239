package node

import (
	"context"
	"net/netip"

	"github.com/tritond/triton/pkg/probes"
	"github.com/tritond/triton/pkg/question"
	"github.com/tritond/triton/pkg/triton"
)

// Ask answers a question about a tenant's containers once a second until ctx is done; see probes.Probes.Ask. Addresses of the
// tenant's containers are told by their names, those of others as "other".
func (n *Node) Ask(ctx context.Context, tenant triton.Tenant, q *question.Question, started func(), each func(question.Answer) error) error {
	who := probes.Asking{Tenant: tenant, Describe: n.describe}
	if q.Has(question.Remote) {
		var names map[netip.Addr]string
		who.Remote = func(a netip.Addr) string { return names[a] }
		tell := each
		names = n.peerNames(tenant)
		each = func(a question.Answer) error {
			names = n.peerNames(tenant) // for the next one
			return tell(a)
		}
	}
	return n.cfg.Probes.Ask(ctx, q, who, started, each)
}

// describe tells what a question's predicates and answers say of a container.
func (n *Node) describe(key triton.ContainerKey) (question.Subject, bool) {
	c, err := n.get(key)
	if err != nil {
		return question.Subject{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return question.Subject{ID: key.ID, Name: c.rec.Name, Image: c.rec.Spec.Image, Labels: c.rec.Spec.Labels}, true
}

// peerNames gives what a tenant may know of the addresses of this machine's containers.
func (n *Node) peerNames(tenant triton.Tenant) map[netip.Addr]string {
	return n.namesBy(func(v triton.Container) string {
		if v.Key.Tenant != tenant {
			return "other"
		}
		return v.Name
	})
}
