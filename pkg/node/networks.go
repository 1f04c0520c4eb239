package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/cluster"
	"github.com/tritond/triton/pkg/triton"
)

// networkRecord is the intent of one user's network, in etcd under the tenant's prefix.
type networkRecord struct {
	Key     triton.NetworkKey  `json:"key"`
	Created time.Time          `json:"created"`
	Spec    triton.NetworkSpec `json:"spec"`
}

func networkPath(k triton.NetworkKey) string {
	return tenantsPrefix + string(k.Tenant) + "/networks/" + k.ID
}

// networkNamePath makes a network's name unique for its tenant.
func networkNamePath(t triton.Tenant, name string) string {
	return tenantsPrefix + string(t) + "/netnames/" + name
}

func (s intent) createNetwork(ctx context.Context, r *networkRecord) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode record of network %s: %w", r.Key, err)
	}
	_, err = s.kv.Txn(ctx, cluster.CreateOp(networkNamePath(r.Key.Tenant, r.Spec.Name), []byte(r.Key.ID)), cluster.CreateOp(networkPath(r.Key), b))
	return err
}

func (s intent) removeNetwork(ctx context.Context, r *networkRecord) error {
	_, err := s.kv.Txn(ctx, cluster.DeleteOp(networkNamePath(r.Key.Tenant, r.Spec.Name), 0), cluster.DeleteOp(networkPath(r.Key), 0))
	return err
}

// networks reads every network of every tenant.
func (s intent) networks(ctx context.Context) ([]*networkRecord, []corrupt, error) {
	return listed(ctx, s, "networks", func(kv cluster.KV) (*networkRecord, error) {
		r := &networkRecord{}
		err := json.Unmarshal(kv.Value, r)
		if err == nil && (!triton.ValidID(r.Key.ID) || r.Key.Tenant.Validate() != nil || networkPath(r.Key) != kv.Key) {
			err = fmt.Errorf("record of network %s is stored under another key", r.Key)
		}
		return r, err
	})
}

// openNetworks makes the networks of all records, or adopts them.
func (n *Node) openNetworks(ctx context.Context) error {
	recs, bad, err := n.intent.networks(ctx)
	if err != nil {
		return err
	}
	for _, b := range bad {
		n.log.Error("network ignored: an operator must look at its record", "key", b.key, "err", b.err)
	}
	for _, r := range recs {
		if _, err := n.cfg.Network.AddSegment(ctx, r.Key, r.Spec); err != nil {
			n.log.Error("network cannot be used", "network", r.Key, "name", r.Spec.Name, "err", err)
		}
		n.nets.put(r)
	}
	return nil
}

// predefined reports whether name is one of the networks that there always are.
func predefined(name string) bool {
	return slices.Contains([]string{triton.ModeBridge, triton.ModeHost, triton.ModeNone, triton.ModeDefault}, name)
}

// CreateNetwork makes a network. Errors: AlreadyExists for a name in use, PermissionDenied for a predefined name or a
// subnet that overlaps another.
func (n *Node) CreateNetwork(ctx context.Context, tenant triton.Tenant, spec triton.NetworkSpec) (triton.NetworkKey, error) {
	if predefined(spec.Name) {
		return triton.NetworkKey{}, kindf(errdefs.ErrPermissionDenied, "operation is not permitted on predefined %s network", spec.Name)
	}
	taken := kindf(errdefs.ErrAlreadyExists, "network with name %s already exists", spec.Name)
	if n.nets.named(tenant, spec.Name) != nil {
		return triton.NetworkKey{}, taken
	}
	r := &networkRecord{Key: triton.NetworkKey{Tenant: tenant, ID: triton.NewID()}, Created: n.cfg.Now().UTC()}
	var err error
	if r.Spec, err = n.cfg.Network.AddSegment(ctx, r.Key, spec); err != nil {
		return triton.NetworkKey{}, err
	}
	if err := n.intent.createNetwork(ctx, r); err != nil {
		if errdefs.IsAlreadyExists(err) {
			err = taken
		}
		return triton.NetworkKey{}, errors.Join(err, n.cfg.Network.RemoveSegment(context.WithoutCancel(ctx), r.Key))
	}
	n.nets.put(r)
	n.publish(n.networkEvent("create", r, nil))
	return r.Key, nil
}

