package backtrace

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
)

// ownMemory is this process's.
type ownMemory struct{ *os.File }

func (m ownMemory) Load(b []byte, addr uint64) bool {
	n, err := m.ReadAt(b, int64(addr))
	return err == nil && n == len(b)
}

// somePages are pages of a memory as they were.
type somePages map[uint64][]byte

func (p somePages) Load(b []byte, addr uint64) bool {
	for len(b) > 0 {
		page := p[addr&^(goPageSize-1)]
		if page == nil {
			return false
		}
		n := copy(b, page[addr%goPageSize:])
		b, addr = b[n:], addr+uint64(n)
	}
	return true
}

//go:noinline
func waitFor(end chan struct{}, started *sync.WaitGroup) {
	started.Done()
	<-end
}

// self is this process as a crashed one of which a thread is in this function's caller.
func self(t *testing.T) (p *Process, variables []Range, files []Content) {
	t.Helper()
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { exe.Close() })
	st, err := exe.Stat()
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != elf.ET_EXEC {
		t.Fatalf("the test's program is of type %s: its addresses are not those of its file", f.Type)
	}
	file := File{Path: "self"}
	for _, l := range f.Progs {
		if l.Type != elf.PT_LOAD {
			continue
		}
		const page = goPageSize
		file.Ranges = append(file.Ranges, Range{
			Start: l.Vaddr, End: (l.Vaddr + l.Filesz + page - 1) &^ (page - 1), Offset: l.Off, Exec: l.Flags&elf.PF_X != 0,
		})
		if l.Flags&elf.PF_W != 0 {
			variables = append(variables, Range{Start: l.Vaddr, End: l.Vaddr + l.Memsz})
		}
	}
	regs := make([]uint64, 27)
	regs[registersOf[regRA]] = uint64(reflect.ValueOf(waitFor).Pointer())
	return &Process{Threads: []Stopped{{TID: 1, Regs: regs}}, Files: []File{file}}, variables, []Content{{exe, st.Size()}}
}

// TestGoroutinesFromFewPages: what GoroutineMemory lists of this process is enough to tell where its goroutines wait, and of
// those that it has no room for how many there are is told.
func TestGoroutinesFromFewPages(t *testing.T) {
	const waiting = 500
	var started sync.WaitGroup
	end := make(chan struct{})
	defer close(end)
	started.Add(waiting)
	for range waiting {
		go waitFor(end, &started)
	}
	started.Wait()
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	p, variables, files := self(t)
	for _, most := range []int{10_000, 40} {
		saved := somePages{}
		GoroutineMemory(variables, ownMemory{mem}, func(addr, n uint64) bool {
			for at := addr &^ (goPageSize - 1); at < addr+n; at += goPageSize {
				if b := make([]byte, goPageSize); saved[at] == nil && (ownMemory{mem}).Load(b, at) {
					saved[at] = b
				}
			}
			return len(saved) < most
		})
		r := Analyze(p, saved, files)
		found := 0
		for _, g := range r.Goroutines {
			var names []string
			for _, f := range g.Frames {
				names = append(names, f.Func)
			}
			if slices.Contains(names, "github.com/tritond/triton/pkg/backtrace.waitFor") && names[len(names)-1] == "runtime.goexit" && g.Cut == "" && g.ID > 1 {
				found++
			}
		}
		missing := strings.Join(r.Missing, "\n")
		if whole := most > waiting; whole && (found != waiting || missing != "") || !whole && (found < most/4 || !strings.Contains(missing, "were not saved")) {
			t.Errorf("%d goroutines of %d in %d pages, missing %q", found, waiting, len(saved), missing)
		}
	}
}

// FuzzGoroutineMemory: nothing in a process's memory keeps the walk from ending, or makes it list what is longer than it says.
func FuzzGoroutineMemory(f *testing.F) {
	const base = 0x10000 * 4
	le := binary.LittleEndian
	sample := make([]byte, 0x1000)
	for i, v := range []uint64{base + 0x100, 1, 1} { // allgs
		le.PutUint64(sample[8*i:], v)
	}
	le.PutUint64(sample[0x100:], base+0x200)
	for at, v := range map[int]uint64{gStackLow: base + 0x800, gStackHigh: base + 0x1000, gSchedSP: base + 0x900, gSchedG: base + 0x200, 144: 4, 152: 1} {
		le.PutUint64(sample[0x200+at:], v)
	}
	f.Add(sample)
	f.Fuzz(func(t *testing.T, b []byte) {
		mem := somePages{}
		for i := 0; i+goPageSize <= len(b); i += goPageSize {
			mem[base+uint64(i)] = bytes.Clone(b[i : i+goPageSize])
		}
		var got []string
		GoroutineMemory([]Range{{Start: base, End: base + 1<<20}}, mem, func(addr, n uint64) bool {
			if n > goStackTop {
				t.Errorf("%d bytes at %#x", n, addr)
			}
			got = append(got, fmt.Sprintf("%#x+%d", addr, n))
			return len(got) < 1000
		})
		if bytes.Equal(b, sample) && fmt.Sprint(got) != "[0x40000+24 0x40100+8 0x40200+168 0x40900+1792]" {
			t.Errorf("it lists %v", got)
		}
	})
}
