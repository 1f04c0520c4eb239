package backtrace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode/utf16"
)

// Bounds of what is read of an interpreter's memory, all of which is hostile.
const (
	maxPythonScan    = 8 << 20 // bytes looked through for the table of offsets, of one mapping
	maxPythonRanges  = 32
	maxPythons       = 4
	maxPythonReads   = 200_000 // of words and strings, of all threads
	maxPythonThreads = maxThreads
	maxPythonFrames  = maxFrames
	maxPythonText    = 1 << 10  // of a name, in characters
	maxPythonTable   = 64 << 10 // of a function's table of lines
	maxPythonBytes   = 4 << 20  // of all names and tables that are kept
	maxPythonWalked  = 64 << 20 // of tables, while lines are looked up
	maxPythonScanned = 64 << 20 // of all mappings
)

// pythonOffsets is what CPython tells of its own structures, in bytes: struct _Py_DebugOffsets at the beginning of
// _PyRuntime (Include/internal/pycore_runtime.h of 3.13), as far as it is needed.
type pythonOffsets struct {
	interpreters                                       uint64 // in _PyRuntime
	interpreterNext, threads                           uint64 // in PyInterpreterState
	threadNext, currentFrame, nativeID                 uint64 // in PyThreadState
	previous, executable, instruction, owner           uint64 // in _PyInterpreterFrame
	filename, qualname, lineTable, firstLine, bytecode uint64 // in PyCodeObject
	objectType, typeName                               uint64 // in PyObject, PyTypeObject
	bytesSize, bytesValue                              uint64 // in PyBytesObject
	textState, textLength, textASCII                   uint64 // in PyUnicodeObject; the size of PyASCIIObject
}

// The words of struct _Py_DebugOffsets of 3.13, counted from its beginning.
const (
	pythonCookie  = "xdebugpy"
	pythonVersion = 0x030d // the one that this is the layout of: major and minor
	pythonWords   = 73
)

// pythonOffsetsOf reads the table of 3.13.
func pythonOffsetsOf(b []byte) (pythonOffsets, error) {
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	const release = 16 // bits below major and minor (PY_VERSION_HEX)
	if v := word(1) >> release; v != pythonVersion {
		return pythonOffsets{}, fmt.Errorf("structures of Python %d.%d are not known: those of 3.13 are", v>>8, v&0xff)
	}
	if word(2) != 0 {
		return pythonOffsets{}, errors.New("structures of Python 3.13 without its lock are not known")
	}
	o := pythonOffsets{
		interpreters: word(5), interpreterNext: word(8), threads: word(9),
		threadNext: word(21), currentFrame: word(23), nativeID: word(25),
		previous: word(29), executable: word(30), instruction: word(31), owner: word(33),
		filename: word(35), qualname: word(37), lineTable: word(38), firstLine: word(39), bytecode: word(43),
		objectType: word(45), typeName: word(47),
		bytesSize: word(65), bytesValue: word(66), textState: word(68), textLength: word(69), textASCII: word(70),
	}
	return o, nil
}

// python reads the memory of interpreters. What it spends it spends on all of a process.
type python struct {
	mem    Memory
	off    pythonOffsets
	reads  int
	kept   int // bytes of names and tables
	walked int // bytes of tables
	codes  map[uint64]*pythonCode
}

// pythonCode is a function's code object.
type pythonCode struct {
	name, file string
	first      int
	table      []byte
}

// FindPython returns where the runtimes of CPython are in a process, _PyRuntime, by what its table of offsets begins with.
func FindPython(files []File, mem Memory) []uint64 {
	var found []uint64
	left := uint64(maxPythonScanned)
	for _, f := range files {
		if base := path.Base(f.Path); !strings.HasPrefix(base, "python3") && !strings.HasPrefix(base, "libpython3") {
			continue
		}
		for i, r := range f.Ranges {
			if r.Exec || i >= maxPythonRanges || len(found) == maxPythons {
				continue
			}
			if at, ok := findPython(mem, r, &left); ok {
				found = append(found, at)
			}
		}
	}
	return found
}

