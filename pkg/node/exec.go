package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tritond/triton/pkg/runtime"
	"github.com/tritond/triton/pkg/shim"
	"github.com/tritond/triton/pkg/triton"
)

// maxExecs bounds the ended execs a container remembers for inspect; the oldest are forgotten first.
const maxExecs = 256

// exec is a further process of a container.
type exec struct {
	key  triton.ExecKey
	spec triton.ExecSpec
	made time.Time

	ended chan struct{} // closed once code is set

	mu      sync.Mutex
	started bool
	pid     int
	code    *int
}

func (e *exec) running() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pid != 0 && e.code == nil
}

// finish records the end of the exec, which comes once.
func (e *exec) finish(code int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.code = &code
	close(e.ended)
}

// CreateExec registers a process to run later; the container must run.
func (n *Node) CreateExec(ctx context.Context, key triton.ContainerKey, spec triton.ExecSpec) (string, error) {
	c, err := n.get(key)
	if err != nil {
		return "", err
	}
	if err := c.needThawed("exec"); err != nil {
		return "", err
	}
	if _, _, err := n.needTask(key); err != nil {
		return "", err
	}
	if len(spec.Argv) == 0 {
		return "", kindf(errdefs.ErrInvalidArgument, "No exec command specified")
	}
	if spec.User != "" { // one that is not there is told now, as docker does
		c.mu.Lock()
		rec := c.rec
		c.mu.Unlock()
		if _, err := n.execProcess(ctx, c, &rec, spec); err != nil {
			return "", err
		}
	}
	e := &exec{key: triton.ExecKey{Container: key, ID: triton.NewID()}, spec: spec, made: n.cfg.Now(), ended: make(chan struct{})}
	c.mu.Lock()
	c.forgetOldExecs()
	c.execs[e.key.ID] = e
	c.mu.Unlock()
	n.publish(c.execEvent("exec_create: ", e, n.cfg.Now().UTC(), nil))
	return e.key.ID, nil
}

// forgetOldExecs makes room. The caller holds c.mu.
func (c *container) forgetOldExecs() {
	for len(c.execs) >= maxExecs {
		var oldest *exec
		for _, e := range c.execs {
			if !e.running() && (oldest == nil || e.made.Before(oldest.made)) {
				oldest = e
			}
		}
		if oldest == nil {
			return // all of them run: they are bounded by the container's pids
		}
		delete(c.execs, oldest.key.ID)
	}
}

func (c *container) execEvent(action string, e *exec, t time.Time, extra map[string]string) triton.Event {
	attrs := map[string]string{"execID": e.key.ID}
	for k, v := range extra {
		attrs[k] = v
	}
	if action == "exec_create: " || action == "exec_start: " {
		action += e.spec.Argv[0] + " " + strings.Join(e.spec.Argv[1:], " ") // docker's, with a space at the end where there are no arguments
	}
	return c.event(action, t, attrs)
}

// ResolveExec finds a tenant's exec by its full id.
func (n *Node) ResolveExec(_ context.Context, tenant triton.Tenant, id string) (triton.ExecKey, error) {
	for _, c := range n.ofTenant(tenant) {
		c.mu.Lock()
		_, ok := c.execs[id]
		c.mu.Unlock()
		if ok {
			return triton.ExecKey{Container: c.key, ID: id}, nil
		}
	}
	return triton.ExecKey{}, kindf(errdefs.ErrNotFound, "No such exec instance: %s", id)
}

func (n *Node) getExec(key triton.ExecKey) (*container, *exec, error) {
	c, err := n.get(key.Container)
	if err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.execs[key.ID]; e != nil {
		return c, e, nil
	}
	return nil, nil, kindf(errdefs.ErrNotFound, "No such exec instance: %s", key.ID)
}

// claimExec makes sure that an exec starts once, and prepares it in the shim.
func (n *Node) claimExec(ctx context.Context, key triton.ExecKey, size [2]uint) (*container, *exec, *runtime.Task, error) {
	c, e, err := n.getExec(key)
	if err != nil {
		return nil, nil, nil, err
	}
	_, task, err := n.needTask(key.Container)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := c.needThawed("exec"); err != nil {
		return nil, nil, nil, err
	}
	e.mu.Lock()
	started := e.started
	e.started = true
	e.mu.Unlock()
	if started {
		return nil, nil, nil, kindf(errdefs.ErrFailedPrecondition, "exec %s has already been started", key.ID)
	}
	spec := e.spec
	if size != [2]uint{} {
		spec.ConsoleSize = size
	}
	c.mu.Lock()
	rec := c.rec
	c.mu.Unlock()
	if err := n.prepareExec(ctx, c, &rec, task, e.key.ID, spec); err != nil {
		e.finish(execFailureCode(err))
		return nil, nil, nil, err
	}
	return c, e, task, nil
}

