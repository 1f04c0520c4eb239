package coredump

import (
	"slices"

	"github.com/tritond/triton/pkg/backtrace"
)

// maxTouched bounds the pages of interpreters that a mini core has: 8 MiB.
const maxTouched = 2048

// touched is a held process's memory; with pages set it notes which are read. It is for one goroutine.
type touched struct {
	h     *Head
	m     *memory
	pages map[uint64]bool // by address; nil: not noted
}

// Load implements backtrace.Memory.
func (t *touched) Load(b []byte, addr uint64) bool {
	end := addr + uint64(len(b))
	i := t.h.segment(addr)
	if i < 0 || addr < t.h.Segments[i].Start || end < addr || end > t.h.Segments[i].dumpedEnd() {
		return false
	}
	if t.pages != nil {
		for at := addr &^ (pageSize - 1); at < end; at += pageSize {
			t.pages[at] = true
		}
		if len(t.pages) > maxTouched {
			return false
		}
	}
	return t.m.read(b, addr) == nil
}

// python lists the pages of the heap that say which Python functions the threads are in: a mini core has them, so that it
// tells as much as the whole.
func (h *Head) python(m *memory) []Run {
	var files []backtrace.File
	for _, f := range h.Files {
		files = append(files, backtrace.File{Path: f.Path, Ranges: []backtrace.Range{{Start: f.Start, End: f.End, Exec: h.executable(f.Start)}}})
	}
	found := backtrace.FindPython(files, &touched{h: h, m: m})
	if len(found) == 0 {
		return nil
	}
	t := &touched{h: h, m: m, pages: map[uint64]bool{}}
	_, _ = backtrace.PythonCalls(found, t) // what is wrong with them the analysis says
	var runs []Run
	for at := range t.pages {
		runs = append(runs, Run{at, at + pageSize})
	}
	slices.SortFunc(runs, func(a, b Run) int { return int(int64(a.Start - b.Start)) })
	return runs
}
