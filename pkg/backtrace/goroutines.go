package backtrace

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Bounds of what is read of Go's scheduler.
const (
	maxGoroutines = 20_000
	maxGoReads    = 1 << 20 // of words, while the list is looked for and walked
)

// Goroutine is one of Go that no thread was running.
type Goroutine struct {
	ID     uint64  `json:"id"`
	State  string  `json:"state"`  // waiting, runnable, syscall, preempted
	Frames []Frame `json:"frames"` // innermost first
	Cut    string  `json:"cut,omitempty"`
}

// goStates are the states of goroutines that are shown (runtime/runtime2.go). Those that run are on a thread's stack.
var goStates = map[uint32]string{1: "runnable", 3: "syscall", 4: "waiting", 9: "preempted"}

// Where struct g has what is needed, in bytes (runtime/runtime2.go of Go 1.18 to 1.26). Where its state and number are
// depends on the version: goLayouts.
const (
	gStackLow  = 0
	gStackHigh = 8
	gSchedSP   = 56
	gSchedPC   = 64
	gSchedG    = 72 // of one that was ever off the processor: its own address
	goScanBit  = 0x1000
	goLastWord = 168
)

// goLayouts are the offsets of g.atomicstatus and g.goid: of most versions, and of Go 1.23 and 1.24.
var goLayouts = [][2]uint64{{144, 152}, {152, 160}}

// goWalk reads the scheduler's list of one module.
type goWalk struct {
	a      *atlas
	reads  int
	status uint64
	id     uint64
}

func (w *goWalk) word(addr uint64) (uint64, bool) {
	w.reads++
	if w.reads > maxGoReads {
		return 0, false
	}
	var b [8]byte
	ok := w.a.mem.Load(b[:], addr)
	return binary.LittleEndian.Uint64(b[:]), ok
}

// goroutines unwinds those of the process that no thread runs. The error says why there may be more.
func (x *analysis) goroutines() ([]Goroutine, error) {
	if len(x.p.Threads) == 0 { // addresses are named, no more
		return nil, nil
	}
	var out []Goroutine
	var missing error
	for _, m := range x.modules { // frames of threads have opened those of Go
		if m.gotab == nil {
			continue
		}
		w := &goWalk{a: x.a}
		list, n, ok := w.allgs(m)
		if !ok {
			missing = errors.Join(missing, fmt.Errorf("%s: the list of goroutines was not saved", m.Path))
			continue
		}
		for i := range n {
			if len(out) == maxGoroutines || x.total >= maxTotal {
				return out, fmt.Errorf("only %d goroutines are shown", len(out))
			}
			g, ok := w.word(list + 8*i)
			if !ok {
				return out, fmt.Errorf("%s: goroutines were not saved", m.Path)
			}
			if one, ok := x.goroutine(w, g); ok {
				out = append(out, one)
			}
		}
	}
	return out, missing
}

// goroutine unwinds one; false: it runs, or has ended.
func (x *analysis) goroutine(w *goWalk, g uint64) (Goroutine, bool) {
	status, ok := w.word(g + w.status)
	state := goStates[uint32(status)&^goScanBit]
	if !ok || state == "" {
		return Goroutine{}, false
	}
	id, _ := w.word(g + w.id)
	sp, ok := w.word(g + gSchedSP)
	pc, ok2 := w.word(g + gSchedPC)
	one := Goroutine{ID: id, State: state, Frames: []Frame{}}
	if !ok || !ok2 {
		one.Cut = "its registers were not saved"
		return one, true
	}
	const registers = 27 // in struct user_regs_struct
	regs := make([]uint64, registers)
	regs[registersOf[regRA]], regs[registersOf[regSP]] = pc, sp
	t := x.thread(Stopped{Regs: regs, called: true})
	one.Frames, one.Cut = t.Frames, t.Cut
	return one, true
}

// allgs finds runtime.allgs in the module's variables, without its name: a slice of pointers to g, of which the first is
// goroutine 1.
func (w *goWalk) allgs(m *module) (list, n uint64, ok bool) {
	const step, header = 64 << 10, 24
	for _, name := range []string{".bss", ".noptrbss", ".data", ".noptrdata"} {
		s := m.file.Section(name)
		if s == nil || s.Size > maxSection {
			continue
		}
		b := make([]byte, step+header)
		for at := uint64(0); at < s.Size; at += step {
			b := b[:min(uint64(len(b)), s.Size-at)]
			if !w.a.mem.Load(b, s.Addr+m.bias+at) {
				continue
			}
			for i := 0; i+header <= len(b); i += 8 {
				list, n, capacity := binary.LittleEndian.Uint64(b[i:]), binary.LittleEndian.Uint64(b[i+8:]), binary.LittleEndian.Uint64(b[i+16:])
				if list%8 == 0 && list > 1<<16 && n > 0 && n <= capacity && capacity < 1<<32 && w.isList(list) {
					return list, n, true
				}
			}
		}
	}
	return 0, 0, false
}

// isList reports whether the first of a list of pointers leads to goroutine 1, and learns how its version lays g out.
func (w *goWalk) isList(list uint64) bool {
	g, ok := w.word(list)
	if !ok || g%8 != 0 || g < 1<<16 || g > ^uint64(0)-goLastWord {
		return false
	}
	low, ok := w.word(g + gStackLow)
	high, ok2 := w.word(g + gStackHigh)
	self, ok3 := w.word(g + gSchedG)
	if !ok || !ok2 || !ok3 || self != g || low >= high {
		return false
	}
	for _, l := range goLayouts {
		status, ok := w.word(g + l[0])
		id, ok2 := w.word(g + l[1])
		const last = 10 // the highest state that there is
		if ok && ok2 && id == 1 && uint32(status)&^goScanBit <= last {
			w.status, w.id = l[0], l[1]
			return true
		}
	}
	return false
}