// networkEvent builds an event about a network, with docker's attributes.
func (n *Node) networkEvent(action string, r *networkRecord, extra map[string]string) triton.Event {
	attrs := map[string]string{"name": r.Spec.Name, "type": "bridge"}
	for k, v := range extra {
		attrs[k] = v
	}
	return triton.Event{
		Time: n.cfg.Now().UTC(), Tenant: r.Key.Tenant, Type: triton.EventNetwork, Action: action, ID: r.Key.ID, Attributes: attrs,
	}
}

// ListNetworks returns the networks that a tenant's users made, in no order. It does no I/O.
func (n *Node) ListNetworks(_ context.Context, tenant triton.Tenant) ([]triton.NetworkInfo, error) {
	var list []triton.NetworkInfo
	for _, r := range n.nets.ofTenant(tenant) {
		list = append(list, triton.NetworkInfo{Key: r.Key, Created: r.Created, Spec: r.Spec, Link: n.cfg.Network.SegmentLink(r.Key)})
	}
	return list, nil
}

// findNetwork finds a user's network by name, id or unique id prefix.
func (n *Node) findNetwork(tenant triton.Tenant, ref string) (*networkRecord, error) {
	if r := n.nets.named(tenant, ref); r != nil {
		return r, nil
	}
	var found *networkRecord
	for _, r := range n.nets.ofTenant(tenant) {
		if ref == "" || !strings.HasPrefix(r.Key.ID, ref) {
			continue
		}
		if r.Key.ID == ref {
			return r, nil
		}
		if found != nil {
			return nil, kindf(errdefs.ErrInvalidArgument, "network %s is ambiguous (2 matches found based on ID prefix)", ref)
		}
		found = r
	}
	if found == nil {
		return nil, kindf(errdefs.ErrNotFound, "network %s not found", ref)
	}
	return found, nil
}

// RemoveNetwork removes a network that no running container is in.
func (n *Node) RemoveNetwork(ctx context.Context, tenant triton.Tenant, ref string) error {
	if predefined(ref) {
		return kindf(errdefs.ErrPermissionDenied, "%s is a pre-defined network and cannot be removed", ref)
	}
	r, err := n.findNetwork(tenant, ref)
	if err != nil {
		return err
	}
	return n.removeNetwork(context.WithoutCancel(ctx), r)
}

func (n *Node) removeNetwork(ctx context.Context, r *networkRecord) error {
	n.joining.Lock() // nobody joins it meanwhile
	defer n.joining.Unlock()
	var users []string
	for _, c := range n.ofTenant(r.Key.Tenant) {
		c.mu.Lock()
		if slices.ContainsFunc(c.attached, func(a triton.Attachment) bool { return a.Network == r.Key.ID }) {
			users = append(users, fmt.Sprintf("name:%q id:%q", c.rec.Name, triton.ShortID(c.key.ID)))
		}
		c.mu.Unlock()
	}
	if len(users) > 0 {
		slices.Sort(users)
		return kindf(errdefs.ErrPermissionDenied, "error while removing network: network %s has active endpoints (%s)", r.Spec.Name, strings.Join(users, ", "))
	}
	// The intent goes first: a bridge without a record is removed by the next start.
	if err := n.intent.removeNetwork(ctx, r); err != nil {
		return fmt.Errorf("delete record of network %s: %w", r.Key, err)
	}
	n.nets.forget(r)
	if err := n.cfg.Network.RemoveSegment(ctx, r.Key); err != nil {
		n.log.Error("network removed, its bridge is left until the next start", "network", r.Key, "err", err)
	}
	n.publish(n.networkEvent("destroy", r, nil))
	return nil
}

// PruneNetworks removes the networks that no container is in, be it running or not, and that want accepts. It returns
// their names.
func (n *Node) PruneNetworks(ctx context.Context, tenant triton.Tenant, want func(triton.NetworkInfo) bool) ([]string, error) {
	used := map[string]bool{}
	for _, c := range n.ofTenant(tenant) {
		c.mu.Lock()
		for _, a := range c.attached {
			used[a.Network] = true
		}
		c.mu.Unlock()
	}
	var gone []string
	for _, r := range n.nets.ofTenant(tenant) {
		if used[r.Key.ID] || !want(triton.NetworkInfo{Key: r.Key, Created: r.Created, Spec: r.Spec}) {
			continue
		}
		err := n.removeNetwork(context.WithoutCancel(ctx), r)
		switch {
		case errdefs.IsPermissionDenied(err): // somebody has joined it just now
		case err != nil:
			return gone, err
		default:
			gone = append(gone, r.Spec.Name)
		}
	}
	slices.Sort(gone)
	n.pruned(tenant, triton.EventNetwork, 0)
	return gone, nil
}
