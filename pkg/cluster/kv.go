package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// KV is one key with its value. Revision is that of the last change to the key: hand it to Update or Delete to make
// sure that nobody changed it in between. Revisions grow over the whole store and never repeat.
type KV struct {
	Key      string
	Value    []byte
	Revision int64
}

const (
	maxKey = 1 << 10
	// maxValue bounds one value: an etcd log record must stay far below segmentSize.
	maxValue = 1 << 20
	// maxOps and maxTxn bound one Txn: 128 is etcd's own limit of operations, maxTxn that of all values together.
	maxOps = 128
	maxTxn = 2 << 20
	// maxRequest is what a transaction of maxOps and maxTxn takes at most: each key travels three times.
	maxRequest = maxTxn + maxOps*(3*maxKey+256)
)

// Get returns the value of key, or ErrNotFound.
func (c *Cluster) Get(ctx context.Context, key string) (KV, error) {
	resp, err := c.client.Get(ctx, key)
	if err != nil {
		return KV{}, c.fault("get", key, err)
	}
	if len(resp.Kvs) == 0 {
		return KV{}, fmt.Errorf("get %s: %w", key, errdefs.ErrNotFound)
	}
	return kvOf(resp.Kvs[0]), nil
}

// List returns everything below prefix in order of keys, and the revision of the store it belongs to: a Watch from
// the next revision misses nothing.
func (c *Cluster) List(ctx context.Context, prefix string) ([]KV, int64, error) {
	resp, err := c.client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return nil, 0, c.fault("list", prefix, err)
	}
	kvs := make([]KV, len(resp.Kvs))
	for i, kv := range resp.Kvs {
		kvs[i] = kvOf(kv)
	}
	return kvs, resp.Header.Revision, nil
}

// Create stores a key that must not exist yet (ErrAlreadyExists) and returns its revision.
func (c *Cluster) Create(ctx context.Context, key string, value []byte) (int64, error) {
	return c.Txn(ctx, CreateOp(key, value))
}

// Update changes a key that must exist (ErrNotFound) and be at ifRevision (ErrFailedPrecondition; 0: any revision).
func (c *Cluster) Update(ctx context.Context, key string, value []byte, ifRevision int64) (int64, error) {
	return c.Txn(ctx, UpdateOp(key, value, ifRevision))
}

// Delete removes a key that must exist (ErrNotFound) and be at ifRevision (ErrFailedPrecondition; 0: any revision).
// It works on a full disk too.
func (c *Cluster) Delete(ctx context.Context, key string, ifRevision int64) error {
	_, err := c.Txn(ctx, DeleteOp(key, ifRevision))
	return err
}

// Op is one step of a Txn; CreateOp, UpdateOp and DeleteOp make it.
type Op struct {
	kind       opKind
	key        string
	value      []byte
	ifRevision int64
}

type opKind int

const (
	opCreate opKind = iota + 1
	opUpdate
	opDelete
)

// CreateOp is Create as a step of a Txn.
func CreateOp(key string, value []byte) Op { return Op{kind: opCreate, key: key, value: value} }

// UpdateOp is Update as a step of a Txn.
func UpdateOp(key string, value []byte, ifRevision int64) Op {
	return Op{kind: opUpdate, key: key, value: value, ifRevision: ifRevision}
}

// DeleteOp is Delete as a step of a Txn.
func DeleteOp(key string, ifRevision int64) Op {
	return Op{kind: opDelete, key: key, ifRevision: ifRevision}
}

// Txn does all ops or none and returns the revision that all of them got. Each key may occur once. The error names the
// first op that could not be done, of the kinds of Create, Update and Delete.
func (c *Cluster) Txn(ctx context.Context, ops ...Op) (int64, error) {
	grows, err := checkOps(ops)
	if err != nil {
		return 0, err
	}
	if err := c.admit(grows); err != nil {
		return 0, fmt.Errorf("%s %s: %w", ops[0].verb(), ops[0].key, err)
	}
	var conds []clientv3.Cmp
	var then, otherwise []clientv3.Op
	for _, op := range ops {
		conds = append(conds, op.condition())
		then = append(then, op.action())
		otherwise = append(otherwise, clientv3.OpGet(op.key, clientv3.WithKeysOnly()))
	}
	resp, err := c.client.Txn(ctx).If(conds...).Then(then...).Else(otherwise...).Commit()
	if err != nil {
		return 0, c.fault(ops[0].verb(), ops[0].key, err)
	}
	if !resp.Succeeded {
		return 0, refusal(ops, resp)
	}
	if !grows {
		c.kickUpkeep() // deletes may have made room
	}
	return resp.Header.Revision, nil
}