// PythonCalls returns the calls of Python functions of each thread, by its id, innermost first: of CPython 3.13. They are
// read from memory alone. The error says what could not be made sense of, beside what could.
func PythonCalls(runtimes []uint64, mem Memory) (map[int][]Frame, error) {
	calls := map[int][]Frame{}
	var errs []error
	p := &python{mem: mem}
	for _, at := range runtimes {
		table := make([]byte, 8*pythonWords)
		if !mem.Load(table, at) {
			errs = append(errs, errors.New("offsets of Python's structures were not saved"))
			continue
		}
		off, err := pythonOffsetsOf(table)
		if err == nil {
			p.off, p.codes = off, map[uint64]*pythonCode{}
			err = p.interpreters(at, calls)
		}
		errs = append(errs, err)
	}
	return calls, errors.Join(errs...)
}

// findPython looks for the table of offsets in a mapping. What was not saved is passed over.
func findPython(mem Memory, r Range, left *uint64) (addr uint64, ok bool) {
	const page = 4096
	b := make([]byte, page)
	for at := r.Start; at < r.End && at-r.Start < maxPythonScan && *left >= page; at += page {
		*left -= page
		if !mem.Load(b, at) {
			continue
		}
		for i := 0; i < page; {
			n := bytes.Index(b[i:], []byte(pythonCookie))
			if n < 0 {
				break
			}
			i += n
			var version [8]byte
			if i%8 == 0 && mem.Load(version[:], at+uint64(i)+8) && binary.LittleEndian.Uint64(version[:]) != 0 {
				return at + uint64(i), true
			}
			i++
		}
	}
	return 0, false
}

func (p *python) load(b []byte, addr uint64) bool {
	p.reads++
	return addr != 0 && p.reads <= maxPythonReads && p.mem.Load(b, addr)
}

func (p *python) word(addr uint64) (uint64, bool) {
	var b [8]byte
	ok := p.load(b[:], addr)
	return binary.LittleEndian.Uint64(b[:]), ok
}

// interpreters walks the threads of all interpreters of the process.
func (p *python) interpreters(runtime uint64, stacks map[int][]Frame) error {
	lost, broken := 0, false
	at, ok := p.word(runtime + p.off.interpreters)
	for threads := 0; ok && at != 0; at, ok = p.word(at + p.off.interpreterNext) {
		ts, tok := p.word(at + p.off.threads)
		for ; tok && ts != 0; ts, tok = p.word(ts + p.off.threadNext) {
			if threads++; threads > maxPythonThreads {
				return fmt.Errorf("only %d threads of Python are shown", maxPythonThreads)
			}
			id, idOK := p.word(ts + p.off.nativeID)
			frames, whole := p.frames(ts)
			if !idOK || !whole {
				lost++
			}
			if idOK && len(frames) > 0 {
				stacks[int(int32(id))] = frames
			}
		}
		broken = broken || !tok
	}
	switch {
	case p.reads > maxPythonReads, p.kept > maxPythonBytes:
		return errors.New("calls in Python are more than is read of one process")
	case !ok || broken:
		return errors.New("list of Python's threads was not saved")
	case lost > 0:
		return fmt.Errorf("calls in Python of %d threads were not saved", lost)
	}
	return nil
}

// frames lists a thread's calls. False: there are more, which are not known.
func (p *python) frames(thread uint64) (frames []Frame, whole bool) {
	const ofC = 3 // FRAME_OWNED_BY_CSTACK: a mark of the interpreter's own (pycore_frame.h)
	at, ok := p.word(thread + p.off.currentFrame)
	for n := 0; ok && at != 0; at, ok = p.word(at + p.off.previous) {
		if n++; n > maxPythonFrames {
			return frames, false
		}
		var owner [1]byte
		if !p.load(owner[:], at+p.off.owner) {
			return frames, false
		}
		if owner[0] == ofC {
			continue
		}
		f, ok := p.frame(at)
		if !ok {
			return frames, false
		}
		frames = append(frames, f)
	}
	return frames, ok
}

func (p *python) frame(at uint64) (Frame, bool) {
	code, ok := p.word(at + p.off.executable)
	if !ok {
		return Frame{}, false
	}
	c, ok := p.codes[code]
	if !ok {
		if c, ok = p.code(code); !ok {
			return Frame{}, false
		}
		p.codes[code] = c
	}
	f := Frame{Func: c.name, File: c.file, Module: -1, Kind: KindPython}
	if pc, ok := p.word(at + p.off.instruction); ok && pc >= code+p.off.bytecode {
		if p.walked += len(c.table); p.walked <= maxPythonWalked {
			f.Line = pythonLine(c.table, c.first, pc-code-p.off.bytecode)
		}
	}
	return f, true
}

