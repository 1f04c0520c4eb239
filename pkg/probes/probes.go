package probes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

// Config says where the programs that survive the daemon are pinned and how much may be watched.
type Config struct {
	// PinDir is a directory on a bpffs, with the layout version as its last element. It is made when it is missing;
	// the bpffs must exist.
	PinDir string
	// MaxContainers bounds the containers watched at a time; 0: 512. Each takes 4.5 KiB of kernel memory per shard
	// (a shard is a group of CPUs, at most 4), all of it at Open.
	MaxContainers int
	// CellsPerContainer sizes the pool of syscall histograms: so many per container and shard on average; 0: 32. A
	// cell has 320 bytes, and a container takes one for each system call it ever made.
	CellsPerContainer int
	// MaxExits bounds the processes whose exit status is kept until somebody takes it; 0: 8192.
	MaxExits int
	// Level is the machine's at first; "": Detail. SetLevel changes it.
	Level Level
	// Budget lets the machine's level step by itself; Level is none then.
	Budget Budget
	// Stepped is told of each such step; nil: nobody is. It may call Probes.
	Stepped func(Step)
	// Window is how long the system call hooks are on in each Period, on average, for containers at level Sampled; 0: 1 s of every 10 s.
	// What a container did before its first window is not counted, and calls that last longer than a window are not timed.
	Window, Period time.Duration
	// Peers bounds the peers that are counted, and the open connections, of all containers together: 300 bytes of kernel memory
	// for a peer that there is, 200 for each connection that there may be; 0: none are, and no hook runs.
	Peers int
	// PeersPerContainer bounds those of one container; 0: 1024. What finds no room is counted as the container's rest.
	PeersPerContainer int
	// Network counts how containers' networks fare: 4 KiB for each of MaxContainers, and a hook per TCP segment received.
	Network bool
	// RecorderThreads bounds the threads whose last system calls are kept; 0: none are. Each takes 5.1 KiB of kernel memory,
	// all of it at Open; threads beyond find no room until others end, and are counted.
	RecorderThreads int
	// Linger is how long the system call hooks stay attached after the last container; 0: 5 s, negative: not at all.
	Linger time.Duration
	Log    *slog.Logger

	ringsKept time.Duration  // for how long no other container gets a dead thread's place in the recorder; 0: the constant, negative: not at all
	lot       func() float64 // 0 to 1, for when windows begin; nil: math/rand/v2
	costEvery time.Duration  // between two windows in which the programs' cost is measured; 0: the constant
}

// shardsMax bounds the copies of each slot. More than that cost memory and save little: two CPUs that meet in a cell
// lose some 20 ns.
const shardsMax = 4

// tick is how often Run frees slots and looks whether the hooks can be detached.
const tick = 250 * time.Millisecond