// checkOps refuses what etcd would refuse less clearly, and reports whether ops need room.
func checkOps(ops []Op) (grows bool, err error) {
	if len(ops) == 0 || len(ops) > maxOps {
		return false, fmt.Errorf("transaction of %d ops: must have 1 to %d: %w", len(ops), maxOps, errdefs.ErrInvalidArgument)
	}
	seen, size := make(map[string]bool, len(ops)), 0
	for _, op := range ops {
		switch {
		case op.kind == 0:
			return false, fmt.Errorf("transaction: empty op: %w", errdefs.ErrInvalidArgument)
		case op.key == "" || len(op.key) > maxKey:
			return false, fmt.Errorf("%s: key of %d bytes: must have 1 to %d: %w", op.verb(), len(op.key), maxKey, errdefs.ErrInvalidArgument)
		case len(op.value) > maxValue:
			return false, fmt.Errorf("%s %s: value of %d bytes: at most %d: %w", op.verb(), op.key, len(op.value), maxValue, errdefs.ErrInvalidArgument)
		case seen[op.key]:
			return false, fmt.Errorf("%s %s: key occurs twice in a transaction: %w", op.verb(), op.key, errdefs.ErrInvalidArgument)
		}
		seen[op.key] = true
		size += len(op.value)
		grows = grows || op.kind != opDelete
	}
	if size > maxTxn {
		return false, fmt.Errorf("transaction of %d bytes: at most %d: %w", size, maxTxn, errdefs.ErrInvalidArgument)
	}
	return grows, nil
}

// condition is what must hold of the key before the op.
func (op Op) condition() clientv3.Cmp {
	switch {
	case op.kind == opCreate:
		return clientv3.Compare(clientv3.CreateRevision(op.key), "=", 0)
	case op.ifRevision == 0:
		return clientv3.Compare(clientv3.CreateRevision(op.key), ">", 0)
	default:
		return clientv3.Compare(clientv3.ModRevision(op.key), "=", op.ifRevision)
	}
}

func (op Op) action() clientv3.Op {
	if op.kind == opDelete {
		return clientv3.OpDelete(op.key)
	}
	return clientv3.OpPut(op.key, string(op.value))
}

func (op Op) verb() string {
	return [...]string{opCreate: "create", opUpdate: "update", opDelete: "delete"}[op.kind]
}

// refusal finds the op whose condition did not hold.
func refusal(ops []Op, resp *clientv3.TxnResponse) error {
	for i, op := range ops {
		found := resp.Responses[i].GetResponseRange().Kvs
		switch {
		case op.kind == opCreate && len(found) > 0:
			return fmt.Errorf("create %s: %w", op.key, errdefs.ErrAlreadyExists)
		case op.kind != opCreate && len(found) == 0:
			return fmt.Errorf("%s %s: %w", op.verb(), op.key, errdefs.ErrNotFound)
		case op.kind != opCreate && op.ifRevision != 0 && found[0].ModRevision != op.ifRevision:
			return fmt.Errorf("%s %s: changed meanwhile: at revision %d, not %d: %w",
				op.verb(), op.key, found[0].ModRevision, op.ifRevision, errdefs.ErrFailedPrecondition)
		}
	}
	return fmt.Errorf("%s %s: condition does not hold: %w", ops[0].verb(), ops[0].key, errdefs.ErrFailedPrecondition)
}

// fault gives etcd's error a kind.
func (c *Cluster) fault(verb, key string, err error) error {
	if reason := c.death.reason(); reason != "" {
		return fmt.Errorf("%s %s: etcd has stopped: %s: %w", verb, key, reason, errdefs.ErrUnavailable)
	}
	switch known := rpctypes.Error(err); {
	case errors.Is(known, rpctypes.ErrNoSpace):
		c.kickUpkeep()
		return fmt.Errorf("%s %s: the store has reached its %d bytes: %w", verb, key, c.cfg.MaxSize, errdefs.ErrResourceExhausted)
	case errors.Is(known, rpctypes.ErrRequestTooLarge):
		return fmt.Errorf("%s %s: too large: %w", verb, key, errdefs.ErrInvalidArgument)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s %s: %w", verb, key, err)
	default:
		return fmt.Errorf("%s %s: %w: %w", verb, key, errdefs.ErrUnavailable, err)
	}
}

func kvOf(kv *mvccpb.KeyValue) KV {
	return KV{Key: string(kv.Key), Value: kv.Value, Revision: kv.ModRevision}
}

// disarm clears every alarm of etcd.
func (c *Cluster) disarm(ctx context.Context) error {
	_, err := c.client.AlarmDisarm(ctx, (*clientv3.AlarmMember)(&etcdserverpb.AlarmMember{}))
	return err
}
