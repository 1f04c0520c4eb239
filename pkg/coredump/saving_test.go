package coredump

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// ourMemory opens this process as if it had crashed.
func ourMemory(t testing.TB, pid int) *memory {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{pidfd: os.NewFile(uintptr(fd), "pidfd"), pid: pid}
	proc, err := openProc(p)
	if err != nil {
		t.Fatal(err)
	}
	m, err := openMemory(p, proc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.close()
		proc.close()
		p.pidfd.Close()
	})
	return m
}

// region maps memory of so many windows that no garbage collector moves or frees, and a head that has nothing else.
func region(t testing.TB, windows int) ([]byte, *Head) {
	t.Helper()
	b, err := unix.Mmap(-1, 0, windows*window, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(b); err != nil {
			t.Error(err)
		}
	})
	h := sample(t)
	start := uint64(uintptr(unsafe.Pointer(&b[0])))
	h.Segments = []Segment{{Start: start, End: start + uint64(len(b)), Dumped: uint64(len(b)), Flags: 6}}
	h.Threads[0].Regs.SP, h.Threads[0].Regs.BP = start+uint64(len(b))-pageSize, 0
	return b, h
}

// wide are limits that end nothing.
func wide() bodyLimits {
	return bodyLimits{quota: 1 << 40, room: 1 << 40, until: time.Now().Add(time.Hour), now: time.Now}
}

// written writes a body and returns its chunks, by address.
func written(t *testing.T, h *Head, m *memory, lim bodyLimits) (path string, chunks []chunk, cut string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "body")
	f, err := writeFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stored, cut, err := writeBody(f, h, m, h.body(m.absent), lim)
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if st.Size != int64(stored) || st.Blocks*512 > st.Size+1<<20 {
		t.Errorf("%d bytes on the disk, %d stored, a file of %d", st.Blocks*512, stored, st.Size)
	}
	return path, readChunks(f, st.Size, h), cut
}

func codecsOf(chunks []chunk) []uint32 {
	var out []uint32
	for _, c := range chunks {
		out = append(out, c.codec)
	}
	return out
}

func random(b []byte) {
	r := rand.New(rand.NewPCG(3, 4))
	for at := 0; at < len(b); at += 8 {
		binary.LittleEndian.PutUint64(b[at:], r.Uint64())
	}
}

// memoryIn is the memory that a body has.
func memoryIn(t *testing.T, path string, h *Head) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	all := coreBytes(t, h, f)
	return all[len(all)-int(h.Segments[0].Dumped):]
}

// TestBodyStoresEachWindowAsCostsLeast: nothing of what is zero, touched or not; the words of what is half of zeroes; the
// rest as it is, or denser where that would not fit.
func TestBodyStoresEachWindowAsCostsLeast(t *testing.T) {
	b, h := region(t, 6)
	clear(b[window : 2*window]) // touched, and zero
	random(b[2*window : 3*window])
	random(b[3*window : 4*window])
	for at := 3 * window; at < 4*window; at += 16 {
		clear(b[at : at+8])
	}
	copy(b[4*window:], someText(1))
	b[len(b)-1] = 1 // a page of a window that was not touched else
	for _, c := range []struct {
		resident uint64
		want     []uint32
	}{
		{0, []uint32{codecZero, codecRaw, codecWords, codecRaw, codecWords}},
		{1 << 50, []uint32{codecZero, codecS2, codecS2, codecS2, codecS2}},
	} {
		lim := wide()
		lim.resident = c.resident
		path, chunks, cut := written(t, h, ourMemory(t, os.Getpid()), lim)
		if diff := cmp.Diff(c.want, codecsOf(chunks)); diff != "" || cut != "" {
			t.Errorf("cut %q, codecs (-want +got):\n%s", cut, diff)
		}
		if !bytes.Equal(memoryIn(t, path, h), b) {
			t.Error("the memory is another")
		}
	}
}

// TestBodyOfZeroesStoresNoBytes: one header for each segment, though they touch.
func TestBodyOfZeroesStoresNoBytes(t *testing.T) {
	b, h := region(t, 8)
	clear(b)
	s := h.Segments[0]
	half := s.Start + 4*window
	h.Segments = []Segment{{Start: s.Start, End: half, Dumped: 4 * window, Flags: 6}, {Start: half, End: s.End, Dumped: 4 * window, Flags: 4}}
	path, chunks, _ := written(t, h, ourMemory(t, os.Getpid()), wide())
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	var sum uint64
	for _, c := range chunks {
		sum += c.End - c.Start
	}
	// The last window is the stack's and written first.
	if sum != 8*window || st.Size() != int64(3*chunkHeader) {
		t.Errorf("%d bytes of memory in a file of %d", sum, st.Size())
	}
}

// disk takes so long for each write, by a clock of its own.
type disk struct {
	now   time.Time
	takes time.Duration
}

func (d *disk) Write(b []byte) (int, error) {
	d.now = d.now.Add(d.takes)
	return len(b), nil
}

