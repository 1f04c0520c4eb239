package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/cgroup"
	"github.com/tritond/triton/pkg/shim"
	"github.com/tritond/triton/pkg/triton"
)

// Config is what a Runtime needs to know.
type Config struct {
	Instance string // names our control groups
	ShimPath string // empty: triton-shim beside the running program
	RunRoot  string // on tmpfs; see the names below
	// DataRoot is where exit records outlive a reboot, in tenants/TENANT/containers/ID; empty: they are found only while
	// the run-time state exists.
	DataRoot   string
	Version    string
	Generation uint64 // the daemon's start counter: shims refuse an older one
	BootID     string
	// PoolSize is how many idle shims wait; 0: 3, negative: none, each is started when it is needed.
	PoolSize int
	ExitMap  string // bpffs path of the pinned exit map; empty: none
	Log      *slog.Logger
	// RegisterParent tells the exit program whose children are first processes of the control group, before there are
	// any; ForgetParent takes it back. nil: nobody wants to know.
	RegisterParent func(pid int, cgroupID uint64) error
	ForgetParent   func(pid int) error
}

// Shim is what a Task asks of the process that holds its container: *shim.Client. It is the seam for a fallback that
// executes an OCI runtime's program instead: another Shim, reached by Runtime.dial.
type Shim interface {
	Hello(ctx context.Context) (shim.HelloReply, error)
	Create(ctx context.Context, req shim.CreateRequest) (shim.ProcessReply, error)
	Adopt(ctx context.Context, req shim.AdoptRequest) (shim.AdoptReply, error)
	Start(ctx context.Context) error
	Exec(ctx context.Context, req shim.ExecRequest) error
	ExecStart(ctx context.Context, id string) (shim.ProcessReply, error)
	Wait(ctx context.Context, id string) (triton.ExitRecord, error)
	State(ctx context.Context) (shim.StateReply, error)
	Signal(ctx context.Context, req shim.SignalRequest) error
	Deadline(ctx context.Context, req shim.DeadlineRequest) error
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
	Update(ctx context.Context, resources json.RawMessage) error
	Resize(ctx context.Context, req shim.ResizeRequest) error
	CloseStdin(ctx context.Context, id string) error
	Attach(ctx context.Context, req shim.AttachRequest) (*shim.Stream, error)
	LogRotate(ctx context.Context) error
	Forward(ctx context.Context, req shim.ForwardRequest, sockets []*os.File) error
	Delete(ctx context.Context, force bool) error
	Shutdown(ctx context.Context) error
	Close() error
}

var _ Shim = (*shim.Client)(nil)

// Names below the run root.
const (
	shimsDir      = "shims" // SHIM.sock and SHIM.log of each shim, idle or not
	containersDir = "c"     // CONTAINER/: the run directory that a container's shim fills
	keeperSocket  = "keeper.sock"
)

// defaultPool is how many idle shims hide the start of a process (4 ms, and 12 ms more of a cold one) from a burst.
const defaultPool = 3

// Runtime starts containers through shims. The shims, the containers and the keeper outlive it.
type Runtime struct {
	cfg Config
	log *slog.Logger
	cg  *cgroup.FS

	refill chan struct{} // wakes Run: the pool has fewer shims than it should

	mu       sync.Mutex
	closed   bool
	idle     []*process
	own      map[string]*process // by id: every shim this Runtime started or found, until it was let go
	children map[int]*process    // by pid: those we must reap
	keeper   *process            // nil: found, and so not our child
	warned   map[string]bool     // what Warn has said
}

