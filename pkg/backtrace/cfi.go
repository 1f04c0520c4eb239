package backtrace

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Registers in DWARF's numbering (System V ABI, x86-64, figure 3.36).
const (
	regBP     = 6
	regSP     = 7
	regRA     = 16 // the return address, and so the pc of the caller
	registers = 17
)

// registersOf lists, for each of DWARF's registers, its index in struct user_regs_struct.
var registersOf = [registers]int{10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0, 16}

// regs are a frame's registers in DWARF's numbering.
type regs [registers]uint64

// Bounds of what call frame information may have.
const (
	maxFDEs   = 2 << 20
	maxStates = 64 // that are remembered
)

// cie is what several functions have in common.
type cie struct {
	codeAlign uint64
	dataAlign int64
	ra        uint64
	encoding  byte // of addresses in its FDEs
	sized     bool // augmentation data have a length
	signal    bool // its functions are signal trampolines
	program   []byte
}

// fde is the unwinding of one function. Addresses are the module's own.
type fde struct {
	lo, hi  uint64
	cie     *cie
	program []byte
}

// frames is a section of call frame information: .eh_frame, or .debug_frame, which differ little.
type frames struct {
	data []byte
	addr uint64 // of the section, as the module's addresses are
	eh   bool
	fdes []fde // by address
	cies map[int]*cie
}

// readFrames indexes a section. Entries that make no sense are left out; what follows one that has no end is not read.
func readFrames(data []byte, addr uint64, eh bool) *frames {
	f := &frames{data: data, addr: addr, eh: eh, cies: map[int]*cie{}}
	for at := 0; at < len(data) && len(f.fdes) < maxFDEs; {
		body, next, id, wide, ok := f.entry(at)
		if !ok {
			break
		}
		if !f.isCIE(id, wide) {
			if d, ok := f.fde(body, id, wide); ok {
				f.fdes = append(f.fdes, d)
			}
		}
		at = next
	}
	slices.SortStableFunc(f.fdes, func(a, b fde) int { return cmp.Compare(a.lo, b.lo) })
	return f
}

// entry reads the head of an entry: where what follows its id begins, where the next entry begins, and the id.
func (f *frames) entry(at int) (body *reader, next int, id uint64, wide, ok bool) {
	r := &reader{b: f.data, at: at}
	length := uint64(r.u32())
	if wide = length == 0xffffffff; wide {
		length = r.u64()
	}
	if r.bad || length == 0 || length > uint64(len(f.data)-r.at) {
		return nil, 0, 0, false, false
	}
	next = r.at + int(length)
	body = &reader{b: f.data[:next], at: r.at}
	if wide && !f.eh {
		id = body.u64()
	} else {
		id = uint64(body.u32())
	}
	return body, next, id, wide, !body.bad
}

func (f *frames) isCIE(id uint64, wide bool) bool {
	switch {
	case f.eh:
		return id == 0
	case wide:
		return id == 1<<64-1
	}
	return id == 0xffffffff
}

// fde reads an entry of a function, whose id says where its CIE is.
func (f *frames) fde(r *reader, id uint64, wide bool) (fde, bool) {
	where := id
	if f.eh {
		where = uint64(r.at-4) - id // back from the id itself
	} else if wide && id > 1<<62 {
		return fde{}, false
	}
	if where >= uint64(len(f.data)) {
		return fde{}, false
	}
	c := f.cie(int(where))
	if c == nil {
		return fde{}, false
	}
	lo, ok := f.pointer(r, c.encoding)
	size, ok2 := f.pointer(r, c.encoding&0x0f)
	if c.sized {
		r.bytes(r.uleb())
	}
	if !ok || !ok2 || r.bad || size == 0 || lo+size < lo {
		return fde{}, false
	}
	return fde{lo: lo, hi: lo + size, cie: c, program: r.b[r.at:]}, true
}

// cie reads the CIE at an offset; nil: there is none that makes sense.
func (f *frames) cie(at int) *cie {
	if c, ok := f.cies[at]; ok {
		return c
	}
	f.cies[at] = nil
	r, _, id, wide, ok := f.entry(at)
	if !ok || !f.isCIE(id, wide) {
		return nil
	}
	c := &cie{}
	version := r.u8()
	aug := r.cstring()
	if version == 4 {
		if r.u8() != 8 || r.u8() != 0 { // size of an address, of a segment
			return nil
		}
	}
	c.codeAlign, c.dataAlign = r.uleb(), r.sleb()
	if version == 1 {
		c.ra = uint64(r.u8())
	} else {
		c.ra = r.uleb()
	}
	if c.ra >= registers || version != 1 && version != 3 && version != 4 || !f.augment(r, c, aug) || r.bad {
		return nil
	}
	c.program = r.b[r.at:]
	f.cies[at] = c
	return c
}

