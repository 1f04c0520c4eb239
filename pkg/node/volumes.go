package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/cluster"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/volume"
)

// volumeRecord is the intent of one volume, in etcd under the tenant's prefix.
type volumeRecord struct {
	Key     triton.VolumeKey  `json:"key"`
	Created time.Time         `json:"created"`
	Spec    triton.VolumeSpec `json:"spec"`
}

func volumePath(k triton.VolumeKey) string {
	return tenantsPrefix + string(k.Tenant) + "/volumes/" + k.Name
}

// createOp is the part of a transaction that makes the volume.
func (r *volumeRecord) createOp() (cluster.Op, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return cluster.Op{}, fmt.Errorf("encode record of volume %s: %w", r.Key, err)
	}
	return cluster.CreateOp(volumePath(r.Key), b), nil
}

// volumes reads every volume of every tenant.
func (s intent) volumes(ctx context.Context) ([]*volumeRecord, []corrupt, error) {
	return listed(ctx, s, "volumes", func(kv cluster.KV) (*volumeRecord, error) {
		r := &volumeRecord{}
		err := json.Unmarshal(kv.Value, r)
		if err == nil && (volume.CheckName(r.Key.Name) != nil || r.Key.Tenant.Validate() != nil || volumePath(r.Key) != kv.Key) {
			err = fmt.Errorf("record of volume %s is stored under another key", r.Key)
		}
		return r, err
	})
}

// CreateVolume makes a volume, or finds the one of this name, as docker does; an empty name asks for one that is made up.
func (n *Node) CreateVolume(ctx context.Context, tenant triton.Tenant, name string, spec triton.VolumeSpec) (triton.VolumeInfo, error) {
	if name == "" {
		name = triton.NewID()
		spec.MarkAnonymous()
	}
	n.vols.change.Lock()
	defer n.vols.change.Unlock()
	r, _, err := n.makeVolume(context.WithoutCancel(ctx), triton.VolumeKey{Tenant: tenant, Name: name}, spec)
	if err != nil {
		return triton.VolumeInfo{}, err
	}
	return n.volumeInfo(r, n.volumeUsers(tenant)), nil
}

// makeVolume finds or makes a volume; made says which. The caller holds vols.change.
func (n *Node) makeVolume(ctx context.Context, k triton.VolumeKey, spec triton.VolumeSpec) (r *volumeRecord, made bool, err error) {
	if r := n.vols.get(k); r != nil {
		return r, false, nil
	}
	if r, err = n.newVolume(k, spec); err != nil {
		return nil, false, err
	}
	op, err := r.createOp()
	if err == nil {
		_, err = n.intent.kv.Txn(ctx, op)
	}
	if err != nil {
		return nil, false, errors.Join(fmt.Errorf("create %s: %w", k.Name, err), n.cfg.Volumes.Undo(k))
	}
	n.volumeMade(r)
	return r, true, nil
}

// newVolume checks a wish and makes the directory. The record is not written yet.
func (n *Node) newVolume(k triton.VolumeKey, spec triton.VolumeSpec) (*volumeRecord, error) {
	if err := errors.Join(volume.CheckName(k.Name), volume.CheckOptions(spec.Options)); err != nil {
		return nil, fmt.Errorf("create %s: %w", k.Name, err)
	}
	if err := n.cfg.Volumes.Create(k); err != nil {
		return nil, fmt.Errorf("create %s: %w", k.Name, err)
	}
	return &volumeRecord{Key: k, Created: n.cfg.Now().UTC(), Spec: spec}, nil
}

// volumeMade is called once a volume's record is written.
func (n *Node) volumeMade(r *volumeRecord) {
	n.vols.put(r)
	n.publish(n.volumeEvent("create", r.Key, nil))
}

// volumeEvent builds an event about a volume, with docker's attributes.
func (n *Node) volumeEvent(action string, k triton.VolumeKey, extra map[string]string) triton.Event {
	attrs := map[string]string{"driver": triton.VolumeDriver}
	maps.Copy(attrs, extra)
	return triton.Event{
		Time: n.cfg.Now().UTC(), Tenant: k.Tenant, Type: triton.EventVolume, Action: action, ID: k.Name, Attributes: attrs,
	}
}

// volumeUsers are the ids of a tenant's containers by the name of each volume that they mount.
func (n *Node) volumeUsers(tenant triton.Tenant) map[string][]string {
	users := map[string][]string{}
	for _, c := range n.ofTenant(tenant) {
		for _, name := range volumeNames(&c.rec.Spec) { // the mounts of a container never change
			users[name] = append(users[name], c.key.ID)
		}
	}
	for _, ids := range users {
		slices.Sort(ids)
	}
	return users
}

