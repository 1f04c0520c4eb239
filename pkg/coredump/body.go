package coredump

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// A body file is a sequence of chunks: a header of 32 bytes, little endian (magic, size of the data that follow, address,
// length in memory, number of the codec), then the data. A chunk is a window at most, or any number of zero pages. None
// depends on another, one cut short at the end counts as not there, and walking over the headers is the index.
const (
	chunkMagic  = 0x31435254 // "TRC1"
	chunkHeader = 32
	codecZero   = 0 // all zero: no data
	codecS2     = 1
	codecZstd   = 2 // of dumps that were compressed anew
)

// chunk is one stored window.
type chunk struct {
	Run
	codec uint32
	off   int64 // of its data in the file
	size  uint32
}

// Why a body ends before its time.
const (
	CutQuota = "quota"
	CutTime  = "max-hold"
	CutGone  = "process ended"
	CutDisk  = "disk full"
	CutRate  = "repeats"
	CutKill  = "the daemon ended"
)

// bodyLimits end a body.
type bodyLimits struct {
	quota uint64 // bytes on disk
	until time.Time
	now   func() time.Time
	free  func() bool // whether the disk may take more
}

// bodyWriter writes chunks, and zero windows that follow each other as one.
type bodyWriter struct {
	out    *bufio.Writer
	stored uint64 // bytes in the file, with those of zeroes
	zeroes Run    // not written yet
}

// add writes a window's data.
func (b *bodyWriter) add(r Run, data []byte, codec uint32) error {
	if codec == codecZero {
		if b.zeroes.End == r.Start && b.zeroes.Start < b.zeroes.End {
			b.zeroes.End = r.End
			return nil
		}
		err := b.flushZeroes()
		b.zeroes = r
		b.stored += chunkHeader
		return err
	}
	if err := b.flushZeroes(); err != nil {
		return err
	}
	b.stored += chunkHeader + uint64(len(data))
	return b.chunk(r, data, codec)
}

func (b *bodyWriter) flushZeroes() error {
	r := b.zeroes
	if r.Start == r.End {
		return nil
	}
	b.zeroes = Run{}
	return b.chunk(r, nil, codecZero)
}

func (b *bodyWriter) chunk(r Run, data []byte, codec uint32) error {
	var head [chunkHeader]byte
	le := binary.LittleEndian
	le.PutUint32(head[:], chunkMagic)
	le.PutUint32(head[4:], uint32(len(data)))
	le.PutUint64(head[8:], r.Start)
	le.PutUint64(head[16:], r.End-r.Start)
	le.PutUint32(head[24:], codec)
	if _, err := b.out.Write(head[:]); err != nil {
		return err
	}
	_, err := b.out.Write(data)
	return err
}

// writeBody saves windows in order until all are, or a limit is met; cut says which. It allocates two windows.
func writeBody(w io.Writer, h *Head, m *memory, windows iter.Seq[Run], lim bodyLimits) (stored uint64, cut string, err error) {
	out := &bodyWriter{out: bufio.NewWriterSize(w, 256<<10)}
	buf, packed := make([]byte, window), make([]byte, s2.MaxEncodedLen(window))
	bits := make([]bool, window/pageSize)
	for r := range windows {
		if cut = lim.met(out.stored); cut != "" {
			break
		}
		data, codec, err := pack(h, m, r, buf, packed, bits)
		if errors.Is(err, errGone) {
			cut = CutGone
			break
		}
		if err != nil {
			return out.stored, cut, errors.Join(err, out.flushZeroes(), out.out.Flush())
		}
		if out.stored+uint64(len(data))+chunkHeader > lim.quota {
			cut = CutQuota
			break
		}
		if err := out.add(r, data, codec); err != nil {
			return out.stored, CutDisk, err
		}
	}
	return out.stored, cut, errors.Join(out.flushZeroes(), out.out.Flush())
}

// met tells which limit ends a body of so many bytes; "": none.
func (l *bodyLimits) met(stored uint64) string {
	switch {
	case stored >= l.quota:
		return CutQuota
	case l.now().After(l.until):
		return CutTime
	case !l.free():
		return CutDisk
	}
	return ""
}

// pack reads one window and compresses it. Windows that were never touched are not read.
func pack(h *Head, m *memory, r Run, buf, packed []byte, bits []bool) ([]byte, uint32, error) {
	if r.End-r.Start > window { // body lists only what has no contents so
		return nil, codecZero, nil
	}
	n := int(r.End - r.Start)
	buf, bits = buf[:n], bits[:n/pageSize]
	if h.fromFile(r) {
		if err := m.read(buf, r.Start); err != nil {
			return nil, 0, err
		}
		return s2.Encode(packed, buf), codecS2, nil
	}
	if err := m.present(r.Start, bits); err != nil {
		return nil, 0, err
	}
	if !slices.Contains(bits, true) {
		return nil, codecZero, nil
	}
	for i := 0; i < len(bits); {
		j := i
		for j < len(bits) && bits[j] == bits[i] {
			j++
		}
		part := buf[i*pageSize : j*pageSize]
		if !bits[i] {
			clear(part)
		} else if err := m.read(part, r.Start+uint64(i*pageSize)); err != nil {
			return nil, 0, err
		}
		i = j
	}
	return s2.Encode(packed, buf), codecS2, nil
}