// augment reads what a CIE's augmentation string announces.
func (f *frames) augment(r *reader, c *cie, aug string) bool {
	if aug == "" {
		return true
	}
	if aug[0] != 'z' {
		return false
	}
	c.sized = true
	data := r.bytes(r.uleb())
	end := r.at
	in := &reader{b: r.b[:end], at: end - len(data)}
	for _, a := range aug[1:] {
		switch a {
		case 'L':
			in.u8()
		case 'P':
			if _, ok := f.pointer(in, in.u8()&0x7f); !ok {
				return false
			}
		case 'R':
			c.encoding = in.u8()
		case 'S':
			c.signal = true
		case 'B':
		default:
			return true // what is not known may be skipped: its length is
		}
	}
	return !in.bad
}

// Encodings of pointers (LSB, "DWARF exception header encoding").
const (
	encOmit  = 0xff
	encPCRel = 0x10
)

// pointer reads an encoded address.
func (f *frames) pointer(r *reader, enc byte) (uint64, bool) {
	if enc == encOmit {
		return 0, true
	}
	at := uint64(r.at)
	var v uint64
	switch enc & 0x0f {
	case 0x00, 0x04, 0x0c:
		v = r.u64()
	case 0x01:
		v = r.uleb()
	case 0x02:
		v = uint64(r.u16())
	case 0x03:
		v = uint64(r.u32())
	case 0x09:
		v = uint64(r.sleb())
	case 0x0a:
		v = uint64(int16(r.u16()))
	case 0x0b:
		v = uint64(int32(r.u32()))
	default:
		return 0, false
	}
	switch enc & 0xf0 {
	case 0:
	case encPCRel:
		v += f.addr + at
	default:
		return 0, false
	}
	return v, !r.bad
}

// find returns the entry of the function that pc is in.
func (f *frames) find(pc uint64) *fde {
	i, found := slices.BinarySearchFunc(f.fdes, pc, func(d fde, v uint64) int { return cmp.Compare(d.lo, v) })
	if !found {
		i--
	}
	if i < 0 || pc >= f.fdes[i].hi {
		return nil
	}
	return &f.fdes[i]
}

// How a register of the caller is found.
const (
	ruleSame uint8 = iota
	ruleUndefined
	ruleOffset    // saved at CFA + off
	ruleValOffset // is CFA + off
	ruleRegister  // is another register
	ruleExpr      // saved where expr says
	ruleValExpr   // is what expr says
)

type rule struct {
	kind uint8
	reg  uint64
	off  int64
	expr []byte
}

// row is what holds at one pc.
type row struct {
	cfa  rule // ruleRegister (register reg + off) or ruleValExpr
	regs [registers]rule
}

var errCFI = errors.New("malformed call frame information")

// row runs the programs of d up to pc.
func (d *fde) row(pc uint64) (*row, error) {
	w := &row{}
	x := execution{cie: d.cie, row: w, loc: d.lo, pc: ^uint64(0)}
	if err := x.run(d.cie.program); err != nil {
		return nil, err
	}
	initial := *w
	x.initial, x.pc = &initial, pc
	return w, x.run(d.program)
}

type execution struct {
	cie     *cie
	row     *row
	initial *row // after the CIE's program; nil: that is being run
	stack   []row
	loc, pc uint64
}

// run executes until the program ends or the location passes pc.
func (x *execution) run(program []byte) error {
	r := &reader{b: program}
	for r.left() {
		op := r.u8()
		arg := uint64(op & 0x3f)
		var err error
		switch op >> 6 {
		case 1: // DW_CFA_advance_loc
			x.loc += arg * x.cie.codeAlign
		case 2: // DW_CFA_offset
			err = x.set(arg, rule{kind: ruleOffset, off: int64(r.uleb()) * x.cie.dataAlign})
		case 3: // DW_CFA_restore
			err = x.restore(arg)
		default:
			err = x.extended(op, r)
		}
		if err == nil && r.bad {
			err = errShort
		}
		if err != nil {
			return err
		}
		if x.loc > x.pc {
			return nil
		}
	}
	return nil
}

func (x *execution) set(reg uint64, to rule) error {
	if reg < registers { // others are of no use for finding callers
		x.row.regs[reg] = to
	}
	return nil
}

func (x *execution) restore(reg uint64) error {
	if x.initial == nil {
		return errCFI
	}
	if reg < registers {
		x.row.regs[reg] = x.initial.regs[reg]
	}
	return nil
}

