package coredump

import (
	"context"
	"errors"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

const (
	// accountMost is the processor time that a container's crashes may take at once, before their share of it counts: some
	// forty of small programs.
	accountMost = 500 * time.Millisecond
	// accountAhead is taken for a crash before it is known what it costs, so that many at once do not all find the same time.
	accountAhead = 20 * time.Millisecond
	// accountPlaces is how many places of a container are told apart; all others are one.
	accountPlaces = 32
	otherPlaces   = "other"
	// A process whose crash is only counted waits while its container owes time: who crashes in a loop is slowed down, within its own
	// limits. countedWait is the longest; more than countedHeld processes of a container do not wait at a time.
	countedWait = 200 * time.Millisecond
	countedHeld = 64
)

// accounts bound what the crashes of each container cost outside of the container's own limits: processor time of the daemon
// and of the processes that read stacks. A container that has used up its time has its crashes counted, no more, but for the
// first of each place in an hour. Safe for use by several goroutines.
type accounts struct {
	share float64 // of a processor, in the long run; 0: there is no bound

	mu      sync.Mutex
	spent   time.Duration // by all
	counted uint64        // crashes of all
	of      map[triton.ContainerKey]*account
	untold  map[dumpOf]repeats // what a record is to say
}

type account struct {
	left   time.Duration // may be less than nothing
	at     time.Time     // of left
	places map[string]*crashPlace
	held   int
}

// crashPlace is where a container crashed.
type crashPlace struct {
	since   time.Time // the first crash of the period
	dump    string    // of the last crash that was saved; "": none is yet
	counted repeats   // since then
	more    uint64    // of counted, those that no group was told of
}

// dumpOf names a dump, and whose place it is of.
type dumpOf struct {
	container triton.ContainerKey
	dump      string
}

// repeats are crashes that were only counted.
type repeats struct {
	n    uint64
	last time.Time
}

// grouped are crashes that were only counted and belong to the group of a dump.
type grouped struct {
	dumpOf
	place string
	repeats
}

func newAccounts(share float64) *accounts {
	return &accounts{share: share, of: map[triton.ContainerKey]*account{}, untold: map[dumpOf]repeats{}}
}

// get returns a container's account as it is now. The caller holds mu.
func (a *accounts) get(key triton.ContainerKey, now time.Time) *account {
	c := a.of[key]
	if c == nil {
		c = &account{left: accountMost, at: now, places: map[string]*crashPlace{}}
		a.of[key] = c
	}
	if since := now.Sub(c.at); since > 0 {
		c.left, c.at = min(accountMost, c.left+time.Duration(float64(since)*a.share)), now
	}
	return c
}

// admit decides on a crash. whole: it is to be saved, and saved or failed is to be called with the name of the place
// that is returned. Otherwise the process is to be held for wait, and released to be called after that where it is not 0.
// always: it is saved in any case.
func (a *accounts) admit(key triton.ContainerKey, at string, always bool, now time.Time) (name string, whole bool, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.get(key, now)
	maps.DeleteFunc(c.places, func(_ string, p *crashPlace) bool { return p.dump != "" && now.Sub(p.since) > ratePeriod })
	if c.places[at] == nil && len(c.places) >= accountPlaces {
		at = otherPlaces
	}
	p := c.places[at]
	if p == nil {
		c.places[at] = &crashPlace{since: now}
	}
	if p == nil || always || a.share == 0 || c.left > 0 {
		c.left -= accountAhead
		return at, true, 0
	}
	a.counted++
	p.counted = repeats{p.counted.n + 1, now}
	p.more++
	if p.dump != "" {
		a.untold[dumpOf{key, p.dump}] = p.counted
	}
	if c.left < 0 && c.held < countedHeld {
		c.held++
		wait = max(1, min(countedWait, time.Duration(float64(-c.left)/a.share)))
	}
	return at, false, wait
}

// released ends a wait.
func (a *accounts) released(key triton.ContainerKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.of[key]; c != nil {
		c.held--
	}
}

// saved says in which dump a crash at a place is, and what it took; what was and will be counted there is told in it.
func (a *accounts) saved(key triton.ContainerKey, at, dump string, took time.Duration, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settle(key, took, now)
	if p := a.of[key].places[at]; p != nil {
		if p.dump = dump; p.counted.n > 0 {
			a.untold[dumpOf{key, dump}] = p.counted
		}
	}
}

// failed says that there is no dump of a crash that was admitted: the next one there is the first.
func (a *accounts) failed(key triton.ContainerKey, at string, took time.Duration, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settle(key, took, now)
	if p := a.of[key].places[at]; p != nil && p.dump == "" {
		delete(a.of[key].places, at)
	}
}

// settle takes what a crash cost, of which something was taken ahead. The caller holds mu.
func (a *accounts) settle(key triton.ContainerKey, took time.Duration, now time.Time) {
	a.spent += took
	a.get(key, now).left += accountAhead - took
}

// charge takes processor time that a container's crashes cost.
func (a *accounts) charge(key triton.ContainerKey, took time.Duration, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.spent += took
	a.get(key, now).left -= took
}

// tell returns what records are to say since the last call.
func (a *accounts) tell() map[dumpOf]repeats {
	a.mu.Lock()
	defer a.mu.Unlock()
	told := a.untold
	a.untold = map[dumpOf]repeats{}
	return told
}

// group returns what groups are to be told since the last call.
func (a *accounts) group() []grouped {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []grouped
	for key, c := range a.of {
		for at, p := range c.places {
			if p.more > 0 && p.dump != "" {
				all = append(all, grouped{dumpOf{key, p.dump}, at, repeats{p.more, p.counted.last}})
				p.more = 0
			}
		}
	}
	return all
}

// regroup takes back what could not be told yet.
func (a *accounts) regroup(g *grouped) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.of[g.container]; c != nil {
		if p := c.places[g.place]; p != nil {
			p.more += g.n
		}
	}
}

