package probes

import (
	"slices"
	"time"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

// The buckets of bpf/histogram.h: powers of two seconds from 2^-24 to 2^12, at schema 2 and 0.
const (
	firstSchema2 = -24 * 4
	firstSchema0 = -24
)

// SyscallTotals is what was counted of one system call.
type SyscallTotals struct {
	Count  uint64 // all calls: those in Durations and Untimed
	Errors uint64 // calls that returned -4095 to -1
	// Untimed calls have no duration: exit and exit_group, calls that seccomp refused, calls begun before the watch.
	Untimed   uint64
	Durations triton.Histogram // schema 0
}

// Drops are what was lost of one container, by reason.
type Drops struct {
	Ring    uint64 // event records: the ring was full; counters are right
	Cells   uint64 // calls counted under SyscallOther: the pool of cells was empty
	Storage uint64 // calls counted without duration: the kernel gave no task storage
	Threads uint64 // that the flight recorder has no room for: the container has its share, or others have the rest
}

// Total is the sum of all reasons.
func (d Drops) Total() uint64 { return d.Ring + d.Cells + d.Storage + d.Threads }

// Totals is what a container did between First and Last. Counters only grow.
type Totals struct {
	First, Last time.Time // when the watch began; when this was read

	Level Level // that the container had when this was read
	// Counted is the share of the time that Syscalls and Durations are of in which calls were counted: below 1 they are
	// estimates, the rest of the time being taken to have been like it; 0: no window was yet.
	Counted float64
	Doubt   Doubt // how far the number of calls may be off

	Syscalls  map[int]SyscallTotals // by number; those never made are absent
	Durations triton.Histogram      // of all timed calls together; schema 2
	RunQueue  triton.Histogram      // waits for a CPU; schema 2
	CPUNs     uint64                // time on a CPU, as of each task's last switch-out
	Waits     triton.Waits          // time waited for other things, of waits that have ended

	Execs        uint64
	Exits        uint64 // of processes
	Forks        uint64 // new processes
	Threads      uint64 // new threads
	FatalSignals uint64 // processes that a signal ended
	OOMKills     uint64

	BlockReads, BlockWrites         uint64 // requests that a device completed
	BlockReadBytes, BlockWriteBytes uint64

	Dropped Drops
}

// SyscallCount is the number of all system calls.
func (t Totals) SyscallCount() uint64 {
	var n uint64
	for _, s := range t.Syscalls {
		n += s.Count
	}
	return n
}

// CallsOff is the share by which the number of all calls is off at most, in 95 of 100 cases; 0: nothing of it was guessed, or that
// is not known yet.
func (t Totals) CallsOff() float64 {
	calls, known := t.Doubt.Within()
	if all := t.SyscallCount(); known && all > 0 {
		return calls / float64(all)
	}
	return 0
}

// read gives what is known of w. The caller holds mu, so that the slot is not freed meanwhile.
func (p *Probes) read(w *watched) Totals {
	t := newTotals(w)
	p.readInto(w, &t)
	w.supplement(&t)
	t.Level = w.wish.Of(p.level)
	return t
}

func newTotals(w *watched) Totals {
	return Totals{
		First: w.Since, Last: time.Now(),
		Syscalls:  map[int]SyscallTotals{},
		Durations: triton.Histogram{Schema: 2, First: firstSchema2, Counts: make([]uint64, len(bpf.MeasureSlot{}.All))},
		RunQueue:  triton.Histogram{Schema: 2, First: firstSchema2, Counts: make([]uint64, len(bpf.MeasureSlot{}.RunQueue))},
	}
}

// readInto adds the shards of w up.
func (p *Probes) readInto(w *watched, t *Totals) {
	for shard := range p.kernel.shards {
		i := w.Slot*p.kernel.shards + shard
		slot := p.kernel.slots.at(i)
		t.addSlot(slot)
		t.addCell(SyscallOther, p.kernel.cells.at(i))
		for nr := range slot.Cells {
			if cell := slot.Cells[nr]; cell != 0 {
				t.addCell(nr, p.kernel.cells.at(int(cell)))
			}
		}
	}
	for _, s := range t.Syscalls {
		t.Durations.SumNs += s.Durations.SumNs
	}
}

func (t *Totals) addSlot(s *bpf.MeasureSlot) {
	for i := range s.All {
		t.Durations.Counts[i] += load64(&s.All[i])
		t.RunQueue.Counts[i] += load64(&s.RunQueue[i])
	}
	t.RunQueue.SumNs += load64(&s.RunQueueSumNs)
	t.CPUNs += load64(&s.CpuNs)
	for reason := range t.Waits {
		t.Waits[reason] += time.Duration(load64(&s.OffCpuNs[reason]))
	}
	t.Execs += load64(&s.Execs)
	t.Exits += load64(&s.Exits)
	t.Forks += load64(&s.Forks)
	t.Threads += load64(&s.Threads)
	t.FatalSignals += load64(&s.FatalSignals)
	t.OOMKills += load64(&s.OomKills)
	t.BlockReads += load64(&s.BlockReads)
	t.BlockWrites += load64(&s.BlockWrites)
	t.BlockReadBytes += load64(&s.BlockReadBytes)
	t.BlockWriteBytes += load64(&s.BlockWriteBytes)
	t.Dropped.Ring += load64(&s.DropRing)
	t.Dropped.Cells += load64(&s.DropCells)
	t.Dropped.Storage += load64(&s.DropStorage)
	t.Dropped.Threads += load64(&s.DropThreads)
}

func (t *Totals) addCell(nr int, c *bpf.MeasureCell) {
	s, seen := t.Syscalls[nr]
	if !seen {
		s.Durations = triton.Histogram{Schema: 0, First: firstSchema0, Counts: make([]uint64, len(c.Buckets))}
	}
	for i := range c.Buckets {
		n := load64(&c.Buckets[i])
		s.Durations.Counts[i] += n
		s.Count += n
	}
	s.Durations.SumNs += load64(&c.SumNs)
	s.Errors += load64(&c.Errors)
	untimed := load64(&c.Untimed)
	s.Untimed += untimed
	s.Count += untimed
	if s.Count > 0 {
		t.Syscalls[nr] = s
	}
}

// Numbers lists the calls that were made, in order.
func (t Totals) Numbers() []int {
	nrs := make([]int, 0, len(t.Syscalls))
	for nr := range t.Syscalls {
		nrs = append(nrs, nr)
	}
	slices.Sort(nrs)
	return nrs
}
