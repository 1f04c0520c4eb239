package node

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/signal"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/runtime"
	"github.com/tritond/triton/pkg/triton"
)

// StopContainer sends the stop signal and leaves a deadline with the shim, which kills the container when it has
// passed, be the daemon alive or not. It returns once the container ended.
func (n *Node) StopContainer(ctx context.Context, key triton.ContainerKey, sig string, timeout *int) error {
	c, err := n.get(key)
	if err != nil {
		return err
	}
	return n.stop(ctx, c, sig, timeout, true)
}

// stop is StopContainer; byHand: and the container is to stay stopped, which its record says.
func (n *Node) stop(ctx context.Context, c *container, sig string, timeout *int, byHand bool) error {
	task, next := n.order(c, byHand, true)
	for task == nil {
		if gaveUp := n.giveUpRestart(c); gaveUp {
			if byHand {
				n.intendStopped(ctx, c)()
			}
			n.publish(c.event("stop", n.cfg.Now().UTC(), nil))
			return nil
		}
		if task, next = n.order(c, byHand, true); task == nil && !c.isRestarting() {
			return errNotModified
		}
	}
	c.mu.Lock()
	spec := c.rec.Spec
	c.mu.Unlock()
	number, err := parseSignal(first(sig, spec.StopSignal, "SIGTERM"))
	if err != nil {
		return err
	}
	if byHand && !spec.AutoRemove { // the end of one that does is the end of its record
		defer n.intendStopped(ctx, c)()
	}
	patience := stopPatience(&spec, timeout)
	if patience >= 0 {
		deadline := n.cfg.Now().Add(patience)
		c.mu.Lock()
		c.patientTo = deadline
		c.mu.Unlock()
		if err := task.Deadline(ctx, "", int(unix.SIGKILL), deadline); err != nil {
			return fmt.Errorf("set stop deadline of %s: %w", c.key, err)
		}
	}
	if err := n.signal(ctx, c, task, number); err != nil {
		return err
	}
	if err := awaitEnd(ctx, next, patience); err != nil {
		return fmt.Errorf("stop %s: %w", c.key, err)
	}
	n.publish(c.event("stop", n.cfg.Now().UTC(), nil))
	return nil
}

// intendStopped records that the container should not run; what it returns waits for that. A full disk, or a removal that
// was faster, must not keep a container from being stopped.
func (n *Node) intendStopped(ctx context.Context, c *container) (wait func()) {
	intended := n.intend(ctx, c, triton.StatusExited)
	return func() {
		if err := intended(); err != nil && !errdefs.IsNotFound(err) {
			n.log.Warn("stop not recorded", "container", c.key, "err", err)
		}
	}
}

// stopPatience is how long to wait before the kill; negative: for ever.
func stopPatience(s *triton.Spec, timeout *int) time.Duration {
	switch {
	case timeout != nil:
		return time.Duration(*timeout) * time.Second
	case s.StopTimeout != nil:
		return time.Duration(*s.StopTimeout) * time.Second
	}
	return triton.DefaultStopTimeout
}

// awaitEnd waits for an exit that must come killPatience after the shim's deadline at the latest.
func awaitEnd(ctx context.Context, e *ending, patience time.Duration) error {
	if patience >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience+killPatience)
		defer cancel()
	}
	select {
	case <-e.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("container did not end: %w", ctx.Err())
	}
}

// RestartContainer stops a container where it runs, and starts it.
func (n *Node) RestartContainer(ctx context.Context, key triton.ContainerKey, sig string, timeout *int) error {
	c, err := n.get(key)
	if err != nil {
		return err
	}
	c.setStays(true) // the end of this run is not the end of the container
	defer c.setStays(false)
	if err := n.stop(ctx, c, sig, timeout, false); err != nil && !IsNotModified(err) {
		return err
	}
	if err := n.StartContainer(ctx, key); err != nil && !IsNotModified(err) {
		return err
	}
	n.publish(c.event("restart", n.cfg.Now().UTC(), nil))
	return nil
}

