package coredump

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
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
	codecWords  = 3 // packWords
	codecRaw    = 4 // as it is
	codecs      = 5
)

// maxChunk is what no chunk takes: each codec is at most a little longer than the window.
const maxChunk = 2 * window

// chunk is one stored window.
type chunk struct {
	Run
	codec uint32
	off   int64 // of its data in the file
	size  uint32
}

// bodyWriter writes chunks, and zero windows of one segment that follow each other as one.
type bodyWriter struct {
	h      *Head
	to     io.Writer
	stored uint64 // bytes in the file, with those of zeroes
	zeroes Run    // not written yet
}

// add writes a window's data, which begin after chunkHeader bytes of room; of zeroes there are none.
func (b *bodyWriter) add(r Run, room []byte, codec uint32) error {
	if codec == codecZero {
		if z := b.zeroes; z.Start < z.End && z.End == r.Start && b.h.segment(z.Start) == b.h.segment(r.Start) {
			b.zeroes.End = r.End
			return nil
		}
		err := b.flush()
		b.zeroes = r
		b.stored += chunkHeader
		return err
	}
	if err := b.flush(); err != nil {
		return err
	}
	b.stored += uint64(len(room))
	return b.chunk(r, room, codec)
}

// flush writes the zeroes that were added last.
func (b *bodyWriter) flush() error {
	r := b.zeroes
	if r.Start == r.End {
		return nil
	}
	b.zeroes = Run{}
	return b.chunk(r, make([]byte, chunkHeader), codecZero)
}

func (b *bodyWriter) chunk(r Run, room []byte, codec uint32) error {
	le := binary.LittleEndian
	le.PutUint32(room, chunkMagic)
	le.PutUint32(room[4:], uint32(len(room)-chunkHeader))
	le.PutUint64(room[8:], r.Start)
	le.PutUint64(room[16:], r.End-r.Start)
	le.PutUint32(room[24:], codec)
	le.PutUint32(room[28:], 0)
	_, err := b.to.Write(room)
	return err
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
		if le.Uint32(head[:]) != chunkMagic || length == 0 || length > window && c.codec != codecZero || length%pageSize != 0 ||
			c.codec >= codecs || c.size > maxChunk ||
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
	head   *Head // of the whole, not of what is presented
	chunks []chunk
	have   int    // index of the chunk in buf, -1: none
	mem    []byte // what buf and packed begin in: none of the garbage collector's, which keeps twice as much
	buf    []byte
	packed []byte
	zstd   *zstd.Decoder // made for the first chunk that needs it
}

// openCore presents head and body as one core file.
func openCore(h *Head, body *os.File) (*Core, error) {
	st, err := body.Stat()
	if err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(-1, 0, window+maxChunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("memory for a core: %w", err)
	}
	c := &Core{
		file: body, head: h, chunks: readChunks(body, st.Size(), h), have: -1, mem: mem, buf: mem[:0:window], packed: mem[window:window:len(mem)],
	}
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
	mem := c.mem
	c.mem, c.buf, c.packed, c.have = nil, nil, nil, -1
	err := c.file.Close()
	if mem != nil {
		err = errors.Join(err, unix.Munmap(mem))
	}
	return err
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
	if err := c.load(i); err != nil {
		return 0, err
	}
	return copy(b, c.buf[addr-k.Start:]), nil
}

// load puts the memory of a chunk, which is not of zeroes, into buf.
func (c *Core) load(i int) error {
	if c.have == i {
		return nil
	}
	k := &c.chunks[i]
	c.have = -1
	c.packed = slices.Grow(c.packed[:0], int(k.size))[:k.size]
	if _, err := c.file.ReadAt(c.packed, k.off); err != nil {
		return fmt.Errorf("core: %w", err)
	}
	data, err := c.unpack(k)
	if err != nil || len(data) != int(k.End-k.Start) {
		return errors.Join(fmt.Errorf("core: the chunk of %#x is damaged", k.Start), err)
	}
	c.buf, c.have = data, i
	return nil
}

// unpack decodes packed, into buf if that is large enough.
func (c *Core) unpack(k *chunk) ([]byte, error) {
	length := int(k.End - k.Start)
	c.buf = slices.Grow(c.buf[:0], length)[:length]
	switch k.codec {
	case codecRaw:
		return append(c.buf[:0], c.packed...), nil
	case codecWords:
		return c.buf, unpackWords(c.buf, c.packed)
	case codecS2:
		if n, err := s2.DecodedLen(c.packed); err != nil || n != length {
			return nil, err
		}
		return s2.Decode(c.buf, c.packed)
	}
	if c.zstd == nil {
		var err error
		c.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*window), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, fmt.Errorf("start zstd: %w", err)
		}
	}
	return c.zstd.DecodeAll(c.packed, c.buf[:0])
}
