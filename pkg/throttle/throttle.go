package throttle

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/tritond/triton/pkg/triton"
)

// Config bounds what the clients of one tenant may ask for.
type Config struct {
	// Share is the part of one processor that the tenant's requests may take in the long run; 0: nothing is bounded.
	Share float64
	// Waiting is how many of its requests may wait; one more is refused.
	Waiting int
}

const (
	// Reserve is the processor time that a tenant has at once after a rest. `docker compose up` asks at once for what is before the first start:
	// of 300 containers with a volume each that is 2.1 s, while the share pays for some of it (TestOrdinaryUseDoesNotWait).
	Reserve = 2 * time.Second
	// Places is how many requests of a tenant are worked on at a time: others' requests find that many before them in the
	// daemon, of a fraction of a millisecond each, however many come together.
	Places = 32
	// Least is what any request costs outside of its handler: to read and decrypt it, to find out who calls, to encrypt the answer's header.
	// Measured with TLS: 0.2 ms on a quiet machine, 0.3 on one at load.
	Least = 200 * time.Microsecond
	// most is what one request can be charged with: debts that take long to pay would be an outage.
	most = 250 * time.Millisecond
	// hold is how long a request has a place at the most if it is not measured: then it waits for something else than the daemon.
	hold = 250 * time.Millisecond
)

// Effort is what a request takes, as far as its kind tells.
type Effort struct {
	// CPU is the processor time that it is charged with beside Least.
	CPU time.Duration
	// Measured: the processor time until its answer begins is charged as well, as the kernel tells it of the handler's thread, and of
	// the answer a nanosecond per byte. The handler must answer from the goroutine it is called in, and wait for nobody before.
	Measured bool
	// Waits: it may last long and do nothing, as a stream or a stop does, so it takes no place.
	Waits bool
}

// Throttle gives the requests of each tenant their turn. Tenants do not wait for one another. Its methods may be called from
// any goroutine.
type Throttle struct {
	cfg Config

	mu      sync.Mutex
	tenants map[triton.Tenant]*tenant // never forgotten: operators make tenants, and counters must not go back
}

// New returns a Throttle with nothing under way.
func New(cfg Config) *Throttle { return &Throttle{cfg: cfg, tenants: map[triton.Tenant]*tenant{}} }

// tenant is one's budget, its line, and what became of its requests.
type tenant struct {
	budget *rate.Limiter       // of microseconds
	line   *semaphore.Weighted // of 1: whoever has it is the next; the others wait in the order in which they came
	places *semaphore.Weighted

	held                       atomic.Bool // whoever is the next has to wait
	waiting                    atomic.Int64
	requests, waited, refused  atomic.Uint64
	chargedMicros, waitedNanos atomic.Int64
}

func (t *Throttle) tenant(name triton.Tenant) *tenant {
	t.mu.Lock()
	defer t.mu.Unlock()
	have := t.tenants[name]
	if have == nil {
		have = &tenant{
			budget: rate.NewLimiter(rate.Limit(t.cfg.Share*float64(time.Second/time.Microsecond)), int(Reserve/time.Microsecond)),
			line:   semaphore.NewWeighted(1), places: semaphore.NewWeighted(Places),
		}
		t.tenants[name] = have
	}
	return have
}

// Turn is a request that is worked on. Its methods are called by the goroutine that entered, but for Idle.
type Turn struct {
	tenant *tenant
	once   sync.Once // gives the place back
	timer  *time.Timer
}

// Enter waits until it is the turn of a request of a tenant; Leave must be called when it has been answered. Requests of a tenant get
// their turns in the order in which they came. ErrResourceExhausted: too many of the tenant's wait; ctx's error: the client is gone.
func (t *Throttle) Enter(ctx context.Context, name triton.Tenant, e Effort) (*Turn, error) {
	n := t.tenant(name)
	defer n.waiting.Add(-1)
	if n.waiting.Add(1) > int64(t.cfg.Waiting) {
		n.refused.Add(1)
		return nil, fmt.Errorf("tenant %s asks for too much: %d of its requests wait already, try again later: %w", name, t.cfg.Waiting, errdefs.ErrResourceExhausted)
	}
	began := time.Now()
	waited, err := n.next(ctx, e)
	if waited {
		n.waitedNanos.Add(int64(time.Since(began)))
	}
	if err != nil {
		return nil, fmt.Errorf("wait for a turn: %w", err)
	}
	n.requests.Add(1)
	n.chargedMicros.Add((Least + e.CPU).Microseconds())
	turn := &Turn{tenant: n}
	switch {
	case e.Waits:
		turn.once.Do(func() {})
	case !e.Measured:
		turn.timer = time.AfterFunc(hold, turn.Idle)
	}
	return turn, nil
}

// next waits in line, then for what the request needs; waited: it could not have all of that at once.
func (n *tenant) next(ctx context.Context, e Effort) (waited bool, err error) {
	waits := func() {
		if !waited {
			waited = true
			n.waited.Add(1)
		}
	}
	if !n.line.TryAcquire(1) {
		if n.held.Load() { // else somebody is on the way through
			waits()
		}
		if err := n.line.Acquire(ctx, 1); err != nil {
			return waited, err
		}
	}
	defer n.line.Release(1)
	wait := func(acquire func() error) error {
		waits()
		n.held.Store(true)
		defer n.held.Store(false)
		return acquire()
	}
	if micros := int((Least + e.CPU).Microseconds()); !n.budget.AllowN(time.Now(), micros) {
		if err := wait(func() error { return n.budget.WaitN(ctx, micros) }); err != nil {
			return waited, err
		}
	}
	if !e.Waits && !n.places.TryAcquire(1) {
		if err := wait(func() error { return n.places.Acquire(ctx, 1) }); err != nil {
			return waited, err
		}
	}
	return waited, nil
}

// Charge adds processor time that a request has taken beyond what it was charged with; who comes later waits for it. Of one request at
// most a quarter of a second is taken.
func (t *Turn) Charge(took time.Duration) {
	micros := min(took, most).Microseconds()
	t.tenant.budget.ReserveN(time.Now(), int(micros))
	t.tenant.chargedMicros.Add(micros)
}

// Idle gives the place back before the end: from now on the request waits for its client or for something else. It may be called
// from any goroutine, and again.
func (t *Turn) Idle() { t.once.Do(func() { t.tenant.places.Release(1) }) }

// Leave ends the turn.
func (t *Turn) Leave() {
	if t.timer != nil {
		t.timer.Stop()
	}
	t.Idle()
}

// Stats is what became of a tenant's requests.
type Stats struct {
	Requests uint64        // got their turn
	Waited   uint64        // did not get it at once, those that wait now too
	Wait     time.Duration // of those together that do not wait any more
	Refused  uint64
	CPU      time.Duration // was charged
	Waiting  int           // now
}

// Stats returns the numbers of each tenant whose clients asked for anything.
func (t *Throttle) Stats() map[triton.Tenant]Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[triton.Tenant]Stats, len(t.tenants))
	for name, n := range t.tenants {
		all[name] = Stats{
			Requests: n.requests.Load(), Waited: n.waited.Load(), Wait: time.Duration(n.waitedNanos.Load()), Refused: n.refused.Load(),
			CPU: time.Duration(n.chargedMicros.Load()) * time.Microsecond, Waiting: int(n.waiting.Load()),
		}
	}
	return all
}
