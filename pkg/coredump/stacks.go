package coredump

import (
	"encoding/binary"
	"io"
	"slices"

	"github.com/tritond/triton/pkg/backtrace"
)

// saved is the memory in a core file, by address: a backtrace.Memory. It is for one goroutine at a time.
type saved struct {
	core     io.ReaderAt
	segments []Segment
}

// Load implements backtrace.Memory.
func (s *saved) Load(b []byte, addr uint64) bool {
	for len(b) > 0 {
		i, ok := slices.BinarySearchFunc(s.segments, addr, func(g Segment, a uint64) int {
			switch {
			case g.Start+g.Dumped <= a:
				return -1
			case g.Start > a:
				return 1
			}
			return 0
		})
		if !ok {
			return false
		}
		g := s.segments[i]
		n := min(uint64(len(b)), g.Start+g.Dumped-addr)
		if got, _ := s.core.ReadAt(b[:n], int64(g.Off+addr-g.Start)); uint64(got) != n {
			return false
		}
		b, addr = b[n:], addr+n
	}
	return true
}

// either is what one or the other of two has of the same memory.
type either [2]backtrace.Memory

// Load implements backtrace.Memory.
func (e either) Load(b []byte, addr uint64) bool { return e[0].Load(b, addr) || e[1].Load(b, addr) }

// memoryOf returns the head of a core file and its memory.
func memoryOf(core interface {
	io.Reader
	io.ReaderAt
}) (*Head, backtrace.Memory, error) {
	h, err := ReadHead(core)
	if err != nil {
		return nil, nil, err
	}
	s := &saved{core: core}
	for _, g := range h.Segments {
		if g.Dumped > 0 {
			s.segments = append(s.segments, g)
		}
	}
	return h, s, nil
}

// process is what the analysis is told of a dump.
func process(r *Record, h *Head) *backtrace.Process {
	p := &backtrace.Process{Signal: r.Signal, VDSO: h.vdso()}
	comms := map[int]string{}
	for _, t := range r.Threads {
		comms[t.TID] = t.Comm
	}
	for _, t := range h.Threads {
		p.Threads = append(p.Threads, backtrace.Stopped{TID: t.TID, Comm: comms[t.TID], Regs: slices.Clone(t.Regs.All[:])})
	}
	for _, k := range r.Kept {
		p.Files = append(p.Files, backtrace.File{Path: k.Path, Ranges: k.Ranges, DebugOf: k.DebugOf})
	}
	for i, g := range h.Segments {
		ofFile := slices.ContainsFunc(h.Files, func(f Mapped) bool { return f.Start < g.End && g.Start < f.End })
		if h.executable(g.Start) && !ofFile && h.Segments[i].Start != p.VDSO {
			p.Code = append(p.Code, backtrace.Range{Start: g.Start, End: g.End})
		}
	}
	return p
}

// vdso is where the kernel put its own module (AT_SYSINFO_EHDR), 0: nowhere.
func (h *Head) vdso() uint64 {
	const sysinfoEHDR = 33
	for b := h.Auxv; len(b) >= 16; b = b[16:] {
		if binary.LittleEndian.Uint64(b) == sysinfoEHDR {
			return binary.LittleEndian.Uint64(b[8:])
		}
	}
	return 0
}
