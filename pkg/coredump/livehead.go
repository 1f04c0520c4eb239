package coredump

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/tritond/triton/pkg/procfs"
)

const (
	ntFpregset = 2
)

// mapping is a line of /proc/PID/maps, and the segment that a core has of it.
type mapping struct {
	Segment
	of procfs.Mapping
}

// mappings are those of /proc/PID/maps.
func mappings(text string) []mapping {
	all := procfs.ParseMaps(text, nil)
	out := make([]mapping, len(all))
	for i, m := range all {
		out[i] = mapping{Segment: Segment{Start: m.Start, End: m.End, Flags: uint32(m.Flags)}, of: m}
	}
	return out
}

// undumped are ranges that no core of the process may have, and changed those of files that the process has written to.
type marks struct{ undumped, changed []Run }

// parseMarks reads them from /proc/PID/smaps.
func parseMarks(smaps string) marks {
	var k marks
	procfs.ParseMaps(smaps, func(m *procfs.Mapping, key, value string) {
		switch key {
		case "Anonymous":
			if value != "0 kB" {
				k.changed = append(k.changed, Run{m.Start, m.End})
			}
		case "VmFlags":
			flags := strings.Fields(value)
			if slices.Contains(flags, "dd") || slices.Contains(flags, "io") {
				k.undumped = append(k.undumped, Run{m.Start, m.End})
			}
		}
	})
	return k
}

func overlaps(runs []Run, s Segment) bool {
	return slices.ContainsFunc(runs, func(r Run) bool { return r.Start < s.End && s.Start < r.End })
}

// choose sets how much of each mapping a core has, as the kernel's default filter does: memory without a file, what was
// changed of private files, and the first page of others, where ELF headers are. Marks come from before the halt: what was
// mapped since is judged by its rights.
func choose(all []mapping, k marks) {
	for i := range all {
		m := &all[i]
		ofFile := m.of.Inode != "0" && !strings.HasPrefix(m.of.Path, "/memfd:") && !strings.HasPrefix(m.of.Path, "/dev/zero")
		switch {
		case overlaps(k.undumped, m.Segment) || m.of.Path == "[vvar]" || m.of.Path == "[vvar_vclock]" || m.of.Path == "[vsyscall]":
		case !ofFile && m.Flags != 0, ofFile && m.of.Private && (m.Flags&uint32(elf.PF_W) != 0 || overlaps(k.changed, m.Segment)):
			m.Dumped = m.End - m.Start
		case ofFile && m.of.Offset == 0 && m.Flags&uint32(elf.PF_R) != 0:
			m.Dumped = pageSize
		}
	}
}

// liveHead makes of a process that stands what the kernel writes first of one that crashed. tids are the threads' ids in
// the container.
func liveHead(h *halted, all []mapping, auxv []byte, info psinfo, tids []int) (*Head, error) {
	out := &Head{}
	for _, m := range all {
		out.Segments = append(out.Segments, m.Segment)
	}
	slices.SortFunc(out.Segments, func(a, b Segment) int { return cmp.Compare(a.Start, b.Start) })
	copy(out.ehdr[:], elf.ELFMAG)
	le := binary.LittleEndian
	e := out.ehdr[:]
	e[elf.EI_CLASS], e[elf.EI_DATA], e[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	le.PutUint16(e[16:], uint16(elf.ET_CORE))
	le.PutUint16(e[18:], uint16(elf.EM_X86_64))
	le.PutUint32(e[20:], uint32(elf.EV_CURRENT))
	le.PutUint64(e[32:], ehdrSize)
	le.PutUint16(e[52:], ehdrSize)
	le.PutUint16(e[54:], phdrSize)
	var notes bytes.Buffer
	for i, t := range h.threads {
		note(&notes, ntPrstatus, prstatusOf(t, tids[i]))
		if i == 0 {
			note(&notes, ntPrpsinfo, info.encode())
			note(&notes, ntAuxv, auxv)
			note(&notes, ntFile, fileNoteOf(all))
		}
		if t.fp != nil {
			note(&notes, ntFpregset, t.fp)
		}
	}
	out.Notes = notes.Bytes()
	if err := out.parseNotes(); err != nil {
		return nil, fmt.Errorf("notes of a live process: %w", err)
	}
	return out, nil
}

// note appends one of the owner CORE.
func note(w *bytes.Buffer, typ uint32, desc []byte) {
	le := binary.LittleEndian
	head := le.AppendUint32(le.AppendUint32(le.AppendUint32(nil, 5), uint32(len(desc))), typ)
	w.Write(append(head, "CORE\x00\x00\x00\x00"...))
	w.Write(desc)
	w.Write(make([]byte, (4-len(desc)%4)%4))
}

// prstatusOf is struct elf_prstatus: pid at 32, registers at 112, and whether there are floating-point ones at 328.
func prstatusOf(t haltedThread, tid int) []byte {
	b := make([]byte, 336)
	le := binary.LittleEndian
	le.PutUint32(b[32:], uint32(tid))
	for i, r := range t.regs {
		le.PutUint64(b[112+8*i:], r)
	}
	if t.fp != nil {
		le.PutUint32(b[328:], 1)
	}
	return b
}

// psinfo is what NT_PRPSINFO says.
type psinfo struct {
	pid, uid  int
	comm, cmd string
}

// encode gives struct elf_prpsinfo: uid at 16, pid at 24, name at 40 (16 bytes), arguments at 56 (80).
func (p psinfo) encode() []byte {
	b := make([]byte, 136)
	binary.LittleEndian.PutUint32(b[16:], uint32(p.uid))
	binary.LittleEndian.PutUint32(b[24:], uint32(p.pid))
	copy(b[40:55], p.comm)
	copy(b[56:135], p.cmd)
	return b
}

// fileNoteOf is what fileNote reads.
func fileNoteOf(all []mapping) []byte {
	le := binary.LittleEndian
	var entries, names []byte
	var n uint64
	for _, m := range all {
		if m.of.Inode == "0" {
			continue
		}
		n++
		for _, v := range []uint64{m.Start, m.End, m.of.Offset / pageSize} {
			entries = le.AppendUint64(entries, v)
		}
		names = append(append(names, m.of.Path...), 0)
	}
	out := le.AppendUint64(le.AppendUint64(nil, n), pageSize)
	return append(append(out, entries...), names...)
}

// cutLast is strings.Cut at the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
