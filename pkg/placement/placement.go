package placement

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/tritond/triton/pkg/cgroup"
	"github.com/tritond/triton/pkg/sched"
	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
)

// Samples is where the containers' use comes from: a telemetry.Store.
type Samples interface {
	Last(key triton.ContainerKey) (telemetry.Sample, bool)
	// Passed is closed when the next pass over all containers has ended.
	Passed() <-chan struct{}
}

// Config is what a Placement is made of.
type Config struct {
	Node     string            // this machine's name
	Labels   map[string]string // of this machine: constraints find them
	Promises Promises
	Dir      string // where history is kept; it is made
	Samples  Samples
	Machine  func() (cgroup.Machine, error)
	// Images names the images of a tenant, for affinity:image.
	Images func(context.Context, triton.Tenant) ([]string, error)
	Now    func() time.Time
	Log    *slog.Logger

	// Part is how often what running containers used goes into the history; 0: a minute. Save is how often a changed history is
	// written, which is what a kill may cost of it; 0: 5 s.
	Part, Save time.Duration
}

const (
	// staleAfter is when this machine's own telemetry is not believed any more: a tick of a second is that late only where
	// the machine is far beyond its capacity.
	staleAfter = 10 * time.Second
	// reservedFor is how long a created container keeps its promise without being started.
	reservedFor = time.Minute
	// rememberedFor is how long an image is remembered that nobody runs.
	rememberedFor = 60 * 24 // hours
)

// Placement decides. All methods may be called from any goroutine.
type Placement struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics

	mu         sync.Mutex
	snapshot   *sched.Snapshot
	history    *sched.History
	node       sched.Node
	containers map[triton.ContainerKey]*container
	machine    cgroup.Machine // the last reading
	hour       int64          // the last one that faded
	parted     time.Time      // when the last part went into the history
	changed    bool           // the history, since it was saved
	saved      time.Time      // when that was begun
	written    time.Time      // when it was done last; zero: never
}

// container is one that the node has.
type container struct {
	req   sched.Request
	phase phase
	since time.Time // of the phase
	meter meter
}

// phase says what of a container counts.
type phase uint8

const (
	parked   phase = iota // nothing: it does not run
	reserved              // its promise and what it is expected to use: it is about to run
	running               // what it uses
)

// New reads the history that cfg.Dir has. A history that cannot be read is put aside, told of, and begun anew.
func New(cfg Config) (*Placement, error) {
	cfg.Part, cfg.Save = cmp.Or(cfg.Part, time.Minute), cmp.Or(cfg.Save, 5*time.Second)
	p := &Placement{cfg: cfg, log: cfg.Log, containers: map[triton.ContainerKey]*container{}}
	var err error
	if p.machine, err = cfg.Machine(); err != nil {
		return nil, err
	}
	stored, err := load(filepath.Join(cfg.Dir, historyFile), cfg.Log)
	if err != nil {
		return nil, err
	}
	now := cfg.Now()
	p.history, p.parted, p.saved, p.written = stored.History, now, now, stored.Saved
	p.snapshot = sched.New(sched.Config{StaleAfter: staleAfter}, p.history, 1)
	p.snapshot.SetMargin(stored.Margin)
	p.fade(stored.Saved.Unix() / 3600) // a history that was never saved has nothing to fade
	p.node = sched.Node{Name: cfg.Node, CPU: float64(p.machine.Online), Memory: int64(p.machine.MemoryTotal), Labels: cfg.Labels}
	if err := p.snapshot.SetNode(p.node); err != nil {
		return nil, fmt.Errorf("placement on this machine: %w", err)
	}
	p.snapshot.Advance(now)
	p.snapshot.Refresh()
	p.metrics = newMetrics(p)
	return p, nil
}

// Run feeds the snapshot after each pass of telemetry and saves the history, until ctx is done and then once more.
func (p *Placement) Run(ctx context.Context) error {
	p.tick() // what is decided before the first pass has a fresh reading of the machine, too
	for {
		passed := p.cfg.Samples.Passed()
		select {
		case <-ctx.Done():
			p.mu.Lock()
			p.remember(p.cfg.Now())
			p.mu.Unlock()
			return p.save(true)
		case <-passed:
			p.tick()
			if err := p.save(false); err != nil {
				p.metrics.saveErrors.Inc()
				p.log.ErrorContext(ctx, "history of images not saved", "err", err)
			}
		}
	}
}

// tick takes in what was measured since the last one.
func (p *Placement) tick() {
	machine, err := p.cfg.Machine()
	if err != nil {
		p.log.Error("load of the machine not read", "err", err)
		return
	}
	now := p.cfg.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.snapshot.Advance(now)
	use, waits := p.measure()
	if f, ok := p.frame(machine, now); ok {
		f.Containers, f.RunQ = use, waits.Quantile(0.99)
		if err := p.snapshot.Report(f); err != nil { // the clock was set back: requests are counted until it has caught up
			p.log.Debug("reading of the machine not used", "err", err)
		}
		p.machine = machine
	}
	for key, c := range p.containers {
		if c.phase == reserved && now.Sub(c.since) > reservedFor {
			p.park(key, c, now)
		}
	}
	if now.Sub(p.parted) >= p.cfg.Part {
		p.remember(now)
	}
	if now.Unix()/3600 != p.hour {
		p.fade(p.hour)
		p.snapshot.Refresh()
	}
}

// maxFade bounds the hours that pass at once, as after a long rest of the machine: nothing is left of a count by then.
const maxFade = 24 * 60

// fade lets the hours pass that have since the hour from.
func (p *Placement) fade(from int64) {
	p.hour = p.cfg.Now().Unix() / 3600
	for range min(max(0, p.hour-from), maxFade) {
		p.history.Fade()
	}
	p.history.ForgetBefore(p.hour - rememberedFor)
}
