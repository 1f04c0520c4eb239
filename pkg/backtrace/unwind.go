package backtrace

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Bounds of what is unwound.
const (
	maxThreads = 4096
	maxFrames  = 1024 // of a thread
	// maxTotal bounds the frames of all threads.
	maxTotal = 100_000
	maxPCs   = 1 << 16
)

// analysis is one run over a process.
type analysis struct {
	p       *Process
	a       *atlas
	spend   budget
	modules []*module
	byPlace map[[2]uint64]int // file and bias
	opened  map[int][]int     // file: its modules
	vdso    int               // index, -1: none
	named   map[uint64][]Frame
	total   int
}

// Analyze unwinds and names every thread of p. files are the contents of p.Files, as far as they are known. It does not
// fail: what could not be found out is in Result.Missing.
func Analyze(p *Process, mem Memory, files []Content) *Result {
	x := &analysis{
		p: p, a: newAtlas(p, mem, files), spend: budget{maxLoaded}, byPlace: map[[2]uint64]int{}, opened: map[int][]int{},
		vdso: -1, named: map[uint64][]Frame{},
	}
	x.openVDSO()
	r := &Result{Version: Version, Threads: []Thread{}, Modules: []Module{}}
	for i, t := range p.Threads {
		if i == maxThreads {
			r.Missing = append(r.Missing, fmt.Sprintf("%d more threads", len(p.Threads)-i))
			break
		}
		r.Threads = append(r.Threads, x.thread(t))
	}
	for i, pc := range p.PCs {
		if i == maxPCs {
			r.Missing = append(r.Missing, fmt.Sprintf("%d more addresses", len(p.PCs)-i))
			break
		}
		r.Names = append(r.Names, x.at(pc))
	}
	x.interpreted(r, mem)
	for _, m := range x.modules {
		r.Modules = append(r.Modules, m.Module)
		if m.err != nil {
			r.Missing = append(r.Missing, fmt.Sprintf("%s: %v", m.Path, m.err))
		}
	}
	r.Signature = x.signature(r)
	return r
}

// interpreted adds what runs on top of threads: functions of Python, and goroutines.
func (x *analysis) interpreted(r *Result, mem Memory) {
	var calls map[int][]Frame
	var err, err2 error
	if len(x.p.Threads) > 0 {
		calls, err = PythonCalls(FindPython(x.p.Files, mem), mem)
	}
	for i := range r.Threads {
		r.Threads[i].Python = calls[r.Threads[i].TID]
	}
	r.Goroutines, err2 = x.goroutines()
	for _, err := range []error{err, err2} {
		if err != nil {
			r.Missing = append(r.Missing, err.Error())
		}
	}
}

// at names one address.
func (x *analysis) at(pc uint64) []Frame {
	f := Frame{PC: pc, Module: x.module(pc)}
	if p, ok := x.a.at(pc); ok && p.Exec && p.file == -1 {
		f.Kind = KindJIT
	}
	return x.name(f, pc)
}

// openVDSO reads the kernel's module from the memory.
func (x *analysis) openVDSO() {
	if x.p.VDSO == 0 {
		return
	}
	const page, most = 4096, 16
	var image []byte
	for n := uint64(0); n < most; n++ {
		b := make([]byte, page)
		if !x.a.mem.Load(b, x.p.VDSO+n*page) {
			break
		}
		image = append(image, b...)
	}
	if len(image) == 0 {
		return
	}
	m := openModule("[vdso]", Content{bytes.NewReader(image), int64(len(image))}, x.a, &x.spend)
	m.bias = x.p.VDSO
	x.vdso = len(x.modules)
	x.modules = append(x.modules, m)
	x.a.places = slices.DeleteFunc(x.a.places, func(p place) bool { return p.Start == x.p.VDSO })
	x.a.places = append(x.a.places, place{Range{Start: x.p.VDSO, End: x.p.VDSO + uint64(len(image)), Exec: true}, vdsoFile})
	x.a.sort()
}

// vdsoFile is the file of the vdso's place.
const vdsoFile = -2

// module returns what pc lies in, -1: no file.
func (x *analysis) module(pc uint64) int {
	p, ok := x.a.at(pc)
	switch {
	case !ok || p.file == -1:
		return -1
	case p.file == vdsoFile:
		return x.vdso
	}
	var bias uint64
	known := x.opened[p.file]
	if len(known) > 0 {
		bias, _ = x.modules[known[0]].biasOf(p.Range)
		if i, ok := x.byPlace[[2]uint64{uint64(p.file), bias}]; ok {
			return i
		}
	}
	const copies = 64 // of one file in one process
	if len(known) == copies {
		return -1
	}
	var c Content
	if p.file < len(x.a.files) {
		c = x.a.files[p.file]
	}
	m := openModule(x.p.Files[p.file].Path, c, x.a, &x.spend)
	m.separate = x.debugFile(m.BuildID)
	m.bias, ok = m.biasOf(p.Range)
	if !ok {
		m.bias = p.Start - p.Offset // so that offsets are those in the file
	}
	i := len(x.modules)
	x.modules = append(x.modules, m)
	x.opened[p.file] = append(known, i)
	x.byPlace[[2]uint64{uint64(p.file), m.bias}] = i
	if bias != m.bias {
		x.byPlace[[2]uint64{uint64(p.file), bias}] = i
	}
	return i
}