// readChunks walks over a body's headers. What does not make sense ends the walk: the rest of the file is not there.
func readChunks(f io.ReaderAt, size int64, h *Head) []chunk {
	var chunks []chunk
	var head [chunkHeader]byte
	le := binary.LittleEndian
	for at := int64(0); at+chunkHeader <= size; {
		if _, err := f.ReadAt(head[:], at); err != nil {
			break
		}
		c := chunk{codec: le.Uint32(head[24:]), off: at + chunkHeader, size: le.Uint32(head[4:])}
		length := le.Uint64(head[16:])
		c.Start, c.End = le.Uint64(head[8:]), le.Uint64(head[8:])+length
		if le.Uint32(head[:]) != chunkMagic || length == 0 || length > window && c.codec != codecZero || length%pageSize != 0 || c.codec > codecZstd ||
			c.off+int64(c.size) > size || !h.within(c.Run) {
			break
		}
		chunks = append(chunks, c)
		at = c.off + int64(c.size)
	}
	slices.SortFunc(chunks, func(a, b chunk) int {
		if a.Start < b.Start {
			return -1
		}
		return 1
	})
	return slices.CompactFunc(chunks, func(a, b chunk) bool { return a.Start == b.Start })
}

// within reports whether r lies in the dumped part of one segment.
func (h *Head) within(r Run) bool {
	i := h.segment(r.Start)
	return i >= 0 && h.Segments[i].Start <= r.Start && r.End <= h.Segments[i].Start+h.Segments[i].Dumped && r.Start < r.End
}

// Core is a core file that is put together while it is read. It is an io.ReadSeekCloser and an io.ReaderAt.
type Core struct {
	*io.SectionReader
	file   *os.File
	layout layout
	chunks []chunk
	have   int // index of the chunk in buf, -1: none
	buf    []byte
	zstd   *zstd.Decoder // made for the first chunk that needs it
}

// openCore presents head and body as one core file.
func openCore(h *Head, body *os.File) (*Core, error) {
	st, err := body.Stat()
	if err != nil {
		return nil, err
	}
	c := &Core{file: body, chunks: readChunks(body, st.Size(), h), have: -1}
	runs := make([]Run, len(c.chunks))
	for i, k := range c.chunks {
		runs[i] = k.Run
	}
	c.layout = h.layOut(h.merge(runs))
	c.SectionReader = io.NewSectionReader(c, 0, c.layout.size)
	return c, nil
}

// Close closes the body's file.
func (c *Core) Close() error {
	if c.zstd != nil {
		c.zstd.Close()
	}
	return c.file.Close()
}

// ReadAt is for one goroutine at a time.
func (c *Core) ReadAt(b []byte, off int64) (int, error) {
	done := 0
	for done < len(b) {
		at := off + int64(done)
		if at >= c.layout.size {
			return done, io.EOF
		}
		n, err := c.some(b[done:], at)
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// some reads at least a byte.
func (c *Core) some(b []byte, at int64) (int, error) {
	if at < int64(len(c.layout.head)) {
		return copy(b, c.layout.head[at:]), nil
	}
	runs := c.layout.runs
	i, found := slices.BinarySearchFunc(runs, at, func(p placed, o int64) int { return int(min(max(p.off-o, -1), 1)) })
	if !found {
		i--
	}
	if i < 0 { // between head and memory
		n := min(int64(len(b)), c.layout.size-at)
		if len(runs) > 0 {
			n = min(n, runs[0].off-at)
		}
		clear(b[:n])
		return int(n), nil
	}
	return c.at(b, runs[i].Start+uint64(at-runs[i].off))
}

// at reads from an address that a chunk has.
func (c *Core) at(b []byte, addr uint64) (int, error) {
	i, found := slices.BinarySearchFunc(c.chunks, addr, func(k chunk, a uint64) int {
		if k.End <= a {
			return -1
		}
		if k.Start > a {
			return 1
		}
		return 0
	})
	if !found {
		return 0, fmt.Errorf("core: nothing stored of %#x", addr)
	}
	k := c.chunks[i]
	if k.codec == codecZero {
		n := min(len(b), int(k.End-addr))
		clear(b[:n])
		return n, nil
	}
	if c.have != i {
		packed := make([]byte, k.size)
		if _, err := c.file.ReadAt(packed, k.off); err != nil {
			return 0, fmt.Errorf("core: %w", err)
		}
		data, err := c.unpack(&k, packed)
		if err != nil {
			return 0, err
		}
		c.buf, c.have = data, i
	}
	return copy(b, c.buf[addr-k.Start:]), nil
}
