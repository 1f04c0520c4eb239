package cluster

import (
	"context"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// slack is how much freed space the database may carry before it is rewritten without it. Rewriting blocks all calls
// for about 10 ms per MiB in use.
const slack = 16 << 20

// keepUp bounds the store until ctx ends: it compacts old revisions, and when the size limit was hit and deletes made
// room, lets additions through again.
func (c *Cluster) keepUp(ctx context.Context) {
	tick := time.NewTicker(c.cfg.upkeep)
	defer tick.Stop()
	var compacted int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-c.kick:
			if !c.alarmed() {
				continue
			}
		}
		var err error
		if compacted, err = c.tidy(ctx, compacted); err != nil && ctx.Err() == nil {
			c.log.Warn("cluster store upkeep", "err", err)
		}
	}
}

func (c *Cluster) kickUpkeep() {
	select {
	case c.kick <- struct{}{}:
	default: // one look is already asked for
	}
}

// tidy compacts and shrinks once. It returns the revision up to which the history is gone.
func (c *Cluster) tidy(ctx context.Context, compacted int64) (int64, error) {
	full := c.alarmed()
	keep := c.cfg.history
	if full {
		keep = 0 // watchers that lag get an error they must handle anyway; a store that takes nothing helps nobody
	}
	target := c.etcd.Server.KV().Rev() - keep
	if target > compacted && (full || target-compacted >= max(keep/10, 1)) {
		if _, err := c.client.Compact(ctx, target, clientv3.WithCompactPhysical()); err != nil {
			return target, err
		}
		compacted = target
	}
	if err := c.shrink(full); err != nil {
		return compacted, err
	}
	if full && c.etcd.Server.Backend().Size() < c.cfg.MaxSize {
		return compacted, c.disarm(ctx)
	}
	return compacted, nil
}

// shrink rewrites the database file when most of it is free pages and the disk has room for the copy.
func (c *Cluster) shrink(full bool) error {
	backend := c.etcd.Server.Backend()
	backend.ForceCommit()
	size, inUse := backend.Size(), backend.SizeInUse()
	if size-inUse < slack && !full || size-inUse < size/4 {
		return nil
	}
	if free, err := c.space.free(); err != nil || free < uint64(inUse)+2*slack {
		return err
	}
	c.space.forgetReserve()
	if err := backend.Defrag(); err != nil {
		return err
	}
	return c.space.keepReserve(backend.Size())
}

// alarmed reports whether etcd refuses additions because of its size limit.
func (c *Cluster) alarmed() bool {
	for _, a := range c.etcd.Server.Alarms() {
		if a.Alarm == etcdserverpb.AlarmType_NOSPACE {
			return true
		}
	}
	return false
}
