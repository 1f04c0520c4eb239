package backtrace

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Bounds of a DWARF expression: those of compilers take some ten steps.
const (
	maxSteps = 1000
	maxDepth = 64
)

var errExpr = errors.New("malformed DWARF expression")

// machine evaluates the stack programs that call frame information has for what a sum cannot say, as in PLTs and signal
// trampolines (DWARF 5, 2.5).
type machine struct {
	*reader
	stack []uint64
	regs  *regs
	bias  uint64
	load  func([]byte, uint64) bool
}

// evaluate runs an expression. first is on the stack at its begin, nil: nothing is.
func evaluate(expr []byte, in *regs, bias uint64, first *uint64, load func([]byte, uint64) bool) (uint64, error) {
	m := &machine{reader: &reader{b: expr}, regs: in, bias: bias, load: load}
	if first != nil {
		m.push(*first)
	}
	for n := 0; m.left(); n++ {
		if n == maxSteps || len(m.stack) > maxDepth {
			return 0, fmt.Errorf("%w: too long", errExpr)
		}
		if err := m.step(m.u8()); err != nil {
			return 0, err
		}
		if m.bad {
			return 0, errShort
		}
	}
	if len(m.stack) == 0 {
		return 0, errExpr
	}
	return m.stack[len(m.stack)-1], nil
}

func (m *machine) push(v uint64) { m.stack = append(m.stack, v) }

func (m *machine) pop() uint64 {
	if len(m.stack) == 0 {
		m.bad = true
		return 0
	}
	v := m.stack[len(m.stack)-1]
	m.stack = m.stack[:len(m.stack)-1]
	return v
}

// pick pushes a copy of the nth from the top.
func (m *machine) pick(n int) {
	if n >= len(m.stack) {
		m.bad = true
		return
	}
	m.push(m.stack[len(m.stack)-1-n])
}

func (m *machine) register(n, off uint64) error {
	if n >= registers {
		return errExpr
	}
	m.push(m.regs[n] + off)
	return nil
}

func (m *machine) step(op byte) error {
	switch {
	case op >= 0x30 && op <= 0x4f: // lit0…
		m.push(uint64(op - 0x30))
		return nil
	case op >= 0x70 && op <= 0x8f: // breg0…
		return m.register(uint64(op-0x70), uint64(m.sleb()))
	case op >= 0x08 && op <= 0x11 || op == 0x03:
		m.push(m.constant(op))
		return nil
	case op >= 0x12 && op <= 0x17:
		m.shuffle(op)
		return nil
	}
	switch op {
	case 0x92: // bregx
		return m.register(m.uleb(), uint64(m.sleb()))
	case 0x06, 0x94: // deref, deref_size
		size := uint64(8)
		if op == 0x94 {
			size = uint64(m.u8())
		}
		if size == 0 || size > 8 {
			return errExpr
		}
		v, err := loadWord(m.load, m.pop(), int(size))
		m.push(v)
		return err
	case 0x2f, 0x28: // skip, bra
		to := m.at + 2 + int(int16(m.u16()))
		if op == 0x28 && m.pop() == 0 {
			return nil
		}
		if to < 0 || to > len(m.b) {
			return errExpr
		}
		m.at = to
		return nil
	case 0x96: // nop
		return nil
	case 0x19, 0x1f, 0x20, 0x23: // abs, neg, not, plus_uconst
		m.push(m.unary(op, m.pop()))
		return nil
	}
	b, a := m.pop(), m.pop()
	v, err := binaryOp(op, a, b)
	m.push(v)
	return err
}

func (m *machine) constant(op byte) uint64 {
	switch op {
	case 0x03: // addr
		return m.u64() + m.bias
	case 0x08:
		return uint64(m.u8())
	case 0x09:
		return uint64(int8(m.u8()))
	case 0x0a:
		return uint64(m.u16())
	case 0x0b:
		return uint64(int16(m.u16()))
	case 0x0c:
		return uint64(m.u32())
	case 0x0d:
		return uint64(int32(m.u32()))
	case 0x0e, 0x0f:
		return m.u64()
	case 0x10:
		return m.uleb()
	}
	return uint64(m.sleb())
}

func (m *machine) shuffle(op byte) {
	switch op {
	case 0x12: // dup
		m.pick(0)
	case 0x13: // drop
		m.pop()
	case 0x14: // over
		m.pick(1)
	case 0x15:
		m.pick(int(m.u8()))
	case 0x16: // swap
		b, a := m.pop(), m.pop()
		m.push(b)
		m.push(a)
	case 0x17: // rot
		c, b, a := m.pop(), m.pop(), m.pop()
		m.push(c)
		m.push(a)
		m.push(b)
	}
}

func (m *machine) unary(op byte, v uint64) uint64 {
	switch op {
	case 0x19:
		if int64(v) < 0 {
			return -v
		}
		return v
	case 0x1f:
		return -v
	case 0x20:
		return ^v
	}
	return v + m.uleb()
}

func binaryOp(op byte, a, b uint64) (uint64, error) {
	truth := func(t bool) (uint64, error) {
		if t {
			return 1, nil
		}
		return 0, nil
	}
	switch op {
	case 0x1a:
		return a & b, nil
	case 0x1b, 0x1d: // div, mod
		switch {
		case b == 0:
			return 0, errExpr
		case op == 0x1d:
			return a % b, nil
		case int64(b) == -1:
			return -a, nil
		}
		return uint64(int64(a) / int64(b)), nil
	case 0x1c:
		return a - b, nil
	case 0x1e:
		return a * b, nil
	case 0x21:
		return a | b, nil
	case 0x22:
		return a + b, nil
	case 0x24:
		return a << b, nil
	case 0x25:
		return a >> b, nil
	case 0x26:
		return uint64(int64(a) >> b), nil
	case 0x27:
		return a ^ b, nil
	case 0x29:
		return truth(a == b)
	case 0x2a:
		return truth(int64(a) >= int64(b))
	case 0x2b:
		return truth(int64(a) > int64(b))
	case 0x2c:
		return truth(int64(a) <= int64(b))
	case 0x2d:
		return truth(int64(a) < int64(b))
	case 0x2e:
		return truth(a != b)
	}
	return 0, fmt.Errorf("%w: operation %#x", errExpr, op)
}

// loadWord reads size bytes, at most 8.
func loadWord(load func([]byte, uint64) bool, addr uint64, size int) (uint64, error) {
	var b [8]byte
	if !load(b[:size], addr) {
		return 0, errMemory
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}
