package telemetry

import (
	"slices"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// A container's window: a minute of seconds, and before it nine minutes of every tenth second.
const (
	secondsKept = 60
	tensKept    = 54
	tensApart   = 10 * time.Second
)

// window holds the last samples of one container.
type window struct {
	seconds ring[packed] // each with two heats: durations of system calls and waits for a CPU since the one before
	tens    ring[packed] // what seconds has no room for any more
	last    Sample       // as the source gave it, without what is empty of its calls' histograms
	seen    bool
}

func newWindow() *window {
	return &window{seconds: ring[packed]{max: secondsKept}, tens: ring[packed]{max: tensKept}}
}

// add takes a sample. Samples come in order of time.
func (w *window) add(s Sample) {
	next := pack(&s)
	if w.seen {
		next = next.packHeat(s.Durations.Sub(w.last.Durations)).packHeat(s.RunQueue.Sub(w.last.RunQueue))
	} else { // nothing to compare with
		next = next.packHeat(triton.Histogram{}).packHeat(triton.Histogram{})
	}
	if old, left := w.seconds.push(slices.Clone(next)); left {
		w.keep(old)
	}
	s.PerSyscall = trimmed(s.PerSyscall)
	w.last, w.seen = s, true
}

// keep takes what is older than the last minute, but for what is too close to the one before.
func (w *window) keep(old packed) {
	n := len(w.tens.vals)
	if n > 0 && old.cpu().Time.Sub(w.tens.at(n-1).cpu().Time) < tensApart-time.Second/2 {
		return
	}
	_, heats := old.unpack()
	w.tens.push(slices.Clone(old[:len(old)-len(heats)]))
}

// trimmed copies calls without what is empty of their histograms; the counts lie in one piece of memory.
func trimmed(calls []SyscallSample) []SyscallSample {
	if len(calls) == 0 {
		return nil
	}
	out, n := make([]SyscallSample, len(calls)), 0
	for i, c := range calls {
		c.Durations = c.Durations.Trim()
		n += len(c.Durations.Counts)
		out[i] = c
	}
	counts := make([]uint64, 0, n)
	for i := range out {
		from := len(counts)
		counts = append(counts, out[i].Durations.Counts...)
		out[i].Durations.Counts = counts[from:len(counts):len(counts)]
	}
	return out
}

// samples lists what is kept, oldest first. Beyond the last minute the histograms are empty; within it they hold what
// came since the sample before, at schema 0.
func (w *window) samples() []Sample {
	out := make([]Sample, 0, len(w.tens.vals)+len(w.seconds.vals))
	for i := range w.tens.vals {
		s, _ := w.tens.at(i).unpack()
		out = append(out, s)
	}
	return append(out, w.newest(secondsKept)...)
}

// newest lists the last n of the last minute.
func (w *window) newest(n int) []Sample {
	n = min(n, len(w.seconds.vals))
	out := make([]Sample, 0, n)
	for i := len(w.seconds.vals) - n; i < len(w.seconds.vals); i++ {
		s, heats := w.seconds.at(i).unpack()
		s.Durations, heats = heats.unpackHeat()
		s.RunQueue, _ = heats.unpackHeat()
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
	for _, r := range []*ring[packed]{&w.tens, &w.seconds} {
		for i := range r.vals {
			out = append(out, r.at(i).cpu())
		}
	}
	return out
}

// ring keeps the last max values.
type ring[T any] struct {
	max   int
	start int
	vals  []T // grows to max, then wraps
}

// push returns the value that v takes the place of, if it does.
func (r *ring[T]) push(v T) (old T, left bool) {
	if len(r.vals) < r.max {
		if len(r.vals) == cap(r.vals) { // append would round up beyond max
			r.vals = append(make([]T, 0, min(r.max, 2*len(r.vals)+4)), r.vals...)
		}
		r.vals = append(r.vals, v)
		return old, false
	}
	old, r.vals[r.start] = r.vals[r.start], v
	r.start = (r.start + 1) % r.max
	return old, true
}

// at returns value i, 0 the oldest.
func (r *ring[T]) at(i int) T { return r.vals[(r.start+i)%len(r.vals)] }
