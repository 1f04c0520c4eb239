package backtrace

import (
	"encoding/binary"
	"encoding/hex"
	"testing"
)

// TestPythonLines takes a table that CPython 3.13 made, and what its co_lines() says of it.
func TestPythonLines(t *testing.T) {
	table, err := hex.DecodeString("8000d80809d80809f10301090a8041e40d1290318e588801d8080989068801905191069201f103000e16f00600191ad80809e0080988518906f107" +
		"031810f300030c11f10003181090218a41f100031810f100030c11f000030511f9f200030c11")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ from, to, line int }{
		{0, 2, 1}, {2, 4, 2}, {4, 6, 3}, {6, 12, 2}, {12, 40, 4}, {40, 60, 5}, {60, 64, 4}, {64, 66, 7}, {66, 68, 8},
		{68, 76, 10}, {76, 110, 7}, {110, 114, 0}, {114, 120, 7}, {120, 130, 0},
	} {
		for at := c.from; at < c.to; at += 2 {
			if got := pythonLine(table, 1, uint64(at)); got != c.line {
				t.Errorf("offset %d: line %d, want %d", at, got, c.line)
			}
		}
	}
}

// flat is memory from address 0x1000 on.
type flat []byte

func (f flat) Load(b []byte, addr uint64) bool {
	const base = 0x1000
	if addr < base || addr-base > uint64(len(f)) || uint64(len(f))-(addr-base) < uint64(len(b)) {
		return false
	}
	copy(b, f[addr-base:])
	return true
}

// loopedPython is a runtime of one interpreter and one thread whose lists lead back to themselves.
func loopedPython() []byte {
	b := make([]byte, 4096)
	word := func(i int, v uint64) { binary.LittleEndian.PutUint64(b[8*i:], v) }
	copy(b, pythonCookie)
	word(1, 0x030d00f0)
	for i := 3; i < pythonWords; i++ {
		word(i, 1024+uint64(8*i)) // everything is at some offset
	}
	for i := 128; i < 512; i++ {
		word(i, 0x1000) // and everything leads to the beginning
	}
	return b
}

func TestPythonInCirclesEnds(t *testing.T) {
	files := []File{{Path: "/usr/bin/python3.13", Ranges: []Range{{Start: 0x1000, End: 0x2000}}}}
	found := FindPython(files, flat(loopedPython()))
	if len(found) != 1 || found[0] != 0x1000 {
		t.Fatalf("found at %x", found)
	}
	if _, err := PythonCalls(found, flat(loopedPython())); err == nil {
		t.Error("a list without end is read without an error")
	}
	other := loopedPython()
	binary.LittleEndian.PutUint64(other[8:], 0x030e00f0)
	if _, err := PythonCalls(found, flat(other)); err == nil || err.Error() != "structures of Python 3.14 are not known: those of 3.13 are" {
		t.Errorf("of 3.14: %v", err)
	}
	if found := FindPython([]File{{Path: "/usr/bin/perl", Ranges: files[0].Ranges}}, flat(loopedPython())); found != nil {
		t.Errorf("found in perl at %x", found)
	}
}

// TestPythonOfManyFunctionsIsBounded: objects that overlap, each with a table of its own that is as long as any may be.
func TestPythonOfManyFunctionsIsBounded(t *testing.T) {
	p := &python{mem: flat(loopedPython()), codes: map[uint64]*pythonCode{}}
	kept := 0
	for p.keep(maxPythonTable) {
		kept += maxPythonTable
	}
	if kept > maxPythonBytes {
		t.Errorf("%d bytes are kept", kept)
	}
	left := uint64(maxPythonScanned)
	for range 10 {
		findPython(flat(nil), Range{Start: 0, End: 1 << 30}, &left)
	}
	if left != 0 {
		t.Errorf("%d bytes left to look through", left)
	}
}

func FuzzPython(f *testing.F) {
	f.Add(loopedPython())
	f.Fuzz(func(t *testing.T, b []byte) {
		files := []File{{Path: "python3.13", Ranges: []Range{{Start: 0x1000, End: 0x1000 + uint64(len(b))}}}}
		calls, _ := PythonCalls(FindPython(files, flat(b)), flat(b))
		for _, frames := range calls {
			if len(frames) > maxPythonFrames {
				t.Errorf("%d frames", len(frames))
			}
		}
	})
}
