package probes

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
)

// RecordedCalls is how many calls of each thread the flight recorder keeps.
const RecordedCalls = len(bpf.MeasureRing{}.Calls)

// RecorderThreadsMax bounds Config.RecorderThreads: 340 MB of kernel memory.
const RecorderThreadsMax = 1 << 16

// ringShare is how many threads of one container have a place in a flight recorder of so many: a quarter, so that a container
// of thousands of threads leaves some to others; few are not worth dividing.
func ringShare(threads int) uint64 {
	const indivisible = 16
	return uint64(max(threads/4, min(threads, indivisible)))
}

// ringsKept is for how long what a thread did last is safe from other containers' threads once it has ended: longer than it
// takes to read it after a death, on a busy machine too.
const ringsKept = 5 * time.Second

// Durations that are none: bpf/recorder.h.
const (
	nsInCall  = ^uint64(0)
	nsUnknown = ^uint64(0) - 1
)

// Recordings returns the last system calls of every thread of a container, at most RecordedCalls each; threads that ended
// are among them as long as no younger thread needed their place, for ringsKept one of the same container. Not watched is
// errdefs.ErrNotFound. No recorder, because it was not wanted or because the level leaves system calls out, is
// errdefs.ErrFailedPrecondition.
func (p *Probes) Recordings(key triton.ContainerKey) ([]triton.Recording, error) {
	return p.recordings(key, everyProcess)
}

// RecordingsOf is Recordings of one process, by its id in the daemon's namespace, and takes less time.
func (p *Probes) RecordingsOf(key triton.ContainerKey, pid int) ([]triton.Recording, error) {
	return p.recordings(key, func(of int) bool { return of == pid })
}

func everyProcess(int) bool { return true }

// recordings is Recordings of some processes.
func (p *Probes) recordings(key triton.ContainerKey, of func(pid int) bool) ([]triton.Recording, error) {
	out, err := p.copyRings(key, of)
	for i := range out {
		for j := range out[i].Calls {
			describe(&out[i].Calls[j])
		}
	}
	return out, err
}

// copyRings is recordings without names and texts, which take longer than the lock may be held.
func (p *Probes) copyRings(key triton.ContainerKey, of func(pid int) bool) ([]triton.Recording, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	w, err := p.find(key)
	if err != nil {
		return nil, fmt.Errorf("read flight recorder of %s: %w", key, err)
	}
	switch {
	case p.cfg.RecorderThreads == 0:
		return nil, fmt.Errorf("there is no flight recorder: it is switched off: %w", errdefs.ErrFailedPrecondition)
	case w.wish.Of(p.level) != Detail:
		return nil, fmt.Errorf("the flight recorder is empty: the container is at level %s, it needs %s: %w",
			w.wish.Of(p.level), Detail, errdefs.ErrFailedPrecondition)
	}
	boot := monotonicZero()
	var out []triton.Recording
	var used uint64 // rings that somebody had so far, and the first, which nobody has
	if err := p.kernel.variables[bpf.MeasureVarFreshRings].Get(&used); err != nil {
		return nil, fmt.Errorf("read flight recorder of %s: %w", key, err)
	}
	p.ringsMu.Lock()
	defer p.ringsMu.Unlock()
	err = p.kernel.rings.each(int(used), func(ring *bpf.MeasureRing) {
		if !of(int(atomic.LoadUint32(&ring.Pid))) {
			return
		}
		if r, ok := copyRing(ring, w.owner(), boot); ok && of(r.Pid) && forgetBefore(&r, w.detail) {
			out = append(out, r)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read flight recorder of %s: %w", key, err)
	}
	return out, nil
}

// forgetBefore leaves out the calls before t, after which some were not recorded. False: none is left.
func forgetBefore(r *triton.Recording, t time.Time) bool {
	if t.IsZero() {
		return true
	}
	r.Calls = slices.DeleteFunc(r.Calls, func(c triton.Call) bool { return c.At.Before(t) })
	return len(r.Calls) > 0
}

// copyRing copies a ring that programs may be writing to. False: it is not owner's, or became another's meanwhile.
func copyRing(r *bpf.MeasureRing, owner uint64, zero time.Time) (triton.Recording, bool) {
	if load64(&r.Owner) != owner {
		return triton.Recording{}, false
	}
	first, head, ended := load64(&r.First), load64(&r.Head), load64(&r.EndedNs)
	out := triton.Recording{Pid: int(atomic.LoadUint32(&r.Pid)), Tid: int(atomic.LoadUint32(&r.Tid)), Comm: text(r.Comm)}
	if ended != 0 {
		out.Ended = zero.Add(time.Duration(ended))
	}
	if head-first > uint64(RecordedCalls) {
		first = head - uint64(RecordedCalls)
	}
	for n := first; n != head; n++ {
		if c, ok := readCall(&r.Calls[n%uint64(RecordedCalls)], n, zero); ok {
			out.Calls = append(out.Calls, c)
		}
	}
	return out, load64(&r.Owner) == owner && load64(&r.First) <= first
}

// readCall copies call number n. False: it was overwritten by a younger one.
func readCall(c *bpf.MeasureCall, n uint64, zero time.Time) (triton.Call, bool) {
	want := uint32(n + 1)
	if atomic.LoadUint32(&c.Seq) != want {
		return triton.Call{}, false
	}
	ns := load64(&c.Ns) // before the result, which is written before it
	call := triton.Call{At: zero.Add(time.Duration(load64(&c.AtNs))), Number: int(c.Nr)}
	for i := range call.Args {
		call.Args[i] = load64(&c.Args[i])
	}
	complete(&call, ns, atomic.LoadInt64(&c.Ret))
	return call, atomic.LoadUint32(&c.Seq) == want
}

// complete adds the duration and the result.
func complete(call *triton.Call, ns uint64, result int64) {
	if call.InCall = ns == nsInCall; !call.InCall {
		call.Result = result
	}
	if ns < nsUnknown {
		call.Duration = time.Duration(ns)
	}
}

// describe adds names and text to a complete call.
func describe(call *triton.Call) {
	name(call)
	call.Text = telemetry.FormatCall(call.Number, call.Args)
}

// name adds what the number and the result are called.
func name(call *triton.Call) {
	call.Name = telemetry.SyscallName(call.Number)
	if !call.InCall {
		call.Error = telemetry.CallError(call.Number, call.Result)
	}
}

// monotonicZero is the wall clock's reading when CLOCK_MONOTONIC was 0, leaving out the time that the machine slept.
func monotonicZero() time.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return time.Time{} // impossible
	}
	return time.Now().Add(-time.Duration(ts.Nano()))
}