// TestBodyIsDenserOnASlowDisk: as long as it is slow, whatever the processors are.
func TestBodyIsDenserOnASlowDisk(t *testing.T) {
	h := sample(t)
	for _, tt := range []struct {
		read, write time.Duration
		dense       bool
	}{
		{time.Millisecond, 4 * time.Millisecond, false},
		{time.Millisecond, 40 * time.Millisecond, true},
		{10 * time.Millisecond, 40 * time.Millisecond, false},
	} {
		d := &disk{now: testTime}
		lim := wide()
		lim.until, lim.now = testTime.Add(time.Hour), func() time.Time { return d.now }
		r := Run{0x10000000, 0x10000000 + window}
		s := &saving{lim: lim, next: func() (Run, bool) { return r, true }, file: &aheadFile{}, out: &bodyWriter{h: h, to: d}, end: math.MaxInt}
		s.turn.L = &s.mu
		step := func() (dense bool) {
			r, seq, dense, ok := s.hand()
			if !ok || !s.await(seq) {
				t.Fatal("no window")
			}
			w := packed{Run: r, dense: dense, room: make([]byte, chunkHeader+window), codec: codecRaw, took: tt.read}
			if dense {
				w.took *= 10
			}
			s.write(seq, &w)
			return dense
		}
		if step() {
			t.Error("the first is dense")
		}
		for i, takes := range []time.Duration{tt.write, time.Millisecond, tt.write} {
			d.takes = takes
			for range 100 {
				step()
			}
			if got, want := step(), tt.dense && i != 1; got != want {
				t.Errorf("%s to read a window, %s to write it: dense %t", tt.read, takes, got)
			}
		}
	}
}

// TestBodyIsCutInTheOrderOfWindows: what fits into the quota is the first that is listed, none of it is missing.
func TestBodyIsCutInTheOrderOfWindows(t *testing.T) {
	b, h := region(t, 64)
	random(b)
	m := ourMemory(t, os.Getpid())
	order := slices.Collect(h.body(m.absent))
	for _, fits := range []int{0, 1, 2, 7, 33} {
		lim := wide()
		lim.quota = uint64(fits)*(window+chunkHeader) + 100
		lim.room = lim.quota
		lim.resident = 0
		_, chunks, cut := written(t, h, m, lim)
		var got, want []Run
		for _, c := range chunks {
			got = append(got, c.Run)
		}
		want = append(want, order[:fits]...)
		slices.SortFunc(want, func(a, b Run) int { return int(int64(a.Start) - int64(b.Start)) })
		if diff := cmp.Diff(want, got); diff != "" || cut != CutQuota {
			t.Errorf("quota of %d windows: cut %q\n%s", fits, cut, diff)
		}
	}
}

func TestBodyEndsWithItsDisk(t *testing.T) {
	b, h := region(t, 16)
	random(b)
	left := 5
	lim := wide()
	lim.free = func(uint64) bool { left--; return left >= 0 }
	_, chunks, cut := written(t, h, ourMemory(t, os.Getpid()), lim)
	if cut != CutDisk || len(chunks) != 5 {
		t.Errorf("cut %q after %d windows", cut, len(chunks))
	}
}

// TestBodyIsWrittenByWhoeverHaltsAProcess: that is one thread, and what is listed is listed on others, too.
func TestBodyIsWrittenByWhoeverHaltsAProcess(t *testing.T) {
	b, h := region(t, 16)
	random(b)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	path, _, _ := written(t, h, ourMemory(t, os.Getpid()), wide())
	if !bytes.Equal(memoryIn(t, path, h), b) {
		t.Error("the memory is another")
	}
}

// TestBodyOfAProcessThatEnded: it has nothing, and no zeroes in the place of what there was.
func TestBodyOfAProcessThatEnded(t *testing.T) {
	_, h := region(t, 4)
	h.Files = []Mapped{{Start: h.Segments[0].Start, End: h.Segments[0].End}} // all is read
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m := ourMemory(t, cmd.Process.Pid)
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	_, chunks, cut := written(t, h, m, wide())
	if cut != CutGone || len(chunks) != 0 {
		t.Errorf("cut %q after %d windows", cut, len(chunks))
	}
}

// BenchmarkWriteBody is of the memory of a heap.
func BenchmarkWriteBody(b *testing.B) {
	for _, kind := range []string{"random", "heap"} {
		b.Run(kind, func(b *testing.B) {
			mem, h := region(b, 256)
			random(mem)
			if kind == "heap" {
				for at := 0; at < len(mem); at += 32 {
					clear(mem[at : at+16])
				}
			}
			m := ourMemory(b, os.Getpid())
			b.SetBytes(int64(len(mem)))
			for b.Loop() {
				path := filepath.Join(b.TempDir(), "body")
				f, err := writeFile(path)
				if err != nil {
					b.Fatal(err)
				}
				if _, _, err := writeBody(f, h, m, h.body(m.absent), wide()); err != nil {
					b.Fatal(err)
				}
				if err := errors.Join(f.Close(), os.Remove(path)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
