package main

import (
	"math"
	"math/rand/v2"
	"slices"
)

// block is four slices of time, off, level, level, off or the other way round: a drift of the machine's speed raises one half of it and
// lowers the other.
type block struct {
	Rate float64 `json:"rate"` // requests per second: the geometric mean at the level by that at off
	CPU  float64 `json:"cpu"`  // processor time per request: likewise
	// Hooked is the share of the slices at the level for which hooks of system calls were attached: 1 at level detail, 0 at
	// counters, and between where they are attached in windows.
	Hooked float64 `json:"hooked"`
	// Unrest is by how much the rates of the two slices at off differ, as a share.
	Unrest float64 `json:"unrest"`
}

// calm are the blocks in which nothing happened to the machine: those whose slices at off are alike. What the level did does not enter.
func calm(blocks []block) []block {
	return slices.DeleteFunc(slices.Clone(blocks), func(b block) bool { return b.Unrest > unrestMost })
}

// unrestMost is what slices of half a second differ by where nothing else runs, and little more.
const unrestMost = 0.05

func rateOf(b block) float64 { return b.Rate }
func cpuOf(b block) float64  { return b.CPU }

// estimate is a ratio with its 95 % confidence interval.
type estimate struct{ ratio, low, high float64 }

// loss is what a rate lost, in per cent.
func (e estimate) loss() estimate {
	return estimate{ratio: 100 * (1 - e.ratio), low: 100 * (1 - e.high), high: 100 * (1 - e.low)}
}

// within reports whether e lies below limit (1), above it (-1), or on both sides (0).
func (e estimate) within(limit float64) int {
	switch {
	case e.high <= limit:
		return 1
	case e.low > limit:
		return -1
	}
	return 0
}

const (
	// fewest is how many blocks an interval is made of at least: those that can be drawn of less are too few, and too alike.
	fewest = 15
	// draws of the bootstrap: the ends of the interval are then good to some hundredth of its width.
	draws = 2000
)

// estimateOf is the median of a ratio of blocks where hooks are attached for the share hooked of the time, and a percentile
// bootstrap's interval for it (Efron, Tibshirani: An Introduction to the Bootstrap, 13.3). Of fewer blocks than fewest the
// interval is infinite.
func estimateOf(blocks []block, of func(block) float64, hooked float64, random *rand.Rand) estimate {
	e := estimate{ratio: at(blocks, of, hooked), low: math.Inf(-1), high: math.Inf(1)}
	if len(blocks) < fewest {
		return e
	}
	seen, drawn := make([]float64, draws), make([]block, len(blocks))
	for i := range seen {
		for j := range drawn {
			drawn[j] = blocks[random.IntN(len(blocks))]
		}
		seen[i] = at(drawn, of, hooked)
	}
	slices.Sort(seen)
	e.low, e.high = seen[draws*25/1000], seen[draws*975/1000-1]
	return e
}

// at is the median of the ratios, each moved along their slope to where hooks are attached for the share hooked.
func at(blocks []block, of func(block) float64, hooked float64) float64 {
	s := slope(blocks, of)
	moved := make([]float64, len(blocks))
	for i, b := range blocks {
		moved[i] = of(b) - s*(b.Hooked-hooked)
	}
	return median(moved)
}

// apart is by how much two blocks' shares must differ for them to tell of a slope: the noise of the ratios is divided by that.
const apart = 0.2

// slope is by how much a ratio changes from hooks that are never attached to such as always are: the median of the slopes
// between any two blocks (Theil, Sen). 0: their shares are alike.
func slope(blocks []block, of func(block) float64) float64 {
	var slopes []float64
	for i, b := range blocks {
		for _, c := range blocks[:i] {
			if d := b.Hooked - c.Hooked; math.Abs(d) >= apart {
				slopes = append(slopes, (of(b)-of(c))/d)
			}
		}
	}
	if len(slopes) == 0 {
		return 0
	}
	return median(slopes)
}

// meanHooked is the share of all slices at the level for which hooks were attached.
func meanHooked(blocks []block) float64 {
	var sum float64
	for _, b := range blocks {
		sum += b.Hooked
	}
	return sum / float64(len(blocks))
}

// median sorts its argument; that of nothing is NaN.
func median(v []float64) float64 {
	slices.Sort(v)
	n := len(v)
	switch {
	case n == 0:
		return math.NaN()
	case n%2 == 0:
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[n/2]
}
