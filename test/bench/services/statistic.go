package main

import (
	"math"
	"math/rand/v2"
	"slices"
)

// pair compares a slice of time at a level with one beside it at level off.
type pair struct {
	ratio float64 // of what was measured: at the level by off
	// hooked is the share of the slice at the level for which hooks of system calls were attached: 1 at level detail, 0 at counters, and
	// between where they are attached in windows.
	hooked float64
}

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
	// block is how many pairs come from slices in the order ABBA, or BAAB: drift raises one and lowers the other, so they are drawn together.
	block = 2
	// fewest is how many pairs an interval is made of at least: those that can be drawn of less are too few, and too alike.
	fewest = 20
	// draws of the bootstrap: the ends of the interval are then good to some hundredth of its width.
	draws = 2000
)

// estimateOf is the median of the pairs' ratios where hooks are attached for the share hooked of the time, and a percentile
// bootstrap's interval for it (Efron, Tibshirani: An Introduction to the Bootstrap, 13.3), which draws blocks. Of fewer pairs than fewest the
// interval is infinite.
func estimateOf(pairs []pair, hooked float64, random *rand.Rand) estimate {
	if len(pairs) < fewest {
		return estimate{ratio: at(pairs, hooked), low: math.Inf(-1), high: math.Inf(1)}
	}
	seen := make([]float64, 0, draws)
	drawn := make([]pair, 0, len(pairs))
	blocks := len(pairs) / block
	for range draws {
		drawn = drawn[:0]
		for range blocks {
			i := random.IntN(blocks) * block
			drawn = append(drawn, pairs[i:i+block]...)
		}
		seen = append(seen, at(drawn, hooked))
	}
	slices.Sort(seen)
	return estimate{ratio: at(pairs, hooked), low: seen[draws*25/1000], high: seen[draws*975/1000-1]}
}

// at is the median of the ratios, each moved along their slope to where hooks are attached for the share hooked.
func at(pairs []pair, hooked float64) float64 {
	b := slope(pairs)
	moved := make([]float64, len(pairs))
	for i, p := range pairs {
		moved[i] = p.ratio - b*(p.hooked-hooked)
	}
	return median(moved)
}

// apart is by how much two pairs' shares must differ for them to tell of a slope: the noise of the ratios is divided by that.
const apart = 0.2

// slope is by how much the ratio changes from hooks that are never attached to such as always are: the median of the slopes
// between any two pairs (Theil, Sen). 0: their shares are alike.
func slope(pairs []pair) float64 {
	var slopes []float64
	for i, p := range pairs {
		for _, q := range pairs[:i] {
			if d := p.hooked - q.hooked; math.Abs(d) >= apart {
				slopes = append(slopes, (p.ratio-q.ratio)/d)
			}
		}
	}
	if len(slopes) == 0 {
		return 0
	}
	return median(slopes)
}

// meanHooked is the share of all slices at the level for which hooks were attached.
func meanHooked(pairs []pair) float64 {
	var sum float64
	for _, p := range pairs {
		sum += p.hooked
	}
	return sum / float64(len(pairs))
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