// debugFile returns the file with the debug information of those with a build id, if it has that itself; nil: there is none.
func (x *analysis) debugFile(id string) *elf.File {
	i := slices.IndexFunc(x.p.Files, func(f File) bool { return id != "" && f.DebugOf == id })
	if i < 0 || i >= len(x.a.files) {
		return nil
	}
	m := openModule(x.p.Files[i].Path, x.a.files[i], x.a, &x.spend)
	if m.file == nil || m.sectionBuildID() != id {
		return nil
	}
	return m.file
}

// thread unwinds one.
func (x *analysis) thread(s Stopped) Thread {
	t := Thread{TID: s.TID, Comm: s.Comm, Frames: []Frame{}}
	if len(s.Regs) <= registersOf[regSP] {
		t.Cut = "its registers are not known"
		return t
	}
	var in regs
	for i, at := range registersOf {
		in[i] = s.Regs[at]
	}
	exact := !s.called // the pc is where it stands, not where a call returns to
	for n := 0; ; n++ {
		if n == maxFrames || x.total >= maxTotal {
			t.Cut = fmt.Sprintf("only %d frames are shown", n)
			return t
		}
		x.total++
		pc := in[regRA]
		lookup := pc - 1
		if exact {
			lookup = pc
		}
		f := Frame{PC: pc, Module: x.module(lookup)}
		next, by, err := x.caller(&in, lookup, n == 0)
		f.By = by
		if by == BySignal {
			f.Kind = KindSignal
		}
		if p, ok := x.a.at(lookup); ok && p.Exec && p.file == -1 {
			f.Kind = KindJIT
		}
		t.Frames = append(t.Frames, x.name(f, lookup)...)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Cut = err.Error()
			}
			return t
		}
		if next[regRA] == 0 {
			return t
		}
		if by != BySignal && next[regSP] <= in[regSP] && by != ByGo || next == in {
			t.Cut = "the stack does not go on"
			return t
		}
		exact = by == BySignal
		in = next
	}
}

// caller finds a frame's caller. io.EOF: it has none.
func (x *analysis) caller(in *regs, lookup uint64, innermost bool) (out regs, by By, err error) {
	pc := in[regRA]
	if x.a.trampoline(pc) {
		out, err := x.interrupted(in)
		return out, BySignal, err
	}
	why := errors.New("nothing says how its frame is built")
	if i := x.module(lookup); i >= 0 {
		m := x.modules[i]
		if t := m.goTable(); t != nil {
			if out, outermost, ok := t.caller(in, lookup, m.bias, innermost, x.a); ok {
				if outermost {
					return out, "", io.EOF
				}
				return out, ByGo, nil
			}
		}
		for _, f := range m.cfi() {
			d := f.find(lookup - m.bias)
			if d == nil {
				continue
			}
			out, outermost, err := x.byCFI(d, lookup-m.bias, in, m.bias)
			switch {
			case outermost:
				return out, "", io.EOF
			case err == nil && d.cie.signal:
				return out, BySignal, nil
			case err == nil:
				return out, ByCFI, nil
			}
			why = err
			break
		}
	} else if innermost && !x.a.executable(pc) {
		if ret, ok := x.a.word(in[regSP]); ok && x.a.executable(ret-1) {
			out = *in
			out[regRA], out[regSP] = ret, in[regSP]+8
			return out, ByReturn, nil
		}
	}
	if out, ok := x.byPointer(in); ok {
		return out, ByPointer, nil
	}
	return out, "", why
}

func (x *analysis) byCFI(d *fde, pc uint64, in *regs, bias uint64) (out regs, outermost bool, err error) {
	w, err := d.row(pc)
	if err != nil {
		return out, false, err
	}
	return w.apply(d.cie, in, bias, x.a.load)
}

// byPointer follows the frame pointer, if it points up the stack and to what may be one.
func (x *analysis) byPointer(in *regs) (out regs, ok bool) {
	bp := in[regBP]
	const far = 64 << 20
	if bp%8 != 0 || bp < in[regSP] || bp-in[regSP] > far {
		return out, false
	}
	saved, ok1 := x.a.word(bp)
	ret, ok2 := x.a.word(bp + 8)
	if !ok1 || !ok2 || !x.a.executable(ret-1) {
		return out, false
	}
	out = *in
	out[regBP], out[regRA], out[regSP] = saved, ret, bp+16
	return out, true
}

// interrupted reads the registers that the kernel saved in struct ucontext above a signal's handler: struct sigcontext
// is at 40.
func (x *analysis) interrupted(in *regs) (out regs, err error) {
	// In the order of struct sigcontext: r8 to r15, di, si, bp, bx, dx, ax, cx, sp, ip.
	for i, to := range [registers]int{8, 9, 10, 11, 12, 13, 14, 15, 5, 4, regBP, 3, 1, 0, 2, regSP, regRA} {
		v, ok := x.a.word(in[regSP] + 40 + 8*uint64(i))
		if !ok {
			return out, errMemory
		}
		out[to] = v
	}
	return out, nil
}
