package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/runtime"
	"github.com/tritond/triton/pkg/triton"
)

// updatingFile stands beside a container while its record and its control groups may differ, so that the next daemon makes
// them agree.
const updatingFile = "updating.json"

// UpdateContainer changes limits and the restart policy of a container, running or not: the record first, then the control
// groups. Where those refuse, the record is as it was. The strings are warnings for the user.
func (n *Node) UpdateContainer(ctx context.Context, key triton.ContainerKey, u triton.Update) ([]string, error) {
	c, err := n.get(key)
	if err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx) // it is done or undone, though the client hang up
	c.life.Lock()
	defer c.life.Unlock()
	c.mu.Lock()
	old, removing, task := c.rec.Spec, c.removing, c.task
	c.mu.Unlock()
	cannot := func(err error) error { return fmt.Errorf("Cannot update container %s: %w", key.ID, err) } //nolint:staticcheck // docker's words
	if removing {
		return nil, cannot(kindf(errdefs.ErrFailedPrecondition, "container is marked for removal and cannot be \"update\""))
	}
	limits, policy, err := u.Apply(&old)
	if err != nil {
		return nil, cannot(kindf(errdefs.ErrFailedPrecondition, "%v", err))
	}
	// Checked before anything is changed; what a container may not have at create it may not have later.
	if _, warnings, err := runtime.Resources(limits, n.cfg.Limits); err != nil {
		return warnings, err
	}
	unpromise, err := n.promise(ctx, c, limits)
	if err != nil {
		return nil, cannot(err)
	}
	updated := false
	defer func() {
		if !updated {
			unpromise()
		}
	}()
	pending := filepath.Join(c.dataDir, updatingFile)
	if task != nil {
		if err := writeNote(pending, limits); err != nil {
			return nil, cannot(err)
		}
	}
	set := func(r triton.Resources, p triton.RestartPolicy) error {
		return n.amend(ctx, c, func(rec *Record) { rec.Spec.Resources, rec.Spec.RestartPolicy = r, p })
	}
	if err := set(limits, policy); err != nil {
		return nil, cannot(errors.Join(err, removeNote(pending)))
	}
	warnings, err := n.applyLimits(ctx, c, task, limits)
	if err != nil {
		_, back := n.applyLimits(ctx, c, task, old.Resources) // some may have been set
		return nil, cannot(errors.Join(err, set(old.Resources, old.RestartPolicy), back, removeNote(pending)))
	}
	updated = true
	n.publish(c.event("update", n.cfg.Now().UTC(), nil))
	return warnings, removeNote(pending)
}

// applyLimits gives the control groups of a run its limits; a nil task has none.
func (n *Node) applyLimits(ctx context.Context, c *container, task *runtime.Task, r triton.Resources) ([]string, error) {
	oci, warnings, err := runtime.Resources(r, n.cfg.Limits)
	if err != nil || task == nil {
		return warnings, err
	}
	if err := task.Update(ctx, oci); err != nil {
		return warnings, reasonOf(err)
	}
	return warnings, nil
}

// finishUpdate ends an update that a daemon's death cut off: what the record says counts.
func (n *Node) finishUpdate(ctx context.Context, c *container) error {
	pending := filepath.Join(c.dataDir, updatingFile)
	if _, err := os.Stat(pending); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	c.mu.Lock()
	task, limits := c.task, c.rec.Spec.Resources
	c.mu.Unlock()
	if _, err := n.applyLimits(ctx, c, task, limits); err != nil {
		return err
	}
	return removeNote(pending)
}
