package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/placement"
	"github.com/tritond/triton/pkg/probes"
	"github.com/tritond/triton/pkg/runtime"
	"github.com/tritond/triton/pkg/shim"
	"github.com/tritond/triton/pkg/triton"
)

// StartContainer runs a container that does not run. A failed start leaves it as it was, with the reason in its state,
// or removes it if it asked for that.
func (n *Node) StartContainer(ctx context.Context, key triton.ContainerKey) error {
	c, err := n.get(key)
	if err != nil {
		return err
	}
	c.life.Lock()
	defer c.life.Unlock()
	c.mu.Lock()
	if c.restarting() {
		c.mu.Unlock()
		return errNotModified // its time will come
	}
	if !c.running() {
		c.state.Restarts, c.state.Pause = 0, 0
	}
	c.mu.Unlock()
	if err := n.admit(ctx, c); err != nil {
		return err
	}
	return n.startLocked(ctx, c)
}

// startLocked is StartContainer, or a restart, for a caller that holds c.life.
func (n *Node) startLocked(ctx context.Context, c *container) error {
	c.mu.Lock()
	running, removing, paused := c.running(), c.removing, c.state.Status == triton.StatusPaused
	c.mu.Unlock()
	if paused {
		return kindf(errdefs.ErrFailedPrecondition, "cannot start a paused container, try unpause instead")
	}
	if running {
		return errNotModified
	}
	if removing {
		return kindf(errdefs.ErrFailedPrecondition, "container %s is marked for removal and cannot be started", c.key.ID)
	}
	// A client that hangs up must not leave half a container: from here on the start is finished or undone.
	ctx = context.WithoutCancel(ctx)
	if err := n.start(ctx, c); err != nil {
		return n.startFailed(ctx, c, err)
	}
	return nil
}

// start keeps the first promise: each step stands before the next, and the program's first instruction runs after all.
func (n *Node) start(ctx context.Context, c *container) (err error) {
	var undo undoing
	defer func() { undo.unless(err == nil) }()

	run, err := n.beginRun(c)
	if err != nil {
		return err
	}
	intended := n.intend(ctx, c, triton.StatusRunning) // agreed on while the rest is made: both take some milliseconds
	defer func() {
		if ierr := intended(); err == nil {
			err = ierr
		}
	}()
	if err = n.restoreEndpoint(ctx, c); err != nil { // its address, reserved at create
		return err
	}
	if err = n.attachNetworks(ctx, c); err != nil { // its addresses in networks of users
		return err
	}
	undo.add(func() { n.detachAll(ctx, c) })
	if err = n.writeNames(c); err != nil {
		return err
	}
	n.tellLinking(c)
	volumes, err := n.useVolumes(ctx, c) // what it mounts of volumes and images
	undo.add(func() { n.releaseVolumes(c) })
	defer n.closeParts(volumes)
	if err != nil {
		return err
	}
	if err = n.publishPorts(ctx, c); err != nil { // its ports of the host
		return err
	}
	undo.add(func() { n.unpublishPorts(ctx, c) })
	ids, err := n.cfg.Cgroups.Make(n.cgroupPath(c.key)) // its cgroup
	undo.add(func() { n.removeCgroup(c) })
	if err != nil {
		return fmt.Errorf("make cgroup of %s: %w", c.key, err)
	}
	n.quicken()
	err = n.watch(c, probes.CgroupIDs{V2: ids.V2, V1: ids.V1}) // its probes are armed
	if err != nil {
		return err
	}
	undo.add(func() { n.unwatch(c) })
	n.cfg.Placement.Started(c.key)
	undo.add(func() { n.cfg.Placement.Ended(c.key, placement.End{}) })
	task, err := n.createTask(ctx, c, volumes.mounts, run, ids.V2) // its namespaces, file system and waiting first process
	if err != nil {
		return err
	}
	undo.add(func() { n.deleteTask(ctx, c, task) })
	if err = n.relayPorts(ctx, c, task); err != nil { // its ports that no rule of the kernel leads to it
		return err
	}
	n.connectWaiting(ctx, c, task) // who attached before the start misses nothing
	if err = intended(); err != nil {
		return err
	}
	begun := n.cfg.Now().UTC() // before the first instruction, so before the end of the shortest program
	if err = task.Start(ctx); err != nil {
		return err
	}
	n.started(c, task, run, ids.V2, begun)
	return nil
}