// execProcess builds the process; its user is looked up in the container's files.
func (n *Node) execProcess(ctx context.Context, c *container, rec *Record, spec triton.ExecSpec) (*specs.Process, error) {
	rootfs, err := n.rootfs(ctx, c.key)
	if err != nil {
		return nil, err
	}
	in, err := n.ociInput(c, rec, append([]string{rootfs.Upper}, rootfs.Lower...))
	if err != nil {
		return nil, err
	}
	return runtime.ExecProcess(in, spec)
}

// prepareExec builds the process and registers it with the shim.
func (n *Node) prepareExec(ctx context.Context, c *container, rec *Record, task *runtime.Task, id string, spec triton.ExecSpec) error {
	process, err := n.execProcess(ctx, c, rec, spec)
	if err != nil {
		return err
	}
	return task.Exec(ctx, id, process, shim.Stdio{TTY: spec.TTY, Stdin: spec.Stdin, StdinOnce: true, Size: spec.ConsoleSize})
}

// AttachExec gives an exec's streams; serving them starts it.
func (n *Node) AttachExec(ctx context.Context, key triton.ExecKey, size [2]uint) (*attachment, error) {
	c, e, task, err := n.claimExec(ctx, key, size)
	if err != nil {
		return nil, err
	}
	a := newAttachment(triton.AttachOptions{Stdin: e.spec.Stdin, Stdout: e.spec.Stdout, Stderr: e.spec.Stderr})
	a.left = func() { n.publish(c.execEvent("exec_detach", e, n.cfg.Now().UTC(), nil)) }
	a.begin = func(ctx context.Context) error { return n.runExec(context.WithoutCancel(ctx), c, e, task) }
	a.ended = e.ended // clients ask for the exit code as soon as the stream ends
	a.connect(ctx, task, key.ID)
	if a.err != nil {
		return nil, a.err
	}
	return a, nil
}

// StartExec starts an exec that nobody listens to.
func (n *Node) StartExec(ctx context.Context, key triton.ExecKey) error {
	c, e, task, err := n.claimExec(ctx, key, [2]uint{})
	if err != nil {
		return err
	}
	return n.runExec(context.WithoutCancel(ctx), c, e, task)
}

// runExec executes a prepared exec and watches for its end.
func (n *Node) runExec(ctx context.Context, c *container, e *exec, task *runtime.Task) error {
	pid, err := task.ExecStart(ctx, e.key.ID)
	if err != nil {
		e.finish(execFailureCode(err))
		return fmt.Errorf("OCI runtime exec failed: %w", reasonOf(err))
	}
	e.mu.Lock()
	e.pid = pid
	e.mu.Unlock()
	n.publish(c.execEvent("exec_start: ", e, n.cfg.Now().UTC(), nil))
	n.spawn(func() {
		rec, err := task.ExecWait(n.ctx, e.key.ID)
		switch {
		case n.ctx.Err() != nil:
			return
		case err != nil:
			n.log.Error("exec lost", "container", c.key, "exec", e.key.ID, "err", err)
			rec.Code, rec.At = triton.ExitLostCode, n.cfg.Now().UTC()
		}
		n.publish(c.execEvent("exec_die", e, rec.At, map[string]string{"exitCode": fmt.Sprint(rec.Code)}))
		e.finish(rec.Code)
	})
	return nil
}

// execFailureCode is what docker's exec reports for a process that could not be started.
func execFailureCode(err error) int {
	var se *shim.Error
	if errors.As(err, &se) && se.Kind == shim.KindExecNotFound {
		return 127
	}
	return 126
}

// InspectExec says how an exec does.
func (n *Node) InspectExec(_ context.Context, key triton.ExecKey) (triton.Exec, error) {
	_, e, err := n.getExec(key)
	if err != nil {
		return triton.Exec{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return triton.Exec{Key: e.key, Spec: e.spec, Running: e.pid != 0 && e.code == nil, Pid: e.pid, ExitCode: e.code}, nil
}

// ResizeExec sets the size of an exec's terminal, if it has one.
func (n *Node) ResizeExec(ctx context.Context, key triton.ExecKey, height, width uint) error {
	_, e, err := n.getExec(key)
	if err != nil {
		return err
	}
	_, task, err := n.needTask(key.Container)
	if err != nil || !e.spec.TTY {
		return err
	}
	return reasonOf(task.Resize(ctx, key.ID, height, width))
}
