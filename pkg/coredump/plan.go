package coredump

import (
	"cmp"
	"iter"
	"slices"
)

const (
	// switchedFrame is how far a frame may reach below the frame pointer that was left in it.
	switchedFrame = 8 << 10
	// redZone is how far below its stack pointer a function may write (System V ABI, x86-64).
	redZone = 128
	// miniStack is what a mini core has of a thread's stack; less each when there are many threads.
	miniStack  = 1 << 20
	miniStacks = 16 << 20
	// miniSegment is the size up to which writable segments are in a mini core, miniSegments of all such.
	miniSegment  = 256 << 10
	miniSegments = 8 << 20
)

// stackOf returns the used part of a stack from its pointer within its segment, up to limit bytes.
func (h *Head) stackOf(sp, limit uint64) (Run, bool) {
	i := h.segment(sp)
	if i < 0 {
		return Run{}, false
	}
	s := h.Segments[i]
	end := s.Start + (s.Dumped &^ (pageSize - 1))
	from := max(s.Start, (sp-redZone)&^(pageSize-1))
	to := min(end, (sp+limit+pageSize-1)&^(pageSize-1))
	return Run{from, to}, from < to
}

// segment returns the index of the segment that addr is in, or -1. A stack that overflowed has its pointer just below.
func (h *Head) segment(addr uint64) int {
	i, _ := slices.BinarySearchFunc(h.Segments, addr, func(s Segment, a uint64) int {
		switch {
		case s.End <= a:
			return -1
		case s.Start > a:
			return 1
		}
		return 0
	})
	const below = 64 << 10 // a frame that steps over a page or more
	if i < len(h.Segments) && h.Segments[i].Start <= addr+below {
		return i
	}
	return -1
}

// stacks lists what a core must have of the stacks.
func (h *Head) stacks() []Run {
	limit := min(uint64(miniStack), miniStacks/uint64(len(h.Threads)))
	var runs []Run
	for _, t := range h.Threads {
		limit := max(limit, 16<<10)
		r, ok := h.stackOf(t.Regs.SP, limit)
		if ok {
			runs = append(runs, r)
		}
		// Go's runtime switches stacks: the frame pointer is still that of the one before.
		if b, ok := h.stackOf(t.Regs.BP-switchedFrame, limit); ok && (b.Start < r.Start || b.Start >= r.End) {
			runs = append(runs, b)
		}
	}
	return runs
}

// mini lists what a mini core has: stacks, then small segments; the result is ordered and apart.
func (h *Head) mini() []Run {
	runs := h.stacks()
	var total uint64
	for _, s := range h.Segments {
		if n := s.Dumped &^ (pageSize - 1); n > 0 && s.End-s.Start <= miniSegment && total+n <= miniSegments {
			runs = append(runs, Run{s.Start, s.Start + n})
			total += n
		}
	}
	return h.merge(runs)
}

// merge orders runs and joins those that overlap or touch within one segment.
func (h *Head) merge(runs []Run) []Run {
	slices.SortFunc(runs, func(a, b Run) int { return cmp.Compare(a.Start, b.Start) })
	var out []Run
	for _, r := range runs {
		if n := len(out); n > 0 && r.Start <= out[n-1].End && h.segment(r.Start) == h.segment(out[n-1].Start) {
			out[n-1].End = max(out[n-1].End, r.End)
			continue
		}
		out = append(out, r)
	}
	return out
}

// window is the unit in which memory is read and stored.
const window = 1 << 20

// body lists all memory that the kernel would dump in the order in which it is saved: stacks, small segments, and the
// rest from the smallest on: what a process reserved by the terabyte comes last. Each window is listed once. A process
// may have a hundred million windows: they are made up one by one, and several without contents are one run. absent
// returns up to where from an address to another there are none.
func (h *Head) body(absent func(from, to uint64) uint64) iter.Seq[Run] {
	return func(yield func(Run) bool) {
		seen := map[uint64]bool{} // windows of stacks and small segments
		urgent := func(s Segment, from, to uint64) bool {
			for at := s.Start + (from-s.Start)/window*window; at < min(to, s.dumpedEnd()); at += window {
				if seen[at] {
					continue
				}
				seen[at] = true
				if !yield(Run{at, min(at+window, s.dumpedEnd())}) {
					return false
				}
			}
			return true
		}
		for _, r := range h.stacks() {
			if !urgent(h.Segments[h.segment(r.Start)], r.Start, r.End) {
				return
			}
		}
		bySize := slices.SortedStableFunc(slices.Values(h.Segments), func(a, b Segment) int { return cmp.Compare(a.Dumped, b.Dumped) })
		for _, s := range bySize {
			if s.End-s.Start <= miniSegment && !urgent(s, s.Start, s.End) {
				return
			}
		}
		for _, s := range bySize {
			for at := s.Start; at < s.dumpedEnd(); {
				r := Run{at, min(at+window, s.dumpedEnd())}
				at = r.End
				if seen[r.Start] {
					continue
				}
				if !h.fromFile(Run{s.Start, s.End}) {
					r.End = max(r.End, untilSeen(seen, r.Start, absent(r.Start, s.dumpedEnd())))
					at = r.End
				}
				if !yield(r) {
					return
				}
			}
		}
	}
}

// dumpedEnd is where the memory ends that the kernel would dump.
func (s Segment) dumpedEnd() uint64 { return s.Start + s.Dumped&^(pageSize-1) }

// untilSeen is the last end of a window at or before to, counted from at, so that none of seen lies before it.
func untilSeen(seen map[uint64]bool, at, to uint64) uint64 {
	to = at + (to-at)/window*window
	for k := range seen {
		if at <= k && k < to {
			to = k
		}
	}
	return to
}

// fromFile reports whether pages of r may come from a file: then an absent page is not a zero page.
func (h *Head) fromFile(r Run) bool {
	for _, f := range h.Files {
		if f.Start < r.End && r.Start < f.End {
			return true
		}
	}
	return false
}
