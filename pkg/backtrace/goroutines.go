package backtrace

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Bounds of what is read of Go's scheduler.
const (
	maxGoroutines = 20_000
	// maxGoReads and maxGoLoads bound the words that are looked at while the list is looked for and walked, and the pages that are
	// read for it; GoroutineMemory reads no more than maxGoTaken, since a process is held meanwhile.
	maxGoReads = 1 << 20
	maxGoLoads = 1 << 16
	maxGoTaken = 1 << 13
	// goStackTop is what GoroutineMemory lists of a stack: functions that wait are rarely deeper.
	goStackTop = 8 << 10
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

// goWalk reads the scheduler's list of goroutines.
type goWalk struct {
	mem    Memory
	pages  [4]goPage // read last: the words that are looked at lie close together
	oldest int
	reads  int
	loads  int // pages that may still be read
	status uint64
	id     uint64
}

// goPage is a page of memory.
type goPage struct {
	addr  uint64
	known bool
	saved bool
	b     [goPageSize]byte
}

const goPageSize = 4096

// word reads eight bytes at a multiple of eight.
func (w *goWalk) word(addr uint64) (uint64, bool) {
	w.reads++
	if w.reads > maxGoReads || addr%8 != 0 {
		return 0, false
	}
	p := w.page(addr &^ (goPageSize - 1))
	return binary.LittleEndian.Uint64(p.b[addr%goPageSize:]), p.saved
}

func (w *goWalk) page(addr uint64) *goPage {
	for i := range w.pages {
		if p := &w.pages[i]; p.known && p.addr == addr {
			return p
		}
	}
	p := &w.pages[w.oldest]
	w.oldest = (w.oldest + 1) % len(w.pages)
	w.loads--
	p.addr, p.known = addr, true
	p.saved = w.loads >= 0 && w.mem.Load(p.b[:], addr)
	return p
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
		w := &goWalk{mem: x.a.mem, loads: maxGoLoads}
		l, ok := w.allgs(m.variables())
		if !ok {
			missing = errors.Join(missing, fmt.Errorf("%s: the list of goroutines was not saved", m.Path))
			continue
		}
		unsaved := uint64(0)
		for i := range l.n {
			if len(out) == maxGoroutines || x.total >= maxTotal || w.reads > maxGoReads || w.loads < 0 {
				return out, fmt.Errorf("only %d goroutines are shown", len(out))
			}
			g, ok := w.word(l.at + 8*i)
			if !ok {
				unsaved += l.n - i
				break
			}
			one, ok := w.goroutine(g)
			if !ok {
				unsaved++
				continue
			}
			if state := goStates[one.status]; state != "" {
				out = append(out, x.goroutine(one, state))
			}
		}
		if unsaved > 0 {
			missing = errors.Join(missing, fmt.Errorf("%s: %d goroutines, some of which may have ended, were not saved", m.Path, unsaved))
		}
	}
	return out, missing
}

// goroutine unwinds one.
func (x *analysis) goroutine(g goroutine, state string) Goroutine {
	const registers = 27 // in struct user_regs_struct
	regs := make([]uint64, registers)
	regs[registersOf[regRA]], regs[registersOf[regSP]] = g.pc, g.sp
	t := x.thread(Stopped{Regs: regs, called: true})
	return Goroutine{ID: g.id, State: state, Frames: t.Frames, Cut: t.Cut}
}

// variables are where a module's variables lie.
func (m *module) variables() []Range {
	var all []Range
	for _, name := range []string{".bss", ".noptrbss", ".data", ".noptrdata"} {
		if s := m.file.Section(name); s != nil && s.Size <= maxSection {
			all = append(all, Range{Start: s.Addr + m.bias, End: s.Addr + m.bias + s.Size})
		}
	}
	return all
}

// goroutine is what struct g says of one.
type goroutine struct {
	id         uint64
	status     uint32
	sp, pc     uint64
	stackStart uint64
	stackEnd   uint64
}

// goroutine reads one; false: it was not saved.
func (w *goWalk) goroutine(g uint64) (goroutine, bool) {
	var v [6]uint64
	for i, at := range []uint64{w.status, w.id, gSchedSP, gSchedPC, gStackLow, gStackHigh} {
		var ok bool
		if v[i], ok = w.word(g + at); !ok {
			return goroutine{}, false
		}
	}
	return goroutine{id: v[1], status: uint32(v[0]) &^ goScanBit, sp: v[2], pc: v[3], stackStart: v[4], stackEnd: v[5]}, true
}

// goList is runtime.allgs: n pointers to g at an address. noted is where the slice is.
type goList struct{ noted, at, n uint64 }

const (
	// goSlice is the size of a slice: its address, length and capacity.
	goSlice = 24
	// goStep is how much of the variables is read at a time.
	goStep = 64 << 10
)

// allgs finds runtime.allgs in a module's variables, without its name: a slice of pointers to g, of which the first is
// goroutine 1. Variables that were not saved are passed over by the page.
func (w *goWalk) allgs(variables []Range) (goList, bool) {
	b := make([]byte, goStep+goSlice)
	for _, r := range variables {
		for at := r.Start; at < r.End; {
			part, next := w.some(b, at, r.End)
			for i := 0; i+goSlice <= len(part); i += 8 {
				list, n, capacity := binary.LittleEndian.Uint64(part[i:]), binary.LittleEndian.Uint64(part[i+8:]), binary.LittleEndian.Uint64(part[i+16:])
				if list%8 == 0 && list > 1<<16 && n > 0 && n <= capacity && capacity < 1<<32 && w.isList(list) {
					return goList{at + uint64(i), list, n}, true
				}
			}
			if next < at {
				break
			}
			at = next
		}
	}
	return goList{}, false
}

// some fills b from at, at most to end, or as much of it as was saved of a page and of a slice that begins in it. next is where to go on.
func (w *goWalk) some(b []byte, at, end uint64) (part []byte, next uint64) {
	b = b[:min(uint64(len(b)), end-at)]
	if w.mem.Load(b, at) {
		return b, at + goStep
	}
	next = at&^(goPageSize-1) + goPageSize
	for _, beyond := range []uint64{goSlice, 0} {
		if part = b[:min(uint64(len(b)), next-at+beyond)]; w.mem.Load(part, at) {
			return part, next
		}
	}
	return nil, next
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

// GoroutineMemory calls take with each stretch of a process's memory that says what the goroutines do which no thread runs: where
// their list is noted, the list, and of each its struct g and the top of its stack. variables are those of Go's modules, or
// what they lie in. It ends when take returns false. All that it reads is hostile; no stretch is longer than 8 KiB.
func GoroutineMemory(variables []Range, mem Memory, take func(addr, n uint64) bool) {
	w := &goWalk{mem: mem, loads: maxGoTaken}
	l, ok := w.allgs(variables)
	if !ok || !take(l.noted, goSlice) {
		return
	}
	for i := range l.n {
		at := l.at + 8*i
		g, ok := w.word(at)
		if !ok || !take(at, 8) || !take(g, goLastWord) {
			return
		}
		one, ok := w.goroutine(g)
		if !ok {
			return
		}
		if goStates[one.status] == "" || one.sp < one.stackStart || one.sp >= one.stackEnd {
			continue
		}
		if !take(one.sp, min(goStackTop, one.stackEnd-one.sp)) {
			return
		}
	}
}
