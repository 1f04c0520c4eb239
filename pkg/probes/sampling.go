package probes

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

// window is the machine's window, in which the calls of containers at level Sampled are counted.
type window struct {
	open  bool
	since time.Time     // when it was opened or closed last; zero: never
	gap   time.Duration // until the next one; 0: it is due at once
}

// sampling is a container's part in the windows while it is at level Sampled. Between windows the last one is taken to go on.
type sampling struct {
	from, until time.Time // of the last window, as far as the container took part; until zero: it is open; from zero: there was none
	start       Totals    // calls when it was opened
}

// guess is what was added to a container's calls for times in which they were not counted.
type guess struct {
	calls             Totals        // calls alone
	counted, supposed time.Duration // in windows; between them
}

// turnWindow opens or closes the window when it is time to, and only while a container needs it.
func (p *Probes) turnWindow(ctx context.Context, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	wanted := p.hasSampled()
	switch age := now.Sub(p.window.since); {
	case p.window.open && (!wanted || age >= p.cfg.Window):
		if err := p.closeWindow(now); err != nil {
			p.log.ErrorContext(ctx, "close window of samples", "err", err)
		}
	case !p.window.open && wanted && age >= p.window.gap:
		if err := p.openWindow(now); err != nil {
			p.log.ErrorContext(ctx, "open window of samples", "err", err)
		}
	}
}

// hasSampled tells whether a container is at level Sampled. The caller holds mu.
func (p *Probes) hasSampled() bool {
	for _, w := range p.table.byKey {
		if w.wish.Of(p.level) == Sampled {
			return true
		}
	}
	return false
}

// openWindow begins to count. The caller holds mu.
func (p *Probes) openWindow(now time.Time) error {
	p.window = window{open: true, since: now}
	if err := p.attach(p.needed()); err != nil {
		p.window.open = false
		return err
	}
	began := time.Now() // attaching takes its time
	for _, w := range p.table.byKey {
		if w.sampling != nil {
			p.settle(w, began)
			w.sampling = &sampling{from: began, start: p.readCalls(w)}
			p.mute(w.Slot, Sampled)
		}
	}
	select {
	case p.opened <- struct{}{}:
	default:
	}
	return p.kernel.advance(bpf.MeasureVarEpoch)
}

// closeWindow ends it. When the next one begins is drawn by lot, whatever came before: what a container does at fixed times would
// otherwise be in every window or in none. The caller holds mu.
func (p *Probes) closeWindow(now time.Time) error {
	p.window = window{since: now, gap: time.Duration(2 * p.cfg.lot() * float64(p.cfg.Period-p.cfg.Window))}
	ended := time.Now()
	for _, w := range p.table.byKey {
		if s := w.sampling; s != nil && !s.from.IsZero() && s.until.IsZero() {
			p.endSampling(w, ended)
			p.mute(w.Slot, Sampled)
		}
	}
	if err := p.kernel.advance(bpf.MeasureVarEpoch); err != nil {
		return err
	}
	if len(p.table.byKey) == 0 {
		return nil // see disarmIdle
	}
	return p.detach(p.needed())
}

// startSampling is for a container that becomes Sampled. The caller holds mu.
func (p *Probes) startSampling(w *watched, now time.Time) {
	w.sampling = &sampling{}
	if p.window.open {
		w.sampling = &sampling{from: now, start: p.readCalls(w)}
	}
}

// stopSampling is for one that is Sampled no more: what was guessed stays. The caller holds mu.
func (p *Probes) stopSampling(w *watched, now time.Time) {
	if s := w.sampling; s != nil && !s.from.IsZero() {
		if s.until.IsZero() {
			p.endSampling(w, now)
		}
		w.doubt.leave(now.Sub(s.until))
	}
	p.settle(w, now)
	w.sampling = nil
}

// endSampling ends a container's part in a window. The caller holds mu.
func (p *Probes) endSampling(w *watched, now time.Time) {
	s := w.sampling
	s.until = now
	w.guess.counted += now.Sub(s.from)
	w.doubt.window(p.readCalls(w).SyscallCount()-s.start.SyscallCount(), now.Sub(s.from))
}

