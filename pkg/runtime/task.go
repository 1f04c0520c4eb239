package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tritond/triton/pkg/shim"
	"github.com/tritond/triton/pkg/triton"
)

// Task is one run of a container. Its shim may die and be replaced under it: the next call that notices has another shim
// adopt the container. A Task may be used by several goroutines. Refusals by the shim are *shim.Error and carry errdefs
// kinds.
type Task struct {
	r     *Runtime
	key   triton.ContainerKey
	run   int
	pid   int // set before the Task is handed out, as is start
	start uint64
	ours  bool // create made the run directory; only create and undo look

	mu      sync.Mutex // guards what follows; held while a shim is replaced
	shim    *process   // nil: it died after its container had ended
	claim   claim
	exit    *triton.ExitRecord // known without a shim
	forward forwarding         // what the next shim must be asked for
	deleted bool
}

// Key names the container.
func (t *Task) Key() triton.ContainerKey { return t.key }

// Run counts the container's starts.
func (t *Task) Run() int { return t.run }

// Pid is the first process, in the host's pid namespace.
func (t *Task) Pid() int { return t.pid }

// StartTime is the first process's start in clock ticks since boot: with Pid it names a process for good.
func (t *Task) StartTime() uint64 { return t.start }

// Start lets the first process execute the container's program.
func (t *Task) Start(ctx context.Context) error {
	return t.once(ctx, "start", func(c Shim) error { return c.Start(ctx) })
}

// Wait blocks until the first process ended and its output is in the log.
func (t *Task) Wait(ctx context.Context) (triton.ExitRecord, error) { return t.wait(ctx, "") }

// ExecWait is Wait for an exec.
func (t *Task) ExecWait(ctx context.Context, id string) (triton.ExitRecord, error) {
	return t.wait(ctx, id)
}

// adoptPause is how long Wait rests after an adoption that failed; the container runs on meanwhile.
const adoptPause = time.Second

func (t *Task) wait(ctx context.Context, exec string) (triton.ExitRecord, error) {
	for {
		p, rec, err := t.current(exec)
		if rec != nil || err != nil {
			return deref(rec), err
		}
		got, err := p.client.Wait(ctx, exec)
		if err == nil {
			return got, nil
		}
		if ctx.Err() != nil || !isGone(err) {
			return triton.ExitRecord{}, fmt.Errorf("wait for %s: %w", t.key, kinds(err))
		}
		if err := t.replace(ctx, p); err != nil {
			t.r.log.Error("container without a shim", "container", t.key, "pid", t.pid, "err", err)
			select {
			case <-ctx.Done():
				return triton.ExitRecord{}, ctx.Err()
			case <-time.After(adoptPause):
			}
		}
	}
}

func deref(rec *triton.ExitRecord) triton.ExitRecord {
	if rec == nil {
		return triton.ExitRecord{}
	}
	return *rec
}

// current returns the shim, or the record of an end that needs none.
func (t *Task) current(exec string) (*process, *triton.ExitRecord, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shim != nil && !t.deleted {
		return t.shim, nil, nil
	}
	if exec == "" && t.exit != nil {
		return nil, t.exit, nil
	}
	name := exitFile
	if exec != "" {
		name = "exec-" + exec + ".json"
	}
	var rec triton.ExitRecord
	if err := readJSON(filepath.Join(t.claim.ExitDir, name), &rec); err == nil && rec.Run == t.run {
		return nil, &rec, nil
	}
	return nil, nil, fmt.Errorf("container %s has ended: %w", t.key, errdefs.ErrNotFound)
}

// once calls the shim. If it died while it might have acted, it is replaced but the call is not repeated.
func (t *Task) once(ctx context.Context, what string, call func(Shim) error) error {
	return t.call(ctx, what, false, call)
}

// again calls the shim, and once more if it died: for what can be done twice.
func (t *Task) again(ctx context.Context, what string, call func(Shim) error) error {
	return t.call(ctx, what, true, call)
}

