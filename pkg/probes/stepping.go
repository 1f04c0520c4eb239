package probes

import (
	"context"
	"maps"
)

// Stepping tells what the machine's level does by itself. False: it does nothing, see Config.Budget.
func (p *Probes) Stepping() (Stepping, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.stepper == nil {
		return Stepping{}, false
	}
	st := p.stepper.state
	st.Estimates = maps.Clone(st.Estimates)
	return st, true
}

// look attaches the pair of system call hooks for one window, where the level stepped down so far that nothing else does and some
// container would have more: to learn what they would cost. It counts nothing. Call end after the window.
func (p *Probes) look() (end func() error, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	nothing := func() error { return nil }
	if p.stepper == nil || p.closed || p.level != Counters || p.hot.calls != nil || !p.hasFollowers() {
		p.looks = 0
		return nothing, nil
	}
	if p.looks++; p.looks%lookEach != 0 {
		return nothing, nil
	}
	p.looking = true
	if err := p.attach(p.needed()); err != nil {
		p.looking = false
		return nothing, err
	}
	return func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.looking = false
		if p.closed || len(p.table.byKey) == 0 {
			return nil // see disarmIdle
		}
		return p.detach(p.needed())
	}, nil
}

// lookShare is the share of the time for which looks attach the pair.
func (c Config) lookShare() float64 {
	return c.costWindow().Seconds() / (lookEach * c.costEvery).Seconds()
}

// hasFollowers tells whether the level of some container depends on the machine's. The caller holds mu.
func (p *Probes) hasFollowers() bool {
	for _, w := range p.table.byKey {
		if w.wish.Of(Detail) != w.wish.Of(Counters) {
			return true
		}
	}
	return false
}

// attachedFor is the share of the time for which the pair is attached while the machine is at level l. The caller holds mu.
func (p *Probes) attachedFor(l Level) float64 {
	var share float64
	for _, w := range p.table.byKey {
		share = max(share, p.CountedShare(w.wish.Of(l)))
	}
	if share == 0 && l == Counters && p.stepper != nil && p.hasFollowers() {
		return p.cfg.lookShare()
	}
	return share
}

// readingOf is what a window tells the stepper. False: nothing, since the pair was not attached or there is no stepper. The caller
// holds mu.
func (p *Probes) readingOf(w costWindowed) (reading, bool) {
	if p.stepper == nil || p.closed {
		return reading{}, false
	}
	r := reading{at: w.at, base: p.pairs.base(w) / w.busy, calls: p.pairs.full(w) / w.busy, floor: p.attachedFor(Counters)}
	if !p.hasFollowers() { // another level would change nothing
		r.base += r.floor * r.calls
		r.calls = 0
		return r, true
	}
	return r, w.pair == pairOn
}

// stepBy lets the level follow a reading.
func (p *Probes) stepBy(ctx context.Context, r reading) error {
	st, stepped, err := p.follow(r)
	if !stepped || err != nil {
		return err
	}
	p.log.InfoContext(ctx, "level of the probes changed by itself", "from", st.From, "to", st.To, "why", st.Why)
	if p.cfg.Stepped != nil {
		p.cfg.Stepped(st)
	}
	return nil
}

func (p *Probes) follow(r reading) (Step, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return Step{}, false, nil
	}
	st, stepped := p.stepper.read(r)
	if !stepped {
		return st, false, nil
	}
	err := p.setLevel(st.To)
	p.stepper.level = p.level // as it was, after an error
	return st, err == nil, err
}
