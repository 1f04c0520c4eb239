package coredump

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/s2"
)

// sample is a head with one thread whose stack is in the second of two segments.
func sample(t testing.TB) *Head {
	t.Helper()
	h := &Head{Segments: []Segment{
		{Start: 0x400000, End: 0x402000, Dumped: 0, Flags: 5},
		{Start: 0x10000000, End: 0x10000000 + 3*window, Dumped: 3 * window, Flags: 6},
	}}
	copy(h.ehdr[:], "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(h.ehdr[16:], 4)
	le.PutUint16(h.ehdr[18:], 62)
	le.PutUint64(h.ehdr[32:], ehdrSize)
	le.PutUint16(h.ehdr[52:], ehdrSize)
	le.PutUint16(h.ehdr[54:], phdrSize)
	desc := make([]byte, 336)
	le.PutUint32(desc[32:], 7)
	le.PutUint64(desc[112+8*16:], 0x400123)
	le.PutUint64(desc[112+8*19:], 0x10000000+window+0x800)
	h.Notes = le.AppendUint32(le.AppendUint32(le.AppendUint32(nil, 5), uint32(len(desc))), ntPrstatus)
	h.Notes = append(append(h.Notes, "CORE\x00\x00\x00\x00"...), desc...)
	back, err := ReadHead(bytes.NewReader(h.encode()))
	if err != nil {
		t.Fatal(err)
	}
	return back
}

func TestHeadSurvivesEncoding(t *testing.T) {
	h := sample(t)
	if len(h.Threads) != 1 || h.Threads[0].TID != 7 || h.Threads[0].Regs.PC != 0x400123 {
		t.Fatalf("threads %+v", h.Threads)
	}
	again, err := ReadHead(bytes.NewReader(h.encode()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(h.Segments, again.Segments); diff != "" {
		t.Error(diff)
	}
}

// nothingAbsent is the memory of a process that has touched all.
func nothingAbsent(from, _ uint64) uint64 { return from }

func TestBodyBeginsWithTheStack(t *testing.T) {
	h := sample(t)
	want := []Run{
		{0x10000000 + window, 0x10000000 + 2*window}, {0x10000000 + 2*window, 0x10000000 + 3*window}, {0x10000000, 0x10000000 + window},
	}
	if diff := cmp.Diff(want, slices.Collect(h.body(nothingAbsent))); diff != "" {
		t.Error(diff)
	}
}

// TestBodyListsWhatIsAbsentAtOnce: but for what was listed before, and after all that is smaller.
func TestBodyListsWhatIsAbsentAtOnce(t *testing.T) {
	h := sample(t)
	const big, end = 0x200000000000, 0x200000000000 + 100<<40
	h.Segments = append(h.Segments,
		Segment{Start: big, End: end, Dumped: end - big}, Segment{Start: end + window, End: end + 2*window + pageSize, Dumped: window + pageSize})
	h.Threads = append(h.Threads, CoreThread{Regs: Regs{SP: big + 5*window + 0x800}})
	got := slices.Collect(h.body(func(from, to uint64) uint64 {
		if touched := uint64(big + 9*window + pageSize); from <= touched {
			return min(to, touched)
		}
		return to
	}))
	want := []Run{
		{0x10000000 + window, 0x10000000 + 2*window}, {0x10000000 + 2*window, 0x10000000 + 3*window}, // stacks
		{big + 5*window, big + 6*window}, {big + 6*window, big + 7*window},
		{end + window, end + 2*window}, {end + 2*window, end + 2*window + pageSize},
		{0x10000000, 0x10000000 + window},
		{big, big + 5*window}, {big + 7*window, big + 9*window}, {big + 9*window, big + 10*window}, {big + 10*window, end},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestCoreOfACutBodyIsWhole: a body that ends within a chunk gives a core that has the chunks before it, and no more.
func TestCoreOfACutBodyIsWhole(t *testing.T) {
	h := sample(t)
	var file bytes.Buffer
	le := binary.LittleEndian
	for i, fill := range []byte{'a', 'b'} {
		data := s2.Encode(nil, bytes.Repeat([]byte{fill}, window))
		head := make([]byte, chunkHeader)
		le.PutUint32(head, chunkMagic)
		le.PutUint32(head[4:], uint32(len(data)))
		le.PutUint64(head[8:], 0x10000000+uint64(i)*window)
		le.PutUint64(head[16:], window)
		le.PutUint32(head[24:], codecS2)
		file.Write(append(head, data...))
	}
	path := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(path, file.Bytes()[:file.Len()-1], 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := openCore(h, f)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	back, err := ReadHead(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	var dumped uint64
	for _, s := range back.Segments {
		dumped += s.Dumped
	}
	if dumped != window || !bytes.Equal(b[len(b)-window:], bytes.Repeat([]byte{'a'}, window)) {
		t.Errorf("%d bytes of memory, want the first window", dumped)
	}
}

func FuzzReadHead(f *testing.F) {
	f.Add(sample(f).encode())
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ReadHead(bytes.NewReader(b))
		if err != nil {
			return
		}
		if len(h.Notes) > len(b) || len(h.Segments) > len(b)/phdrSize {
			t.Errorf("%d bytes of notes and %d segments from %d bytes", len(h.Notes), len(h.Segments), len(b))
		}
		readChunks(bytes.NewReader(b), int64(len(b)), h)
	})
}
