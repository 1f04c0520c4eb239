package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/tritond/triton/pkg/triton"
)

// Config says how often to sample and what to export.
type Config struct {
	// Node names this machine in triton_container_info.
	Node string
	// Interval between two samples; 0: 1 s.
	Interval time.Duration
	// PerSyscall exports counts and durations of each system call: up to some hundred series more per container.
	PerSyscall bool
	// Peers lists whom containers talk to; nil: no series of them. It is asked at each scrape.
	Peers func() (map[triton.ContainerKey][]triton.Peer, error)
	// Network tells how containers' networks fare; nil: no series of it. It is asked at each scrape.
	Network func() map[triton.ContainerKey]triton.NetworkHealth
	// Delays tells who had the CPU while containers waited for it, longest first; nil: no series of it. It is asked at each scrape.
	Delays func() (map[triton.ContainerKey][]triton.Delay, error)
	// NameService tells what containers ask name servers; nil: no series of it. It is asked at each scrape.
	NameService func() map[triton.ContainerKey]triton.NameService
	// Disks tells what block devices did for containers; nil: no series of it. It is asked at each scrape.
	Disks func() (map[triton.ContainerKey][]triton.Disk, error)
	// Names gives the names of containers, once per scrape that has peers; nil: none are known.
	Names func() map[triton.ContainerKey]string
	// Drops gives what observation lost on this machine, by reason; nil: nothing to report.
	Drops func() map[string]uint64
	// Missing gives the programs that do not run, by their names in the kernel; nil: none. Series of what they would
	// measure are left out.
	Missing func() []string
	// Build is what triton_build_info tells.
	Build Build
	Log   *slog.Logger
}

// Build names the program that runs.
type Build struct{ Version, Revision, Go string }

// Source reads a container's state now. It is called by Run alone, from one goroutine at a time. An error that matches
// errdefs.ErrNotFound means that the container is ending and is not logged.
type Source func() (Sample, error)

// Store keeps a window per container and tells subscribers of each new sample. All methods may be called from any
// goroutine.
type Store struct {
	cfg      Config
	log      *slog.Logger
	registry *prometheus.Registry
	book     peerBook
	culprits culpritBook

	mu         sync.RWMutex
	containers map[triton.ContainerKey]*container
	subs       map[*Subscription]struct{}
	passed     chan struct{} // closed and replaced at the end of each pass

	droppedUpdates atomic.Uint64 // of all subscribers
	sourceErrors   atomic.Uint64
	passes         atomic.Uint64
	passNs         atomic.Uint64 // time spent in sources and windows
}

type container struct {
	key         triton.ContainerKey
	name, image string
	labels      []*dto.LabelPair // of its series
	source      Source
	window      *window // guarded by Store.mu
}

// New returns an empty store.
func New(cfg Config) *Store {
	if cfg.Interval == 0 {
		cfg.Interval = time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		cfg: cfg, log: cfg.Log, book: peerBook{shown: map[triton.ContainerKey]map[peerID]bool{}},
		containers: map[triton.ContainerKey]*container{},
		subs:       map[*Subscription]struct{}{},
		passed:     make(chan struct{}),
	}
	s.registry = newRegistry(s)
	return s
}

// Run samples every container each Interval until ctx is done; it returns nil then.
func (s *Store) Run(ctx context.Context) error {
	t := time.NewTicker(s.cfg.Interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			s.pass(ctx)
		}
	}
}

// Add begins to sample a container. A container that is there already gets the new name, image and source, and keeps
// its window.
func (s *Store) Add(key triton.ContainerKey, name, image string, source Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := newWindow()
	if old := s.containers[key]; old != nil {
		w = old.window
	}
	s.containers[key] = &container{key: key, name: name, image: image, labels: containerLabelPairs(key, name, image), source: source, window: w}
}

// Remove forgets a container and its window. Not there is fine.
func (s *Store) Remove(key triton.ContainerKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.containers, key)
}

