package probes

import (
	"fmt"
	"slices"
	"time"
)

// Budget is what observation may cost before the machine's level steps down by itself. The zero value is none: the level
// stays what SetLevel said.
type Budget struct {
	// Auto: the level steps by itself between Detail and Counters, beginning at Detail.
	Auto bool
	// Share of the time in which processors are busy, 0 to 1: see Cost.Burden. At 1 there is never a step down.
	Share float64
}

// Step is one change of the machine's level that nobody asked for.
type Step struct {
	At       time.Time
	From, To Level
	// Price is what From cost, and Estimate what To is expected to cost: shares as in Budget.
	Price, Estimate float64
	Why             string // for people
}

// Stepping tells what the machine's level does by itself.
type Stepping struct {
	Budget
	Steps uint64
	Last  Step // the zero value: none yet
	// Estimates are what each level would cost by the newest reading that tells, as shares as in Budget; nil: none does yet.
	Estimates map[Level]float64
	// Hold is how long a better level must be affordable until it is taken.
	Hold time.Duration
}

// autoLevels are those between which the level steps by itself, that which measures most first.
var autoLevels = []Level{Detail, Sampled, Counters}

const (
	// overInRow readings beyond the budget make a step down: one may have met a burst.
	overInRow = 2
	// roomShare of the budget is what a better level may cost when it is taken. The rest is for what an estimate misses.
	roomShare = 0.7
	// relapseHolds times Hold after a step up, a step down is a relapse: the level came back too soon, and Hold is doubled.
	relapseHolds = 4
)

// reading is what a measurement tells the stepper. Prices are shares as in Budget.
type reading struct {
	at time.Time
	// base is the price of all programs but the pair of system call hooks; calls that of the pair and of what it slows, while it is
	// attached and everything is counted.
	base, calls float64
	// floor is the share of the time for which the pair is attached at any level, for containers that keep their own.
	floor float64
}

// stepper decides what level a machine has. It does no I/O and reads no clock. One goroutine at a time may use it.
type stepper struct {
	budget   float64
	attached map[Level]float64 // share of the time for which the pair is attached
	holdMin  time.Duration     // Hold after a step down that was no relapse
	holdMax  time.Duration

	level Level
	state Stepping
	over  int       // readings in row beyond the budget
	room  Level     // the best level that all readings since roomy had room for
	roomy time.Time // zero: the newest reading has no room for a better level
	up    time.Time // of the last step up; zero: none
}

// newStepper begins at Detail, but at Counters without a budget. sampled and looked are the shares of the time for which the pair
// is attached at levels Sampled and Counters; hold is how long a better level must be affordable until it is taken, at first.
func newStepper(b Budget, sampled, looked float64, hold time.Duration) *stepper {
	s := &stepper{
		budget: b.Share, attached: map[Level]float64{Detail: 1, Sampled: sampled, Counters: looked},
		holdMin: hold, holdMax: 32 * hold, level: Detail, state: Stepping{Budget: b, Hold: hold},
	}
	if b.Share <= 0 {
		s.level = Counters
	}
	return s
}

// price is what level l costs by a reading.
func (s *stepper) price(l Level, r reading) float64 {
	return r.base + max(s.attached[l], r.floor)*r.calls
}

// best is the level that measures most and costs at most limit, Counters where none does.
func (s *stepper) best(r reading, limit float64) Level {
	for _, l := range autoLevels {
		if s.price(l, r) <= limit {
			return l
		}
	}
	return Counters
}

// read takes a reading and tells of the step that it leads to, if any.
func (s *stepper) read(r reading) (Step, bool) {
	s.state.Estimates = map[Level]float64{}
	for _, l := range autoLevels {
		s.state.Estimates[l] = s.price(l, r)
	}
	if s.level != Counters && s.price(s.level, r) > s.budget {
		s.roomy = time.Time{}
		if s.over++; s.over < overInRow {
			return Step{}, false
		}
		to := autoLevels[slices.Index(autoLevels, s.level)+1]
		if best := s.best(r, s.budget); best.below(to) {
			to = best
		}
		return s.down(r, to), true
	}
	s.over = 0
	best := s.best(r, roomShare*s.budget)
	if !s.level.below(best) || s.budget <= 0 {
		s.roomy = time.Time{}
		return Step{}, false
	}
	if s.roomy.IsZero() {
		s.roomy, s.room = r.at, best
	}
	if best.below(s.room) {
		s.room = best
	}
	if r.at.Sub(s.roomy) < s.state.Hold {
		return Step{}, false
	}
	s.up = r.at
	return s.step(r, s.room, fmt.Sprintf("%s would cost %s, the budget is %s", s.room, percent(s.price(s.room, r)), percent(s.budget))), true
}

// down steps to a level that measures less.
func (s *stepper) down(r reading, to Level) Step {
	if !s.up.IsZero() && r.at.Sub(s.up) < relapseHolds*s.state.Hold {
		s.state.Hold = min(2*s.state.Hold, s.holdMax)
	} else {
		s.state.Hold = s.holdMin
	}
	why := fmt.Sprintf("%s costs %s, more than the budget of %s", s.level, percent(s.price(s.level, r)), percent(s.budget))
	if s.price(to, r) > s.budget {
		why += fmt.Sprintf(", and so will %s (%s)", to, percent(s.price(to, r)))
		if r.floor > s.attached[to] {
			why += ": containers that keep their level need the hooks of system calls"
		}
	}
	return s.step(r, to, why)
}

func (s *stepper) step(r reading, to Level, why string) Step {
	st := Step{At: r.at, From: s.level, To: to, Price: s.price(s.level, r), Estimate: s.price(to, r), Why: why}
	s.level, s.over, s.roomy = to, 0, time.Time{}
	s.state.Steps++
	s.state.Last = st
	return st
}

// percent is a share for people.
func percent(share float64) string { return fmt.Sprintf("%.3g %%", 100*share) }
