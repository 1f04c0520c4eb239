package coredump

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

const (
	// maxModules bounds what a record lists.
	maxModules = 1024
	// maxBuildID is in bytes; linkers write 8 to 32.
	maxBuildID = 64
	// maxNotes bounds what is read of a module's notes.
	maxNotes = 64 << 10
	// deletedMark is what the kernel appends to the name of a file that has none any more.
	deletedMark = " (deleted)"
)

// reader reads a process's memory as memory.read does.
type reader interface {
	read(b []byte, addr uint64) error
}

// modules lists the ELF files that are mapped. It reads their headers from the process's memory and opens no file, so it
// tells what ran, whatever became of the files. What it reads is hostile.
func modules(h *Head, m reader) []Module {
	var out []Module
	head := make([]byte, pageSize)
	for _, f := range h.Files {
		if n := len(out); n > 0 && f.Offset != 0 && out[n-1].Path == f.Path {
			out[n-1].End = f.End
			continue
		}
		if f.Offset != 0 || len(out) == maxModules || m.read(head, f.Start) != nil || !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
			continue
		}
		out = append(out, Module{
			Path: f.Path, Start: f.Start, End: f.End, Deleted: strings.HasSuffix(f.Path, deletedMark), BuildID: buildID(head, f.Start, m),
		})
	}
	for i := range out {
		out[i].Path = strings.ToValidUTF8(out[i].Path, "�")
	}
	return out
}

// buildID finds the note of an ELF file whose first page is head and is mapped at start; "" if it has none.
func buildID(head []byte, start uint64, m reader) string {
	le := binary.LittleEndian
	if elf.Class(head[elf.EI_CLASS]) != elf.ELFCLASS64 || le.Uint16(head[54:]) != phdrSize {
		return ""
	}
	off, n := le.Uint64(head[32:]), uint64(le.Uint16(head[56:]))
	if off > pageSize || off+n*phdrSize > pageSize {
		return ""
	}
	phdrs := head[off:]
	var base uint64
	for i := range n {
		p := phdrs[i*phdrSize:]
		if elf.ProgType(le.Uint32(p)) == elf.PT_LOAD && le.Uint64(p[8:]) < pageSize {
			base = start - le.Uint64(p[16:])&^(pageSize-1)
			break
		}
	}
	for i := range n {
		p := phdrs[i*phdrSize:]
		size := le.Uint64(p[32:])
		if elf.ProgType(le.Uint32(p)) != elf.PT_NOTE || size > maxNotes {
			continue
		}
		notes := make([]byte, size)
		if m.read(notes, base+le.Uint64(p[16:])) != nil {
			return ""
		}
		if id := buildIDNote(notes); id != "" {
			return id
		}
	}
	return ""
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

// buildIDNote returns NT_GNU_BUILD_ID in hex.
func buildIDNote(b []byte) string {
	le := binary.LittleEndian
	for len(b) >= 12 {
		nameSize, descSize, typ := uint64(le.Uint32(b)), uint64(le.Uint32(b[4:])), le.Uint32(b[8:])
		desc := 12 + (nameSize+3)&^3
		end := desc + (descSize+3)&^3
		if end > uint64(len(b)) {
			return ""
		}
		const gnuBuildID = 3
		if typ == gnuBuildID && nameSize == 4 && string(b[12:16]) == "GNU\x00" && descSize <= maxBuildID {
			return hex.EncodeToString(b[desc : desc+descSize])
		}
		b = b[end:]
	}
	return ""
}
