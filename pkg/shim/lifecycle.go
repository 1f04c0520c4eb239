package shim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs"
	"github.com/opencontainers/cgroups/fs2"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// watch sees p through to its exit record: the order is that of the package comment. It is the goroutine that reaps.
func (c *container) watch(p *process) {
	if p.pidfd != nil { // nil: adopted after its end
		if err := waitPidfd(p.pidfd); err != nil {
			c.logs.Error("wait by pidfd", "pid", p.pid, "err", err)
		}
	}
	at := time.Now()
	p.setEnd()
	rec := triton.ExitRecord{Run: c.req.Run, ExecID: p.id, Pid: p.pid, At: at}
	c.status(p, &rec)
	// The kernel counts the kill before the process is gone, so the counter needs no notification: it is read here. Any
	// kill in the container counts for its first process, as in docker; an exec's only if it was killed itself.
	kills := c.oomKills()
	rec.OOMKilled = kills > p.oom && (p.id == "" || rec.Signal == int(syscall.SIGKILL))
	if p.id == "" && !c.ownPids() {
		// Nobody else ends the rest of a container that shares its pid namespace.
		if err := c.signalAll(int(unix.SIGKILL)); err != nil {
			c.logs.Error("kill what the first process left", "err", err)
		}
	}
	var forwarding sync.WaitGroup
	if p.id == "" {
		forwarding.Go(c.endForward)
	}
	p.drained()
	forwarding.Wait() // ports are free when the end is known
	if err := c.writeRecord(rec); err != nil {
		c.logs.Error("exit record", "exec", p.id, "err", err)
	}
	c.cancelDeadline(p.id)
	p.setExit(rec)
	if p.id != "" {
		c.releaseExec(p)
	} else {
		c.dropPending()
	}
}

// status fills in how p ended.
func (c *container) status(p *process, rec *triton.ExitRecord) {
	if p.lc == nil && !p.ours {
		c.strangerStatus(p, rec)
		return
	}
	ws, err := p.reap()
	if err != nil {
		c.logs.Error("exit status", "err", err)
		rec.Code, rec.Source = triton.ExitLostCode, triton.ExitLost
		return
	}
	rec.Code, rec.Signal = triton.ExitCodeOf(ws)
	rec.Source = triton.ExitByWait
}

// releaseExec frees what an ended exec holds, once its output ended too. A descendant may keep that open for long; the
// exec's record is out already.
func (c *container) releaseExec(p *process) {
	for _, pm := range p.pumps {
		<-pm.ended
	}
	if c.keeper != nil {
		c.keeper.release(ReleaseRequest{Key: c.req.Key, Run: c.req.Run, Exec: p.id})
	}
	p.close()
}

// oomKills returns how often the kernel killed in the container's memory cgroup; 0 where that cannot be known.
func (c *container) oomKills() uint64 {
	var n uint64
	var err error
	if cgroups.IsCgroup2UnifiedMode() {
		n, err = fs2.OOMKillCount(filepath.Join(fs2.UnifiedMountpoint, c.req.CgroupPath))
	} else {
		var path string
		if path, err = cgroups.FindCgroupMountpoint("", "memory"); err == nil {
			n, err = fs.OOMKillCount(filepath.Join(path, c.req.CgroupPath))
		}
	}
	if err != nil {
		return 0 // not made yet, or removed
	}
	return n
}

// signal sends a signal to one process or to all of the container.
func (c *container) signal(req SignalRequest) error {
	p, err := c.find(req.ID)
	if err != nil {
		return err
	}
	if req.Signal <= 0 || req.Signal > 64 {
		return invalid("no signal %d", req.Signal)
	}
	if req.All || req.ID == "" && req.Signal == int(unix.SIGKILL) && !c.ownPids() {
		err = c.signalAll(req.Signal)
	} else {
		err = p.signal(req.Signal)
	}
	if err == nil && req.Signal == int(unix.SIGKILL) && c.isPaused() {
		// A frozen process of cgroup v1 takes even SIGKILL only when it is thawed.
		err = c.pause(false)
	}
	return err
}

