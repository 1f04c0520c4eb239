package probes

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/containerd/errdefs"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

// Level is how much is measured, of the machine or of one container. Births, deaths, signals, OOM kills and block I/O are
// counted at every level.
type Level string

const (
	// Detail counts and times every system call.
	Detail Level = "detail"
	// Sampled counts system calls in windows, for all containers at once, and extrapolates: see Config.Window.
	Sampled Level = "sampled"
	// Counters leaves out the system calls, whose hooks slow every call of the machine by some 0.2 us.
	Counters Level = "counters"
	// Off leaves out the run queue too: no hook runs in the hot paths of the kernel.
	Off Level = "off"
)

// levels are all of them, that which measures most first.
var levels = []Level{Detail, Sampled, Counters, Off}

// below reports whether l measures less than m.
func (l Level) below(m Level) bool { return slices.Index(levels, l) > slices.Index(levels, m) }

// Validate tells whether l is a level.
func (l Level) Validate() error {
	if slices.Contains(levels, l) {
		return nil
	}
	return fmt.Errorf("level %q: must be %s, %s, %s or %s: %w", string(l), Detail, Sampled, Counters, Off, errdefs.ErrInvalidArgument)
}

// Wish is what somebody wants of one container. The zero value: what the machine has.
type Wish struct {
	Level Level
	// Firm: it holds where it is above the machine's level, too. Others are cut down to that.
	Firm bool
}

// Of is the level that a container with the wish has, on a machine that has level m.
func (w Wish) Of(m Level) Level {
	if w.Level == "" || !w.Firm && m.below(w.Level) {
		return m
	}
	return w.Level
}

// hookSet says which groups of hot programs are meant.
type hookSet struct{ calls, waits bool }

// needs tells what a container of level l has to have attached; open: a window is.
func (l Level) needs(open bool) hookSet {
	switch l {
	case Detail:
		return hookSet{true, true}
	case Sampled:
		return hookSet{open, true}
	case Counters:
		return hookSet{waits: true}
	}
	return hookSet{}
}

func (h hookSet) and(o hookSet) hookSet { return hookSet{h.calls || o.calls, h.waits || o.waits} }

// muted tells the programs what not to count of a container that needs h, though others need it: MUTE_… of bpf/slots.h.
func (h hookSet) muted() uint64 {
	var m uint64
	if !h.calls {
		m |= 1
	}
	if !h.waits {
		m |= 2
	}
	return m
}

// callPrograms are attached in this order: a call whose entry was missed is counted without duration, one whose return was
// missed would not be counted.
var callPrograms = []string{bpf.MeasureProgSysExit, bpf.MeasureProgSysEnter}

var waitPrograms = []string{bpf.MeasureProgSchedSwitch}

// hotPrograms are attached only while a container needs them.
var hotPrograms = slices.Concat(callPrograms, waitPrograms)

// attachedHooks are the links of what is attached; nil: it is not.
type attachedHooks struct {
	calls, waits []link.Link
	turns        int           // how often calls was attached or detached: odd while it is attached
	since        time.Time     // when calls was attached last
	before       time.Duration // for how long it was attached in all, before since
}

// needed is what all containers and one of the given level more need. The caller holds mu.
func (p *Probes) needed(more ...Level) hookSet {
	return p.wanted(more...).and(hookSet{calls: p.looking})
}

// wanted is needed without what the look for a better level needs.
func (p *Probes) wanted(more ...Level) hookSet {
	var h hookSet
	for _, l := range more {
		h = h.and(l.needs(p.window.open))
	}
	for _, w := range p.table.byKey {
		h = h.and(w.wish.Of(p.level).needs(p.window.open))
	}
	return h
}

// attach attaches what is needed and is not yet. The caller holds mu.
func (p *Probes) attach(h hookSet) error {
	if h.calls && p.hot.calls == nil {
		if err := p.kernel.advance(bpf.MeasureVarPairing); err != nil {
			return err
		}
		if err := p.kernel.advance(bpf.MeasureVarEpoch); err != nil {
			return err
		}
		ls, err := p.kernel.attachHot(callPrograms)
		if err != nil {
			return err
		}
		p.hot.calls, p.hot.since = ls, time.Now()
		p.hot.turns++
	}
	if h.waits && p.hot.waits == nil {
		if err := p.kernel.advance(bpf.MeasureVarArming); err != nil {
			return err
		}
		if err := p.kernel.advance(bpf.MeasureVarEpoch); err != nil {
			return err
		}
		ls, err := p.kernel.attachHot(waitPrograms)
		if err != nil {
			return err
		}
		p.hot.waits = ls
	}
	return nil
}

