package backtrace

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/therootcompany/xz"
)

// Bounds of what is read of files.
const (
	// maxSection bounds one section, decompressed: the debug information of a browser is larger, of a service it is not.
	maxSection = 256 << 20
	// maxLoaded bounds all sections of all files of a process.
	maxLoaded  = 512 << 20
	maxSymbols = 2 << 20
	maxName    = 4096
	// xzDictionary is what xz -9 uses.
	xzDictionary = 64 << 20
)

// budget is what may still be read.
type budget struct{ left uint64 }

var errTooMuch = errors.New("more than is read")

// module is an ELF file as it is mapped. Parts are read when the first frame needs them.
type module struct {
	Module
	bias uint64 // address in memory less the file's own
	file *elf.File
	// separate is the file that was parted from it, with the same build id, when it was stripped; nil: there is none.
	separate *elf.File
	a        *atlas
	spend    *budget

	unwind  []*frames // nil until unwound is set
	unwound bool
	gotab   *pclntab
	names   *names
	lines   *lines
	err     error // the first one of what could not be read
}

// openModule reads the head of an ELF file. It never fails: what is wrong with it is in err.
func openModule(path string, c Content, a *atlas, spend *budget) *module {
	m := &module{Module: Module{Path: path}, a: a, spend: spend}
	if c.ReaderAt == nil {
		m.err = errors.New("the file was not kept")
		return m
	}
	m.try(func() error {
		f, err := elf.NewFile(io.NewSectionReader(c, 0, c.Size))
		if err != nil {
			return err
		}
		if f.Machine != elf.EM_X86_64 || f.Class != elf.ELFCLASS64 {
			return fmt.Errorf("a file for %s", f.Machine)
		}
		m.file = f
		m.BuildID = buildID(f)
		return nil
	})
	return m
}

// try runs a part that reads foreign bytes. A panic of a parser, as of the standard library's that are not made for
// hostile files, is the module's error.
func (m *module) try(part func() error) {
	var err error
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("malformed: %v", p)
		}
		if err != nil && m.err == nil {
			m.err = err
		}
	}()
	err = part()
}

// buildID is that of the first GNU note, "" if there is none.
func buildID(f *elf.File) string {
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE {
			continue
		}
		const most = 64 << 10
		b, err := io.ReadAll(io.LimitReader(p.Open(), most))
		if err != nil {
			continue
		}
		if id := findBuildID(b); id != "" {
			return id
		}
	}
	return ""
}

func findBuildID(notes []byte) string {
	for r := (&reader{b: notes}); r.left(); {
		nameSize, size, typ := r.u32(), r.u32(), r.u32()
		name := r.bytes((uint64(nameSize) + 3) &^ 3)
		desc := r.bytes((uint64(size) + 3) &^ 3)
		const ntBuildID, longest = 3, 64
		if !r.bad && typ == ntBuildID && string(name) == "GNU\x00" && size > 0 && size <= longest {
			return hex.EncodeToString(desc[:size])
		}
	}
	return ""
}

// sectionBuildID is that of the first GNU note in a section: segments say nothing of a separate debug file.
func (m *module) sectionBuildID() (id string) {
	m.try(func() error {
		for _, s := range m.file.Sections {
			const most = 64 << 10
			if s.Type != elf.SHT_NOTE || s.Size > most {
				continue
			}
			b, err := m.read(s)
			if err != nil {
				return err
			}
			if id = findBuildID(b); id != "" {
				return nil
			}
		}
		return nil
	})
	return id
}

// biasOf is where the module is, if the file's bytes at an offset are mapped at start; false: that is nowhere in it.
func (m *module) biasOf(r Range) (uint64, bool) {
	if m.file == nil {
		return 0, false
	}
	const page = 4096
	for _, p := range m.file.Progs {
		if p.Type == elf.PT_LOAD && r.Offset >= p.Off&^(page-1) && r.Offset < p.Off+p.Filesz {
			return r.Start - r.Offset + p.Off - p.Vaddr, true
		}
	}
	return 0, false
}

// section reads one, decompressed; nil: there is none.
func (m *module) section(name string) ([]byte, error) {
	if m.file == nil {
		return nil, nil
	}
	return m.read(m.file.Section(name))
}

// debugSection reads one of the file that has the module's debug information.
func (m *module) debugSection(name string) ([]byte, error) {
	if m.separate != nil && m.file.Section(".debug_info") == nil {
		return m.read(m.separate.Section(name))
	}
	return m.section(name)
}