// quicken has the kernel's wait for the move of a process into its cgroup begin now, beside what is still to be done before.
func (n *Node) quicken() {
	n.spawn(func() {
		if !n.quickening.TryLock() {
			return
		}
		defer n.quickening.Unlock()
		if err := n.cfg.Cgroups.Quicken(); err != nil {
			n.log.Debug("a start will wait for its cgroup", "err", err)
		}
	})
}

// undoing collects what to do when a sequence fails, and does it last first.
type undoing []func()

func (u *undoing) add(f func()) { *u = append(*u, f) }

func (u *undoing) unless(ok bool) {
	if ok {
		return
	}
	for i := len(*u) - 1; i >= 0; i-- {
		(*u)[i]()
	}
}

// beginRun counts the start in the state file before anything of it exists, so that a later daemon can tell this run's
// leftovers from the last one's.
func (n *Node) beginRun(c *container) (run int, err error) {
	c.mu.Lock()
	c.state.Run++
	if !c.restarting() {
		c.state.ByHand, c.lastRun = false, false
	}
	run = c.state.Run
	c.mu.Unlock()
	return run, c.writeState()
}

// intend records in etcd what the container should be: running or exited. It returns at once; the function it returns
// waits for the outcome, and may be called again.
func (n *Node) intend(ctx context.Context, c *container, desired triton.Status) (wait func() error) {
	done := make(chan struct{})
	var err error
	go func() {
		defer close(done)
		err = n.recordDesired(ctx, c, desired)
	}()
	return func() error {
		<-done
		return err
	}
}

// recordDesired is intend's work.
func (n *Node) recordDesired(ctx context.Context, c *container, desired triton.Status) error {
	c.agreeing.Lock()
	defer c.agreeing.Unlock()
	c.mu.Lock()
	done := c.rec.Desired == desired
	c.mu.Unlock()
	if done {
		return nil
	}
	if err := n.amendLocked(ctx, c, func(r *Record) { r.Desired = desired }); err != nil {
		return fmt.Errorf("record intent of %s to be %s: %w", c.key, desired, err)
	}
	return nil
}

// amend changes a container's record, in etcd and here. Changes of one record wait for each other.
func (n *Node) amend(ctx context.Context, c *container, change func(*Record)) error {
	c.agreeing.Lock()
	defer c.agreeing.Unlock()
	if err := n.amendLocked(ctx, c, change); err != nil {
		return fmt.Errorf("record a change of %s: %w", c.key, err)
	}
	n.changed()
	return nil
}

// amendLocked is amend for a caller that holds c.agreeing. change is called on a copy first: it must not keep what it gets.
func (n *Node) amendLocked(ctx context.Context, c *container, change func(*Record)) error {
	c.mu.Lock()
	rec, revision := c.rec, c.revision
	c.mu.Unlock()
	change(&rec)
	revision, err := n.intent.update(ctx, &rec, revision)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.rec)
	c.revision = revision
	return nil
}

// restoreEndpoint makes sure that the namespace pair taken at create is still there; a reboot removes it.
func (n *Node) restoreEndpoint(ctx context.Context, c *container) error {
	c.mu.Lock()
	rec := c.rec
	c.mu.Unlock()
	if rec.Endpoint.Slot >= 0 {
		ep, err := n.cfg.Network.Restore(ctx, c.key, rec.Endpoint)
		if err != nil {
			return fmt.Errorf("restore network of %s: %w", c.key, err)
		}
		c.mu.Lock()
		c.rec.Endpoint = ep
		c.mu.Unlock()
		n.changed()
	}
	return nil
}