// detach detaches what is not needed. The caller holds mu.
func (p *Probes) detach(h hookSet) error {
	var errs []error
	if !h.calls && p.hot.calls != nil {
		errs = append(errs, closeLinks(p.hot.calls))
		p.hot.calls = nil
		p.hot.before += time.Since(p.hot.since)
		p.hot.turns++
	}
	if !h.waits {
		errs = append(errs, closeLinks(p.hot.waits))
		p.hot.waits = nil
	}
	return errors.Join(errs...)
}

// attachHot attaches programs in order; those that this kernel refused are reported by Missing. The result is not nil.
func (k *measurePrograms) attachHot(names []string) ([]link.Link, error) {
	ls := make([]link.Link, 0, len(names))
	for _, name := range names {
		prog := k.programs[name]
		if prog == nil {
			continue
		}
		l, err := link.AttachTracing(link.TracingOptions{Program: prog})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("attach %s: %w", name, err), closeLinks(ls))
		}
		ls = append(ls, l)
	}
	return ls, nil
}

// closeLinks detaches the last attached first.
func closeLinks(ls []link.Link) error {
	var errs []error
	for _, l := range slices.Backward(ls) {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// advance adds one to a variable that the programs compare with what they noted. The caller holds mu.
func (k *measurePrograms) advance(name string) error {
	var n uint64
	v := k.variables[name]
	if err := v.Get(&n); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if err := v.Set(n + 1); err != nil {
		return fmt.Errorf("advance %s: %w", name, err)
	}
	return nil
}

// mute tells the programs what not to count of a container; call advance of the epoch afterwards. The caller holds mu, and claim
// has mapped the slot.
func (p *Probes) mute(slot int, l Level) {
	m := l.needs(p.window.open).muted()
	for shard := range p.kernel.shards {
		store64(&p.kernel.slots.at(slot*p.kernel.shards+shard).Muted, m)
	}
}

// Level is the machine's level: that of containers of which nothing else is wanted.
func (p *Probes) Level() Level {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.level
}

// pairTurn counts how often the pair of system call hooks was attached or detached: odd while it is attached.
func (p *Probes) pairTurn() int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.hot.turns
}

// PairAttached is for how long the pair of system call hooks was attached since Open, in all.
func (p *Probes) PairAttached() time.Duration {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.hot.calls == nil {
		return p.hot.before
	}
	return p.hot.before + time.Since(p.hot.since)
}

// SetLevel changes the machine's level while everything runs. Numbers keep what was counted before. Where the level steps by
// itself it is errdefs.ErrFailedPrecondition.
func (p *Probes) SetLevel(l Level) error {
	if err := l.Validate(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("set level: probes are closed: %w", errdefs.ErrFailedPrecondition)
	}
	if p.stepper != nil {
		return fmt.Errorf("set level: it steps by itself: %w", errdefs.ErrFailedPrecondition)
	}
	return p.setLevel(l)
}

// setLevel is SetLevel of a caller that holds mu.
func (p *Probes) setLevel(l Level) error {
	old := p.level
	return p.change(func() { p.level = l }, func() { p.level = old })
}

// SetWish changes how much of a container is measured, while it runs. Not watched is errdefs.ErrNotFound.
func (p *Probes) SetWish(key triton.ContainerKey, wish Wish) error {
	if err := cmp.Or(wish.Level, Detail).Validate(); err != nil {
		return fmt.Errorf("watch %s: %w", key, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	w, err := p.find(key)
	if err != nil {
		return fmt.Errorf("watch %s: %w", key, err)
	}
	old := w.wish
	return p.change(func() { w.wish = wish }, func() { w.wish = old })
}

// LevelOf is the level that a container has now. Not watched is errdefs.ErrNotFound.
func (p *Probes) LevelOf(key triton.ContainerKey) (Level, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	w, err := p.find(key)
	if err != nil {
		return "", fmt.Errorf("level of %s: %w", key, err)
	}
	return w.wish.Of(p.level), nil
}

// change makes levels differ: by to, or back by undo when what is needed then cannot be attached. What is newly needed is
// attached before it is counted, what is needed no more is detached after. The caller holds mu.
func (p *Probes) change(to, undo func()) error {
	now := time.Now()
	was := map[*watched]Level{}
	for _, w := range p.table.byKey {
		was[w] = w.wish.Of(p.level)
	}
	to()
	if err := p.attach(p.needed()); err != nil {
		undo()
		return errors.Join(err, p.detach(p.needed()))
	}
	for w, before := range was {
		after := w.wish.Of(p.level)
		if before == after {
			continue
		}
		if before == Sampled {
			p.stopSampling(w, now)
		}
		if after == Sampled {
			p.startSampling(w, now)
		}
		p.mute(w.Slot, after)
		w.detail = time.Now()
	}
	if err := p.kernel.advance(bpf.MeasureVarEpoch); err != nil {
		return err
	}
	if len(p.table.byKey) == 0 {
		return nil // see disarmIdle
	}
	return p.detach(p.needed())
}
