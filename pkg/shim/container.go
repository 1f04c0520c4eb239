package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/shim/filter"
	"github.com/tritond/triton/pkg/shim/jsonlog"
	"github.com/tritond/triton/pkg/shim/relay"
	"github.com/tritond/triton/pkg/triton"
)

// container is the one container of a shim, from create or adopt to delete.
type container struct {
	req  CreateRequest
	logs *slog.Logger
	// lookup asks the daemon's pinned exit map; nil: there is none.
	lookup ExitLookup
	enter  *enterer
	filter func() (filter.Program, error) // compiled at the first exec
	groups map[string]string              // control groups by controller, "" is cgroup2; nil: not asked for yet

	lc      *libcontainer.Container
	root    hostIDs
	log     *jsonlog.Writer // nil: no log
	keeper  *keeperLink     // nil: no keeper
	adopted bool
	lock    *os.File // of the run directory: one shim at a time

	// steps serialises what changes the container's shape: start, exec, pause, update, delete.
	steps sync.Mutex

	mu      sync.Mutex // guards what follows
	init    *process
	execs   map[string]*process
	pending map[string]*specs.Process // registered execs that were not started
	order   []string                  // ids of execs, oldest first
	started time.Time
	paused  bool
	timers  map[string]*deadline
	relay   *relay.Relay // nil: no port of the host is served
	// forwardOver says that the first process has ended: no port is served from then on.
	forwardOver bool
}

// hostIDs are the host's ids of the container's root.
type hostIDs struct{ uid, gid int }

// The files of a run directory. libcontainer's own state lies beside them, in a folder named by the container's id.
const (
	createFile = "create.json" // the CreateRequest, for whoever adopts the container
	memoryFile = "shim.json"   // what else an adopting shim must know: type memory
	// forwardFile has the counters of ports that are served in user space.
	forwardFile = "forward.counters"
	// RootfsDir is where the root file system is mounted, in a container's run directory.
	RootfsDir = "rootfs"
)

// create makes the container up to its waiting init. On an error nothing is left.
func create(ctx context.Context, req CreateRequest, cfg *ServerConfig, enter *enterer) (c *container, err error) {
	spec, err := checkCreate(&req)
	if err != nil {
		return nil, err
	}
	c = newContainer(req, cfg, enter)
	if _, err := os.Stat(filepath.Join(req.RunDir, createFile)); err == nil {
		return nil, conflict("create: %s holds a container already", req.RunDir)
	}
	if err := os.MkdirAll(req.RunDir, 0o711); err != nil { // searchable for the container's root
		return nil, fmt.Errorf("run directory: %w", err)
	}
	if err := c.lockRunDir(0); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.discard(context.WithoutCancel(ctx)))
			os.Remove(filepath.Join(req.ExitDir, recordName(""))) // of an init that ran nothing of the container
		}
	}()
	if err := writeJSON(filepath.Join(req.RunDir, createFile), req); err != nil {
		return nil, err
	}
	if err := c.openLog(); err != nil {
		return nil, err
	}
	rootfs := filepath.Join(req.RunDir, RootfsDir)
	if err := os.Mkdir(rootfs, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("rootfs mount point: %w", err)
	}
	if err := MountRootfs(rootfs, req.Rootfs, req.UserNS, req.IDs); err != nil {
		return nil, err
	}
	lcfg, err := containerConfig(&req, spec, rootfs)
	if err != nil {
		return nil, err
	}
	if c.root.uid, c.root.gid, err = hostRoot(lcfg); err != nil {
		return nil, err
	}
	return c, c.launch(ctx, lcfg, spec.Process)
}

func newContainer(req CreateRequest, cfg *ServerConfig, enter *enterer) *container {
	c := &container{
		req: req, logs: cfg.Logger.With("container", req.Key.String(), "run", req.Run), lookup: cfg.LookupExit, enter: enter,
		execs: map[string]*process{}, pending: map[string]*specs.Process{}, timers: map[string]*deadline{},
	}
	c.filter = sync.OnceValues(func() (filter.Program, error) {
		cfg := c.lc.Config()
		return filter.Compile(cfg.Seccomp)
	})
	if req.Keeper != "" {
		c.keeper = newKeeperLink(req.Keeper, c.logs)
	}
	return c
}

