package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/tritond/triton/pkg/shim"
	"github.com/tritond/triton/pkg/triton"
)

// Found is what Load learnt of a container. The zero Found means that no trace of a run is left, as after a reboot.
type Found struct {
	// Task is what runs, or what has ended and must be deleted. nil: no run-time state is left.
	Task *Task
	Run  int
	// Started is false for a run whose program was never executed: delete it.
	Started   bool
	StartedAt time.Time // zero: unknown
	Paused    bool
	// Exit is how the run ended; nil while it runs.
	Exit *triton.ExitRecord
	// LostStdio is true when output since a shim's death could not be saved.
	LostStdio bool
}

// loadBound is how long a shim may take to answer a new daemon.
const loadBound = 10 * time.Second

// Load finds out what became of a container since an earlier daemon created it: its shim answers, or the shim died and
// another adopts the container, or a record of the end is on disk. It changes nothing of a container that runs.
func (r *Runtime) Load(ctx context.Context, key triton.ContainerKey) (Found, error) {
	ctx, cancel := context.WithTimeout(ctx, loadBound)
	defer cancel()
	c, err := readClaim(r.runDir(key.ID))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r.recorded(key)
	case err != nil:
		r.log.Error("claim unreadable, asking every shim", "container", key, "err", err)
		return r.search(ctx, key)
	case c.Key != key:
		return Found{}, fmt.Errorf("load %s: run directory is of %s", key, c.Key)
	}
	found, err := r.load(ctx, c)
	if err != nil {
		return Found{}, fmt.Errorf("load %s: %w", key, err)
	}
	return found, nil
}

// recorded is what is left of a run without run-time state.
func (r *Runtime) recorded(key triton.ContainerKey) (Found, error) {
	if r.cfg.DataRoot == "" {
		return Found{}, nil
	}
	dir := filepath.Join(r.cfg.DataRoot, "tenants", string(key.Tenant), "containers", key.ID)
	rec, ok, err := readExit(dir, 0)
	if err != nil || !ok {
		return Found{}, err
	}
	return Found{Run: rec.Run, Started: true, Exit: &rec}, nil
}

// load asks the shim of a claim, or has another adopt.
func (r *Runtime) load(ctx context.Context, c claim) (Found, error) {
	client, hello, err := r.dial(ctx, r.sockOf(c.Shim))
	if err != nil && !isGone(err) {
		return Found{}, err
	}
	t := &Task{r: r, key: c.Key, run: c.Run, claim: c}
	if err == nil && hello.Container != nil && *hello.Container == c.Key {
		return r.greet(ctx, t, client, hello)
	}
	p := &process{id: c.Shim, socket: r.sockOf(c.Shim), log: logOf(r.sockOf(c.Shim)), pid: c.ShimPid, client: client}
	if err == nil {
		// The daemon died between its claim and create: the shim waits for nobody.
		return Found{}, errors.Join(r.dismiss(ctx, p), r.sweep(ctx, c), r.cfg.ForgetParent(c.ShimPid))
	}
	t.shim = p
	t.pid, t.start = firstProcess(c, r.runDir(c.Key.ID))
	return t.adopted(ctx)
}

// greet takes a task up from a shim that lives.
func (r *Runtime) greet(ctx context.Context, t *Task, client Shim, hello shim.HelloReply) (Found, error) {
	s, err := client.State(ctx)
	if err != nil {
		client.Close()
		return Found{}, err
	}
	t.run, t.pid, t.start = s.Run, s.Pid, s.StartTime
	t.claim.Run, t.claim.Pid, t.claim.StartTime, t.claim.ShimPid = s.Run, s.Pid, s.StartTime, hello.Pid
	t.shim = &process{
		id: t.claim.Shim, socket: r.sockOf(t.claim.Shim), log: logOf(r.sockOf(t.claim.Shim)), pid: hello.Pid, client: client,
	}
	r.mu.Lock()
	r.own[t.shim.id] = t.shim
	r.mu.Unlock()
	// The exit program may have lost its state with a reload; registering again changes nothing.
	if s.Exit == nil {
		if err := r.cfg.RegisterParent(hello.Pid, t.claim.CgroupID); err != nil {
			return Found{}, fmt.Errorf("register parent: %w", err)
		}
	}
	return Found{
		Task: t, Run: s.Run, Started: !s.StartedAt.IsZero(), StartedAt: s.StartedAt,
		Paused: s.Status == triton.StatusPaused, Exit: s.Exit,
	}, nil
}

func logOf(sock string) string { return strings.TrimSuffix(sock, ".sock") + ".log" }

// adopted is load for a container whose shim is gone.
func (t *Task) adopted(ctx context.Context) (Found, error) {
	dead := t.shim
	t.r.log.Warn("shim was gone", "container", t.key, "shim", t.claim.Shim, "said", tail(dead.log))
	lost, err := t.replaceReporting(ctx, dead)
	if err != nil {
		return Found{}, err
	}
	if t.deleted {
		return Found{}, nil
	}
	if t.shim == nil {
		return Found{Task: t, Run: t.run, Started: true, Exit: t.exit, LostStdio: lost}, nil
	}
	s, err := t.shim.client.State(ctx)
	if err != nil {
		return Found{}, err
	}
	return Found{
		Task: t, Run: s.Run, Started: !s.StartedAt.IsZero(), StartedAt: s.StartedAt,
		Paused: s.Status == triton.StatusPaused, Exit: s.Exit, LostStdio: lost,
	}, nil
}

