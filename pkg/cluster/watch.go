package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Change is one change of a key, or its removal. Of a removal Value is nil and Revision is that of the removal.
type Change struct {
	KV
	Deleted bool
}

// CompactedError is returned by Watch when the history it was asked for is gone: List again and watch from there.
// It is an errdefs.ErrOutOfRange.
type CompactedError struct {
	// Revision is the oldest one that can still be watched from.
	Revision int64
}

// Error says up to where the history is gone.
func (e *CompactedError) Error() string {
	return fmt.Sprintf("history before revision %d is compacted", e.Revision)
}

// Unwrap gives the kind.
func (e *CompactedError) Unwrap() error { return errdefs.ErrOutOfRange }

// Watch calls emit for every change below prefix from fromRevision on (0: from now on), in order, until ctx ends, emit
// fails, or the history was compacted (*CompactedError). Changes of one transaction come one after the other with the
// same revision. A slow emit delays only its own watch; its backlog waits in memory, so emit must not block for long.
func (c *Cluster) Watch(ctx context.Context, prefix string, fromRevision int64, emit func(Change) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := c.client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(fromRevision))
	for {
		select {
		case <-c.death.done:
			return c.fault("watch", prefix, errdefs.ErrUnavailable)
		case resp, open := <-changes:
			if err := watchError(resp, open); err != nil {
				return c.watchFault(ctx, prefix, err)
			}
			for _, ev := range resp.Events {
				change := Change{KV: kvOf(ev.Kv), Deleted: ev.Type == clientv3.EventTypeDelete}
				if err := emit(change); err != nil {
					return err
				}
			}
		}
	}
}

// errWatchEnded stands for a closed channel.
var errWatchEnded = errors.New("watch ended")

func watchError(resp clientv3.WatchResponse, open bool) error {
	switch {
	case !open:
		return errWatchEnded
	case resp.CompactRevision != 0:
		return &CompactedError{Revision: resp.CompactRevision}
	default:
		return resp.Err()
	}
}

func (c *Cluster) watchFault(ctx context.Context, prefix string, err error) error {
	var gone *CompactedError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &gone), errors.Is(err, rpctypes.ErrCompacted):
		return fmt.Errorf("watch %s: %w", prefix, err)
	default:
		return c.fault("watch", prefix, err)
	}
}
