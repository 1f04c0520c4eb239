package coredump

import (
	"github.com/tritond/triton/pkg/backtrace"
)

const (
	// maxTouched bounds the pages of interpreters that a mini core has: 8 MiB.
	maxTouched = 2048
	// maxGoPages bounds the pages that say what goroutines do: 4 MiB, some thousand of them.
	maxGoPages = 1024
	// maxGoVariables bounds what is looked through for their list.
	maxGoVariables = 16 << 20
)

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
	return runsOf(t.pages)
}

// runsOf are pages as runs, in no order.
func runsOf(pages map[uint64]bool) []Run {
	var runs []Run
	for at := range pages {
		runs = append(runs, Run{at, at + pageSize})
	}
	return runs
}

// goroutines lists the pages that say what the goroutines do which no thread runs.
func (h *Head) goroutines(all []Module, s *scan, m *memory) []Run {
	variables := goVariables(all, s)
	if len(variables) == 0 {
		return nil
	}
	pages := map[uint64]bool{}
	backtrace.GoroutineMemory(variables, &touched{h: h, m: m}, func(addr, n uint64) bool {
		for at := addr &^ (pageSize - 1); at < addr+n; at += pageSize {
			if i := h.segment(at); i >= 0 && h.Segments[i].Start <= at && at < h.Segments[i].dumpedEnd() {
				pages[at] = true
			}
		}
		return len(pages) < maxGoPages
	})
	return runsOf(pages)
}