// Window lists what is kept of a container, oldest first: about the last ten minutes at ten seconds, the last minute
// at one. Only the last minute has histograms; they hold what came since the sample before, at schema 0. nil: unknown.
func (s *Store) Window(key triton.ContainerKey) []Sample {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if c := s.containers[key]; c != nil {
		return c.window.samples()
	}
	return nil
}

// CPU lists the readings of a container's CPU counter that are kept, oldest first, at Window's moments; a fraction of what
// Window costs. nil: unknown.
func (s *Store) CPU(key triton.ContainerKey) []CPUReading {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if c := s.containers[key]; c != nil {
		return c.window.cpu()
	}
	return nil
}

// Newest lists the last n samples of Window, or fewer if it has fewer.
func (s *Store) Newest(key triton.ContainerKey, n int) []Sample {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if c := s.containers[key]; c != nil {
		return c.window.newest(n)
	}
	return nil
}

// Last returns the newest sample as its source gave it. False: none yet.
func (s *Store) Last(key triton.ContainerKey) (Sample, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if c := s.containers[key]; c != nil && c.window.seen {
		return c.window.last, true
	}
	return Sample{}, false
}

// pass takes one sample of each container. Sources run without the lock: they read files.
func (s *Store) pass(ctx context.Context) {
	began := time.Now()
	for _, c := range s.list() {
		sample, err := c.source()
		switch {
		case errors.Is(err, errdefs.ErrNotFound):
		case err != nil:
			s.sourceErrors.Add(1)
			s.log.WarnContext(ctx, "sample container", "container", c.key, "err", err)
		default:
			s.take(c, sample)
		}
	}
	s.passes.Add(1)
	s.passNs.Add(uint64(time.Since(began)))
	s.endPass()
}

func (s *Store) list() []*container {
	s.mu.RLock()
	defer s.mu.RUnlock()
	cs := make([]*container, 0, len(s.containers))
	for _, c := range s.containers {
		cs = append(cs, c)
	}
	return cs
}

func (s *Store) take(c *container, sample Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.containers[c.key] != c {
		return // removed or replaced meanwhile
	}
	c.window.add(sample)
	for sub := range s.subs {
		sub.offer(Update{Key: c.key, Name: c.name, Sample: sample})
	}
}

// Update is a new sample of a container.
type Update struct {
	Key    triton.ContainerKey
	Name   string
	Sample Sample
}

// Subscription is a bounded queue of updates. A reader that is too slow loses the newest, counted by Dropped.
type Subscription struct {
	C <-chan Update

	store   *Store
	queue   chan Update
	want    map[triton.ContainerKey]bool // empty: all
	dropped atomic.Uint64
}

// Subscribe queues updates of the containers named, or of all when none is, for a reader. queue is how many may wait,
// at least 1. Close it in the end.
func (s *Store) Subscribe(queue int, keys ...triton.ContainerKey) (*Subscription, error) {
	if queue < 1 {
		return nil, fmt.Errorf("subscribe: queue of %d updates: %w", queue, errdefs.ErrInvalidArgument)
	}
	sub := &Subscription{store: s, queue: make(chan Update, queue), want: map[triton.ContainerKey]bool{}}
	sub.C = sub.queue
	for _, k := range keys {
		sub.want[k] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[sub] = struct{}{}
	return sub, nil
}

// offer never blocks.
func (sub *Subscription) offer(u Update) {
	if len(sub.want) > 0 && !sub.want[u.Key] {
		return
	}
	select {
	case sub.queue <- u:
	default:
		sub.dropped.Add(1)
		sub.store.droppedUpdates.Add(1)
	}
}

// Dropped counts the updates that found the queue full.
func (sub *Subscription) Dropped() uint64 { return sub.dropped.Load() }

// Close ends the subscription; C is not closed. Idempotent.
func (sub *Subscription) Close() {
	sub.store.mu.Lock()
	defer sub.store.mu.Unlock()
	delete(sub.store.subs, sub)
}
