package coredump

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/backtrace"
)

// fileAsMemory is a file's bytes, as if mapped whole from the address.
type fileAsMemory struct {
	from  uint64
	bytes []byte
}

func (f fileAsMemory) read(b []byte, addr uint64) error {
	if addr < f.from || addr-f.from > uint64(len(f.bytes)) {
		return errors.New("not mapped")
	}
	clear(b)
	copy(b, f.bytes[addr-f.from:])
	return nil
}

// TestModulesCarryTheLinkersBuildID: readelf is the witness.
func TestModulesCarryTheLinkersBuildID(t *testing.T) {
	src := filepath.Join(t.TempDir(), "m.c")
	if err := os.WriteFile(src, []byte("int f(void) { return 1; }"), 0o600); err != nil {
		t.Fatal(err)
	}
	so := filepath.Join(filepath.Dir(src), "m.so")
	if out, err := exec.CommandContext(t.Context(), "cc", "-shared", "-fPIC", "-Wl,--build-id=sha1", "-Wl,-soname,libm.so.7", "-o", so, src).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b := loaded(t, so)
	out, err := exec.CommandContext(t.Context(), "readelf", "-n", so).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, want, _ := strings.Cut(string(out), "Build ID: ")
	want, _, _ = strings.Cut(want, "\n")
	const at = 0x7f0000000000
	h := &Head{Files: []Mapped{
		{Start: at, End: at + 0x1000, Path: "/lib/m.so (deleted)"}, {Start: at + 0x1000, End: at + 0x3000, Offset: 0x1000, Path: "/lib/m.so (deleted)"},
		{Start: at + 0x10000000, End: at + 0x10001000, Path: "/data"},
	}}
	got := modules(h.Files, newScan(fileAsMemory{at, b}))
	if diff := cmp.Diff([]Module{{Path: "/lib/m.so (deleted)", Start: at, End: at + 0x3000, BuildID: want, Soname: "libm.so.7", Deleted: true}}, got); diff != "" {
		t.Error(diff)
	}
	if len(want) != 40 {
		t.Errorf("readelf says %q", want)
	}
}

// loaded is an ELF file as a process has it in its memory.
func loaded(t *testing.T, path string) []byte {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b []byte
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		b = append(b, make([]byte, p.Vaddr+p.Memsz-uint64(len(b)))...)
		if _, err := p.ReadAt(b[p.Vaddr:p.Vaddr+p.Filesz], 0); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// onceOnly is a memory that no bytes are read of twice.
type onceOnly struct {
	of   reader
	t    *testing.T
	seen map[uint64]bool
}

func (o *onceOnly) read(b []byte, addr uint64) error {
	if o.seen[addr] {
		o.t.Errorf("%#x is read again", addr)
	}
	o.seen[addr] = true
	return o.of.read(b, addr)
}

// TestHeadersAreReadOnce: for the place, the modules and a Go program's variables; those are the sections of this program.
func TestHeadersAreReadOnce(t *testing.T) {
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var at uint64
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Off == 0 {
			at = p.Vaddr
		}
	}
	b := loaded(t, "/proc/self/exe")
	h := &Head{Files: []Mapped{{Start: at, End: uint64(len(b)), Path: "/prog"}}, Threads: []CoreThread{{}}}
	h.Threads[0].Regs.PC = f.Entry
	s := newScan(&onceOnly{fileAsMemory{0, b}, t, map[uint64]bool{}})
	if got := placeOf(h, s); !strings.HasSuffix(got, fmt.Sprintf("+%#x", f.Entry-at)) {
		t.Errorf("the place is %q", got)
	}
	variables := goVariables(modules(h.Files, s), s)
	for _, name := range []string{".data", ".bss", ".noptrbss"} {
		section := f.Section(name)
		if section == nil {
			t.Fatalf("no section %s", name)
		}
		if !slices.ContainsFunc(variables, func(r backtrace.Range) bool { return r.Start <= section.Addr && section.Addr < r.End }) {
			t.Errorf("%s at %#x is not in %+v", name, section.Addr, variables)
		}
	}
}

func FuzzModules(f *testing.F) {
	head := make([]byte, pageSize)
	copy(head, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint64(head[32:], 64)
	le.PutUint16(head[54:], phdrSize)
	le.PutUint16(head[56:], 2)
	le.PutUint32(head[64:], uint32(elf.PT_LOAD))
	le.PutUint32(head[120:], uint32(elf.PT_NOTE))
	le.PutUint64(head[120+16:], 0x200)
	le.PutUint64(head[120+32:], 36)
	copy(head[0x200:], "\x04\x00\x00\x00\x14\x00\x00\x00\x03\x00\x00\x00GNU\x00aaaaaaaaaaaaaaaaaaaa")
	f.Add(head)
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range modules([]Mapped{{Start: 0x1000, End: 0x2000, Path: "/x"}}, newScan(fileAsMemory{0x1000, b})) {
			if len(m.BuildID) > 2*maxBuildID || len(m.Soname) > maxSoname || strings.Contains(m.Soname, "/") || !bytes.HasPrefix(b, []byte(elf.ELFMAG)) {
				t.Errorf("%+v of %d bytes", m, len(b))
			}
		}
	})
}

func TestUnixSocketsNameTheirPeers(t *testing.T) {
	list := `Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 11 /run/with space.sock
0000000000000000: 00000003 00000000 00000000 0001 03 12
0000000000000000: 00000003 00000000 00000000 0001 03 13 /run/with space.sock
0000000000000000: 00000002 00000000 00000000 0002 01 14 @abstract
0000000000000000: 00000003 00000000 00000000 0005 03 15
garbage
`
	got := unixSockets(list, map[string]string{"11": "3", "12": "4", "14": "5", "15": "6"}, map[string]string{"12": "13", "13": "12", "15": "99"})
	want := []Socket{
		{FD: "3", Proto: "unix", Local: "/run/with space.sock", State: "listening"},
		{FD: "4", Proto: "unix", Peer: "/run/with space.sock", State: "established"},
		{FD: "5", Proto: "unix-dgram", Local: "@abstract", State: "unconnected"},
		{FD: "6", Proto: "unix-seqpacket", Peer: "inode 99", State: "established"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