func (m *module) read(s *elf.Section) ([]byte, error) {
	if s == nil || s.Type == elf.SHT_NOBITS || s.Size == 0 {
		return nil, nil
	}
	limit := min(maxSection, m.spend.left)
	if s.Size > limit {
		return nil, fmt.Errorf("section %s of %d bytes: %w", s.Name, s.Size, errTooMuch)
	}
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(s.Open(), int64(limit)))
	m.spend.left -= uint64(n)
	if err != nil {
		return nil, fmt.Errorf("section %s: %w", s.Name, err)
	}
	return b.Bytes(), nil
}

// cfi returns the module's call frame information.
func (m *module) cfi() []*frames {
	if m.unwound {
		return m.unwind
	}
	m.unwound = true
	m.try(m.readCFI)
	return m.unwind
}

func (m *module) readCFI() error {
	if m.file == nil {
		return nil
	}
	eh, err := m.section(".eh_frame")
	if err != nil {
		return err
	}
	if eh != nil {
		m.unwind = append(m.unwind, readFrames(eh, m.file.Section(".eh_frame").Addr, true))
	} else if b, addr := m.ehByHeader(); b != nil {
		m.unwind = append(m.unwind, readFrames(b, addr, true))
	}
	debug, err := m.debugSection(".debug_frame")
	if debug != nil {
		m.unwind = append(m.unwind, readFrames(debug, 0, false))
	}
	return err
}

// ehByHeader finds .eh_frame in a file without section headers: PT_GNU_EH_FRAME names it, and the segment ends it.
func (m *module) ehByHeader() ([]byte, uint64) {
	for _, p := range m.file.Progs {
		if p.Type != elf.PT_GNU_EH_FRAME {
			continue
		}
		b := make([]byte, 12)
		if _, err := p.ReadAt(b, 0); err != nil || b[0] != 1 {
			return nil, 0
		}
		head := &frames{data: b, addr: p.Vaddr}
		addr, ok := head.pointer(&reader{b: b, at: 4}, b[1])
		if !ok {
			return nil, 0
		}
		for _, l := range m.file.Progs {
			if l.Type != elf.PT_LOAD || addr < l.Vaddr || addr >= l.Vaddr+l.Filesz {
				continue
			}
			size := min(l.Vaddr+l.Filesz-addr, maxSection, m.spend.left)
			data, err := io.ReadAll(io.NewSectionReader(l, int64(addr-l.Vaddr), int64(size)))
			if err != nil {
				return nil, 0
			}
			m.spend.left -= uint64(len(data))
			return data, addr
		}
	}
	return nil, 0
}

// symbol is a function's name in the string table.
type symbol struct {
	value, size uint64
	name        uint32
	weak        bool
}

// names is a symbol table.
type names struct {
	symbols []symbol // by value
	strings []byte
	from    string
}

// symbols returns the best table of names that the module has.
func (m *module) symbols() *names {
	if m.names != nil {
		return m.names
	}
	m.names = &names{}
	if m.file == nil {
		return m.names
	}
	m.try(func() error {
		var err error
		m.names, err = m.table(m.file, ".symtab", "symtab")
		if len(m.names.symbols) > 0 {
			return err
		}
		dynamic, err2 := m.table(m.file, ".dynsym", "dynsym")
		if m.separate != nil {
			if parted, err3 := m.table(m.separate, ".symtab", "debugfile"); len(parted.symbols) > 0 {
				m.names = parted
				return errors.Join(err, err2, err3)
			}
		}
		if mini, err3 := m.debugData(); len(mini.symbols) > 0 {
			// What is exported is not in the other one.
			m.names = mini.join(dynamic)
			return errors.Join(err, err2, err3)
		}
		m.names = dynamic
		return errors.Join(err, err2)
	})
	return m.names
}

