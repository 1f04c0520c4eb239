package coredump

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

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
	for _, w := range s.store.left(func(k kept) bool { return k.repack && (s.cfg.Analyze == nil || !k.unread) }) {
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
	m, size := &meter{}, uint64(0)
	m.during(func() { size, err = s.store.repack(ctx, r) })
	s.spent.charge(r.Container, m.read(), s.cfg.Now())
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
	core, err := s.OpenCore(r)
	if err != nil {
		return 0, err
	}
	defer core.Close()
	dir, err := s.path(r.Container.Tenant, r.ID)
	if err != nil {
		return 0, err
	}
	err = durable.WriteFile(filepath.Join(dir, bodyFile), func(w io.Writer) error {
		size, err = core.repack(ctx, w)
		return err
	})
	return size, err
}

// repack writes the body of a core by Zstandard where that is less, and returns its size. Of memory, the higher levels save
// nothing more, for twice the time.
func (c *Core) repack(ctx context.Context, w io.Writer) (uint64, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(window),
		zstd.WithLowerEncoderMem(true))
	if err != nil {
		return 0, fmt.Errorf("start zstd: %w", err)
	}
	defer enc.Close()
	out := &bodyWriter{h: c.head, to: w}
	room := make([]byte, chunkHeader, chunkHeader+window+window/64) // what zstd makes of what it cannot compress
	for i, k := range c.chunks {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		codec := k.codec
		if codec != codecZero {
			if err := c.load(i); err != nil {
				return 0, err
			}
			codec = codecZstd
			if room = enc.EncodeAll(c.buf, room[:chunkHeader]); len(room)-chunkHeader >= len(c.buf) {
				room, codec = append(room[:chunkHeader], c.buf...), codecRaw
			}
		}
		if err := out.add(k.Run, room, codec); err != nil {
			return 0, err
		}
	}
	return out.stored, out.flush()
}
