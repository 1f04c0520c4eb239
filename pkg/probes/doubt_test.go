package probes

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// load gives the calls of each tenth of a second.
type load func(r *rand.Rand, n int) []float64

// ways are those in which programs go about it.
var ways = map[string]load{
	"steady":  func(_ *rand.Rand, n int) []float64 { return tenths(n, func(int) float64 { return 500 }) },
	"at will": func(r *rand.Rand, n int) []float64 { return tenths(n, func(int) float64 { return poisson(r, 3) }) },
	"on and off": func(r *rand.Rand, n int) []float64 {
		on := false
		return tenths(n, func(int) float64 {
			if r.Float64() < 0.1/15 { // every 15 s, on average
				on = !on
			}
			if on {
				return poisson(r, 400)
			}
			return poisson(r, 20)
		})
	},
	"wandering": func(r *rand.Rand, n int) []float64 {
		rate := 100.
		return tenths(n, func(int) float64 {
			rate *= math.Exp(0.05 * r.NormFloat64())
			return poisson(r, rate)
		})
	},
	"by day and by night": func(r *rand.Rand, n int) []float64 {
		return tenths(n, func(i int) float64 { return poisson(r, 100+90*math.Sin(float64(i)/600)) })
	},
	"two seconds of every ten": func(r *rand.Rand, n int) []float64 {
		from := r.IntN(100)
		return tenths(n, func(i int) float64 {
			if (i+from)%100 < 20 {
				return 1000
			}
			return 10
		})
	},
}

func tenths(n int, f func(int) float64) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = f(i)
	}
	return out
}

// poisson draws a count; large ones by the normal distribution.
func poisson(r *rand.Rand, mean float64) float64 {
	if mean > 50 {
		return max(0, math.Round(mean+math.Sqrt(mean)*r.NormFloat64()))
	}
	n, p := 0., r.Float64()
	for limit := math.Exp(-mean); p > limit; n++ {
		p *= r.Float64()
	}
	return n
}

// sampled estimates a load as the windows do, one second of ten by lot, and returns how many calls it is off, and what is said of
// that.
func sampled(r *rand.Rand, calls []float64) (off float64, said Doubt) {
	const window, gap = 10, 90 // tenths
	var d doubt
	var truth, guess float64
	for i := r.IntN(2 * gap); ; {
		if i+window >= len(calls) {
			return math.Abs(truth - guess), d.tell(0)
		}
		in := sum(calls[i : i+window])
		d.window(uint64(in), time.Second)
		i += window
		next := r.IntN(2 * gap)
		end := min(i+next, len(calls))
		truth += sum(calls[i:end])
		guess += in * float64(end-i) / window
		if end == len(calls) {
			return math.Abs(truth - guess), d.tell(time.Duration(end-i) * 100 * time.Millisecond)
		}
		d.follow(time.Duration(next) * 100 * time.Millisecond)
		i = end
	}
}

func sum(v []float64) (s float64) {
	for _, x := range v {
		s += x
	}
	return s
}

// Five and twenty minutes of programs of all ways: what is said to hold in 95 of 100 cases does, and says something.
func TestEstimatesAreOffByNoMoreThanIsSaid(t *testing.T) {
	const trials = 500
	for name, way := range ways {
		for _, minutes := range []int{5, 20} {
			r := rand.New(rand.NewPCG(1, uint64(minutes)))
			held, width, all := 0, 0., 0.
			for range trials {
				calls := way(r, minutes*600)
				off, said := sampled(r, calls)
				most, known := said.Within()
				if !known {
					t.Fatalf("%s, %d min: nothing is said after %d windows", name, minutes, said.Differences+1)
				}
				if off <= most {
					held++
				}
				width += most
				all += sum(calls)
			}
			share, width := float64(held)/trials, width/all
			t.Logf("%-26s %2d min: holds in %.3f, %.3f wide", name, minutes, share, width)
			if share < 0.95 {
				t.Errorf("%s, %d min: it holds in %.3f of the cases", name, minutes, share)
			}
			if width > 1 {
				t.Errorf("%s, %d min: %.2f of the calls says nothing", name, minutes, width)
			}
		}
	}
}

// The variance of a stretch of time is the difference of two readings.
func TestDoubtOnlyGrows(t *testing.T) {
	r, last := rand.New(rand.NewPCG(2, 2)), 0.
	var d doubt
	for range 200 {
		d.window(uint64(r.IntN(1000)), time.Second)
		if now := d.tell(0); now.Variance < last || now.Open != 0 {
			t.Fatalf("%+v after %v", now, last)
		}
		if early, late := d.tell(time.Second), d.tell(3*time.Second); early.Open >= late.Open {
			t.Errorf("a longer gap is less in doubt: %v, %v", early.Open, late.Open)
		}
		last = d.tell(0).Variance
		if r.IntN(10) == 0 {
			d.leave(9 * time.Second)
		} else {
			d.follow(9 * time.Second)
		}
	}
	if _, known := (Doubt{Variance: 4, Differences: leastDifferences - 1}).Within(); known {
		t.Error("a bound from too few windows")
	}
}

// Containers of different ways, sampled and, beside that, counted: as many estimates as is said are no further off. The hooks are
// always on for those who count, so windows are not slower than gaps.
func TestKernelEstimatesAreOffByNoMoreThanIsSaid(t *testing.T) {
	const containers, readings = 48, 4
	p := open(t, Config{Level: Sampled, Window: 50 * time.Millisecond, Period: 250 * time.Millisecond, Linger: -1, MaxContainers: containers})
	exact := open(t, Config{Linger: -1, MaxContainers: containers})
	keys := make([]triton.ContainerKey, containers)
	for i := range keys {
		key, cg := watch(t, p)
		if _, err := exact.Watch(key, CgroupIDs{V2: cg.id}); err != nil {
			t.Fatal(err)
		}
		keys[i] = key
		start(t, cg, actorBinary(t), "moody", []string{"steady", "bursts", "rests"}[i%3])
	}
	run(t, p)
	held, all, wide := 0, 0, 0.
	from := make(map[triton.ContainerKey][2]Totals)
	for _, key := range keys {
		eventually(t, "windows tell how far estimates are off", func() bool { _, known := snapshot(t, p, key).Doubt.Within(); return known })
	}
	for range readings {
		for _, key := range keys {
			from[key] = [2]Totals{snapshot(t, p, key), snapshot(t, exact, key)}
		}
		till := time.Now().Add(5 * time.Second)
		eventually(t, "five seconds pass", func() bool { return time.Now().After(till) })
		for _, key := range keys {
			was, got, truth := from[key], snapshot(t, p, key), snapshot(t, exact, key)
			estimate := float64(got.SyscallCount() - was[0].SyscallCount())
			calls := float64(truth.SyscallCount() - was[1].SyscallCount())
			if calls == 0 {
				t.Fatalf("%s made no calls", key)
			}
			d := got.Doubt
			d.Variance -= was[0].Doubt.Variance
			most, _ := d.Within()
			if all++; math.Abs(estimate-calls) <= most {
				held++
			}
			wide += most / calls
		}
	}
	t.Logf("%d of %d hold; %.2f of the calls wide", held, all, wide/float64(all))
	// 0.95 is promised. If just that were kept, one run would show less than 0.90 in a thousand, for so many estimates.
	if float64(held) < 0.90*float64(all) {
		t.Errorf("what is said holds for %d of %d estimates", held, all)
	}
}