// code reads a code object, having looked that it is one.
func (p *python) code(at uint64) (*pythonCode, bool) {
	typ, ok := p.word(at + p.off.objectType)
	if !ok {
		return nil, false
	}
	name, ok := p.word(typ + p.off.typeName)
	var b [5]byte
	if !ok || p.load(b[:], name) && string(b[:]) != "code\x00" { // the name is a constant, which a core need not have
		return nil, false
	}
	c := &pythonCode{}
	if c.name, ok = p.text(at + p.off.qualname); !ok {
		return nil, false
	}
	if c.file, ok = p.text(at + p.off.filename); !ok {
		return nil, false
	}
	first, ok := p.word(at + p.off.firstLine)
	if !ok {
		return nil, false
	}
	c.first = int(int32(first))
	// A function is shown without its line where the table was not saved.
	if table, ok := p.word(at + p.off.lineTable); ok {
		if size, ok := p.word(table + p.off.bytesSize); ok && size <= maxPythonTable && p.keep(int(size)) {
			c.table = make([]byte, size)
			if !p.load(c.table, table+p.off.bytesValue) {
				c.table = nil
			}
		}
	}
	return c, true
}

// text reads the str that the pointer at addr leads to (Include/cpython/unicodeobject.h): compact ones, as all names are.
func (p *python) text(addr uint64) (string, bool) {
	at, ok := p.word(addr)
	if !ok {
		return "", false
	}
	length, ok := p.word(at + p.off.textLength)
	var state [4]byte
	if !ok || !p.load(state[:], at+p.off.textState) {
		return "", false
	}
	bits := binary.LittleEndian.Uint32(state[:])
	kind, compact, ascii := bits>>2&7, bits>>5&1 != 0, bits>>6&1 != 0
	const utf8Cache = 16 // what PyCompactUnicodeObject has beside: its length in UTF-8, and that
	data := at + p.off.textASCII
	if !ascii {
		data += utf8Cache
	}
	if !compact || kind != 1 && kind != 2 && kind != 4 {
		return "", false
	}
	b := make([]byte, min(length, maxPythonText)*uint64(kind))
	if len(b) > 0 && (!p.keep(len(b)) || !p.load(b, data)) {
		return "", false
	}
	return Printable(pythonText(b, int(kind))), true
}

// keep reports whether so many bytes more may be kept.
func (p *python) keep(n int) bool {
	p.kept += n
	return p.kept <= maxPythonBytes
}

// pythonText decodes characters of one, two or four bytes.
func pythonText(b []byte, kind int) string {
	var out strings.Builder
	for ; len(b) >= kind; b = b[kind:] {
		r := rune(b[0])
		switch kind {
		case 2:
			r = rune(binary.LittleEndian.Uint16(b))
		case 4:
			r = rune(binary.LittleEndian.Uint32(b))
		}
		if utf16.IsSurrogate(r) {
			r = '\uFFFD'
		}
		out.WriteRune(r)
	}
	return out.String()
}

// pythonLine is the line of an instruction at an offset, in bytes, by a table of locations (Objects/locations.md of
// CPython); 0: none.
func pythonLine(table []byte, line int, offset uint64) int {
	const none, long, noColumns, oneLine = 15, 14, 13, 10
	t := &locations{table}
	for at := uint64(0); len(t.b) > 0; {
		head := t.next()
		at += 2 * uint64(head&7+1)
		located := true
		switch code := head >> 3 & 15; {
		case code == none:
			located = false
		case code == long:
			line += t.signed()
			t.varint()
			t.varint()
			t.varint()
		case code == noColumns:
			line += t.signed()
		case code >= oneLine:
			line += int(code - oneLine)
			t.next()
			t.next()
		default:
			t.next()
		}
		if offset < at {
			if !located || line < 0 {
				return 0
			}
			return line
		}
	}
	return 0
}

// locations reads a table of locations; past its end are zeroes.
type locations struct{ b []byte }

func (l *locations) next() byte {
	if len(l.b) == 0 {
		return 0
	}
	c := l.b[0]
	l.b = l.b[1:]
	return c
}

// varint reads groups of six bits, the lowest first.
func (l *locations) varint() int {
	const more, bits = 0x40, 6
	v := 0
	for shift := 0; ; shift += bits {
		c := l.next()
		if shift < 32 {
			v |= int(c&(more-1)) << shift
		}
		if c&more == 0 {
			return v
		}
	}
}

// signed reads a number whose lowest bit is its sign.
func (l *locations) signed() int {
	v := l.varint()
	if v&1 != 0 {
		return -(v >> 1)
	}
	return v >> 1
}