// debugData reads the symbols of .gnu_debugdata: an ELF file, compressed by xz, as Fedora has it in each program.
func (m *module) debugData() (*names, error) {
	packed, err := m.section(".gnu_debugdata")
	if packed == nil {
		return &names{}, err
	}
	x, err := xz.NewReader(bytes.NewReader(packed), xzDictionary)
	if err != nil {
		return &names{}, fmt.Errorf(".gnu_debugdata: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(x, int64(min(maxSection, m.spend.left))))
	m.spend.left -= uint64(len(b))
	if err != nil {
		return &names{}, fmt.Errorf(".gnu_debugdata: %w", err)
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return &names{}, fmt.Errorf(".gnu_debugdata: %w", err)
	}
	return m.table(f, ".symtab", "debugdata")
}

// table reads the functions of a symbol table.
func (m *module) table(f *elf.File, section, from string) (*names, error) {
	n := &names{from: from}
	s := f.Section(section)
	if s == nil || int(s.Link) >= len(f.Sections) {
		return n, nil
	}
	data, err := m.read(s)
	if err != nil {
		return n, err
	}
	if n.strings, err = m.read(f.Sections[s.Link]); err != nil {
		return n, err
	}
	le := binary.LittleEndian
	for ; len(data) >= elf.Sym64Size && len(n.symbols) < maxSymbols; data = data[elf.Sym64Size:] {
		typ, bind, shndx := elf.ST_TYPE(data[4]), elf.ST_BIND(data[4]), le.Uint16(data[6:])
		y := symbol{value: le.Uint64(data[8:]), size: le.Uint64(data[16:]), name: le.Uint32(data), weak: bind != elf.STB_GLOBAL}
		function := typ == elf.STT_FUNC || typ == elf.STT_GNU_IFUNC || typ == elf.STT_NOTYPE && m.inCode(f, shndx)
		if function && shndx != uint16(elf.SHN_UNDEF) && y.value != 0 {
			n.symbols = append(n.symbols, y)
		}
	}
	n.sort()
	return n, nil
}

func (m *module) inCode(f *elf.File, section uint16) bool {
	return int(section) < len(f.Sections) && f.Sections[section].Flags&elf.SHF_EXECINSTR != 0
}

// sort orders by address; of several names the global and sized one comes last and is found.
func (n *names) sort() {
	rank := func(y symbol) int {
		r := 0
		if y.size > 0 {
			r += 2
		}
		if !y.weak {
			r++
		}
		return r
	}
	slices.SortStableFunc(n.symbols, func(x, y symbol) int { return cmp.Or(cmp.Compare(x.value, y.value), rank(x)-rank(y)) })
}

// join adds another table's symbols.
func (n *names) join(o *names) *names {
	shift := uint32(len(n.strings))
	n.strings = append(slices.Clip(n.strings), o.strings...)
	for _, y := range o.symbols {
		y.name += shift
		n.symbols = append(n.symbols, y)
	}
	n.sort()
	return n
}

// find names the function that pc is in; "": none.
func (n *names) find(pc uint64) string {
	i, _ := slices.BinarySearchFunc(n.symbols, pc, func(y symbol, v uint64) int {
		if y.value <= v {
			return -1
		}
		return 1
	})
	// Symbols within others, as labels of assembly are, may have ended.
	for tries := 0; i > 0 && tries < 8; tries++ {
		i--
		y := n.symbols[i]
		if pc-y.value < y.size || y.size == 0 && tries == 0 {
			return text(n.strings, uint64(y.name))
		}
	}
	return ""
}

// goTable returns Go's own table of functions, nil in programs that are not of Go.
func (m *module) goTable() *pclntab {
	if m.gotab != nil || m.file == nil {
		return m.gotab
	}
	m.try(func() error {
		s := m.file.Section(".gopclntab")
		if s == nil {
			if s = m.file.Section(".data.rel.ro.gopclntab"); s == nil {
				return nil
			}
		}
		data, err := m.read(s)
		if err != nil || data == nil {
			return err
		}
		text := uint64(0)
		if t := m.file.Section(".text"); t != nil {
			text = t.Addr
		}
		if at, ok := m.goText(s.Addr); ok {
			text = at
		}
		m.gotab, err = readGoTable(data, text)
		return err
	})
	return m.gotab
}

// goText finds runtime.text, which C code may come before: in runtime.moduledata, which begins with a pointer to the
// table (Go 1.18 to 1.26).
func (m *module) goText(table uint64) (uint64, bool) {
	want := binary.LittleEndian.AppendUint64(nil, table+m.bias)
	for _, name := range []string{".go.module", ".noptrdata", ".data"} {
		s := m.file.Section(name)
		if s == nil || s.Size > maxSection {
			continue
		}
		const step, textAt, ahead = 64 << 10, 176, 256
		b := make([]byte, step+ahead)
		for at := uint64(0); at < s.Size; at += step {
			n := min(uint64(len(b)), s.Size-at)
			if !m.a.load(b[:n], s.Addr+m.bias+at) {
				continue
			}
			i := bytes.Index(b[:n], want)
			if i < 0 || i%8 != 0 || i+textAt+16 > int(n) {
				continue
			}
			from, to := binary.LittleEndian.Uint64(b[i+textAt:]), binary.LittleEndian.Uint64(b[i+textAt+8:])
			if from < to && m.a.executable(from) {
				return from - m.bias, true
			}
		}
	}
	return 0, false
}
