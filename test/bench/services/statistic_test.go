package main

import (
	"math"
	"math/rand/v2"
	"testing"
)

// speed is that of a machine which does other work now and then: noise of 2 % in each slice, and one in twelve begins or ends a time
// in which all is slower by a third.
type speed struct {
	random *rand.Rand
	slow   bool
}

func (s *speed) slice(part float64) seen {
	if s.random.IntN(12) == 0 {
		s.slow = !s.slow
	}
	if s.slow {
		part *= 0.67
	}
	rate := part * math.Exp(0.02*s.random.NormFloat64())
	return seen{rate: rate, cpu: 1 / rate}
}

// made are blocks of slices on such a machine, of a level that leaves a part of the speed without hooks and another one with them. Windows
// of hooks are in half of the slices, for a half of those.
func made(random *rand.Rand, n int, without, with float64, windows bool) []block {
	s := speed{random: random}
	blocks := make([]block, n)
	for i := range blocks {
		four := make([]seen, 4)
		for j, level := range order(levelAuto, i%2 == 1) {
			if level == levelOff {
				four[j] = s.slice(1)
				continue
			}
			var hooked float64
			if windows && random.IntN(2) == 0 {
				hooked = 0.8 + 0.2*random.Float64()
			}
			four[j] = s.slice(without + (with-without)*hooked)
			four[j].hooked = hooked
		}
		blocks[i] = blockOf(four, i%2 == 1)
	}
	return blocks
}

func TestIntervalsHoldTheTruth(t *testing.T) {
	for _, c := range []struct {
		name                        string
		without, with, hooked, want float64
		windows                     bool
		runs                        int // with windows they take long
	}{
		{"off against off", 1, 1, 0, 1, false, 40},
		{"a loss of 8 %", 0.92, 0.92, 1, 0.92, false, 40},
		{"a tenth of the time in windows", 0.99, 0.90, 0.1, 0.981, true, 8},
	} {
		held, wide := 0, 0.0
		for seed := range uint64(c.runs) {
			random := rand.New(rand.NewPCG(seed, 1))
			e := estimateOf(made(random, 80, c.without, c.with, c.windows), rateOf, c.hooked, random)
			if e.low <= c.want && c.want <= e.high {
				held++
			}
			wide += (e.high - e.low) / float64(c.runs)
			if e.ratio < e.low || e.ratio > e.high {
				t.Errorf("%s: %+v", c.name, e)
			}
		}
		// 38 of 40 are expected; the seeds are the same each time.
		if held < c.runs*85/100 || wide > 0.03 {
			t.Errorf("%s: %d of %d intervals of a mean width of %.4f hold %v", c.name, held, c.runs, wide, c.want)
		}
	}
}

func TestATenthOfTheTimeCostsATenth(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	counters, detail := made(random, 80, 0.99, 0.99, false), made(random, 80, 0.9, 0.9, false)
	e := mixOf(counters, detail, rateOf, 0.1, random)
	if e.low > 0.981 || e.high < 0.981 || e.high-e.low > 0.02 {
		t.Errorf("%+v, want 0.981", e)
	}
	if e := mixOf(counters, detail[:fewest-1], rateOf, 0.1, random); !math.IsInf(e.high, 1) {
		t.Errorf("of few blocks: %+v", e)
	}
}

func TestDriftIsNoLoss(t *testing.T) {
	for _, inside := range []bool{false, true} {
		four := make([]seen, 4)
		for i := range four {
			four[i] = seen{rate: math.Pow(1.05, float64(i)), cpu: math.Pow(1.05, float64(-i))} // the machine gets faster and faster
		}
		b := blockOf(four, inside)
		if math.Abs(b.Rate-1) > 1e-9 || math.Abs(b.CPU-1) > 1e-9 {
			t.Errorf("%+v, want no difference", b)
		}
	}
}

func TestBlocksAreOfTheRightSlices(t *testing.T) {
	outer, inner := seen{rate: 8, cpu: 2}, seen{rate: 4, cpu: 3, hooked: 0.5}
	want := block{Rate: 0.5, CPU: 1.5, Hooked: 0.5}
	if got := blockOf([]seen{outer, inner, inner, outer}, false); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := blockOf([]seen{inner, outer, outer, inner}, true); got != want {
		t.Errorf("inside out: %+v, want %+v", got, want)
	}
}

func TestFewBlocksDecideNothing(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	if e := estimateOf(made(random, fewest-1, 0.5, 0.5, false), rateOf, 1, random); e.loss().beside(0.03) != "undecided" {
		t.Errorf("%+v", e)
	}
}

func TestALimitIsKeptMissedOrUndecided(t *testing.T) {
	for _, c := range []struct {
		e    estimate
		want string
	}{
		{estimate{ratio: 0.99, low: 0.98, high: 1}, "within"},
		{estimate{ratio: 0.95, low: 0.94, high: 0.96}, "**beyond**"},
		{estimate{ratio: 0.97, low: 0.96, high: 0.98}, "undecided"},
	} {
		if got := c.e.loss().beside(0.03); got != c.want {
			t.Errorf("a loss of %s beside 3 %%: %s, want %s", c.e.loss().percent(), got, c.want)
		}
	}
	if got, want := (estimate{ratio: 0.95, low: 0.9, high: 1.01}).loss().percent(), "5.00 % (-1.00 to 10.00)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestMedians(t *testing.T) {
	for _, c := range []struct {
		v    []float64
		want float64
	}{{[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := median(c.v); got != c.want {
			t.Errorf("median of %v: %v", c.v, got)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing: %v", got)
	}
}