// ownPids reports whether the container has a pid namespace of its own, in which all die with its first process.
func (c *container) ownPids() bool {
	cfg := c.lc.Config()
	return cfg.Namespaces.IsPrivate(configs.NEWPID)
}

func (c *container) signalAll(sig int) error {
	pids, err := c.lc.Processes()
	if err != nil {
		return fmt.Errorf("processes of the container: %w", err)
	}
	var errs []error
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.Signal(sig)); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("signal %d: %w", pid, err))
		}
	}
	return errors.Join(errs...)
}

// deleteBound is how long a killed process may take to be gone: it may sit in an uninterruptible call.
const deleteBound = 10 * time.Second

// delete removes the container: what runs is killed if force says so. It may be called again after an error.
func (c *container) delete(ctx context.Context, force bool) error {
	if c.init.ended() == nil && !force {
		// A created container has run nothing: it may go.
		c.mu.Lock()
		started := !c.started.IsZero()
		c.mu.Unlock()
		if started {
			return conflict("container is running")
		}
	}
	if err := c.kill(ctx); err != nil {
		return err
	}
	c.steps.Lock()
	defer c.steps.Unlock()
	return c.discard(ctx)
}

// kill ends every process and waits for the records.
func (c *container) kill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, deleteBound)
	defer cancel()
	processes := append(c.liveExecs(), c.init)
	if c.init.ended() == nil {
		err := c.signal(SignalRequest{Signal: int(unix.SIGKILL)})
		var gone *Error
		if err != nil && !errors.As(err, &gone) {
			return err
		}
	}
	if err := c.signalAll(int(unix.SIGKILL)); err != nil && c.init.ended() == nil {
		return err
	}
	for _, p := range processes {
		if _, err := p.wait(ctx); err != nil {
			return fmt.Errorf("process %d does not end: %w", p.who().Pid, err)
		}
	}
	return nil
}

// closeExecs ends what a start that was under way has left, and sees to it that every exec's clients know of the end before
// the shim ends. c.steps is held.
func (c *container) closeExecs(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, deleteBound)
	defer cancel()
	var errs []error
	for _, p := range c.liveExecs() {
		errs = append(errs, p.end(ctx))
	}
	c.mu.Lock()
	execs := slices.Collect(maps.Values(c.execs))
	c.mu.Unlock()
	for _, p := range execs {
		if p.ended() != nil {
			p.close()
		}
	}
	return errors.Join(errs...)
}

// liveExecs returns the execs that run.
func (c *container) liveExecs() []*process {
	c.mu.Lock()
	defer c.mu.Unlock()
	var live []*process
	for _, p := range c.execs {
		if p.who().Pid != 0 && p.ended() == nil {
			live = append(live, p)
		}
	}
	return live
}

// discard removes what create made, as far as it came. Steps that failed are reported together, and a mount that stays
// keeps its folder.
func (c *container) discard(ctx context.Context) error {
	var errs []error
	c.stopDeadlines()
	if c.init != nil {
		if c.init.ended() == nil {
			errs = append(errs, c.init.end(ctx))
		}
		if c.keeper != nil {
			c.keeper.release(ReleaseRequest{Key: c.req.Key, Run: c.req.Run})
		}
		c.init.close()
		errs = append(errs, c.closeExecs(ctx))
	}
	if c.keeper != nil {
		c.keeper.close()
	}
	if c.lc != nil {
		errs = append(errs, c.lc.Destroy())
	}
	if c.log != nil {
		errs = append(errs, c.log.Close())
	}
	if err := unmountRootfs(filepath.Join(c.req.RunDir, RootfsDir)); err != nil {
		return errors.Join(append(errs, err)...)
	}
	errs = append(errs, os.RemoveAll(c.req.RunDir))
	if c.lock != nil {
		c.lock.Close()
	}
	return errors.Join(errs...)
}
