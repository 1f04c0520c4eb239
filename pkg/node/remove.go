package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/cluster"
	"github.com/tritond/triton/pkg/triton"
)

// errAlreadyRemoving tells a second remover that the first one does the work.
var errAlreadyRemoving = kindf(errdefs.ErrFailedPrecondition, "removal of container is already in progress")

// RemoveContainer removes a container that does not run; force kills it first. With volumes its anonymous volumes go, those
// that no other container mounts.
func (n *Node) RemoveContainer(ctx context.Context, key triton.ContainerKey, force, volumes bool) error {
	c, task, _, err := n.runningTask(key)
	if err != nil {
		return err
	}
	if c.isRestarting() && !force {
		return kindf(errdefs.ErrFailedPrecondition, "cannot remove container %q: container is restarting: "+
			"stop the container before removing or force remove", c.name())
	}
	next := (*ending)(nil)
	if force {
		for task, next = n.order(c, true, true); task == nil && c.isRestarting(); task, next = n.order(c, true, true) {
			n.giveUpRestart(c)
		}
	}
	if task != nil {
		if c.paused() && !force {
			return kindf(errdefs.ErrFailedPrecondition, "cannot remove container %q: container is paused and must be unpaused first", c.name())
		}
		if !force {
			return kindf(errdefs.ErrFailedPrecondition, "cannot remove container %q: container is running: "+
				"stop the container before removing or force remove", c.name())
		}
		c.mu.Lock()
		c.forced = true
		c.mu.Unlock()
		if err := n.signalTold(ctx, c, task, unix.SIGKILL); err != nil {
			return err
		}
		if err := awaitEnd(ctx, next, 0); err != nil {
			return fmt.Errorf("kill %s: %w", c.key, err)
		}
	}
	c.life.Lock()
	defer c.life.Unlock()
	err = n.removeLocked(context.WithoutCancel(ctx), c, removal{volumes: volumes})
	if errors.Is(err, errAlreadyRemoving) && force {
		return nil // --rm was faster
	}
	return err
}

func (c *container) name() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec.Name
}

// removal says how a container is removed.
type removal struct {
	volumes bool   // its anonymous volumes go with it
	remains func() // waits until nothing uses its belongings any more; nil: nothing does
}

// removeLocked deletes the intent first: from then on the container does not exist, and whatever a crash leaves behind
// is an orphan for the next start. What the container kept for its life is given back in the background, once how.remains
// says that nothing uses it any more. The caller holds c.life.
func (n *Node) removeLocked(ctx context.Context, c *container, how removal) error {
	c.mu.Lock()
	if c.removing {
		c.mu.Unlock()
		return errAlreadyRemoving
	}
	if c.running() || c.restarting() {
		c.mu.Unlock()
		return kindf(errdefs.ErrFailedPrecondition, "cannot remove container %q: container is running", "/"+c.rec.Name)
	}
	c.removing = true
	rec := c.rec
	c.mu.Unlock()

	if how.remains != nil && len(volumeNames(&rec.Spec)) > 0 {
		how.remains() // who hears of the removal may remove the volumes: they are unmounted before
	}
	if err := n.removeRecord(ctx, c, &rec, how.volumes); err != nil {
		c.mu.Lock()
		c.removing = false
		c.mu.Unlock()
		return fmt.Errorf("delete record of %s: %w", c.key, err)
	}
	n.publish(c.event("destroy", n.cfg.Now().UTC(), nil))
	c.mu.Lock()
	for _, a := range c.waiting {
		a.abandon(noSuchContainer(c.key.ID))
	}
	c.waiting = nil
	c.removed.complete(c.last)
	c.next.complete(c.last)
	c.over.complete(c.last)
	c.mu.Unlock()
	n.spawn(func() {
		if how.remains != nil {
			how.remains()
		}
		if err := n.releaseBelongings(context.WithoutCancel(n.ctx), c); err != nil {
			n.log.Error("leftovers of a removed container, cleaned at the next start", "container", c.key, "err", err)
		}
	})
	return nil
}

// removeRecord deletes the intent of a container and of the anonymous volumes that only it mounts, in one transaction.
func (n *Node) removeRecord(ctx context.Context, c *container, rec *Record, volumes bool) error {
	n.vols.change.Lock()
	defer n.vols.change.Unlock()
	var recs []*volumeRecord
	if volumes {
		recs = n.ownVolumes(c)
	}
	err := n.removeIntentLocked(ctx, rec, recs)
	if err == nil {
		n.forget(c)
	}
	return err
}

// removeIntent deletes a container's record and volumes in one transaction.
func (n *Node) removeIntent(ctx context.Context, rec *Record, volumes []*volumeRecord) error {
	n.vols.change.Lock()
	defer n.vols.change.Unlock()
	return n.removeIntentLocked(ctx, rec, volumes)
}

// removeIntentLocked is removeIntent for a caller that holds vols.change.
func (n *Node) removeIntentLocked(ctx context.Context, rec *Record, volumes []*volumeRecord) error {
	return n.removeVolumes(ctx, volumes, func(ctx context.Context, ops []cluster.Op) error {
		return n.intent.remove(ctx, rec, ops...)
	})
}

// ownVolumes are the anonymous volumes of a container that nobody else mounts. The caller holds vols.change.
func (n *Node) ownVolumes(c *container) []*volumeRecord {
	var recs []*volumeRecord
	var users map[string][]string
	for i := range c.rec.Spec.Mounts {
		m := &c.rec.Spec.Mounts[i]
		if m.Type != triton.MountVolume || !m.Anonymous {
			continue
		}
		if users == nil {
			users = n.volumeUsers(c.key.Tenant)
		}
		k := c.key.MountedVolume(m)
		if r := n.vols.get(k); r != nil && len(users[k.Name]) == 1 && n.vols.claims[k] == 0 && !slices.Contains(recs, r) {
			recs = append(recs, r)
		}
	}
	return recs
}

// releaseBelongings gives back what acquire took.
func (n *Node) releaseBelongings(ctx context.Context, c *container) error {
	errs := []error{c.holdLog()}
	if c.rec.Endpoint.Slot >= 0 {
		errs = append(errs, n.cfg.Network.Release(ctx, c.rec.Endpoint))
	}
	errs = append(errs, n.discardImages(ctx, c), n.cfg.Images.Discard(ctx, c.key), os.RemoveAll(c.dataDir))
	return errors.Join(errs...)
}