func (c Config) withDefaults() Config {
	c.MaxContainers = defaultTo(c.MaxContainers, 512)
	c.CellsPerContainer = defaultTo(c.CellsPerContainer, 32)
	c.MaxExits = defaultTo(c.MaxExits, 8192)
	c.Linger = defaultTo(c.Linger, 5*time.Second)
	if !c.Budget.Auto {
		c.Level = defaultTo(c.Level, Detail)
	}
	c.costEvery = defaultTo(c.costEvery, costEvery)
	c.ringsKept = defaultTo(c.ringsKept, ringsKept)
	c.PeersPerContainer = defaultTo(c.PeersPerContainer, 1024)
	if c.lot == nil {
		c.lot = rand.Float64
	}
	c.Window, c.Period = defaultTo(c.Window, time.Second), defaultTo(c.Period, 10*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

func defaultTo[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Validate lists everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if c.PinDir == "" {
		errs = append(errs, errors.New("pin directory: must be set"))
	}
	if c.MaxContainers < 0 || c.MaxContainers > 1<<16 {
		errs = append(errs, fmt.Errorf("max containers %d: must be 0 to 65536", c.MaxContainers))
	}
	if c.CellsPerContainer < 0 || c.CellsPerContainer > syscallNumbers {
		errs = append(errs, fmt.Errorf("cells per container %d: must be 0 to %d", c.CellsPerContainer, syscallNumbers))
	}
	if c.Peers < 0 || c.Peers > 1<<20 {
		errs = append(errs, fmt.Errorf("peers %d: must be 0 to 1048576", c.Peers))
	}
	if c.PeersPerContainer < 0 {
		errs = append(errs, fmt.Errorf("peers per container %d: must not be negative", c.PeersPerContainer))
	}
	if c.RecorderThreads < 0 || c.RecorderThreads > RecorderThreadsMax {
		errs = append(errs, fmt.Errorf("recorder threads %d: must be 0 to %d", c.RecorderThreads, RecorderThreadsMax))
	}
	if c.MaxExits < 0 || c.MaxExits > 1<<20 {
		errs = append(errs, fmt.Errorf("max exits %d: must be 0 to 1048576", c.MaxExits))
	}
	if c.Level != "" {
		errs = append(errs, c.Level.Validate())
	}
	if c.Budget.Auto && c.Level != "" {
		errs = append(errs, fmt.Errorf("level %s: must not be set where it steps by itself", c.Level))
	}
	if c.Budget.Share < 0 || c.Budget.Share > 1 {
		errs = append(errs, fmt.Errorf("budget %v: must be 0 to 1", c.Budget.Share))
	}
	if c.Window <= 0 || c.Period <= c.Window {
		errs = append(errs, fmt.Errorf("windows of %v every %v: must be shorter than that", c.Window, c.Period))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("probes config: %w: %w", errdefs.ErrInvalidArgument, err)
	}
	return nil
}

// Probes are the loaded programs. All methods may be called from any goroutine.
type Probes struct {
	cfg      Config
	log      *slog.Logger
	exits    *exitProgram
	kernel   *measurePrograms
	peers    *peerPrograms    // nil: not wanted, or refused by this kernel
	network  *networkPrograms // nil: the same
	names    *namePrograms    // nil: see WatchNames
	profiles profiles

	// reapMu is held while retired slots are waited for and freed; taken before mu.
	reapMu sync.Mutex
	// ringsMu is held while the rings of the flight recorder are read; taken after mu.
	ringsMu sync.Mutex

	mu      sync.RWMutex
	closed  bool
	level   Level
	stepper *stepper // nil: the level does not step by itself
	looking bool     // the pair is attached to learn what it costs
	looks   int      // windows since one in which it was
	pairs   pairCost
	window  window
	hot     attachedHooks
	idle    time.Time // since when nothing is watched; zero: something is
	table   slotTable
	traces  quota
	// tracing are those whose programs are attached.
	tracing   map[*trace]struct{}
	questions questions

	events eventHub
	opened chan struct{}        // of one: a window of samples was opened
	cost   atomic.Pointer[Cost] // of the last window; nil: none yet
}

// Open loads the programs, attaches those that are always on, and takes over the exit program and its maps when an
// earlier daemon left them pinned. A program that this kernel refuses and that Triton can do without is reported by
// Missing, not as an error.
func Open(ctx context.Context, cfg Config) (*Probes, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := inHostPidNamespace(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.PinDir, 0o700); err != nil {
		return nil, fmt.Errorf("make pin directory: %w", err)
	}
	exits, err := openExitProgram(cfg.PinDir, cfg.MaxExits)
	if err != nil {
		return nil, fmt.Errorf("open exit program: %w", err)
	}
	kernel, err := loadMeasure(cfg, exits.exits)
	if err != nil {
		exits.close()
		return nil, fmt.Errorf("load measurement programs: %w", err)
	}
	var peers *peerPrograms
	if cfg.Peers > 0 {
		if peers, err = loadPeers(kernel.maps[bpf.MeasureMapOwnersV2], cfg); err != nil {
			peers = nil
			kernel.missing = append(kernel.missing, MissingProgram{Program: bpf.PeersProgPeerStates, Reason: err})
		} else {
			kernel.missing = append(kernel.missing, peers.missing...)
		}
	}
	var network *networkPrograms
	if cfg.Network {
		if network, err = loadNetwork(kernel.maps, cfg.MaxContainers); err != nil {
			network = nil
			kernel.missing = append(kernel.missing, MissingProgram{Program: bpf.NetworkProgNetworkStates, Reason: err})
		} else {
			kernel.missing = append(kernel.missing, network.missing...)
		}
	}
	for _, m := range kernel.missing {
		cfg.Log.WarnContext(ctx, "program left out", "program", m.Program, "err", m.Reason)
	}
	p := &Probes{
		cfg: cfg, log: cfg.Log, exits: exits, kernel: kernel, peers: peers, network: network,
		level: cfg.Level, idle: time.Now(), table: newSlotTable(cfg.MaxContainers), opened: make(chan struct{}, 1),
		traces:    quota{what: "traces", all: TracesMax, each: tracesPerTenant},
		questions: questions{quota: quota{what: "questions", all: QuestionsMax, each: questionsPerTenant}},
	}
	if cfg.Budget.Auto {
		p.stepper = newStepper(cfg.Budget, p.CountedShare(Sampled), cfg.lookShare(), holdWindows*cfg.costEvery)
		p.level = p.stepper.level
	}
	return p, nil
}

// Run hands records to subscribers, measures what the programs cost, frees what Unwatch retired, and detaches the system call hooks when nothing is
// watched. It blocks until ctx is done and returns nil then; end it before Close.
func (p *Probes) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.readRing(ctx) })
	group.Go(func() error { return p.watchCost(ctx) })
	group.Go(func() error { return p.watchNames(ctx) })
	group.Go(func() error {
		t := time.NewTicker(min(tick, p.cfg.Window/4))
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-t.C:
				p.turnWindow(ctx, time.Now())
				if err := p.reap(); err != nil {
					p.log.ErrorContext(ctx, "free retired slots", "err", err)
				}
				p.disarmIdle(time.Now())
			}
		}
	})
	return group.Wait()
}

