package probes

import (
	"math"
	"time"
)

// Doubt tells how far the numbers of system calls may be off where they are estimates. It is drawn from how much windows differ: each
// is one of the stretches of time of its length, of which the gap after it has several. The difference of the rates of two
// windows in turn has twice the variance that the rate of one has, whatever trend the rates follow (von Neumann 1941); the gap between
// them differs from the first by that window's own deviation and by its own. Not in it: what happens between windows only, and
// what the hooks themselves slow in windows, for which nothing between windows pays.
type Doubt struct {
	// Variance of the number of all calls, in calls squared, of the gaps that a window has followed. It only grows, so that the
	// standard error of what came between two readings is the root of the difference.
	Variance float64
	// Open is the variance of what was guessed since the last window.
	Open float64
	// Differences of windows that are known: below leastDifferences nothing is told of how far numbers may be off.
	Differences int
}

// leastDifferences of windows tell something: what happens in a fifth of the time is in none of fewer too often.
const leastDifferences = 12

// Within is how many calls their number is off at most in 95 of 100 cases; false: nothing was guessed, or that is not known yet.
//
// It is the half of a 95 % interval, a tenth wider than for normal errors, since those of programs that come in bursts have longer tails.
// Fewer differences make it wider: Student's quantile, its degrees of freedom two thirds of the differences, since two in a row share a
// window; approximated from above.
func (d Doubt) Within() (calls float64, known bool) {
	variance := d.Variance + d.Open
	if d.Differences < leastDifferences {
		return 0, false
	}
	free := float64(d.Differences) * 2 / 3
	return (2.2 + 3/free) * math.Sqrt(variance), true
}

// doubt is what is noted of a container's windows.
type doubt struct {
	settled     float64 // Doubt.Variance
	differences int     // Doubt.Differences
	square      float64 // mean of the squared differences between windows in turn, in (calls per second)^2
	last        struct {
		seen        bool
		rate, width float64 // calls per second; seconds
		gap         float64 // until the next window began, in seconds
	}
}

// remembered is of how many differences the mean is made: a container that changes its ways is judged by the new ones soon.
const remembered = 30

// follow notes that a window began gap after the last one.
func (d *doubt) follow(gap time.Duration) { d.last.gap = gap.Seconds() }

// window notes one that ended, in which calls were made.
func (d *doubt) window(calls uint64, width time.Duration) {
	if width <= 0 {
		return
	}
	w := width.Seconds()
	rate := float64(calls) / w
	if l := d.last; l.seen {
		square := (rate - l.rate) * (rate - l.rate)
		d.differences++
		d.square += (square - d.square) / float64(min(d.differences, remembered))
		d.settled += gapVariance(max(square, floor(l.rate, l.width), floor(rate, w)), l.gap, l.width)
	}
	d.last.seen, d.last.rate, d.last.width, d.last.gap = true, rate, w, 0
}

// leave ends a row of windows: the gap after the last one is followed by none.
func (d *doubt) leave(gap time.Duration) {
	d.settled += d.open(gap)
	d.last.seen = false
}

// open is the variance of what is guessed of the gap after the last window.
func (d *doubt) open(gap time.Duration) float64 {
	if !d.last.seen || gap <= 0 {
		return 0
	}
	return gapVariance(max(d.square, floor(d.last.rate, d.last.width)), gap.Seconds(), d.last.width)
}

// floor is the square of a difference that windows have by chance alone where calls come independently of one another: that of a
// count is the count.
func floor(rate, width float64) float64 { return 2 * rate / width }

// gapVariance is that of the calls of a gap less those guessed: the window's rate has a variance of half of square, and the mean of the
// gap one that is smaller by as much as the gap is longer.
func gapVariance(square, gap, width float64) float64 { return square / 2 * gap * (gap + width) }

// tell is what is known a while after the last window; 0: while one is open.
func (d *doubt) tell(gap time.Duration) Doubt {
	return Doubt{Variance: d.settled, Open: d.open(gap), Differences: d.differences}
}
