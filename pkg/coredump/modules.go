package coredump

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/tritond/triton/pkg/backtrace"
)

const (
	// maxModules bounds what a record lists.
	maxModules = 1024
	// maxBuildID is in bytes; linkers write 8 to 32.
	maxBuildID = 64
	// maxNotes bounds what is read of a module's notes.
	maxNotes = 64 << 10
	// maxDynamic bounds what is read of its dynamic section.
	maxDynamic = 16 << 10
	// maxSoname bounds a library's name.
	maxSoname = 255
	// deletedMark is what the kernel appends to the name of a file that has none any more.
	deletedMark = " (deleted)"
)

// reader reads a process's memory as memory.read does.
type reader interface {
	read(b []byte, addr uint64) error
}

// scan is what the ELF files in a process's memory say of themselves: the headers of each are read once. It opens no file, so it
// tells what ran, whatever became of the files. What it reads is hostile. The process must stand.
type scan struct {
	m    reader
	seen map[uint64]*elfFile // by where a file's beginning is mapped; nil: there is none
}

// elfFile is what one says.
type elfFile struct {
	buildID, soname string
	variables       []backtrace.Range // where those of a Go program lie, among what else it may write
}

func newScan(m reader) *scan { return &scan{m, map[uint64]*elfFile{}} }

// file returns what the file says that is mapped at start; nil: it is no ELF file.
func (s *scan) file(start uint64) *elfFile {
	f, ok := s.seen[start]
	if ok {
		return f
	}
	head := make([]byte, pageSize)
	if s.m.read(head, start) == nil && bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		phdrs, base := headers(head, start)
		f = &elfFile{soname: soname(phdrs, base, s.m)}
		f.readNotes(phdrs, base, s.m)
	}
	s.seen[start] = f
	return f
}

// modules lists the ELF files that are mapped.
func modules(files []Mapped, s *scan) []Module {
	var out []Module
	for _, f := range files {
		if n := len(out); n > 0 && f.Offset != 0 && out[n-1].Path == f.Path {
			out[n-1].End = f.End
			continue
		}
		if f.Offset != 0 || len(out) == maxModules {
			continue
		}
		said := s.file(f.Start)
		if said == nil {
			continue
		}
		out = append(out, Module{
			Path: f.Path, Start: f.Start, End: f.End, Deleted: strings.HasSuffix(f.Path, deletedMark), BuildID: said.buildID, Soname: said.soname,
		})
	}
	for i := range out {
		out[i].Path = strings.ToValidUTF8(out[i].Path, "�")
	}
	return out
}

// headers are the program headers in the first page of an ELF file that is mapped at start, and what is to be added to
// their addresses.
func headers(head []byte, start uint64) (phdrs [][]byte, base uint64) {
	le := binary.LittleEndian
	if elf.Class(head[elf.EI_CLASS]) != elf.ELFCLASS64 || le.Uint16(head[54:]) != phdrSize {
		return nil, 0
	}
	off, n := le.Uint64(head[32:]), uint64(le.Uint16(head[56:]))
	if off > pageSize || off+n*phdrSize > pageSize {
		return nil, 0
	}
	based := false
	for i := range n {
		p := head[off+i*phdrSize:][:phdrSize]
		phdrs = append(phdrs, p)
		if !based && elf.ProgType(le.Uint32(p)) == elf.PT_LOAD && le.Uint64(p[8:]) < pageSize {
			base, based = start-le.Uint64(p[16:])&^(pageSize-1), true
		}
	}
	return phdrs, base
}

// readNotes finds the build id, and whether the file is a Go program: that has a note of Go's linker.
func (f *elfFile) readNotes(phdrs [][]byte, base uint64, m reader) {
	le := binary.LittleEndian
	const gnuBuildID, goBuildID = 3, 4
	var id []byte
	ofGo := false
	for _, p := range phdrs {
		size := le.Uint64(p[32:])
		if elf.ProgType(le.Uint32(p)) != elf.PT_NOTE || size > maxNotes {
			continue
		}
		notes := make([]byte, size)
		if m.read(notes, base+le.Uint64(p[16:])) != nil {
			break
		}
		if id == nil {
			id = findNote(notes, "GNU\x00", gnuBuildID)
		}
		ofGo = ofGo || findNote(notes, "Go\x00\x00", goBuildID) != nil
	}
	if len(id) <= maxBuildID {
		f.buildID = hex.EncodeToString(id)
	}
	if ofGo {
		f.variables = writable(phdrs, base)
	}
}

