package backtrace

import (
	"encoding/binary"
	"errors"
)

// pclntab is Go's own table of functions, which is in stripped programs too (runtime/symtab.go, Go 1.18 and later): where
// a function is, how much stack it uses at each pc, its name, file and line. All offsets are foreign.
type pclntab struct {
	data                                   []byte
	text                                   uint64 // runtime.text, in the module's own addresses
	nfunc                                  uint64
	names, units, files, tables, functions []byte
	recent                                 bool // Go 1.20 and later: functions have the line they start at
}

// Numbers that a table begins with.
const (
	magic118 = 0xfffffff0
	magic120 = 0xfffffff1 // also what follows
)

// Flags of functions (internal/abi/symtab.go).
const (
	goTopFrame = 1 << 0
	goSPWrite  = 1 << 1
)

var errGoTable = errors.New("malformed pclntab")

// readGoTable checks the head of a table. text is runtime.text.
func readGoTable(data []byte, text uint64) (*pclntab, error) {
	r := &reader{b: data}
	magic := r.u32()
	if r.u16() != 0 || r.u8() == 0 || r.u8() != 8 || magic != magic118 && magic != magic120 {
		return nil, errGoTable
	}
	t := &pclntab{data: data, text: text, recent: magic == magic120}
	t.nfunc = r.u64()
	r.u64() // files
	r.u64() // text; 0 since Go 1.26
	for _, part := range []*[]byte{&t.names, &t.units, &t.files, &t.tables, &t.functions} {
		off := r.u64()
		if r.bad || off > uint64(len(data)) {
			return nil, errGoTable
		}
		*part = data[off:]
	}
	if t.nfunc == 0 || t.nfunc > uint64(len(t.functions))/8 {
		return nil, errGoTable
	}
	return t, nil
}

// goFunc is one function.
type goFunc struct {
	t     *pclntab
	entry uint64
	head  []byte // struct _func and what follows
}

// find returns the function that pc, in the module's own addresses, is in.
func (t *pclntab) find(pc uint64) (goFunc, bool) {
	if pc < t.text || pc-t.text > 1<<32-1 {
		return goFunc{}, false
	}
	off := uint32(pc - t.text)
	le := binary.LittleEndian
	start := func(i uint64) uint32 {
		if b := t.functions[i*8:]; len(b) >= 4 {
			return le.Uint32(b)
		}
		return 0
	}
	lo, hi := uint64(0), t.nfunc // the last one that starts at or before off
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; start(mid) <= off {
			lo = mid
		} else {
			hi = mid
		}
	}
	end := uint32(0)
	if (lo+1)*8 <= uint64(len(t.functions)) {
		end = start(lo + 1)
	}
	if start(lo) > off || off >= end {
		return goFunc{}, false
	}
	at := uint64(le.Uint32(t.functions[lo*8+4:]))
	const size = 44
	if at > uint64(len(t.functions)) || uint64(len(t.functions))-at < size {
		return goFunc{}, false
	}
	f := goFunc{t: t, head: t.functions[at:]}
	f.entry = t.text + uint64(f.u32(0))
	return f, f.entry <= pc
}

func (f goFunc) u32(at int) uint32 { return binary.LittleEndian.Uint32(f.head[at:]) }

func (f goFunc) name() string { return text(f.t.names, uint64(f.u32(4))) }

// flags are goTopFrame and the like.
func (f goFunc) flags() byte {
	if f.t.recent {
		return f.head[41]
	}
	return f.head[37]
}

// stack is how far the stack pointer is below the return address at pc, in bytes.
func (f goFunc) stack(pc uint64) (uint64, bool) {
	v, ok := f.value(f.u32(16), pc)
	return uint64(v), ok && v >= 0 && v%8 == 0
}

// line is where the source of pc is.
func (f goFunc) line(pc uint64) (file string, line int) {
	n, ok := f.value(f.u32(20), pc)
	l, ok2 := f.value(f.u32(24), pc)
	at := (uint64(f.u32(32)) + uint64(n)) * 4
	if !ok || !ok2 || n < 0 || at+4 > uint64(len(f.t.units)) {
		return "", 0
	}
	return text(f.t.files, uint64(binary.LittleEndian.Uint32(f.t.units[at:]))), int(l)
}

// value looks pc up in one of the function's tables: pairs of steps of a value and of the pc.
func (f goFunc) value(table uint32, pc uint64) (int32, bool) {
	if table == 0 || uint64(table) >= uint64(len(f.t.tables)) {
		return 0, false
	}
	r := &reader{b: f.t.tables, at: int(table)}
	v, at := int32(-1), f.entry
	for first := true; ; first = false {
		step := uint32(r.uleb())
		if r.bad || step == 0 && !first {
			return 0, false
		}
		if step&1 != 0 {
			step = ^(step >> 1)
		} else {
			step >>= 1
		}
		v += int32(step)
		length := r.uleb()
		if r.bad || length == 0 {
			return 0, false
		}
		if at += length; pc < at {
			return v, true
		}
	}
}

// text is a string that ends with a zero, at most maxName long.
func text(b []byte, at uint64) string {
	if at >= uint64(len(b)) {
		return ""
	}
	b = b[at:]
	for i := 0; i < len(b) && i < maxName; i++ {
		if b[i] == 0 {
			return string(b[:i])
		}
	}
	return ""
}

// maxSwitch is how far below a frame pointer the frame's end is looked for.
const maxSwitch = 64 << 10

// switched finds the caller of a function that changed the stack, such as runtime.systemstack. Its frame pointer is still
// that of its caller, whose frame is the one that, by the table, has its end as far below that pointer as there is a
// return address into it.
func (t *pclntab) switched(in *regs, bias uint64, a *atlas) (regs, bool) {
	bp := in[regBP]
	for at := bp - 8; bp-at <= maxSwitch && at < bp; at -= 8 {
		ret, ok := a.word(at)
		if !ok {
			return regs{}, false
		}
		f, ok := t.find(ret - 1 - bias)
		if !ok {
			continue
		}
		if size, ok := f.stack(ret - 1 - bias); ok && size == bp-at {
			out := *in
			out[regRA], out[regSP] = ret, at+8
			return out, true
		}
	}
	return regs{}, false
}

// caller unwinds one frame of Go. outermost: it has no caller.
func (t *pclntab) caller(in *regs, lookup, bias uint64, innermost bool, a *atlas) (out regs, outermost, ok bool) {
	f, ok := t.find(lookup - bias)
	if !ok {
		return out, false, false
	}
	if f.flags()&goTopFrame != 0 {
		// A signal's handler is the outermost too, but for what the signal interrupted.
		size, _ := f.stack(lookup - bias)
		if ret, ok := a.word(in[regSP] + size); ok && a.trampoline(ret) {
			out = *in
			out[regRA], out[regSP] = ret, in[regSP]+size+8
			return out, false, true
		}
		return out, true, true
	}
	if f.flags()&goSPWrite != 0 && !innermost {
		out, ok = t.switched(in, bias, a)
		return out, !ok, true
	}
	size, ok := f.stack(lookup - bias)
	if !ok {
		return out, false, false
	}
	ret := in[regSP] + size
	out = *in
	if out[regRA], ok = a.word(ret); !ok {
		return out, false, false
	}
	out[regSP] = ret + 8
	if size > 0 { // the frame pointer is saved right below the return address
		if bp, ok := a.word(ret - 8); ok {
			out[regBP] = bp
		}
	}
	return out, false, true
}
