package coredump

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Sizes of ELF's 64-bit structures, and bounds of what a core's head may have.
const (
	ehdrSize = 64
	phdrSize = 56
	// maxHead bounds header, program headers and notes: 200 bytes for a file mapping, about 3 KiB for a thread.
	maxHead = 64 << 20
)

// errNotCore says that bytes are not the head of an x86-64 core.
var errNotCore = errors.New("not an x86-64 core file")

// Segment is one stretch of the process's memory.
type Segment struct {
	Start, End uint64 // addresses
	Dumped     uint64 // bytes from Start that the kernel would write; 0: none, as for code that is in a file
	Flags      uint32 // elf.PF_…
	Off        uint64 // in the core that was read
}

// Regs are the registers of a thread that unwinding needs.
type Regs struct {
	PC, SP, BP uint64
	// All is struct user_regs_struct, 27 registers in the kernel's order.
	All [27]uint64
}

// CoreThread is one thread in a core's notes; the first one crashed.
type CoreThread struct {
	TID  int
	Regs Regs
}

// Mapped is a file in the process's memory (NT_FILE).
type Mapped struct {
	Start, End uint64
	Offset     uint64 // bytes into the file
	Path       string // as the kernel knew it; " (deleted)" may follow
}

// Head is what comes first in a core: all but the memory.
type Head struct {
	Notes    []byte // PT_NOTE's bytes
	Segments []Segment
	Threads  []CoreThread
	Files    []Mapped
	Signal   int
	Code     int    // si_code
	Fault    uint64 // si_addr of SIGSEGV, SIGBUS, SIGILL, SIGFPE
	Auxv     []byte
	Comm     string // the process's name
	Pid      int    // in its own namespace
	ehdr     [ehdrSize]byte
}

// ReadHead reads header, program headers and notes from the beginning of a core. The bytes are foreign.
func ReadHead(r io.Reader) (*Head, error) {
	h := &Head{}
	if _, err := io.ReadFull(r, h.ehdr[:]); err != nil {
		return nil, fmt.Errorf("core header: %w", err)
	}
	le := binary.LittleEndian
	e := h.ehdr[:]
	if !bytes.Equal(e[:4], []byte(elf.ELFMAG)) || e[4] != byte(elf.ELFCLASS64) || le.Uint16(e[16:]) != uint16(elf.ET_CORE) ||
		le.Uint16(e[18:]) != uint16(elf.EM_X86_64) || le.Uint64(e[32:]) != ehdrSize || le.Uint16(e[54:]) != phdrSize {
		return nil, errNotCore
	}
	n := int(le.Uint16(e[56:]))
	if n == 0 || n == 0xffff {
		return nil, fmt.Errorf("%w: %d program headers", errNotCore, n)
	}
	var phdrs bytes.Buffer
	if _, err := io.CopyN(&phdrs, r, int64(n)*phdrSize); err != nil {
		return nil, fmt.Errorf("program headers: %w", err)
	}
	at := uint64(ehdrSize + n*phdrSize)
	var noteOff, noteSize uint64
	for i := range n {
		p := phdrs.Bytes()[i*phdrSize:]
		off, addr, filesz, memsz := le.Uint64(p[8:]), le.Uint64(p[16:]), le.Uint64(p[32:]), le.Uint64(p[40:])
		switch elf.ProgType(le.Uint32(p)) {
		case elf.PT_NOTE:
			noteOff, noteSize = off, filesz
		case elf.PT_LOAD:
			if memsz == 0 || filesz > memsz || addr+memsz < addr {
				return nil, fmt.Errorf("%w: segment %d is malformed", errNotCore, i)
			}
			h.Segments = append(h.Segments, Segment{Start: addr, End: addr + memsz, Dumped: filesz, Flags: le.Uint32(p[4:]), Off: off})
		}
	}
	if noteOff < at || noteOff-at > maxHead || noteSize > maxHead {
		return nil, fmt.Errorf("%w: notes of %d bytes at %d", errNotCore, noteSize, noteOff)
	}
	if _, err := io.CopyN(io.Discard, r, int64(noteOff-at)); err != nil {
		return nil, fmt.Errorf("core notes: %w", err)
	}
	var notes bytes.Buffer
	if _, err := io.CopyN(&notes, r, int64(noteSize)); err != nil {
		return nil, fmt.Errorf("core notes: %w", err)
	}
	h.Notes = notes.Bytes()
	return h, h.parseNotes()
}

// Types of notes (include/uapi/linux/elf.h).
const (
	ntPrstatus = 1
	ntPrpsinfo = 3
	ntAuxv     = 6
	ntSiginfo  = 0x53494749
	ntFile     = 0x46494c45
)

func (h *Head) parseNotes() error {
	le := binary.LittleEndian
	for b := h.Notes; len(b) >= 12; {
		nameSize, descSize, typ := uint64(le.Uint32(b)), uint64(le.Uint32(b[4:])), le.Uint32(b[8:])
		desc := 12 + (nameSize+3)&^3
		end := desc + (descSize+3)&^3
		if end > uint64(len(b)) {
			return fmt.Errorf("%w: a note ends beyond the notes", errNotCore)
		}
		d := b[desc : desc+descSize]
		core := nameSize == 5 && string(b[12:16]) == "CORE"
		b = b[end:]
		if !core {
			continue
		}
		switch typ {
		case ntPrstatus:
			h.prstatus(d)
		case ntPrpsinfo:
			h.prpsinfo(d)
		case ntAuxv:
			h.Auxv = d
		case ntSiginfo:
			if len(d) >= 24 {
				h.Signal, h.Code, h.Fault = int(int32(le.Uint32(d))), int(int32(le.Uint32(d[8:]))), le.Uint64(d[16:])
			}
		case ntFile:
			h.Files = fileNote(d)
		}
	}
	if len(h.Threads) == 0 {
		return fmt.Errorf("%w: no thread in its notes", errNotCore)
	}
	return nil
}

