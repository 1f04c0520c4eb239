package coredump

import (
	"fmt"
	"slices"

	"github.com/klauspost/compress/s2"
	"golang.org/x/sys/unix"
)

// packer reads windows and packs them, each into its own room. It is for one goroutine. Its memory is none of the garbage
// collector's, which would let the daemon grow by twice as much and keep it.
type packer struct {
	h   *Head
	m   *memory
	mem []byte
	// Each has chunkHeader bytes of room before what is in it.
	plain, packed []byte
	pages         pages
}

func newPacker(h *Head, m *memory) (*packer, error) {
	const plain = chunkHeader + window
	mem, err := unix.Mmap(-1, 0, plain+chunkHeader+max(s2.MaxEncodedLen(window), maxWords(window)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("memory for a body: %w", err)
	}
	return &packer{h: h, m: m, mem: mem, plain: mem[:plain], packed: mem[plain:]}, nil
}

func (p *packer) close() error { return unix.Munmap(p.mem) }

// pack returns a window's data after chunkHeader bytes of room, valid until the next call. Pages that were never touched are
// not read. dense takes ten times as long for what is left, and leaves less.
func (p *packer) pack(r Run, dense bool) (room []byte, codec uint32, err error) {
	if r.End-r.Start > window { // body lists only what has no contents so
		return nil, codecZero, nil
	}
	plain := p.plain[chunkHeader:][:r.End-r.Start]
	p.pages.all(len(plain) / pageSize)
	if !p.h.fromFile(r) {
		if err := p.m.present(r.Start, &p.pages); err != nil {
			return nil, 0, err
		}
		if !slices.Contains(p.pages.have, true) {
			return nil, codecZero, nil
		}
	}
	if err := p.m.readPages(plain, r.Start, &p.pages); err != nil {
		return nil, 0, err
	}
	words := packWords(p.packed[chunkHeader:], plain)
	switch {
	case len(words) == len(plain)/64: // only bitmaps
		return nil, codecZero, nil
	case dense:
		return p.packed[:chunkHeader+len(s2.Encode(p.packed[chunkHeader:], plain))], codecS2, nil
	case len(words) > len(plain)*7/8: // it does not repay the copy
		return p.plain[:chunkHeader+len(plain)], codecRaw, nil
	}
	return p.packed[:chunkHeader+len(words)], codecWords, nil
}
