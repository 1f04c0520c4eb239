package node

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tritond/triton/pkg/cluster"
	"github.com/tritond/triton/pkg/sched"
	"github.com/tritond/triton/pkg/triton"
)

// Record is the intent of one container: what should be. It lives in etcd under the tenant's prefix and is the only
// thing that makes a container exist; everything else on the machine follows from it or is removed.
type Record struct {
	Key      triton.ContainerKey `json:"key"`
	Name     string              `json:"name"`
	Created  time.Time           `json:"created"`
	Spec     triton.Spec         `json:"spec"`
	Endpoint triton.Endpoint     `json:"endpoint"`
	IDs      triton.IDRange      `json:"ids,omitzero"`
	Desired  triton.Status       `json:"desired"` // running or exited; created before the first start
	Node     string              `json:"node"`
	// Networks are those that the container is in besides the default one, which Endpoint tells. Spec.Networks is where
	// it began.
	Networks []triton.Membership `json:"networks,omitempty"`
	// Watching is replaced, never changed; nil: nobody asked since it was made, and the label holds.
	Watching *Watching `json:"watching,omitempty"`
	// Placement is the last decision to have the container here; replaced, never changed. nil: made before there were any.
	Placement *sched.Decision `json:"placement,omitempty"`
}

// intent reads and writes Records. Names are keys of their own, so that one transaction makes a name unique per tenant.
type intent struct {
	kv Cluster
}

const tenantsPrefix = "/triton/tenants/"

func containerPath(k triton.ContainerKey) string {
	return tenantsPrefix + string(k.Tenant) + "/containers/" + k.ID
}

func namePath(t triton.Tenant, name string) string {
	return tenantsPrefix + string(t) + "/names/" + name
}

func encodeRecord(r *Record) ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode record of %s: %w", r.Key, err)
	}
	return b, nil
}

// create writes a record and takes its name, or neither. errdefs.ErrAlreadyExists: the name is taken.
// more are operations that belong to it.
func (s intent) create(ctx context.Context, r *Record, more ...cluster.Op) (revision int64, err error) {
	b, err := encodeRecord(r)
	if err != nil {
		return 0, err
	}
	return s.kv.Txn(ctx, append(more,
		cluster.CreateOp(namePath(r.Key.Tenant, r.Name), []byte(r.Key.ID)),
		cluster.CreateOp(containerPath(r.Key), b))...)
}

// update replaces a record that still has the given revision.
func (s intent) update(ctx context.Context, r *Record, revision int64) (int64, error) {
	b, err := encodeRecord(r)
	if err != nil {
		return 0, err
	}
	return s.kv.Update(ctx, containerPath(r.Key), b, revision)
}

// remove deletes a record and frees its name. more are operations that belong to it.
func (s intent) remove(ctx context.Context, r *Record, more ...cluster.Op) error {
	_, err := s.kv.Txn(ctx, append(more, cluster.DeleteOp(namePath(r.Key.Tenant, r.Name), 0), cluster.DeleteOp(containerPath(r.Key), 0))...)
	return err
}

// stored is a record as etcd has it.
type stored struct {
	Record
	revision int64
}

// corrupt is a key whose value is no record: it is reported and left alone, for an operator to look at.
type corrupt struct {
	key string
	err error
}

// all reads every record of every tenant.
func (s intent) all(ctx context.Context) ([]stored, []corrupt, error) {
	return listed(ctx, s, "containers", func(kv cluster.KV) (stored, error) {
		r := stored{revision: kv.Revision}
		err := decodeRecord(kv.Key, kv.Value, &r.Record) // before r is copied
		return r, err
	})
}

// listed reads every record of one kind, containers, networks or volumes, of every tenant.
func listed[T any](ctx context.Context, s intent, kind string, decode func(cluster.KV) (T, error)) ([]T, []corrupt, error) {
	kvs, _, err := s.kv.List(ctx, tenantsPrefix)
	if err != nil {
		return nil, nil, fmt.Errorf("list %s: %w", kind, err)
	}
	var recs []T
	var bad []corrupt
	for _, kv := range kvs {
		if !strings.Contains(kv.Key, "/"+kind+"/") {
			continue
		}
		r, err := decode(kv)
		if err != nil {
			bad = append(bad, corrupt{kv.Key, err})
			continue
		}
		recs = append(recs, r)
	}
	return recs, bad, nil
}

// decodeRecord parses a record and checks that it belongs under its key: a record under a foreign key could make one
// tenant's container answer to another.
func decodeRecord(key string, value []byte, r *Record) error {
	if err := json.Unmarshal(value, r); err != nil {
		return fmt.Errorf("decode record: %w", err)
	}
	if err := r.Key.Tenant.Validate(); err != nil {
		return err
	}
	if !triton.ValidID(r.Key.ID) || containerPath(r.Key) != key {
		return fmt.Errorf("record of %s is stored under another key", r.Key)
	}
	return nil
}
