package backtrace

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"io"
	"slices"
)

// Process is a process that crashed, that was stopped to be looked at, or that addresses were taken of while it ran.
type Process struct {
	Signal  string    `json:"signal"` // "SIGSEGV"
	Threads []Stopped `json:"threads"`
	Files   []File    `json:"files"`
	// Code are stretches of executable memory that no file is mapped to.
	Code []Range `json:"code,omitempty"`
	// PCs are addresses to name beside the threads' stacks: where code stands, or one less than where a call returns to.
	PCs []uint64 `json:"pcs,omitempty"`
	// VDSO is the address of the kernel's own module (AT_SYSINFO_EHDR), 0: none.
	VDSO uint64 `json:"vdso,omitempty"`
}

// Stopped is a thread; the first of a process crashed.
type Stopped struct {
	TID  int      `json:"tid"`
	Comm string   `json:"comm,omitempty"`
	Regs []uint64 `json:"regs"` // struct user_regs_struct of x86-64

	called bool // the pc is where a call returns to, not where it stands
}

// File is a mapped file, or one that is not mapped and has the debug information of others.
type File struct {
	Path   string  `json:"path"`
	Ranges []Range `json:"ranges"`
	// DebugOf is the build id of those whose debug information it has.
	DebugOf string `json:"debugOf,omitempty"`
}

// Range is a stretch of memory, and where it begins in its file.
type Range struct {
	Start  uint64 `json:"start"`
	End    uint64 `json:"end"`
	Offset uint64 `json:"offset,omitempty"`
	Exec   bool   `json:"exec,omitempty"`
}

// Memory is what was saved of a process's memory.
type Memory interface {
	// Load fills b from an address, and reports whether all of it was saved.
	Load(b []byte, addr uint64) bool
}

// Content is the bytes of a file.
type Content struct {
	io.ReaderAt
	Size int64
}

// place is a range and the file it is of, -1: none.
type place struct {
	Range
	file int
}

// atlas answers what lies at an address.
type atlas struct {
	places []place // ordered, apart
	mem    Memory
	files  []Content
}

func newAtlas(p *Process, mem Memory, files []Content) *atlas {
	a := &atlas{mem: mem, files: files}
	for i, f := range p.Files {
		for _, r := range f.Ranges {
			a.places = append(a.places, place{r, i})
		}
	}
	for _, r := range p.Code {
		r.Exec = true
		a.places = append(a.places, place{r, -1})
	}
	a.sort()
	return a
}

func (a *atlas) sort() {
	slices.SortStableFunc(a.places, func(x, y place) int { return cmp.Compare(x.Start, y.Start) })
}

// at returns what addr lies in.
func (a *atlas) at(addr uint64) (place, bool) {
	i, found := slices.BinarySearchFunc(a.places, addr, func(p place, v uint64) int { return cmp.Compare(p.Start, v) })
	if !found {
		i--
	}
	if i < 0 || addr >= a.places[i].End {
		return place{}, false
	}
	return a.places[i], true
}

// executable reports whether code may be at addr.
func (a *atlas) executable(addr uint64) bool {
	p, ok := a.at(addr)
	return ok && p.Exec
}

// load reads what was saved, or what the mapped file has: code is rarely in a core.
func (a *atlas) load(b []byte, addr uint64) bool {
	if a.mem.Load(b, addr) {
		return true
	}
	p, ok := a.at(addr)
	if !ok || p.file < 0 || p.file >= len(a.files) || a.files[p.file].ReaderAt == nil || uint64(len(b)) > p.End-addr {
		return false
	}
	off := addr - p.Start + p.Offset
	if off < p.Offset || off > 1<<62 {
		return false
	}
	n, _ := a.files[p.file].ReadAt(b, int64(off))
	return n == len(b)
}

func (a *atlas) word(addr uint64) (uint64, bool) {
	var b [8]byte
	ok := a.load(b[:], addr)
	return binary.LittleEndian.Uint64(b[:]), ok
}

// trampoline reports whether the instructions at pc return from a signal's handler: mov $15, %rax or %eax; syscall.
func (a *atlas) trampoline(pc uint64) bool {
	if !a.executable(pc) {
		return false
	}
	var b [9]byte
	if a.load(b[:], pc) && bytes.Equal(b[:], []byte{0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05}) {
		return true
	}
	return a.load(b[:7], pc) && bytes.Equal(b[:7], []byte{0xb8, 15, 0, 0, 0, 0x0f, 0x05})
}