// Open prepares the run root and makes sure that the keeper lives. Run fills the pool.
func Open(ctx context.Context, cfg Config) (*Runtime, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	cg, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	r := &Runtime{
		cfg: cfg, log: cfg.Log, cg: cg, refill: make(chan struct{}, 1),
		own: map[string]*process{}, children: map[int]*process{}, warned: map[string]bool{},
	}
	// Searchable for all: the root of a user namespace passes through to its root file system.
	for _, dir := range []string{cfg.RunRoot, r.path(containersDir), r.path(shimsDir)} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("prepare run root: %w", err)
		}
	}
	if err := os.Chmod(r.path(shimsDir), 0o700); err != nil {
		return nil, fmt.Errorf("prepare run root: %w", err)
	}
	if _, err := cg.Make(r.shimGroup()); err != nil {
		return nil, err
	}
	if err := errors.Join(r.weigh(r.ownGroup()), r.weigh(r.shimGroup())); err != nil {
		r.log.Warn("containers, or shims, have one process's share of the CPUs, all together", "err", err)
	}
	if err := r.ensureKeeper(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// complete fills in defaults and refuses what cannot work.
func (c *Config) complete() error {
	var errs []error
	if c.Instance == "" {
		errs = append(errs, errors.New("no instance name"))
	}
	if !filepath.IsAbs(c.RunRoot) {
		errs = append(errs, fmt.Errorf("run root %q is not absolute", c.RunRoot))
	}
	if c.ShimPath == "" {
		self, err := os.Executable()
		if err != nil {
			errs = append(errs, err)
		}
		c.ShimPath = filepath.Join(filepath.Dir(self), "triton-shim")
	}
	if _, err := os.Stat(c.ShimPath); err != nil {
		errs = append(errs, fmt.Errorf("shim program: %w", err))
	}
	if c.PoolSize == 0 {
		c.PoolSize = defaultPool
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.RegisterParent == nil {
		c.RegisterParent = func(int, uint64) error { return nil }
	}
	if c.ForgetParent == nil {
		c.ForgetParent = func(int) error { return nil }
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("runtime: %w: %w", errdefs.ErrInvalidArgument, err)
	}
	return nil
}

func (r *Runtime) path(elem ...string) string {
	return filepath.Join(append([]string{r.cfg.RunRoot}, elem...)...)
}

// runDir is the run directory of a container.
func (r *Runtime) runDir(id string) string { return r.path(containersDir, id) }

// RootfsDir is where the root of a container is mounted while it runs.
func (r *Runtime) RootfsDir(key triton.ContainerKey) string {
	return filepath.Join(r.runDir(key.ID), shim.RootfsDir)
}

// ownGroup is the control group that holds those of all containers.
func (r *Runtime) ownGroup() string { return "/triton-" + r.cfg.Instance }

// weigh gives a group the weight of one of the machine's processes on each CPU. It has that of one process alone otherwise, whatever
// is in it: a container that takes its CPU takes it from its neighbours' share then, and shims wait for busy containers.
func (r *Runtime) weigh(group string) error {
	dir, file, weight := r.cg.Dir("cpu", group), "cpu.shares", min(1024*goruntime.NumCPU(), 1<<18)
	if r.cg.Mode() == cgroup.V2 {
		file, weight = "cpu.weight", min(100*goruntime.NumCPU(), 10000)
	}
	if dir == "" {
		return fmt.Errorf("controller cpu: %w", errdefs.ErrNotFound)
	}
	return os.WriteFile(filepath.Join(dir, file), strconv.AppendInt(nil, int64(weight), 10), 0)
}

// shimGroup is the control group that shims are in: their memory and what they take of the CPUs is accounted to it.
func (r *Runtime) shimGroup() string { return r.ownGroup() + "/" + shimsDir }

// dial connects to what listens at socket.
func (r *Runtime) dial(ctx context.Context, socket string) (Shim, shim.HelloReply, error) {
	c, reply, err := shim.Dial(ctx, socket, r.hello())
	if err != nil {
		return nil, reply, err // not a nil *shim.Client in an interface
	}
	return c, reply, nil
}

func (r *Runtime) hello() shim.Hello {
	return shim.Hello{
		Protocol: shim.ProtocolVersion, Generation: r.cfg.Generation, BootID: r.cfg.BootID, Instance: r.cfg.Instance,
	}
}

// maxWarned bounds what Warn remembers: some warnings name a path of the user's.
const maxWarned = 1000

// Warn logs what Spec and Resources say that this machine cannot give, each thing once.
func (r *Runtime) Warn(warnings []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range warnings {
		if r.warned[w] || len(r.warned) >= maxWarned {
			continue
		}
		r.warned[w] = true
		r.log.Warn("limited by this machine", "what", w)
	}
}

// Timing of Run.
const (
	refillPause  = time.Second     // after a shim that did not start
	upkeepPeriod = 2 * time.Second // between looks at the keeper and at logs
)

// Run keeps the pool full, reaps shims that ended and replaces a keeper that died, until ctx ends.
func (r *Runtime) Run(ctx context.Context) error {
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	defer signal.Stop(children)
	upkeep := time.NewTicker(upkeepPeriod)
	defer upkeep.Stop()
	for {
		var retry <-chan time.Time
		if err := r.fill(ctx); err != nil && ctx.Err() == nil {
			r.log.Error("no idle shim", "err", err)
			retry = time.After(refillPause)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-children:
			r.reap()
		case <-r.refill:
		case <-retry:
		case <-upkeep.C:
			r.reap()
			r.boundLogs()
			if err := r.ensureKeeper(ctx); err != nil && ctx.Err() == nil {
				r.log.Error("no keeper", "err", err)
			}
		}
	}
}

// closeBound is how long Close waits for processes to go, closePause how often it looks.
const (
	closeBound = 5 * time.Second
	closePause = time.Millisecond
)

// Close ends the idle shims, and the keeper if it holds nothing. Containers, their shims and a keeper that is needed
// live on. Run must have returned.
func (r *Runtime) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	idle := r.idle
	r.idle = nil
	for _, p := range r.own {
		if p.client != nil && !slices.Contains(idle, p) {
			p.client.Close() // a shim with a container does not mind
		}
	}
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeBound)
	defer cancel()
	var errs []error
	for _, p := range idle {
		errs = append(errs, r.dismiss(ctx, p))
	}
	errs = append(errs, r.dismissKeeper(ctx))
	for ctx.Err() == nil && r.leaving() {
		time.Sleep(closePause)
	}
	errs = append(errs, r.removeShimGroup(ctx))
	return errors.Join(errs...)
}

// leaving reports whether a child that was told to end has not done so.
func (r *Runtime) leaving() bool {
	r.reap()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.children {
		if r.own[p.id] != p && p != r.keeper {
			return true
		}
	}
	return false
}

// removeShimGroup removes the shims' control group after the last container: the shims of earlier daemons, which are not
// our children, may still be on their way out.
func (r *Runtime) removeShimGroup(ctx context.Context) error {
	if left, err := os.ReadDir(r.path(containersDir)); err != nil || len(left) > 0 {
		return err
	}
	for ; ctx.Err() == nil; time.Sleep(closePause) {
		pids, err := r.cg.Pids(r.shimGroup())
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return r.cg.Remove(r.shimGroup())
		}
	}
	return nil
}