// settle turns what is guessed until now into what was. The caller holds mu.
func (p *Probes) settle(w *watched, now time.Time) {
	if s := w.sampling; s != nil && !s.until.IsZero() {
		w.doubt.follow(now.Sub(s.until))
		w.guess = w.guess.until(s, p.readCalls(w), now)
	}
}

// maxScale bounds what is made of one window: a container that was there for its last moments says little of the time after.
const maxScale = 30

// until is g with what was added between the end of the last window and now; calls is what was counted, which has not
// changed since that end.
func (g guess) until(s *sampling, calls Totals, now time.Time) guess {
	gap, width := now.Sub(s.until), s.until.Sub(s.from)
	if gap <= 0 || width <= 0 {
		return g
	}
	out := guess{calls: g.calls.copyCalls(), counted: g.counted, supposed: g.supposed + gap}
	out.calls.addCalls(calls, s.start, min(gap.Seconds()/width.Seconds(), maxScale))
	return out
}

// supplement adds to what was counted of w what is supposed of the times between. The caller holds mu, reading at least.
func (w *watched) supplement(t *Totals) {
	g := w.guess
	s := w.sampling
	counted, gap := g.counted, time.Duration(0)
	switch {
	case s == nil || s.from.IsZero():
	case s.until.IsZero():
		counted += t.Last.Sub(s.from)
	default:
		g = g.until(s, *t, t.Last)
		gap = t.Last.Sub(s.until)
	}
	t.Doubt = w.doubt.tell(gap)
	t.Counted = 1
	if w.sampling != nil && counted == 0 {
		t.Counted = 0
	}
	if g.supposed > 0 {
		t.Counted = float64(counted) / float64(counted+g.supposed)
		t.addCalls(g.calls, Totals{}, 1)
	}
}

// readCalls reads the calls of w alone. The caller holds mu.
func (p *Probes) readCalls(w *watched) Totals {
	t := newTotals(w)
	p.readInto(w, &t)
	return Totals{Syscalls: t.Syscalls, Durations: t.Durations}
}

// copyCalls is a copy of t's calls that can be added to.
func (t Totals) copyCalls() Totals {
	out := Totals{Syscalls: maps.Clone(t.Syscalls), Durations: t.Durations}
	if out.Syscalls == nil {
		out.Syscalls = map[int]SyscallTotals{}
	}
	out.Durations.Counts = slices.Clone(t.Durations.Counts)
	for nr, s := range out.Syscalls {
		s.Durations.Counts = slices.Clone(s.Durations.Counts)
		out.Syscalls[nr] = s
	}
	return out
}

// addCalls adds factor times the calls of end that are not in start, each number rounded down: so it never shrinks while
// factor grows. A call's count stays the sum of its parts.
func (t *Totals) addCalls(end, start Totals, factor float64) {
	for nr, e := range end.Syscalls {
		b, s := start.Syscalls[nr], t.Syscalls[nr]
		addHistogram(&s.Durations, e.Durations, b.Durations, factor)
		s.Errors += scaled(e.Errors, b.Errors, factor)
		s.Untimed += scaled(e.Untimed, b.Untimed, factor)
		if s.Count = s.Durations.Count() + s.Untimed; s.Count > 0 {
			t.Syscalls[nr] = s
		}
	}
	addHistogram(&t.Durations, end.Durations, start.Durations, factor)
}

func addHistogram(h *triton.Histogram, end, start triton.Histogram, factor float64) {
	if h.Counts == nil {
		*h = triton.Histogram{Schema: end.Schema, First: end.First, Counts: make([]uint64, len(end.Counts))}
	}
	for i, n := range end.Counts {
		var before uint64
		if start.Counts != nil {
			before = start.Counts[i]
		}
		h.Counts[i] += scaled(n, before, factor)
	}
	h.SumNs += scaled(end.SumNs, start.SumNs, factor)
}

func scaled(end, start uint64, factor float64) uint64 {
	if end <= start {
		return 0
	}
	if factor == 1 {
		return end - start
	}
	return uint64(float64(end-start) * factor)
}

// CountedShare is the part of the time in which the calls of containers at level l are counted.
func (p *Probes) CountedShare(l Level) float64 {
	switch l {
	case Detail:
		return 1
	case Sampled:
		return p.cfg.Window.Seconds() / p.cfg.Period.Seconds()
	}
	return 0
}