// replace gives the task another shim after dead died. Of several callers that noticed, the first does it.
func (t *Task) replace(ctx context.Context, dead *process) error {
	_, err := t.replaceReporting(ctx, dead)
	return err
}

func (t *Task) replaceReporting(ctx context.Context, dead *process) (lostStdio bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shim != dead || t.deleted {
		return false, nil // somebody was faster
	}
	runDir := t.r.runDir(t.key.ID)
	req, err := readCreate(runDir)
	pid, start := firstProcess(t.claim, runDir)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && pid == 0:
		// It died before there was a process of the container: nothing to adopt, nothing to report.
		return false, t.drop(ctx, dead)
	case err != nil:
		return false, fmt.Errorf("adopt: %w", err)
	}
	if rec, ok, err := readExit(req.ExitDir, t.run); ok && err == nil {
		t.exit = &rec
		return false, t.let(dead)
	}
	return t.adopt(ctx, dead, shim.AdoptRequest{Create: req, Pid: pid, StartTime: start})
}

// adopt has a shim from the pool take over. It is registered first: execs to come will be its children.
func (t *Task) adopt(ctx context.Context, dead *process, req shim.AdoptRequest) (bool, error) {
	p, err := t.r.claim(ctx)
	if err != nil {
		return false, fmt.Errorf("adopt: %w", err)
	}
	if err := t.r.cfg.RegisterParent(p.pid, t.claim.CgroupID); err != nil {
		return false, errors.Join(fmt.Errorf("adopt: register parent: %w", err), t.r.dismiss(ctx, p))
	}
	// Written first: a daemon that dies now leaves the next one a shim that may have adopted, not one that did not.
	next := t.claim
	next.Shim, next.ShimPid, next.Pid, next.StartTime = p.id, p.pid, req.Pid, req.StartTime
	if err := next.write(req.Create.RunDir); err != nil {
		return false, errors.Join(err, t.r.dismiss(ctx, p), t.r.cfg.ForgetParent(p.pid))
	}
	reply, err := p.client.Adopt(ctx, req)
	if err != nil {
		err = fmt.Errorf("adopt: %w", err)
		t.r.discard(p)
		return false, errors.Join(err, t.claim.write(req.Create.RunDir), t.r.cfg.ForgetParent(p.pid))
	}
	t.r.log.Warn("container adopted by another shim", "container", t.key, "pid", req.Pid, "shim", p.id,
		"ended", reply.Exit != nil, "lostOutput", reply.LostStdio)
	if ferr := t.forward.send(ctx, p.client); ferr != nil && reply.Exit == nil {
		t.r.log.Error("published ports are not served on ::1, nor from IPv6 to IPv4", "container", t.key, "err", ferr)
	}
	err = t.let(dead)
	t.shim, t.claim = p, next
	return reply.LostStdio, err
}

// let lets go of a dead shim.
func (t *Task) let(dead *process) error {
	t.r.forget(dead)
	t.shim = nil
	// Children it left are registered by their own pids; its number may be another process's soon.
	return t.r.cfg.ForgetParent(dead.pid)
}

// drop removes a run of which nothing ever ran.
func (t *Task) drop(ctx context.Context, dead *process) error {
	if err := t.r.sweep(ctx, t.claim); err != nil {
		return err
	}
	t.deleted = true
	return t.let(dead)
}

// search finds a container by asking every shim what it holds: the way when the claim is unreadable.
func (r *Runtime) search(ctx context.Context, key triton.ContainerKey) (Found, error) {
	socks, err := filepath.Glob(r.path(shimsDir, "*.sock"))
	if err != nil {
		return Found{}, err
	}
	for _, sock := range socks {
		client, hello, err := r.dial(ctx, sock)
		if err != nil {
			continue
		}
		if hello.Container == nil || *hello.Container != key {
			client.Close()
			continue
		}
		req, err := readCreate(r.runDir(key.ID))
		if err != nil {
			client.Close()
			return Found{}, fmt.Errorf("load %s: %w", key, err)
		}
		ids, err := r.cg.IDs(req.CgroupPath)
		if err != nil {
			client.Close()
			return Found{}, fmt.Errorf("load %s: %w", key, err)
		}
		t := &Task{r: r, key: key, run: hello.Run, claim: claim{
			Key: key, Run: hello.Run, Shim: strings.TrimSuffix(filepath.Base(sock), ".sock"), ShimPid: hello.Pid,
			CgroupPath: req.CgroupPath, CgroupID: ids.V2, ExitDir: req.ExitDir,
		}}
		found, err := r.greet(ctx, t, client, hello)
		if err != nil {
			return Found{}, fmt.Errorf("load %s: %w", key, err)
		}
		return found, t.claim.write(r.runDir(key.ID))
	}
	return Found{}, fmt.Errorf("load %s: its claim is unreadable and no shim holds it", key)
}