// prpsinfo takes struct elf_prpsinfo: pid at 24, name at 40.
func (h *Head) prpsinfo(d []byte) {
	const pidAt, nameAt, nameSize = 24, 40, 16
	if len(d) < nameAt+nameSize {
		return
	}
	name, _, _ := bytes.Cut(d[nameAt:nameAt+nameSize], []byte{0})
	h.Comm, h.Pid = strings.ToValidUTF8(string(name), "�"), int(binary.LittleEndian.Uint32(d[pidAt:]))
}

// prstatus takes struct elf_prstatus: pid at 32, registers at 112.
func (h *Head) prstatus(d []byte) {
	const pidAt, regsAt = 32, 112
	t := CoreThread{}
	if len(d) < regsAt+8*len(t.Regs.All) {
		return
	}
	le := binary.LittleEndian
	t.TID = int(le.Uint32(d[pidAt:]))
	for i := range t.Regs.All {
		t.Regs.All[i] = le.Uint64(d[regsAt+8*i:])
	}
	t.Regs.BP, t.Regs.PC, t.Regs.SP = t.Regs.All[4], t.Regs.All[16], t.Regs.All[19]
	h.Threads = append(h.Threads, t)
}

// fileNote parses NT_FILE: count, page size, count times (start, end, page offset), then as many names.
func fileNote(d []byte) []Mapped {
	le := binary.LittleEndian
	if len(d) < 16 {
		return nil
	}
	count, page := le.Uint64(d), le.Uint64(d[8:])
	if count > uint64(len(d)-16)/24 {
		return nil
	}
	names := d[16+24*count:]
	var files []Mapped
	for i := range count {
		name, rest, ok := bytes.Cut(names, []byte{0})
		if !ok {
			break
		}
		names = rest
		e := d[16+24*i:]
		files = append(files, Mapped{le.Uint64(e), le.Uint64(e[8:]), le.Uint64(e[16:]) * page, string(name)})
	}
	return files
}

// Run is a stretch of memory that a core file has the bytes of.
type Run struct {
	Start, End uint64 // page aligned, within one segment
}

// layout is the form of a core file: its bytes before the memory, and where each run's bytes are.
type layout struct {
	head []byte
	runs []placed
	size int64
}

type placed struct {
	Run
	off int64
}

// pageSize is x86-64's.
const pageSize = 4096

// layOut makes the head of a core that has the bytes of runs, which are ordered and apart. Memory without bytes is named
// by headers of no length in the file, so that a debugger knows that it existed. Notes are aligned by 4: BFD refuses others.
func (h *Head) layOut(runs []Run) layout {
	var loads []Segment
	for _, s := range h.Segments {
		at := s.Start
		for len(runs) > 0 && runs[0].Start < s.End {
			r := runs[0]
			runs = runs[1:]
			if r.Start > at {
				loads = append(loads, Segment{Start: at, End: r.Start, Flags: s.Flags})
			}
			loads = append(loads, Segment{Start: r.Start, End: r.End, Dumped: r.End - r.Start, Flags: s.Flags})
			at = r.End
		}
		if at < s.End {
			loads = append(loads, Segment{Start: at, End: s.End, Flags: s.Flags})
		}
	}
	if len(loads) >= 0xfffe { // more need an extension that few tools read: what has no bytes is left out
		loads = withBytes(loads)
	}
	return h.layLoads(loads)
}

// encode returns the head as ReadHead takes it, with the sizes that the kernel gave.
func (h *Head) encode() []byte { return h.layLoads(h.Segments).head }

// layLoads makes the head of a core with the given segments and places their bytes behind it.
func (h *Head) layLoads(loads []Segment) layout {
	var l layout
	le := binary.LittleEndian
	l.head = append(l.head, h.ehdr[:]...)
	le.PutUint16(l.head[56:], uint16(len(loads)+1))
	le.PutUint64(l.head[40:], 0) // no sections
	noteAt := uint64(ehdrSize + phdrSize*(len(loads)+1))
	phdr := func(typ elf.ProgType, flags uint32, off, addr, filesz, memsz, align uint64) {
		l.head = le.AppendUint32(l.head, uint32(typ))
		l.head = le.AppendUint32(l.head, flags)
		for _, v := range []uint64{off, addr, 0, filesz, memsz, align} {
			l.head = le.AppendUint64(l.head, v)
		}
	}
	phdr(elf.PT_NOTE, 0, noteAt, 0, uint64(len(h.Notes)), 0, 4)
	at := (noteAt + uint64(len(h.Notes)) + pageSize - 1) &^ (pageSize - 1)
	for _, s := range loads {
		phdr(elf.PT_LOAD, s.Flags, at, s.Start, s.Dumped, s.End-s.Start, pageSize)
		if s.Dumped > 0 {
			l.runs = append(l.runs, placed{Run{s.Start, s.Start + s.Dumped}, int64(at)})
			at += s.Dumped
		}
	}
	l.head = append(l.head, h.Notes...)
	l.size = int64(at)
	return l
}

func withBytes(loads []Segment) []Segment {
	var kept []Segment
	for _, s := range loads {
		if s.Dumped > 0 && len(kept) < 0xfffe {
			kept = append(kept, s)
		}
	}
	return kept
}
