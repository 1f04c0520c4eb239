package coredump

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/tritond/triton/pkg/durable"
	"github.com/tritond/triton/pkg/triton"
)

// While a process is held its memory is compressed by what costs least. What is kept for weeks is compressed anew by what
// saves more, one dump at a time, when nobody waits for it.

// later has a dump's body compressed anew. Too many that wait are left to the next start.
func (s *Service) later(tenant triton.Tenant, id string) { s.unpacked.add(waiting{tenant, id}) }

// repackAll compresses bodies anew until ctx is done, also those that a former daemon left.
func (s *Service) repackAll(ctx context.Context) {
	left, err := s.store.find(func(r *Record) bool {
		return r.repackable() && (s.cfg.Analyze == nil || r.Analysis != nil || r.Kind != "")
	})
	if err != nil {
		s.log.Error("look for dumps to compress", "err", err)
	}
	for _, w := range left {
		s.later(w.tenant, w.id)
	}
	s.unpacked.run(ctx, func(ctx context.Context, w waiting) {
		if err := s.repackOne(ctx, w); err != nil && ctx.Err() == nil {
			s.log.Warn("dump not compressed anew", "tenant", w.tenant, "dump", w.id, "err", err)
		}
	})
}

func (r *Record) repackable() bool {
	return !r.Packed && (r.Body == BodyFull || r.Body == BodyTruncated)
}

func (s *Service) repackOne(ctx context.Context, w waiting) error {
	leave, err := s.packing.enter(ctx, w.tenant)
	if err != nil {
		return err
	}
	defer leave()
	r, err := s.store.load(w.tenant, w.id)
	if err != nil || !r.repackable() || s.store.free() < s.cfg.MinFree+r.StoredBytes {
		return nil // removed meanwhile; or there is no room for both, and the next start looks again
	}
	size, err := s.store.repack(ctx, r)
	if err != nil {
		return err
	}
	// Whoever reads the stacks changes the record too.
	done, err := s.reading.enter(ctx, w.tenant)
	if err != nil {
		return err
	}
	defer done()
	if r, err = s.store.load(w.tenant, w.id); err != nil {
		return nil // removed meanwhile
	}
	r.Packed, r.StoredBytes = true, size
	return errors.Join(s.store.save(r), s.store.weigh(r))
}

// repack writes a body anew and puts it in the place of the old one, which whoever has it open goes on reading.
func (s *Store) repack(ctx context.Context, r *Record) (size uint64, err error) {
	dir, err := s.path(r.Container.Tenant, r.ID)
	if err != nil {
		return 0, err
	}
	raw, err := os.ReadFile(filepath.Join(dir, headFile))
	if err != nil {
		return 0, err
	}
	h, err := ReadHead(bytes.NewReader(raw))
	if err != nil {
		return 0, err
	}
	old, err := os.Open(filepath.Join(dir, bodyFile))
	if err != nil {
		return 0, err
	}
	defer old.Close()
	st, err := old.Stat()
	if err != nil {
		return 0, err
	}
	chunks := readChunks(old, st.Size(), h)
	err = durable.WriteFile(filepath.Join(dir, bodyFile), func(w io.Writer) error {
		size, err = repackChunks(ctx, w, old, chunks)
		return err
	})
	return size, err
}

// repackChunks copies chunks, those of S2 by Zstandard where that is less.
func repackChunks(ctx context.Context, w io.Writer, from io.ReaderAt, chunks []chunk) (uint64, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(window))
	if err != nil {
		return 0, fmt.Errorf("start zstd: %w", err)
	}
	defer enc.Close()
	out := &bodyWriter{out: bufio.NewWriterSize(w, 256<<10)}
	var packed, plain, again []byte
	for _, c := range chunks {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		packed = append(packed[:0], make([]byte, c.size)...)
		if _, err := from.ReadAt(packed, c.off); err != nil && c.size > 0 {
			return 0, fmt.Errorf("read the chunk of %#x: %w", c.Start, err)
		}
		data, codec := packed, c.codec
		if codec == codecS2 {
			if plain, err = s2.Decode(plain[:cap(plain)], packed); err != nil {
				return 0, fmt.Errorf("the chunk of %#x: %w", c.Start, err)
			}
			if again = enc.EncodeAll(plain, again[:0]); len(again) < len(packed) {
				data, codec = again, codecZstd
			}
		}
		// Zeroes of one segment and of the next are not one chunk: a chunk lies in one segment.
		if err := errors.Join(out.add(c.Run, data, codec), out.flushZeroes()); err != nil {
			return 0, err
		}
	}
	return out.stored, errors.Join(out.flushZeroes(), out.out.Flush())
}

// unpack decodes a chunk, into the buffer of the one before if that is large enough.
func (c *Core) unpack(k *chunk, packed []byte) ([]byte, error) {
	length := int(k.End - k.Start)
	if k.codec == codecS2 {
		if n, err := s2.DecodedLen(packed); err != nil || n != length {
			return nil, fmt.Errorf("core: the chunk of %#x is damaged", k.Start)
		}
		data, err := s2.Decode(c.buf[:cap(c.buf)], packed)
		if err != nil {
			return nil, fmt.Errorf("core: the chunk of %#x: %w", k.Start, err)
		}
		return data, nil
	}
	if c.zstd == nil {
		var err error
		c.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*window), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, fmt.Errorf("start zstd: %w", err)
		}
	}
	data, err := c.zstd.DecodeAll(packed, c.buf[:0])
	if err != nil || len(data) != length {
		return nil, fmt.Errorf("core: the chunk of %#x is damaged", k.Start)
	}
	return data, nil
}