// Close detaches everything but the exit program, which stays pinned and goes on recording. Idempotent.
func (p *Probes) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	errs := []error{p.detach(hookSet{}), p.profiles.close()}
	if p.peers != nil {
		errs = append(errs, p.peers.close())
	}
	if p.network != nil {
		errs = append(errs, p.network.close())
	}
	if p.names != nil {
		errs = append(errs, p.names.close())
	}
	return errors.Join(append(errs, p.kernel.close(), p.exits.close())...)
}

// Unpin detaches the exit program and removes its pins: for a clean stop that leaves no container, or a purge. What
// it recorded is gone. Call Close all the same.
func (p *Probes) Unpin() error { return p.exits.unpin() }

// Missing lists the programs that do not run here, each with the reason: this kernel refused it, or the machine's level
// leaves it out and no container needs it.
func (p *Probes) Missing() []MissingProgram {
	missing := slices.Clone(p.kernel.missing)
	p.mu.RLock()
	defer p.mu.RUnlock()
	have := p.level.needs(true).and(p.wanted())
	for _, g := range []struct {
		have  bool
		names []string
	}{{have.calls, callPrograms}, {have.waits, waitPrograms}} {
		for _, name := range g.names {
			if !g.have && p.kernel.programs[name] != nil {
				missing = append(missing, MissingProgram{Program: name, Reason: fmt.Errorf("left out by level %s", p.level)})
			}
		}
	}
	return missing
}

func (p *Probes) disarmIdle(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.idle.IsZero() || now.Sub(p.idle) < p.cfg.Linger {
		return
	}
	if err := p.detach(hookSet{}); err != nil {
		p.log.Error("detach system call hooks", "err", err)
	}
}

// Armed reports whether the hooks of system calls are attached: they slow every process of the machine by some 0.2 us per
// call, so they are only while a container needs them, and Linger longer after the last one.
func (p *Probes) Armed() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.hot.calls != nil
}

// hostPidNamespace is the inode of the first pid namespace: PROC_PID_INIT_INO in include/linux/proc_ns.h.
const hostPidNamespace = "pid:[4026531836]"

// inHostPidNamespace refuses to run where pids that the kernel reports are not those that we see.
func inHostPidNamespace() error {
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return fmt.Errorf("find own pid namespace: %w", err)
	}
	if ns != hostPidNamespace {
		return fmt.Errorf("probes need the host's pid namespace, this is %s: %w", ns, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// Watched lists the containers being watched, in no order.
func (p *Probes) Watched() []triton.ContainerKey {
	p.mu.RLock()
	defer p.mu.RUnlock()
	keys := make([]triton.ContainerKey, 0, len(p.table.byKey))
	for k := range p.table.byKey {
		keys = append(keys, k)
	}
	return keys
}