func (t *Task) call(ctx context.Context, what string, repeat bool, call func(Shim) error) error {
	for try := 0; ; try++ {
		p, _, err := t.current("")
		if err == nil && p == nil {
			err = fmt.Errorf("container has ended: %w", errdefs.ErrNotFound)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", what, t.key, err)
		}
		err = call(p.client)
		if err == nil {
			return nil
		}
		if !isGone(err) {
			return fmt.Errorf("%s %s: %w", what, t.key, kinds(err))
		}
		if rerr := t.replace(ctx, p); rerr != nil {
			return fmt.Errorf("%s %s: %w", what, t.key, errors.Join(err, rerr))
		}
		// A refused connection means that nothing was sent.
		unsent := errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
		if try > 0 || !repeat && !unsent {
			return fmt.Errorf("%s %s: %w", what, t.key, err)
		}
	}
}

// Attach opens the streams of the first process (exec empty) or of an exec. Output from before is not repeated, but for what the
// log does not have yet with opt.AfterLog.
func (t *Task) Attach(ctx context.Context, exec string, opt triton.AttachOptions) (*shim.Stream, error) {
	var s *shim.Stream
	err := t.again(ctx, "attach to", func(c Shim) (err error) {
		s, err = c.Attach(ctx, shim.AttachRequest{
			ExecRef: shim.ExecRef{ID: exec}, Stdin: opt.Stdin, Stdout: opt.Stdout, Stderr: opt.Stderr, AfterLog: opt.AfterLog,
		})
		return err
	})
	return s, err
}

// Signal sends a signal to a process, or with all to every process of the container.
func (t *Task) Signal(ctx context.Context, exec string, sig int, all bool) error {
	return t.again(ctx, "signal", func(c Shim) error {
		return c.Signal(ctx, shim.SignalRequest{ExecRef: shim.ExecRef{ID: exec}, Signal: sig, All: all})
	})
}

// Deadline has the shim send a signal at a time, though no daemon may live by then; a zero time cancels.
func (t *Task) Deadline(ctx context.Context, exec string, sig int, at time.Time) error {
	return t.again(ctx, "set deadline of", func(c Shim) error {
		return c.Deadline(ctx, shim.DeadlineRequest{ExecRef: shim.ExecRef{ID: exec}, Signal: sig, At: at})
	})
}

// Pause freezes the container.
func (t *Task) Pause(ctx context.Context) error {
	return t.once(ctx, "pause", func(c Shim) error { return c.Pause(ctx) })
}

// Resume thaws it.
func (t *Task) Resume(ctx context.Context) error {
	return t.once(ctx, "unpause", func(c Shim) error { return c.Resume(ctx) })
}

// Update changes limits; only what is set is changed. See Resources.
func (t *Task) Update(ctx context.Context, res *specs.LinuxResources) error {
	raw, err := json.Marshal(res)
	if err != nil {
		return fmt.Errorf("update %s: %w", t.key, err)
	}
	return t.again(ctx, "update", func(c Shim) error { return c.Update(ctx, raw) })
}

// Resize sets the size of a terminal in characters.
func (t *Task) Resize(ctx context.Context, exec string, height, width uint) error {
	return t.again(ctx, "resize", func(c Shim) error {
		return c.Resize(ctx, shim.ResizeRequest{ExecRef: shim.ExecRef{ID: exec}, Height: height, Width: width})
	})
}

// CloseStdin closes a process's standard input.
func (t *Task) CloseStdin(ctx context.Context, exec string) error {
	return t.again(ctx, "close stdin of", func(c Shim) error { return c.CloseStdin(ctx, exec) })
}

// RotateLog rotates the log now.
func (t *Task) RotateLog(ctx context.Context) error {
	return t.once(ctx, "rotate log of", func(c Shim) error { return c.LogRotate(ctx) })
}