// lockPause spaces the looks at a lock whose holder is dying.
const lockPause = 5 * time.Millisecond

// lockRunDir makes this shim the only one of its run directory, so that a live shim's container cannot be adopted. The
// lock ends with the process. bound is how long a holder that was just killed may take to be gone.
func (c *container) lockRunDir(bound time.Duration) error {
	dir, err := os.OpenFile(c.req.RunDir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("lock run directory: %w", err)
	}
	deadline := time.NewTimer(bound)
	defer deadline.Stop()
	for {
		err := unix.Flock(rawFD(dir), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			c.lock = dir
			return nil
		}
		select {
		case <-time.After(lockPause):
		case <-deadline.C:
			dir.Close()
			return conflict("another shim holds %s: %v", c.req.RunDir, err)
		}
	}
}

func checkCreate(req *CreateRequest) (*specs.Spec, error) {
	switch {
	case !triton.ValidID(req.Key.ID):
		return nil, invalid("create: container id %q", req.Key.ID)
	case req.CgroupPath == "" || !filepath.IsAbs(req.CgroupPath):
		return nil, invalid("create: cgroup path %q is not absolute", req.CgroupPath)
	case !filepath.IsAbs(req.RunDir) || !filepath.IsAbs(req.ExitDir):
		return nil, invalid("create: run directory %q or exit directory %q is not absolute", req.RunDir, req.ExitDir)
	case req.UserNS == "" && !req.IDs.IsZero():
		return nil, invalid("create: an id range without a user namespace")
	}
	spec := new(specs.Spec)
	if err := json.Unmarshal(req.OCI, spec); err != nil {
		return nil, invalid("create: oci document: %v", err)
	}
	return spec, nil
}

// openLog opens the log; a full disk is no reason not to run, a wrong path is.
func (c *container) openLog() error {
	if c.req.LogPath == "" || c.req.Log.Driver == triton.LogNone {
		return nil
	}
	w, err := jsonlog.Open(jsonlog.Config{Path: c.req.LogPath, MaxSize: c.req.Log.MaxSize, MaxFile: c.req.Log.MaxFile, Compress: c.req.Log.Compress})
	if err != nil && errors.Is(err, os.ErrNotExist) {
		return err
	}
	c.log = w
	return nil
}

// launch starts init, which sets up namespaces and mounts and waits before the container's program.
func (c *container) launch(ctx context.Context, cfg *configs.Config, oci *specs.Process) error {
	lc, err := libcontainer.Create(c.req.RunDir, c.req.Key.ID, cfg)
	if err != nil {
		return fmt.Errorf("create container: %w", err)
	}
	c.lc = lc
	p := newProcess("", c.req.Stdio)
	if err := c.spawn(p, oci, true); err != nil {
		return err
	}
	c.init = p
	p.pump(c.log)
	go c.watch(p)
	if err := c.handOver(ctx, p); err != nil {
		return err
	}
	return c.remember()
}

// initLogLevel is logrus's number for warnings: by default init tells each of its steps, some forty, through a pipe.
const initLogLevel = "3"

// spawn starts a process of the container; its pumps are not running yet. On an error it has ended and its files are
// closed.
func (c *container) spawn(p *process, oci *specs.Process, init bool) error {
	lp, err := containerProcess(oci)
	if err != nil {
		return err
	}
	lp.Init, lp.LogLevel = init, initLogLevel
	p.lc = lp
	p.oom = c.oomKills()
	lasting := init && c.keeper != nil
	if err := p.io.open(lp, c.root, lasting); err != nil {
		p.close()
		return err
	}
	if err := c.lc.Start(lp); err != nil {
		p.close()
		return errors.Join(startError(err), c.reapStrays())
	}
	p.io.closeChildSide()
	pid, err := lp.Pid()
	if err == nil {
		err = p.identify(pid)
	}
	if err == nil {
		err = p.io.receiveConsole(lasting)
	}
	if err != nil {
		err = errors.Join(err, lp.Signal(os.Kill))
		_, _ = lp.Wait() // the error is its status: killed
		p.close()
		return err
	}
	p.io.setReady()
	return nil
}

