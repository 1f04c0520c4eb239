package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tritond/triton/pkg/death"
	"github.com/tritond/triton/pkg/placement"
	"github.com/tritond/triton/pkg/probes"
	"github.com/tritond/triton/pkg/runtime"
	"github.com/tritond/triton/pkg/triton"
)

// reconcileParallel is how many containers are looked at at once: most of the time is spent waiting for shims.
const reconcileParallel = 16

// Reconcile makes what is agree with what should be, once, before anything is served: it finds the containers that ran
// on while no daemon lived, learns how those that ended did, and removes what no record owns. It never ends a
// container that a record owns.
func (n *Node) Reconcile(ctx context.Context) error {
	if err := n.reconcile(ctx); err != nil {
		return err
	}
	for _, c := range n.all() { // only now: what they join, and what they would take, is known
		if err := n.updateLinks(c); err != nil {
			n.log.Error("links may lead to where containers were", "container", c.key, "err", err)
		}
		n.takeUp(c)
	}
	return nil
}

func (n *Node) reconcile(ctx context.Context) error {
	recs, bad, err := n.intent.all(ctx)
	if err != nil {
		return err
	}
	for _, b := range bad {
		n.log.Error("record ignored: an operator must look at it", "key", b.key, "err", b.err)
	}
	if err := n.openNetworks(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(n.viewDir(), 0o700); err != nil {
		return fmt.Errorf("make directory of views: %w", err)
	}
	if err := n.openImageMounts(); err != nil {
		return err
	}
	volumesKnown, err := n.openVolumes(ctx)
	if err != nil {
		return err
	}
	var keep []triton.Endpoint
	for _, r := range recs {
		c := newContainer(n.cfg.DataRoot, r.Record, r.revision)
		n.insert(c)
		n.cfg.Placement.Keep(placement.Container{Key: r.Key, Name: r.Name, Spec: &r.Spec})
		n.keepAttached(c)
		n.keepPorts(ctx, c)
		n.holdVolumes(c)
		if r.Endpoint.Slot >= 0 {
			keep = append(keep, r.Endpoint)
		}
	}
	if err := n.cfg.Network.Reconcile(ctx, keep); err != nil {
		return fmt.Errorf("reconcile networks: %w", err)
	}
	// No goroutine returns an error: one container's trouble must not stop the others.
	var g errgroup.Group
	g.SetLimit(reconcileParallel)
	for _, c := range n.all() {
		g.Go(func() error {
			if err := n.recover(ctx, c); err != nil {
				n.log.Error("container not recovered", "container", c.key, "err", err)
				c.mu.Lock()
				c.state.Error = "not recovered after a restart of the daemon: " + err.Error()
				c.mu.Unlock()
			}
			n.forgetIdle(c)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if len(bad) > 0 || !volumesKnown {
		// What looks like an orphan may belong to a record that cannot be read.
		n.log.Warn("leftovers are not cleaned up while records are unreadable", "records", len(bad), "volumes known", volumesKnown)
		return nil
	}
	err = errors.Join(n.removeOrphans(ctx), n.settleVolumes(ctx))
	n.populateUnfinished(ctx)
	return err
}

// all returns every container of every tenant.
func (n *Node) all() []*container {
	n.mu.Lock()
	defer n.mu.Unlock()
	cs := make([]*container, 0, len(n.byID))
	for _, c := range n.byID {
		cs = append(cs, c)
	}
	return cs
}

// recover finds out what became of one container.
func (n *Node) recover(ctx context.Context, c *container) error {
	if err := os.MkdirAll(c.dataDir, 0o711); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	state, err := readState(c.dataDir)
	if err != nil {
		n.log.Error("state file unreadable, asking the shim and the kernel", "container", c.key, "err", err)
	}
	c.mu.Lock()
	c.state = state
	c.mu.Unlock()

	n.readHealth(c)
	found, err := n.cfg.Runtime.Load(ctx, c.key)
	if err != nil {
		return err
	}
	if found.Task == nil || found.Exit != nil || !found.Started {
		n.unpublishPorts(ctx, c) // no container in any network
		n.detachAll(ctx, c)
	}
	switch {
	case found.Task != nil && found.Exit == nil && !found.Started:
		n.deleteTask(ctx, c, found.Task) // died between create and start: nothing of the image ran
		n.removeCgroup(c)
		return nil
	case found.Task != nil && found.Exit == nil:
		return n.resume(c, found)
	case found.Exit != nil:
		return n.endedMeanwhile(ctx, c, found)
	case state.Status.Runs():
		// A reboot, or run-time state that somebody removed: nobody saw the end.
		found.Exit = &triton.ExitRecord{Run: state.Run, Pid: state.Pid, Code: triton.ExitLostCode, At: n.cfg.Now().UTC(), Source: triton.ExitLost}
		return n.endedMeanwhile(ctx, c, found)
	}
	return n.finishRemoval(ctx, c)
}

// resume takes up a container that ran on: its probes are armed again and its end is waited for.
func (n *Node) resume(c *container, found runtime.Found) error {
	ids, err := n.cfg.Cgroups.Make(n.cgroupPath(c.key)) // exists: this reads its ids
	if err != nil {
		return err
	}
	if err := n.watch(c, probes.CgroupIDs{V2: ids.V2, V1: ids.V1}); err != nil {
		return err
	}
	n.cfg.Placement.Resumed(c.key)
	c.mu.Lock()
	missedStart := !c.state.Status.Runs() || c.state.Run != found.Run
	c.state = triton.State{
		Status: triton.StatusRunning, Run: found.Run, Pid: found.Task.Pid(), CgroupID: ids.V2, StartedAt: found.StartedAt,
		FinishedAt: c.state.FinishedAt, Restarts: c.state.Restarts, Pause: c.state.Pause, ByHand: c.state.ByHand, Core: coreOf(c.state, found.Run),
	}
	if found.Paused {
		c.state.Status = triton.StatusPaused
	}
	c.task = found.Task
	c.mu.Unlock()
	if found.LostStdio {
		n.log.Error("output lost: a shim died and nobody held its pipes", "container", c.key)
	}
	if missedStart {
		n.publish(c.event("start", found.StartedAt, nil))
		if err := c.writeState(); err != nil {
			return err
		}
	}
	if err := n.finishUpdate(context.WithoutCancel(n.ctx), c); err != nil {
		n.log.Error("limits not brought up to date", "container", c.key, "err", err)
	}
	if err := n.relayPorts(context.WithoutCancel(n.ctx), c, found.Task); err != nil {
		n.log.Error("published ports are not served on ::1, nor from IPv6 to IPv4", "container", c.key, "err", err)
	}
	n.supervise(c, found.Task)
	return n.announce(context.WithoutCancel(n.ctx), c)
}

// coreOf is the last dump of a run, if s tells of that run.
func coreOf(s triton.State, run int) *triton.Core {
	if s.Run != run {
		return nil
	}
	return s.Core
}

// endedMeanwhile does what ended does, for an end that no daemon saw. The die event carries the true time, and is not
// repeated if the last daemon died between writing it and writing the state.
func (n *Node) endedMeanwhile(ctx context.Context, c *container, found runtime.Found) error {
	rec := *found.Exit
	c.mu.Lock()
	known := (c.state.Status == triton.StatusExited || c.restarting()) && c.state.Run == rec.Run
	if c.state.StartedAt.IsZero() || c.state.Run != rec.Run {
		c.state.StartedAt = found.StartedAt
	}
	c.state.Core = coreOf(c.state, rec.Run)
	c.state.Run = rec.Run
	started := c.state.StartedAt
	c.mu.Unlock()
	var d *death.Record
	if !known {
		d = n.recordDeath(ctx, c, rec, lastMinute{})
	}
	if !known && !n.dieJournalled(ctx, c, rec) {
		if rec.OOMKilled {
			n.publish(c.event("oom", rec.At, nil))
		}
		n.publish(c.dieEvent(rec, started, d))
	}
	if !known {
		c.mu.Lock()
		c.exited(rec, d, "the container was gone and no record of its end was found")
		if byHand := c.rec.Desired == triton.StatusExited; byHand {
			c.state.ByHand = true // the record may know what a state file did not survive to tell
		}
		crashed := crash(rec, c.state.ByHand)
		if !c.state.ByHand {
			c.again()
		}
		c.mu.Unlock()
		n.cfg.Placement.Ended(c.key, placement.End{Crashed: crashed})
		if err := c.writeState(); err != nil {
			return err
		}
	}
	n.deleteTask(ctx, c, found.Task)
	n.removeCgroup(c)
	return n.finishRemoval(ctx, c)
}

// dieJournalled reports whether the journal has the end of this run.
func (n *Node) dieJournalled(ctx context.Context, c *container, rec triton.ExitRecord) bool {
	errFound := errors.New("found")
	err := n.cfg.Events.Read(ctx, c.key.Tenant, rec.At.Add(-time.Second), n.cfg.Now(), func(e triton.Event) error {
		if e.ID == c.key.ID && e.Action == "die" && e.Attributes[attrRun] == fmt.Sprint(rec.Run) {
			return errFound
		}
		return nil
	})
	return errors.Is(err, errFound)
}

// finishRemoval removes a container that asked for it at its end.
func (n *Node) finishRemoval(ctx context.Context, c *container) error {
	c.mu.Lock()
	due := c.rec.Spec.AutoRemove && c.state.Status == triton.StatusExited
	c.mu.Unlock()
	if !due {
		return nil
	}
	c.life.Lock()
	defer c.life.Unlock()
	return n.removeLocked(ctx, c, removal{volumes: true})
}

// removeOrphans deletes what a crash left: run-time state, snapshots and data that belong to no record.
func (n *Node) removeOrphans(ctx context.Context) error {
	owned := func(k triton.ContainerKey) bool {
		_, err := n.get(k)
		return err == nil
	}
	gone, err := n.cfg.Runtime.Orphans(ctx, owned)
	if err != nil {
		return fmt.Errorf("remove run-time leftovers: %w", err)
	}
	for _, what := range gone {
		n.log.Info("removed a leftover", "what", what)
	}
	snaps, err := n.cfg.Images.Snapshots(ctx)
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	mounted := n.imageMountKeys()
	for _, k := range snaps {
		if owned(k) || mounted[k] {
			continue
		}
		if err := n.cfg.Images.Discard(ctx, k); err != nil {
			return fmt.Errorf("remove snapshot of %s: %w", k, err)
		}
	}
	return errors.Join(n.removeOrphanShm(), n.removeOrphanData(owned))
}

// removeOrphanData deletes the data directories of containers that no record owns.
func (n *Node) removeOrphanData(owned func(triton.ContainerKey) bool) error {
	dirs, err := filepath.Glob(filepath.Join(n.cfg.DataRoot, "tenants", "*", "containers", "*"))
	if err != nil {
		return err
	}
	for _, d := range dirs {
		k := triton.ContainerKey{ID: filepath.Base(d), Tenant: triton.Tenant(filepath.Base(filepath.Dir(filepath.Dir(d))))}
		if !triton.ValidID(k.ID) || owned(k) {
			continue
		}
		if err := os.RemoveAll(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove data of %s: %w", k, err)
		}
	}
	return nil
}
