package telemetry

import (
	"iter"
	"math"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// A container's window: a minute of seconds, and ten minutes of every tenth second. Together at most 64 KiB.
const (
	secondsKept = 60
	tensKept    = 60
	tensApart   = 10 * time.Second
)

// The heatmap that a window keeps: schema 0, 2^-24 to 2^12 seconds, what the probes measure.
const (
	heatFirst   = -24
	heatBuckets = 37
)

// scalars is a sample without its histograms.
type scalars struct {
	atNs     int64 // since 1970: a time.Time has thrice the size
	usage    triton.Usage
	counters Counters
	network  triton.NetworkUsage
	block    triton.BlockUsage

	noCalls, callsEstimated bool
}

// second is a sample with what each histogram gained since the one before.
type second struct {
	scalars
	durations, runQueue heat
}

type heat [heatBuckets]uint32

// window holds the last samples of one container.
type window struct {
	seconds ring[second]
	tens    ring[scalars]
	last    Sample // as the source gave it
	seen    bool
}

func newWindow() *window {
	return &window{seconds: ring[second]{max: secondsKept}, tens: ring[scalars]{max: tensKept}}
}

// add takes a sample. Samples come in order of time.
func (w *window) add(s Sample) {
	sc := scalars{
		atNs: s.Time.UnixNano(), usage: s.Usage, counters: s.Counters, network: s.Network, block: s.Block,
		noCalls: s.NoCalls, callsEstimated: s.CallsEstimated,
	}
	next := second{scalars: sc}
	if w.seen { // the first has nothing to compare with
		next.durations = heatOf(s.Durations.Sub(w.last.Durations))
		next.runQueue = heatOf(s.RunQueue.Sub(w.last.RunQueue))
	}
	w.seconds.push(next)
	if n := len(w.tens.vals); n == 0 || s.Time.Sub(w.tens.at(n-1).at()) >= tensApart-time.Second/2 {
		w.tens.push(sc)
	}
	w.last, w.seen = s, true
}

// samples lists what is kept, oldest first. Beyond the last minute the histograms are empty; within it they hold what
// came since the sample before, at schema 0.
func (w *window) samples() []Sample {
	var out []Sample
	for sc := range w.before() {
		out = append(out, sc.sample())
	}
	return append(out, w.newest(secondsKept)...)
}

// newest lists the last n of the last minute.
func (w *window) newest(n int) []Sample {
	n = min(n, len(w.seconds.vals))
	out := make([]Sample, 0, n)
	for i := len(w.seconds.vals) - n; i < len(w.seconds.vals); i++ {
		sec := w.seconds.at(i)
		s := sec.sample()
		s.Durations, s.RunQueue = sec.durations.histogram(), sec.runQueue.histogram()
		out = append(out, s)
	}
	return out
}

// CPUReading is one reading of a container's CPU counter. The cgroup is read at a moment of its own, At.
type CPUReading struct {
	Time, At time.Time
	Used     time.Duration
}

func (w *window) cpu() []CPUReading {
	out := make([]CPUReading, 0, len(w.tens.vals)+len(w.seconds.vals))
	for sc := range w.before() {
		out = append(out, sc.cpu())
	}
	for i := range w.seconds.vals {
		out = append(out, w.seconds.at(i).cpu())
	}
	return out
}

// before goes through what is kept from before the last minute, oldest first.
func (w *window) before() iter.Seq[*scalars] {
	return func(yield func(*scalars) bool) {
		for i := range w.tens.vals {
			sc := w.tens.at(i)
			if len(w.seconds.vals) > 0 && sc.atNs >= w.seconds.at(0).atNs || !yield(sc) {
				return
			}
		}
	}
}

func (sc *scalars) cpu() CPUReading {
	return CPUReading{Time: sc.at(), At: sc.usage.Time, Used: sc.usage.CPUTotal}
}

func (sc *scalars) at() time.Time { return time.Unix(0, sc.atNs) }

func (sc *scalars) sample() Sample {
	return Sample{
		Time: sc.at(), Usage: sc.usage, Counters: sc.counters, Network: sc.network, Block: sc.block,
		NoCalls: sc.noCalls, CallsEstimated: sc.callsEstimated,
	}
}

// heatOf coarsens a histogram to the window's buckets. Counts beyond 2^32 in a second stay at the limit.
func heatOf(h triton.Histogram) heat {
	var out heat
	h = h.Coarsen(0)
	for i, n := range h.Counts {
		at := min(max(int(h.First)+i-heatFirst, 0), heatBuckets-1)
		out[at] = uint32(min(uint64(out[at])+n, math.MaxUint32))
	}
	return out
}

func (h *heat) histogram() triton.Histogram {
	counts := make([]uint64, heatBuckets)
	for i, n := range h {
		counts[i] = uint64(n)
	}
	return triton.Histogram{Schema: 0, First: heatFirst, Counts: counts}
}

// ring keeps the last max values.
type ring[T any] struct {
	max   int
	start int
	vals  []T // grows to max, then wraps
}

func (r *ring[T]) push(v T) {
	if len(r.vals) < r.max {
		if len(r.vals) == cap(r.vals) { // append would round up beyond max
			r.vals = append(make([]T, 0, min(r.max, 2*len(r.vals)+4)), r.vals...)
		}
		r.vals = append(r.vals, v)
		return
	}
	r.vals[r.start] = v
	r.start = (r.start + 1) % r.max
}

// at returns value i, 0 the oldest.
func (r *ring[T]) at(i int) *T { return &r.vals[(r.start+i)%len(r.vals)] }