// State asks the shim what it knows.
func (t *Task) State(ctx context.Context) (shim.StateReply, error) {
	var s shim.StateReply
	err := t.again(ctx, "state of", func(c Shim) (err error) {
		s, err = c.State(ctx)
		return err
	})
	return s, err
}

// Exec registers a further process (see ExecProcess), so that clients can attach before ExecStart.
func (t *Task) Exec(ctx context.Context, id string, process *specs.Process, stdio shim.Stdio) error {
	raw, err := json.Marshal(process)
	if err != nil {
		return fmt.Errorf("exec in %s: %w", t.key, err)
	}
	return t.once(ctx, "exec in", func(c Shim) error {
		return c.Exec(ctx, shim.ExecRequest{ID: id, Process: raw, Stdio: stdio})
	})
}

// ExecStart starts a registered exec and returns its pid.
func (t *Task) ExecStart(ctx context.Context, id string) (int, error) {
	var made shim.ProcessReply
	err := t.once(ctx, "exec in", func(c Shim) (err error) {
		made, err = c.ExecStart(ctx, id)
		return err
	})
	return made.Pid, err
}

// Delete removes all that the run left of run-time state; its records and log stay. With force it kills what still runs.
// It may be repeated.
func (t *Task) Delete(ctx context.Context, force bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.deleted {
		return nil
	}
	if t.shim != nil {
		t.reportDrops(ctx)
		err := t.shim.client.Delete(ctx, force)
		if err != nil && !isGone(err) {
			return fmt.Errorf("delete %s: %w", t.key, kinds(err))
		}
		t.r.forget(t.shim)
	}
	pid, start := firstProcess(t.claim, t.r.runDir(t.key.ID))
	if !force && lives(pid, start) {
		return fmt.Errorf("delete %s: it is running: %w", t.key, errdefs.ErrFailedPrecondition)
	}
	// After a shim that did its work this finds nothing.
	if err := t.r.sweep(ctx, t.claim); err != nil {
		return fmt.Errorf("delete %s: %w", t.key, err)
	}
	t.deleted = true
	return t.r.cfg.ForgetParent(t.claim.ShimPid)
}

// reportDrops says what of the output did not get to the log, and what of datagrams not to the container.
func (t *Task) reportDrops(ctx context.Context) {
	s, err := t.shim.client.State(ctx)
	if err != nil {
		return
	}
	if s.Log.DroppedBytes > 0 {
		t.r.log.Warn("output is missing in the log", "container", t.key, "bytes", s.Log.DroppedBytes, "err", s.Log.LastError)
	}
	if f := s.Forwarded; f.Evicted > 0 || f.Dropped > 0 {
		t.r.log.Warn("UDP clients of published ports lost datagrams", "container", t.key, "forgotten", f.Evicted, "dropped", f.Dropped)
	}
}

// kinds gives a shim's refusal its errdefs kind, without adding words.
func kinds(err error) error {
	var se *shim.Error
	if !errors.As(err, &se) {
		return err
	}
	of, ok := map[shim.ErrorKind]error{
		shim.KindInvalid: errdefs.ErrInvalidArgument, shim.KindNotFound: errdefs.ErrNotFound,
		shim.KindConflict: errdefs.ErrFailedPrecondition, shim.KindFenced: errdefs.ErrAborted,
		shim.KindUnsupported: errdefs.ErrNotImplemented, shim.KindExecNotFound: errdefs.ErrInvalidArgument,
		shim.KindNotExecutable: errdefs.ErrInvalidArgument,
	}[se.Kind]
	if !ok {
		return err
	}
	return refusal{err, of}
}

// refusal is a *shim.Error somewhere below, with a kind.
type refusal struct{ err, kind error }

func (r refusal) Error() string   { return r.err.Error() }
func (r refusal) Unwrap() []error { return []error{r.err, r.kind} }
