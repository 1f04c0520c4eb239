package node

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/runtime"
	"github.com/tritond/triton/pkg/triton"
)

// supervise waits for the end of a run in the background, through deaths of its shim. A daemon that stops leaves the
// container alone; the next one takes up the wait.
func (n *Node) supervise(c *container, task *runtime.Task) {
	n.spawn(func() {
		rec, err := task.Wait(n.ctx)
		if err != nil {
			if n.ctx.Err() == nil {
				n.log.Error("container lost", "container", c.key, "err", err)
				rec = triton.ExitRecord{Code: triton.ExitLostCode, At: n.cfg.Now().UTC(), Source: triton.ExitLost}
			} else {
				return
			}
		}
		n.ended(context.WithoutCancel(n.ctx), c, task, rec)
	})
}

// ended is everything that follows the end of a run, in the order in which others may rely on it: the last reading of
// its probes, the death record, the event in the journal, the state on disk, then those who wait.
//
// It holds c.life, so that nobody starts the container again before the last run's remains are gone.
func (n *Node) ended(ctx context.Context, c *container, task *runtime.Task, rec triton.ExitRecord) {
	c.life.Lock()
	defer c.life.Unlock()
	last := n.lastMinute(c) // unwatch forgets it
	n.unwatch(c)
	end := n.endOf(c, rec)
	n.unpublishPorts(ctx, c)
	c.mu.Lock()
	started := c.state.StartedAt
	told := c.oomKills > 0
	late := rec.Signal == int(unix.SIGKILL) && !c.patientTo.IsZero() && !rec.At.Before(c.patientTo)
	c.patientTo = time.Time{}
	attached := c.attached
	c.mu.Unlock()
	for _, att := range attached {
		n.cfg.Network.Withdraw(att)
	}

	if rec.OOMKilled && !told {
		n.publish(c.event("oom", rec.At, nil))
	}
	d := n.recordDeath(ctx, c, rec, last)
	c.signals.Lock() // what was sent is told before what it did
	if late {
		n.publish(c.event("kill", rec.At, map[string]string{"signal": strconv.Itoa(int(unix.SIGKILL))}))
	}
	n.publish(c.dieEvent(rec, started, d))
	c.signals.Unlock()

	c.mu.Lock()
	c.exited(rec, d, "no record of how the process ended was found")
	c.task = nil
	n.endHealth(c)
	next := c.next // replaced as the state changes: who sees the container run waits for this end
	c.next = newEnding()
	again := c.again()
	over := c.over
	if !again {
		c.over = newEnding()
	}
	remove := !again && c.rec.Spec.AutoRemove && !c.stays
	c.mu.Unlock()
	n.changed()
	n.saveState(c)
	end.Again = again
	n.cfg.Placement.Ended(c.key, end)
	next.complete(rec)
	if !again {
		over.complete(rec)
	}
	var remains sync.WaitGroup
	remains.Go(func() {
		n.deleteTask(ctx, c, task)
		n.removeCgroup(c)
		n.detachAll(ctx, c)
		n.releaseVolumes(c)
	})
	if remove {
		if err := n.removeLocked(ctx, c, removal{volumes: true, remains: remains.Wait}); err != nil && !errors.Is(err, errAlreadyRemoving) {
			n.log.Error("container not removed", "container", c.key, "err", err)
		}
	}
	remains.Wait()
	n.scheduleRestart(c)
}

// attrRun tells a die event's run. Labels are attributes too, so its name must be none that a user would take.
const attrRun = "triton.run"

// dieAttributes are what docker adds to a die event; execDuration is in whole seconds.
func dieAttributes(rec triton.ExitRecord, started time.Time) map[string]string {
	a := map[string]string{"exitCode": strconv.Itoa(rec.Code), attrRun: strconv.Itoa(rec.Run)}
	if !started.IsZero() {
		a["execDuration"] = strconv.Itoa(int(rec.At.Sub(started).Seconds()))
	}
	return a
}

// deleteTask removes what the shim made. A failure is reported and left to the next reconciliation.
func (n *Node) deleteTask(ctx context.Context, c *container, task *runtime.Task) {
	if task == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, killPatience)
	defer cancel()
	if err := task.Delete(ctx, true); err != nil {
		n.log.Error("task not deleted", "container", c.key, "err", err)
	}
	if err := n.unmountShm(c.key); err != nil {
		n.log.Error("shm not unmounted", "container", c.key, "err", err)
	}
}

func (n *Node) removeCgroup(c *container) {
	if err := n.cfg.Cgroups.Remove(n.cgroupPath(c.key)); err != nil {
		n.log.Error("cgroup not removed", "container", c.key, "err", err)
	}
}

// WaitContainer subscribes to an end of the container at once; the returned function blocks until it came.
func (n *Node) WaitContainer(_ context.Context, key triton.ContainerKey, until triton.WaitCondition) (func(context.Context) (triton.ExitRecord, error), error) {
	c, err := n.get(key)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.next
	switch until {
	case triton.WaitRemoved:
		e = c.removed
	case triton.WaitNextExit:
	default:
		if !c.running() && !c.restarting() {
			rec := triton.ExitRecord{Code: c.state.ExitCode, At: c.state.FinishedAt}
			return func(context.Context) (triton.ExitRecord, error) { return rec, nil }, nil
		}
	}
	return func(ctx context.Context) (triton.ExitRecord, error) {
		select {
		case <-e.done:
			return e.record, nil
		case <-ctx.Done():
			return triton.ExitRecord{}, ctx.Err()
		}
	}, nil
}
