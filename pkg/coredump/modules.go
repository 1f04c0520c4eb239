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

// modules lists the ELF files that are mapped. It reads their headers from the process's memory and opens no file, so it
// tells what ran, whatever became of the files. What it reads is hostile.
func modules(files []Mapped, m reader) []Module {
	var out []Module
	head := make([]byte, pageSize)
	for _, f := range files {
		if n := len(out); n > 0 && f.Offset != 0 && out[n-1].Path == f.Path {
			out[n-1].End = f.End
			continue
		}
		if f.Offset != 0 || len(out) == maxModules || m.read(head, f.Start) != nil || !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
			continue
		}
		out = append(out, Module{
			Path: f.Path, Start: f.Start, End: f.End, Deleted: strings.HasSuffix(f.Path, deletedMark), BuildID: buildID(head, f.Start, m),
			Soname: soname(head, f.Start, m),
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

// buildID finds the note of an ELF file whose first page is head and is mapped at start; "" if it has none.
func buildID(head []byte, start uint64, m reader) string {
	phdrs, base := headers(head, start)
	const gnuBuildID = 3
	if id := noteOf(phdrs, base, m, "GNU\x00", gnuBuildID); len(id) <= maxBuildID {
		return hex.EncodeToString(id)
	}
	return ""
}

// noteOf returns what the first note of a name and type says, of an ELF file with such headers; nil: there is none.
func noteOf(phdrs [][]byte, base uint64, m reader, name string, typ uint32) []byte {
	le := binary.LittleEndian
	for _, p := range phdrs {
		size := le.Uint64(p[32:])
		if elf.ProgType(le.Uint32(p)) != elf.PT_NOTE || size > maxNotes {
			continue
		}
		notes := make([]byte, size)
		if m.read(notes, base+le.Uint64(p[16:])) != nil {
			return nil
		}
		if desc := findNote(notes, name, typ); desc != nil {
			return desc
		}
	}
	return nil
}

// goVariables are where the variables of Go programs lie among what else a module may write. Such a program has a note of
// Go's linker.
func goVariables(all []Module, m reader) []backtrace.Range {
	le := binary.LittleEndian
	var out []backtrace.Range
	head := make([]byte, pageSize)
	for _, one := range all {
		if m.read(head, one.Start) != nil {
			continue
		}
		phdrs, base := headers(head, one.Start)
		const goBuildID = 4
		if noteOf(phdrs, base, m, "Go\x00\x00", goBuildID) == nil {
			continue
		}
		for _, p := range phdrs {
			if elf.ProgType(le.Uint32(p)) == elf.PT_LOAD && elf.ProgFlag(le.Uint32(p[4:]))&elf.PF_W != 0 {
				start := base + le.Uint64(p[16:])
				zero, end := (start+le.Uint64(p[32:]))&^7, start+le.Uint64(p[40:])
				// First those that begin as zero: the list is one of them.
				for _, r := range []backtrace.Range{{Start: zero, End: min(end, zero+maxGoVariables)}, {Start: start, End: min(zero, start+maxGoVariables)}} {
					if r.Start < r.End {
						out = append(out, r)
					}
				}
			}
		}
	}
	return out
}

// soname finds the name of a shared library that is mapped at start; "" if it has none that a file could have.
func soname(head []byte, start uint64, m reader) string {
	le := binary.LittleEndian
	phdrs, base := headers(head, start)
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
func placeOf(h *Head, m reader) string {
	pc := h.Threads[0].Regs.PC
	i := slices.IndexFunc(h.Files, func(f Mapped) bool { return f.Start <= pc && pc < f.End })
	if i < 0 {
		return ""
	}
	file := slices.DeleteFunc(slices.Clone(h.Files), func(f Mapped) bool { return f.Path != h.Files[i].Path })
	return place(pc, modules(file, m))
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
