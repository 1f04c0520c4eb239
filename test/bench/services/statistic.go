package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// block is four slices of time, off, level, level, off or the other way round: a drift of the machine's speed raises one half of it and
// lowers the other.
type block struct {
	Rate float64 `json:"rate"` // requests per second: the geometric mean at the level by that at off
	CPU  float64 `json:"cpu"`  // processor time per request: likewise; steadier, since it takes no part in what others take of processors
	// Hooked is the share of the slices at the level for which hooks of system calls were attached: 1 at level detail, 0 at
	// counters, and between where they are attached in windows.
	Hooked float64 `json:"hooked"`
}

func rateOf(b block) float64 { return b.Rate }

// perCPU is requests per processor second: what the rate is where processors are its limit.
func perCPU(b block) float64 { return 1 / b.CPU }

// estimate is a ratio with its 95 % confidence interval.
type estimate struct{ ratio, low, high float64 }

// loss is what a rate lost.
func (e estimate) loss() estimate {
	return estimate{ratio: 1 - e.ratio, low: 1 - e.high, high: 1 - e.low}
}

// percent writes shares.
func (e estimate) percent() string {
	return fmt.Sprintf("%.2f %% (%.2f to %.2f)", 100*e.ratio, 100*e.low, 100*e.high)
}

// beside says whether e lies below a limit, above it, or on both sides.
func (e estimate) beside(limit float64) string {
	switch {
	case e.high <= limit:
		return "within"
	case e.low > limit:
		return "**beyond**"
	}
	return "undecided"
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
	return bootstrap([][]block{blocks}, random, func(drawn [][]block) float64 { return at(drawn[0], of, hooked) })
}

// mixOf is what comes of being without hooks of system calls but for a share of the time: between the medians of the ratios at level
// counters and at level detail.
func mixOf(counters, detail []block, of func(block) float64, share float64, random *rand.Rand) estimate {
	return bootstrap([][]block{counters, detail}, random, func(drawn [][]block) float64 {
		return (1-share)*at(drawn[0], of, 0) + share*at(drawn[1], of, 1)
	})
}

// bootstrap has tell tell of groups of blocks, and of as many that are drawn from each.
func bootstrap(groups [][]block, random *rand.Rand, tell func([][]block) float64) estimate {
	e := estimate{ratio: tell(groups), low: math.Inf(-1), high: math.Inf(1)}
	drawn := make([][]block, len(groups))
	for g, blocks := range groups {
		if len(blocks) < fewest {
			return e
		}
		drawn[g] = make([]block, len(blocks))
	}
	seen := make([]float64, draws)
	for i := range seen {
		for g, blocks := range groups {
			for j := range blocks {
				drawn[g][j] = blocks[random.IntN(len(blocks))]
			}
		}
		seen[i] = tell(drawn)
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