// volumeNames are the volumes that a container mounts, each once.
func volumeNames(s *triton.Spec) []string {
	var names []string
	for i := range s.Mounts {
		if m := &s.Mounts[i]; m.Type == triton.MountVolume && !slices.Contains(names, m.Source) {
			names = append(names, m.Source)
		}
	}
	return names
}

func (n *Node) volumeInfo(r *volumeRecord, users map[string][]string) triton.VolumeInfo {
	return triton.VolumeInfo{
		Key: r.Key, Created: r.Created, Spec: r.Spec, Mountpoint: n.cfg.Volumes.Path(r.Key, &r.Spec), Users: users[r.Key.Name],
	}
}

// ListVolumes returns the volumes of a tenant, in no order. It does no I/O.
func (n *Node) ListVolumes(_ context.Context, tenant triton.Tenant) ([]triton.VolumeInfo, error) {
	users := n.volumeUsers(tenant)
	var list []triton.VolumeInfo
	for _, r := range n.vols.ofTenant(tenant) {
		list = append(list, n.volumeInfo(r, users))
	}
	return list, nil
}

func noSuchVolume(name string) error {
	return kindf(errdefs.ErrNotFound, "get %s: no such volume", name)
}

// InspectVolume finds a volume by its name.
func (n *Node) InspectVolume(_ context.Context, k triton.VolumeKey) (triton.VolumeInfo, error) {
	r := n.vols.get(k)
	if r == nil {
		return triton.VolumeInfo{}, noSuchVolume(k.Name)
	}
	return n.volumeInfo(r, n.volumeUsers(k.Tenant)), nil
}

// VolumeSize is the bytes that a volume's files take.
func (n *Node) VolumeSize(ctx context.Context, k triton.VolumeKey) (int64, error) {
	return n.cfg.Volumes.Size(ctx, k)
}

// RemoveVolume removes a volume that no container mounts, be it running or not.
func (n *Node) RemoveVolume(ctx context.Context, k triton.VolumeKey) error {
	n.vols.change.Lock()
	defer n.vols.change.Unlock()
	r := n.vols.get(k)
	if r == nil {
		return noSuchVolume(k.Name)
	}
	if users := n.volumeUsers(k.Tenant)[k.Name]; len(users) > 0 || n.vols.claims[k] > 0 {
		return kindf(errdefs.ErrFailedPrecondition, "remove %s: volume is in use - [%s]", k.Name, strings.Join(users, ", "))
	}
	return n.removeVolumes(context.WithoutCancel(ctx), []*volumeRecord{r}, func(ctx context.Context, ops []cluster.Op) error {
		_, err := n.intent.kv.Txn(ctx, ops...)
		return err
	})
}

// removeVolumes removes volumes together with what commit does in the same transaction. A kill before that leaves them all
// as they are, one after that removes them at the next start. The caller holds vols.change.
func (n *Node) removeVolumes(ctx context.Context, recs []*volumeRecord, commit func(context.Context, []cluster.Op) error) error {
	var taken []volume.Trash
	var ops []cluster.Op
	var err error
	for _, r := range recs {
		var t volume.Trash
		if t, err = n.cfg.Volumes.Remove(r.Key); err != nil {
			break
		}
		taken = append(taken, t)
		ops = append(ops, cluster.DeleteOp(volumePath(r.Key), 0))
	}
	if err == nil {
		err = commit(ctx, ops)
	}
	if err != nil {
		for _, t := range taken {
			err = errors.Join(err, t.Restore())
		}
		return err
	}
	for _, r := range recs {
		n.vols.forget(r.Key)
		n.publish(n.volumeEvent("destroy", r.Key, nil))
	}
	n.spawn(func() {
		for _, t := range taken {
			if err := t.Empty(); err != nil {
				n.log.Error("files of a removed volume, cleaned at the next start", "err", err)
			}
		}
	})
	return nil
}

// PruneVolumes removes the volumes that no container mounts and that want accepts. It returns their names and their bytes.
func (n *Node) PruneVolumes(ctx context.Context, tenant triton.Tenant, want func(*triton.VolumeInfo) bool) ([]string, int64, error) {
	users := n.volumeUsers(tenant)
	var gone []string
	var freed int64
	for _, r := range n.vols.ofTenant(tenant) {
		info := n.volumeInfo(r, users)
		if len(info.Users) > 0 || !want(&info) {
			continue
		}
		size, err := n.VolumeSize(ctx, r.Key)
		if err != nil {
			return gone, freed, err
		}
		err = n.RemoveVolume(ctx, r.Key)
		switch {
		case errdefs.IsFailedPrecondition(err), errdefs.IsNotFound(err): // used or removed just now
		case err != nil:
			return gone, freed, err
		default:
			gone = append(gone, r.Key.Name)
			freed += size
		}
	}
	slices.Sort(gone)
	n.pruned(tenant, triton.EventVolume, freed)
	return gone, freed, nil
}
