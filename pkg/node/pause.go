package node

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// PauseContainer freezes every process of a container; errdefs.ErrFailedPrecondition when it does not run or is frozen.
func (n *Node) PauseContainer(ctx context.Context, key triton.ContainerKey) error {
	c, err := n.get(key)
	if err != nil {
		return err
	}
	return n.freeze(ctx, c, true)
}

// UnpauseContainer lets a frozen container go on.
func (n *Node) UnpauseContainer(ctx context.Context, key triton.ContainerKey) error {
	c, err := n.get(key)
	if err != nil {
		return err
	}
	return n.freeze(ctx, c, false)
}

// freeze changes whether a container is frozen. It holds c.life, so that the state never names a run that ended.
func (n *Node) freeze(ctx context.Context, c *container, on bool) error {
	c.life.Lock()
	defer c.life.Unlock()
	c.mu.Lock()
	task, status := c.task, c.state.Status
	c.mu.Unlock()
	switch {
	case on && status == triton.StatusRestarting:
		return kindf(errdefs.ErrFailedPrecondition, "Container %s is restarting, wait until the container is running", c.key.ID)
	case on && task == nil:
		return kindf(errdefs.ErrFailedPrecondition, "container %s is not running", c.key.ID)
	case on && status == triton.StatusPaused:
		return kindf(errdefs.ErrFailedPrecondition, "Container %s is already paused", c.key.ID)
	case !on && (task == nil || status != triton.StatusPaused):
		return fmt.Errorf("Container %s is not paused", c.key.ID) //nolint:staticcheck // docker's words and status, 500
	}
	ctx = context.WithoutCancel(ctx) // the state must follow the kernel though the client hang up
	action, call := "unpause", task.Resume
	status = triton.StatusRunning
	if on {
		action, call, status = "pause", task.Pause, triton.StatusPaused
	}
	if err := call(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	c.state.Status = status
	c.mu.Unlock()
	n.changed()
	n.saveState(c)
	n.publish(c.event(action, n.cfg.Now().UTC(), nil))
	return nil
}

// thaw lets a frozen container take the signal it was just sent, as docker does for a signal that should end it. SIGKILL is
// thawed by the shim itself.
func (n *Node) thaw(ctx context.Context, c *container, sent unix.Signal) error {
	if !c.paused() || sent == unix.SIGKILL || !c.wouldEnd(sent) {
		return nil
	}
	err := n.freeze(ctx, c, false)
	if !c.paused() || errdefs.IsFailedPrecondition(err) {
		return nil // ended, or thawed by someone else meanwhile: by the shim, where the stop's deadline has passed already
	}
	return err
}

func (c *container) paused() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Status == triton.StatusPaused
}

// needThawed refuses what docker refuses for a container that is paused or restarting.
func (c *container) needThawed(what string) error {
	c.mu.Lock()
	restarting := c.restarting()
	c.mu.Unlock()
	if restarting {
		return kindf(errdefs.ErrFailedPrecondition, "Container %s is restarting, wait until the container is running", c.key.ID)
	}
	if c.paused() {
		return kindf(errdefs.ErrFailedPrecondition, "%s %s is paused, unpause the container before %s",
			map[bool]string{true: "container", false: "Container"}[what == "attach"], c.name(), what)
	}
	return nil
}
