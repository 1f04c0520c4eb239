package node

import (
	"context"
	"strings"

	"github.com/tritond/triton/pkg/runtime"
	"github.com/tritond/triton/pkg/triton"
)

// parallelRestarts bounds the starts that policies ask for at once: after a start of the machine that may be all there are.
const parallelRestarts = 8

// again decides what follows the end that c.state tells of, and says so in c.state: StatusRestarting where the policy asks
// for another run. The caller holds c.mu.
func (c *container) again() bool {
	policy := c.rec.Spec.RestartPolicy
	if c.lastRun || c.removing || !policy.Ended(c.state.ExitCode, c.state.Restarts, c.state.ByHand) {
		return false
	}
	c.state.Status = triton.StatusRestarting
	c.state.Pause = triton.RestartPause(c.state.Pause, c.state.FinishedAt.Sub(c.state.StartedAt))
	c.state.Restarts++
	return true
}

// restarting reports whether the container waits for its next run. The caller holds c.mu.
func (c *container) restarting() bool { return c.state.Status == triton.StatusRestarting }

// scheduleRestart has a container that is restarting started when its pause is over.
func (n *Node) scheduleRestart(c *container) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.restarting() {
		return // cancelled, or removed
	}
	n.agenda.cancel(c.nextRun)
	c.nextRun = n.agenda.at(c.state.FinishedAt.Add(c.state.Pause), func(p *appointment) { n.restartDue(c, p) })
}

// restartDue starts a container whose time has come.
func (n *Node) restartDue(c *container, p *appointment) {
	select {
	case n.restarts <- struct{}{}:
		defer func() { <-n.restarts }()
	case <-n.ctx.Done():
		return
	}
	c.life.Lock()
	defer c.life.Unlock()
	waits := n.awaitsPeer(c)
	c.mu.Lock()
	due := c.restarting() && c.nextRun == p && !c.removing
	if due {
		c.nextRun = nil
	}
	if due && waits {
		c.state.Pause = triton.RestartPause(c.state.Pause, 0)
		c.nextRun = n.agenda.at(n.cfg.Now().Add(c.state.Pause), p.do)
		due = false
	}
	c.mu.Unlock()
	if !due || n.ctx.Err() != nil {
		return
	}
	if err := n.startLocked(context.WithoutCancel(n.ctx), c); err != nil {
		n.log.Warn("container not restarted", "container", c.key, "err", err)
	}
}

// awaitsPeer reports whether a container whose namespace c joins is to be started first.
func (n *Node) awaitsPeer(c *container) bool {
	c.mu.Lock()
	spec := c.rec.Spec
	c.mu.Unlock()
	for _, mode := range []string{spec.NetworkMode, spec.PidMode, spec.IpcMode} {
		id, ok := strings.CutPrefix(mode, triton.ContainerModePrefix)
		if !ok {
			continue
		}
		other, err := n.get(triton.ContainerKey{Tenant: c.key.Tenant, ID: id})
		if err != nil {
			continue // the start says so
		}
		other.mu.Lock()
		wait := other.restarting()
		other.mu.Unlock()
		if wait {
			return true
		}
	}
	return false
}

// giveUpRestart makes a container that is restarting one that has ended; false: it is not restarting (any more). Those who
// wait for its end are told of the last one.
func (n *Node) giveUpRestart(c *container) bool {
	c.life.Lock()
	defer c.life.Unlock()
	c.mu.Lock()
	if !c.restarting() {
		c.mu.Unlock()
		return false
	}
	n.settleLocked(c)
	c.mu.Unlock()
	n.changed()
	n.saveState(c)
	return true
}

// settleLocked ends a container's restarting for good. The caller holds c.mu.
func (n *Node) settleLocked(c *container) {
	n.agenda.cancel(c.nextRun)
	c.nextRun = nil
	c.state.Status = triton.StatusExited
	next, over := c.next, c.over
	c.next, c.over = newEnding(), newEnding()
	next.complete(c.last)
	over.complete(c.last)
}

// takeUp schedules what a reconciled container has before it: its next run, or its next probe.
func (n *Node) takeUp(c *container) {
	c.mu.Lock()
	s := &c.state
	byHand := s.ByHand || c.rec.Desired == triton.StatusExited // the file is lost with the machine, the record is not
	fresh := s.Status == triton.StatusExited && !s.StartedAt.IsZero() && c.rec.Spec.RestartPolicy.DaemonStarts(byHand)
	if fresh {
		s.Status, s.Restarts, s.Pause, s.ByHand = triton.StatusRestarting, 0, 0, false
	}
	c.mu.Unlock()
	if fresh {
		n.saveState(c)
	}
	n.scheduleRestart(c)
	n.watchHealth(c, false)
}

// order notes that somebody wants the container to end, by a signal, before the signal is sent: what follows the end depends
// on it, be this daemon alive by then or not. It returns what is to be signalled, read in the same moment: nil where no first
// process is there.
func (n *Node) order(c *container, byHand, last bool) (task *runtime.Task, next *ending) {
	c.mu.Lock()
	task, next = c.task, c.next
	noted := byHand && !c.state.ByHand && (task != nil || c.restarting())
	if noted {
		c.state.ByHand = true
	}
	if task != nil {
		c.lastRun = c.lastRun || last
	}
	c.mu.Unlock()
	if noted {
		n.saveState(c)
	}
	return task, next
}