// extended runs the instructions whose number is in the lower six bits (DWARF 5, table 7.29).
func (x *execution) extended(op byte, r *reader) error {
	switch op {
	case 0x00: // nop
	case 0x01: // set_loc
		x.loc = r.u64()
	case 0x02:
		x.loc += uint64(r.u8()) * x.cie.codeAlign
	case 0x03:
		x.loc += uint64(r.u16()) * x.cie.codeAlign
	case 0x04:
		x.loc += uint64(r.u32()) * x.cie.codeAlign
	case 0x06: // restore_extended
		return x.restore(r.uleb())
	case 0x0a: // remember_state
		if len(x.stack) >= maxStates {
			return errCFI
		}
		x.stack = append(x.stack, *x.row)
	case 0x0b: // restore_state
		n := len(x.stack) - 1
		if n < 0 {
			return errCFI
		}
		*x.row, x.stack = x.stack[n], x.stack[:n]
	case 0x0c, 0x12: // def_cfa, def_cfa_sf
		x.row.cfa = rule{kind: ruleRegister, reg: r.uleb(), off: x.offset(op == 0x12, r)}
	case 0x0d: // def_cfa_register
		x.row.cfa.reg = r.uleb()
	case 0x0e, 0x13: // def_cfa_offset, def_cfa_offset_sf
		x.row.cfa.off = x.offset(op == 0x13, r)
	case 0x0f: // def_cfa_expression
		x.row.cfa = rule{kind: ruleValExpr, expr: r.bytes(r.uleb())}
	case 0x2e: // GNU_args_size
		r.uleb()
	default:
		return x.register(op, r)
	}
	return nil
}

// offset reads an offset of the CFA.
func (x *execution) offset(factored bool, r *reader) int64 {
	if factored {
		return r.sleb() * x.cie.dataAlign
	}
	return int64(r.uleb())
}

// register runs the instructions that give a register its rule.
func (x *execution) register(op byte, r *reader) error {
	reg := r.uleb()
	switch op {
	case 0x05: // offset_extended
		return x.set(reg, rule{kind: ruleOffset, off: int64(r.uleb()) * x.cie.dataAlign})
	case 0x07:
		return x.set(reg, rule{kind: ruleUndefined})
	case 0x08:
		return x.set(reg, rule{kind: ruleSame})
	case 0x09:
		return x.set(reg, rule{kind: ruleRegister, reg: r.uleb()})
	case 0x10:
		return x.set(reg, rule{kind: ruleExpr, expr: r.bytes(r.uleb())})
	case 0x11: // offset_extended_sf
		return x.set(reg, rule{kind: ruleOffset, off: r.sleb() * x.cie.dataAlign})
	case 0x14:
		return x.set(reg, rule{kind: ruleValOffset, off: int64(r.uleb()) * x.cie.dataAlign})
	case 0x15:
		return x.set(reg, rule{kind: ruleValOffset, off: r.sleb() * x.cie.dataAlign})
	case 0x16:
		return x.set(reg, rule{kind: ruleValExpr, expr: r.bytes(r.uleb())})
	case 0x2f: // GNU_negative_offset_extended
		return x.set(reg, rule{kind: ruleOffset, off: -int64(r.uleb()) * x.cie.dataAlign})
	}
	return fmt.Errorf("%w: instruction %#x", errCFI, op)
}

// apply finds the caller's registers. outermost: there is no caller.
func (w *row) apply(c *cie, in *regs, bias uint64, load func([]byte, uint64) bool) (out regs, outermost bool, err error) {
	var cfa uint64
	switch w.cfa.kind {
	case ruleRegister:
		if w.cfa.reg >= registers {
			return out, false, errCFI
		}
		cfa = in[w.cfa.reg] + uint64(w.cfa.off)
	case ruleValExpr:
		if cfa, err = evaluate(w.cfa.expr, in, bias, nil, load); err != nil {
			return out, false, err
		}
	default:
		return out, false, errCFI
	}
	if w.regs[c.ra].kind == ruleUndefined {
		return out, true, nil
	}
	out = *in
	out[regSP] = cfa
	for i, u := range w.regs {
		if out[i], err = u.value(out[i], cfa, in, bias, load); err != nil {
			return out, false, fmt.Errorf("register %d: %w", i, err)
		}
	}
	out[regRA] = out[c.ra]
	return out, false, nil
}

var errMemory = errors.New("the memory was not saved")

// value is a register of the caller; same is what it is without a rule.
func (u rule) value(same, cfa uint64, in *regs, bias uint64, load func([]byte, uint64) bool) (uint64, error) {
	at := cfa + uint64(u.off)
	switch u.kind {
	case ruleValOffset:
		return at, nil
	case ruleRegister:
		if u.reg >= registers {
			return 0, errCFI
		}
		return in[u.reg], nil
	case ruleValExpr:
		return evaluate(u.expr, in, bias, &cfa, load)
	case ruleExpr:
		var err error
		if at, err = evaluate(u.expr, in, bias, &cfa, load); err != nil {
			return 0, err
		}
	case ruleOffset:
	default:
		return same, nil
	}
	return loadWord(load, at, 8)
}