func (c *container) setStays(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stays = on
}

// KillContainer sends a signal to the first process; errdefs.ErrFailedPrecondition when the container does not run. After SIGKILL
// it returns once the container has ended, as docker's does: who kills may remove.
func (n *Node) KillContainer(ctx context.Context, key triton.ContainerKey, sig string) error {
	number, err := parseSignal(first(sig, "SIGKILL"))
	if err != nil {
		return err
	}
	c, err := n.get(key)
	if err != nil {
		return err
	}
	for {
		task, next := n.order(c, true, c.wouldEnd(number))
		switch {
		case task != nil:
			if err := n.signal(ctx, c, task, number); err != nil || number != unix.SIGKILL {
				return err
			}
			return awaitEnd(ctx, next, 0)
		case c.wouldEnd(number) && n.giveUpRestart(c):
			return nil // there is nothing to signal
		case !c.isRestarting():
			return kindf(errdefs.ErrFailedPrecondition, "container %s is not running", key.ID)
		case !c.wouldEnd(number):
			return nil
		}
	}
}

// wouldEnd reports whether a signal is meant to end the container, by docker's rule: its stop signal or SIGKILL, and any
// where it has no stop signal of its own.
func (c *container) wouldEnd(sent unix.Signal) bool {
	c.mu.Lock()
	own := c.rec.Spec.StopSignal
	c.mu.Unlock()
	if own == "" || sent == unix.SIGKILL {
		return true
	}
	stop, err := parseSignal(own)
	return err != nil || stop == sent
}

func (c *container) isRestarting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.restarting()
}

// signal sends and journals it, as docker's kill event.
func (n *Node) signal(ctx context.Context, c *container, task *runtime.Task, number unix.Signal) error {
	if err := n.signalTold(ctx, c, task, number); err != nil {
		return err
	}
	return n.thaw(ctx, c, number)
}

// signalTold sends a signal; its event comes before that of a death which follows.
func (n *Node) signalTold(ctx context.Context, c *container, task *runtime.Task, number unix.Signal) error {
	c.signals.Lock()
	defer c.signals.Unlock()
	at := n.cfg.Now().UTC()
	if err := task.Signal(ctx, "", int(number), false); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("signal %s: %w", c.key, err)
	}
	n.publish(c.event("kill", at, map[string]string{"signal": fmt.Sprint(int(number))}))
	return nil
}

// runningTask returns a container with its task and its next exit, read together; a nil task: it does not run.
func (n *Node) runningTask(key triton.ContainerKey) (*container, *runtime.Task, *ending, error) {
	c, err := n.get(key)
	if err != nil {
		return nil, nil, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c, c.task, c.next, nil
}

// needTask is runningTask with docker's 409 for a container that does not run.
func (n *Node) needTask(key triton.ContainerKey) (*container, *runtime.Task, error) {
	c, task, _, err := n.runningTask(key)
	if err == nil && task == nil {
		err = kindf(errdefs.ErrFailedPrecondition, "container %s is not running", key.ID)
	}
	return c, task, err
}

// parseSignal reads a number or a name, with or without SIG.
func parseSignal(s string) (unix.Signal, error) {
	sig, err := signal.ParseSignal(s)
	if err != nil {
		return 0, kindf(errdefs.ErrInvalidArgument, "invalid signal: %s", s)
	}
	return sig, nil
}

func (c *container) tty() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec.Spec.TTY
}

// ResizeContainer sets the size of the container's terminal; one without has no size, which is no error, as in docker.
func (n *Node) ResizeContainer(ctx context.Context, key triton.ContainerKey, height, width uint) error {
	c, task, err := n.needTask(key)
	if err != nil || !c.tty() {
		return err
	}
	return reasonOf(task.Resize(ctx, "", height, width))
}
