package backtrace

import (
	"bytes"
	"debug/elf"
	"os"
	"reflect"
	"runtime"
	"testing"
)

// noMemory is a process of which nothing was saved.
type noMemory struct{}

func (noMemory) Load([]byte, uint64) bool { return false }

// echo is memory that holds its own addresses.
func echo(b []byte, addr uint64) bool {
	for i := range b {
		b[i] = byte(addr >> (8 * (uint(i) % 8)))
	}
	return true
}

// section returns a section of the test's own program.
func section(f *testing.F, name string) []byte {
	f.Helper()
	self, err := os.Executable()
	if err != nil {
		f.Fatal(err)
	}
	e, err := elf.Open(self)
	if err != nil {
		f.Fatal(err)
	}
	defer e.Close()
	s := e.Section(name)
	if s == nil {
		f.Fatalf("%s has no %s", self, name)
	}
	b, err := s.Data()
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// cfiSample is .eh_frame of a function at 0x1000 with a frame of 16 bytes, and a CIE that says that it is a signal's.
func cfiSample() []byte {
	cie := []byte{1, 'z', 'R', 'S', 0, 1, 0x78, 16, 1, 0x00, 0x0c, 7, 8, 0x90, 1, 0, 0, 0, 0, 0}
	b := append([]byte{byte(4 + len(cie)), 0, 0, 0, 0, 0, 0, 0}, cie...)
	fde := []byte{0x00, 0x10, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0x44, 0x0e, 16, 0x86, 2, 0, 0}
	at := len(b)
	b = append(b, byte(4+len(fde)), 0, 0, 0, byte(at+4), 0, 0, 0)
	b = append(b, fde...)
	return append(b, 0, 0, 0, 0)
}

func TestFramesFollowTheProgram(t *testing.T) {
	f := readFrames(cfiSample(), 0, true)
	if len(f.fdes) != 1 {
		t.Fatalf("%d functions", len(f.fdes))
	}
	d := f.find(0x1010)
	if d == nil || !d.cie.signal || f.find(0x1040) != nil || f.find(0xfff) != nil {
		t.Fatalf("function at 0x1010: %+v", d)
	}
	for pc, cfa := range map[uint64]uint64{0x1000: 0x7008, 0x1003: 0x7008, 0x1004: 0x7010} {
		w, err := d.row(pc)
		if err != nil {
			t.Fatal(err)
		}
		in := regs{regSP: 0x7000, regBP: 1, regRA: pc}
		out, outermost, err := w.apply(d.cie, &in, 0, echo)
		if err != nil || outermost || out[regSP] != cfa || out[regRA] != cfa-8 {
			t.Errorf("at %#x: stack %#x, return to %#x, %v", pc, out[regSP], out[regRA], err)
		}
		if want := uint64(1); pc < 0x1004 && out[regBP] != want || pc >= 0x1004 && out[regBP] != cfa-16 {
			t.Errorf("at %#x: frame pointer %#x", pc, out[regBP])
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(cfiSample(), uint64(0x1010), true)
	f.Add(cfiSample(), uint64(0x1010), false)
	f.Fuzz(func(t *testing.T, b []byte, pc uint64, eh bool) {
		fr := readFrames(b, 0, eh)
		for _, d := range fr.fdes {
			if d.hi <= d.lo {
				t.Fatalf("function from %#x to %#x", d.lo, d.hi)
			}
		}
		if d := fr.find(pc); d != nil {
			if w, err := d.row(pc); err == nil {
				in := regs{regSP: 0x7000, regRA: pc}
				_, _, _ = w.apply(d.cie, &in, 0, echo)
			}
		}
	})
}

func TestExpressionOfAPLT(t *testing.T) {
	// DW_OP_breg7 8; breg16 0; lit15; and; lit11; ge; lit3; shl; plus: as linkers write it for a PLT.
	plt := []byte{0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22}
	for ra, want := range map[uint64]uint64{0x1000: 0x7008, 0x100b: 0x7010} {
		in := regs{regSP: 0x7000, regRA: ra}
		if got, err := evaluate(plt, &in, 0, nil, echo); err != nil || got != want {
			t.Errorf("at %#x: %#x, %v; want %#x", ra, got, err, want)
		}
	}
}

func FuzzExpression(f *testing.F) {
	f.Add([]byte{0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22})
	f.Add([]byte{0x30, 0x2f, 0xfc, 0xff}) // a loop
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = evaluate(b, &regs{}, 0, nil, echo)
	})
}

func TestGoTableKnowsThisProgram(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	e, err := elf.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	b, err := e.Section(".gopclntab").Data()
	if err != nil {
		t.Fatal(err)
	}
	table, err := readGoTable(b, e.Section(".text").Addr)
	if err != nil {
		t.Fatal(err)
	}
	witness := runtime.FuncForPC(reflect.ValueOf(readGoTable).Pointer())
	pc := uint64(witness.Entry())
	wantFile, wantLine := witness.FileLine(witness.Entry())
	f, ok := table.find(pc + 8)
	if !ok || f.name() != witness.Name() || f.entry != pc {
		t.Fatalf("at %#x: %q from %#x, want %s", pc, f.name(), f.entry, witness.Name())
	}
	file, line := f.line(pc)
	if size, ok := f.stack(pc); !ok || size != 0 || line != wantLine || file != wantFile {
		t.Errorf("%d bytes of stack at its entry, %s:%d, want %s:%d", size, file, line, wantFile, wantLine)
	}
}

func FuzzGoTable(f *testing.F) {
	b := section(f, ".gopclntab")
	f.Add(b[:4096], uint64(0x401000))
	f.Fuzz(func(_ *testing.T, b []byte, pc uint64) {
		t, err := readGoTable(b, 0x400000)
		if err != nil {
			return
		}
		if fn, ok := t.find(pc); ok {
			fn.name()
			fn.line(pc)
			fn.stack(pc)
			fn.flags()
		}
	})
}

// FuzzAnalyze is of a process whose only file is hostile.
func FuzzAnalyze(f *testing.F) {
	head := make([]byte, 64+56*2)
	copy(head, "\x7fELF\x02\x01\x01")
	copy(head[16:], []byte{3, 0, 62, 0, 1})
	head[32], head[52], head[54], head[56], head[58] = 64, 64, 56, 2, 64
	copy(head[64:], []byte{1, 0, 0, 0, 5})
	head[64+33], head[64+41] = 0x10, 0x10
	copy(head[64+56:], []byte{0x50, 0xe5, 0x74, 0x64, 4})
	head[64+56+32] = 12
	f.Add(head)
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &Process{
			Signal: "SIGSEGV", Threads: []Stopped{{TID: 1, Regs: make([]uint64, 27)}},
			Files: []File{{Path: "/x", Ranges: []Range{{Start: 0x400000, End: 0x500000, Exec: true}}}},
			PCs:   []uint64{0x400100, 0x4fffff, 0, 1 << 63},
		}
		p.Threads[0].Regs[16] = 0x400100
		r := Analyze(p, noMemory{}, []Content{{bytes.NewReader(b), int64(len(b))}})
		if len(r.Threads) != 1 || len(r.Threads[0].Frames) == 0 || len(r.Names) != len(p.PCs) {
			t.Errorf("%+v", r)
		}
	})
}