// handOver gives the keeper what it needs of p, and waits for it: from then on neither a killed shim nor a killed daemon
// loses output or the exit status.
func (c *container) handOver(ctx context.Context, p *process) error {
	if c.keeper == nil {
		return nil
	}
	var names []string
	var files []*os.File
	for _, s := range p.io.streams {
		n, f := s.held()
		if p.io.pty != nil {
			n[0] = heldPTY
		}
		names, files = append(names, n...), append(files, f...)
	}
	if p.pidfd != nil {
		names, files = append(names, heldPidfd), append(files, p.pidfd)
	}
	if len(files) == 0 {
		return nil
	}
	req := HandoffRequest{Key: c.req.Key, Run: c.req.Run, Exec: p.id, FDs: names}
	return c.keeper.hold(ctx, req, files)
}

// The keeper's names of descriptors, beside those of streams.
const (
	heldPTY      = "pty"
	heldPidfd    = "pidfd"
	heldInflight = ".inflight" // behind a stream's name
	heldMemory   = ".memory"
)

// startProgram lets init execute the container's program.
func (c *container) startProgram() error {
	c.steps.Lock()
	defer c.steps.Unlock()
	c.mu.Lock()
	again := !c.started.IsZero()
	c.mu.Unlock()
	if again {
		return conflict("container was started already")
	}
	if c.init.ended() != nil {
		return conflict("container has ended")
	}
	if err := c.lc.Exec(); err != nil {
		return startError(err)
	}
	c.mu.Lock()
	c.started = time.Now()
	c.mu.Unlock()
	return c.remember()
}

// pause freezes or thaws the container.
func (c *container) pause(on bool) error {
	c.steps.Lock()
	defer c.steps.Unlock()
	if err := c.running(); err != nil {
		return err
	}
	if c.isPaused() == on {
		return conflict("container is%s paused", map[bool]string{true: " already", false: " not"}[on])
	}
	op := c.lc.Resume
	if on {
		op = c.lc.Pause
	}
	if err := op(); err != nil {
		return fmt.Errorf("freezer: %w", err)
	}
	c.setPaused(on)
	return nil
}

func (c *container) isPaused() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.paused
}

func (c *container) setPaused(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = on
}

// running refuses verbs that need a started container.
func (c *container) running() error {
	c.mu.Lock()
	started := !c.started.IsZero()
	c.mu.Unlock()
	if !started || c.init.ended() != nil {
		return conflict("container is not running")
	}
	return nil
}

// find returns a process by its exec id; "" is the container's first.
func (c *container) find(id string) (*process, error) {
	if id == "" {
		return c.init, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.execs[id]
	if p == nil {
		return nil, notFound("no such exec: %s", id)
	}
	return p, nil
}

// state reports what is known.
func (c *container) state() StateReply {
	c.mu.Lock()
	reply := StateReply{
		Status: triton.StatusCreated, Pid: c.init.who().Pid, StartTime: c.init.who().StartTime, StartedAt: c.started,
		Adopted: c.adopted, Key: c.req.Key, Run: c.req.Run,
	}
	paused := c.paused
	if c.relay != nil {
		reply.Forwarded = c.relay.Stats()
	}
	for _, id := range c.order {
		p := c.execs[id]
		reply.Execs = append(reply.Execs, ExecState{ID: id, Pid: p.who().Pid, Exit: p.ended()})
	}
	c.mu.Unlock()
	reply.Exit = c.init.ended()
	switch {
	case reply.Exit != nil:
		reply.Status = triton.StatusExited
	case paused:
		reply.Status = triton.StatusPaused
	case !reply.StartedAt.IsZero():
		reply.Status = triton.StatusRunning
	}
	reply.OOMKills = c.oomKills()
	if c.log != nil {
		s := c.log.Stats()
		reply.Log = LogState{Bytes: s.Bytes, Records: s.Records, DroppedBytes: s.DroppedBytes, LastError: s.LastError}
	}
	return reply
}