// forget says that a dump is gone: the next crash at its place is the first.
func (a *accounts) forget(k dumpOf) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.of[k.container]; c != nil {
		maps.DeleteFunc(c.places, func(_ string, p *crashPlace) bool { return p.dump == k.dump })
	}
}

// prune drops what says nothing any more.
func (a *accounts) prune(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.of, func(key triton.ContainerKey, c *account) bool {
		return now.Sub(c.at) > ratePeriod && c.held == 0 && (a.share == 0 || a.get(key, now).left == accountMost)
	})
}

func (a *accounts) read() (spent time.Duration, counted uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.spent, a.counted
}

// tellAt notes in the records of dumps, and in their groups, which crashes at their places were only counted, at each tick and once more when ctx is done.
func (s *Service) tellAt(ctx context.Context, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			s.tellCounted(context.WithoutCancel(ctx))
			s.groupCounted()
			return
		case <-ticks:
			s.tellCounted(ctx)
			s.groupCounted()
		}
	}
}

func (s *Service) tellCounted(ctx context.Context) {
	for k, n := range s.spent.tell() {
		if err := s.noteRepeats(ctx, k, n); err != nil {
			s.log.Error("crashes that were counted are in no record", "container", k.container, "dump", k.dump, "crashes", n.n, "err", err)
		}
	}
}

// groupCounted tells groups of crashes that were only counted: each is of the group of the newest dump of its place, once that one's
// stacks were read. Where there is no group, the dump's record alone has them.
func (s *Service) groupCounted() {
	if s.cfg.Analyze == nil {
		return
	}
	for _, g := range s.spent.group() {
		r, err := s.store.load(g.container.Tenant, g.dump)
		if errors.Is(err, os.ErrNotExist) {
			continue // and so is what the record said of them
		}
		if err == nil && (r.Analysis == nil || r.uncounted()) {
			s.spent.regroup(&g)
			continue
		}
		if err == nil && r.Analysis.Group != "" {
			err = s.cfg.CountOnly(r, g.n, g.last)
		}
		if err != nil {
			s.log.Error("crashes that were counted are in no group", "container", g.container, "dump", g.dump, "crashes", g.n, "err", err)
		}
	}
}

func (s *Service) noteRepeats(ctx context.Context, k dumpOf, n repeats) error {
	tenant := k.container.Tenant
	leave, err := s.reading.enter(ctx, tenant) // whoever reads the stacks changes the record too
	if err != nil {
		return err
	}
	defer leave()
	r, err := s.store.load(tenant, k.dump)
	if errors.Is(err, os.ErrNotExist) {
		s.spent.forget(k)
		return nil
	}
	if err != nil {
		return err
	}
	r.Repeats, r.LastRepeat = n.n, n.last.UTC()
	return s.store.save(r)
}