// writable lists what is mapped of a file to be written to.
func writable(phdrs [][]byte, base uint64) []backtrace.Range {
	le := binary.LittleEndian
	var out []backtrace.Range
	for _, p := range phdrs {
		if elf.ProgType(le.Uint32(p)) != elf.PT_LOAD || elf.ProgFlag(le.Uint32(p[4:]))&elf.PF_W == 0 {
			continue
		}
		start := base + le.Uint64(p[16:])
		zero, end := (start+le.Uint64(p[32:]))&^7, start+le.Uint64(p[40:])
		// First those that begin as zero: Go's list of goroutines is one of them.
		for _, r := range []backtrace.Range{{Start: zero, End: min(end, zero+maxGoVariables)}, {Start: start, End: min(zero, start+maxGoVariables)}} {
			if r.Start < r.End {
				out = append(out, r)
			}
		}
	}
	return out
}

// goVariables are where the variables of Go programs lie among what else a module may write.
func goVariables(all []Module, s *scan) []backtrace.Range {
	var out []backtrace.Range
	for _, one := range all {
		if f := s.file(one.Start); f != nil {
			out = append(out, f.variables...)
		}
	}
	return out
}

// soname finds the name of a shared library with such headers; "" if it has none that a file could have.
func soname(phdrs [][]byte, base uint64, m reader) string {
	le := binary.LittleEndian
	for _, p := range phdrs {
		if elf.ProgType(le.Uint32(p)) != elf.PT_DYNAMIC {
			continue
		}
		section := make([]byte, min(le.Uint64(p[40:]), maxDynamic))
		if m.read(section, base+le.Uint64(p[16:])) != nil {
			return ""
		}
		var name, strings uint64
		for ; len(section) >= 16; section = section[16:] {
			switch elf.DynTag(le.Uint64(section)) {
			case elf.DT_SONAME:
				name = le.Uint64(section[8:])
			case elf.DT_STRTAB:
				strings = le.Uint64(section[8:])
			}
		}
		if name == 0 || strings == 0 {
			return ""
		}
		if strings < base { // glibc makes it an address, others leave it as it is in the file
			strings += base
		}
		text := make([]byte, maxSoname+1)
		if m.read(text, strings+name) != nil {
			return ""
		}
		return fileName(text)
	}
	return ""
}

// fileName is the text up to a zero, if a file of one folder can have it as its name.
func fileName(b []byte) string {
	s, _, ok := bytes.Cut(b, []byte{0})
	if !ok || len(s) == 0 || string(s) == "." || string(s) == ".." || bytes.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) {
		return ""
	}
	return string(s)
}

// placeOf is the place of a core's first thread. It looks at no more than the file that the instruction is of.
func placeOf(h *Head, s *scan) string {
	pc := h.Threads[0].Regs.PC
	i := slices.IndexFunc(h.Files, func(f Mapped) bool { return f.Start <= pc && pc < f.End })
	if i < 0 {
		return ""
	}
	file := slices.DeleteFunc(slices.Clone(h.Files), func(f Mapped) bool { return f.Path != h.Files[i].Path })
	return place(pc, modules(file, s))
}

// place names the instruction at pc as any run of the program would: by its module and its offset in that.
func place(pc uint64, all []Module) string {
	for _, m := range all {
		if m.Start <= pc && pc < m.End {
			return fmt.Sprintf("%s+%#x", cmp.Or(m.BuildID, m.Path), pc-m.Start)
		}
	}
	return ""
}

// findNote returns what the first note of a name and type says; nil: there is none.
func findNote(b []byte, name string, typ uint32) []byte {
	le := binary.LittleEndian
	for len(b) >= 12 {
		nameSize, descSize := uint64(le.Uint32(b)), uint64(le.Uint32(b[4:]))
		desc := 12 + (nameSize+3)&^3
		end := desc + (descSize+3)&^3
		if end > uint64(len(b)) {
			return nil
		}
		if le.Uint32(b[8:]) == typ && nameSize == uint64(len(name)) && string(b[12:12+nameSize]) == name {
			return b[desc : desc+descSize]
		}
		b = b[end:]
	}
	return nil
}