// createTask builds the OCI configuration and has a shim make the container up to its waiting first process.
func (n *Node) createTask(ctx context.Context, c *container, mounts []triton.Mount, run int, cgroupID uint64) (*runtime.Task, error) {
	c.mu.Lock()
	rec := c.rec
	c.mu.Unlock()
	rec.Spec.Mounts = mounts
	rootfs, err := n.rootfs(ctx, c.key)
	if err != nil {
		return nil, err
	}
	if err := createBindSources(&rec.Spec); err != nil {
		return nil, err
	}
	if err := n.mountShm(c, &rec); err != nil {
		return nil, err
	}
	in, err := n.ociInput(c, &rec, append([]string{rootfs.Upper}, rootfs.Lower...))
	if err != nil {
		return nil, err
	}
	oci, warnings, err := runtime.Spec(in)
	if err != nil {
		return nil, err
	}
	n.cfg.Runtime.Warn(warnings)
	return n.cfg.Runtime.Create(ctx, runtime.Bundle{
		Key: c.key, Run: run, Spec: &rec.Spec, OCI: oci, Endpoint: rec.Endpoint, CgroupPath: n.cgroupPath(c.key),
		Rootfs:   shim.Rootfs{Lower: rootfs.Lower, Upper: rootfs.Upper, Work: rootfs.Work},
		CgroupID: cgroupID, DataDir: c.dataDir,
	})
}

// createBindSources makes missing host directories, as docker does for -v and does not for --mount.
func createBindSources(s *triton.Spec) error {
	for _, m := range s.Mounts {
		if m.Type != triton.MountBind || !m.CreateSource {
			continue
		}
		if _, err := os.Stat(m.Source); !errors.Is(err, os.ErrNotExist) {
			continue // there, be it a file; or an error that the mount will name
		}
		if err := os.MkdirAll(m.Source, 0o755); err != nil {
			return fmt.Errorf("create bind source %s: %w", m.Source, err)
		}
	}
	return nil
}

// started makes a run visible: state, supervision, event.
func (n *Node) started(c *container, task *runtime.Task, run int, cgroupID uint64, begun time.Time) {
	c.mu.Lock()
	c.state = triton.State{
		Status: triton.StatusRunning, Run: run, Pid: task.Pid(), CgroupID: cgroupID, StartedAt: begun, FinishedAt: c.state.FinishedAt,
		Restarts: c.state.Restarts, Pause: c.state.Pause, ByHand: c.state.ByHand,
	}
	c.task, c.begun, c.oomKills, c.victims, c.oomAfter = task, nil, 0, nil, nil
	c.mu.Unlock()
	n.changed()
	n.saveState(c)
	n.publish(c.event("start", begun, nil))
	n.watchHealth(c, true)
	n.supervise(c, task)
}

// startFailed records why a start failed, in docker's terms: 127 and 126 for the program's fault, else 128.
func (n *Node) startFailed(ctx context.Context, c *container, err error) error {
	code, reason := 128, explained(reasonOf(err))
	var se *shim.Error
	if errors.As(err, &se) {
		err = reason // without the way it came along
		switch se.Kind {
		case shim.KindExecNotFound:
			code = 127
		case shim.KindNotExecutable:
			code = 126
		}
	}
	now := n.cfg.Now().UTC()
	c.mu.Lock()
	c.state.ExitCode, c.state.Error = code, reason.Error()
	c.state.Pid, c.state.CgroupID = 0, 0
	remove := c.rec.Spec.AutoRemove
	c.last = triton.ExitRecord{Run: c.state.Run, Code: code, At: now}
	if c.restarting() { // docker does not try again either
		n.settleLocked(c)
	}
	for _, a := range c.waiting {
		a.abandon(err)
	}
	c.waiting, c.begun = nil, nil
	c.mu.Unlock()
	n.changed()
	n.saveState(c)
	if remove {
		err = errors.Join(err, n.removeLocked(ctx, c, removal{volumes: true}))
	}
	if code != 128 {
		return kindf(errdefs.ErrInvalidArgument, "failed to create task for container: %v", reason)
	}
	if se != nil {
		return fmt.Errorf("failed to create task for container: %w", err)
	}
	return err
}

// explained adds docker's hint to a mount of a file on a folder, or the other way round: the kernel says EINVAL.
func explained(err error) error {
	if text := err.Error(); strings.Contains(text, "error mounting") && strings.HasSuffix(text, unix.EINVAL.Error()) {
		return fmt.Errorf("%w: Are you trying to mount a directory onto a file (or vice-versa)? "+
			"Check if the specified host path exists and is the expected type", err)
	}
	return err
}

// reasonOf is the user's part of an error: what the shim said, without the path it came along.
func reasonOf(err error) error {
	var se *shim.Error
	if errors.As(err, &se) {
		return se
	}
	return err
}

// killPatience bounds how long a killed container may take to be gone before the caller is told.
const killPatience = 10 * time.Second
