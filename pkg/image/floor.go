package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// floor keeps a file system from being filled up: by bytes, and by a hundredth of its inodes.
type floor struct {
	path string
	min  uint64 // bytes that must stay free
}

// room returns how many bytes may still be written, or errdefs.ErrResourceExhausted when there are none.
func (f floor) room() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(f.path, &st); err != nil {
		return 0, fmt.Errorf("read free space of %s: %w", f.path, err)
	}
	free := st.Bavail * uint64(st.Bsize)
	if free <= f.min {
		return 0, errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf(
			"no space left for images: %d bytes are free on %s, of which %d stay reserved", free, f.path, f.min))
	}
	// File systems that make inodes on demand report none at all.
	if st.Files > 0 && st.Ffree < st.Files/100 {
		return 0, errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf("no space left for images: %d of %d inodes are free on %s", st.Ffree, st.Files, f.path))
	}
	return int64(min(free-f.min, math.MaxInt64)), nil
}

// check says whether n more bytes, n >= 0, may be written.
func (f floor) check(n int64) error {
	room, err := f.room()
	if err != nil {
		return err
	}
	if n > room {
		return errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf("no space left for images: %d bytes are needed on %s, %d may be used", n, f.path, room))
	}
	return nil
}

// fullDisk gives an error its kind if it says that the disk, or a quota, is full: where there is no floor, or somebody else
// writes to the same disk, the kernel notices first.
func fullDisk(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", err, errdefs.ErrResourceExhausted)
	}
	return err
}

// checkEvery is how many bytes a meter lets through between two looks at the file system.
const checkEvery = 8 << 20

// meter is a reader whose bytes end up on disk. It stops when ctx ends, when the file system comes to its floor, and
// when more came than there was room for at the start: so an endless stream ends even if nothing of it is kept.
type meter struct {
	ended func() error // why the work must stop, or nil
	r     io.Reader
	floor floor
	left  int64 // bytes until the stream is longer than the room at its start
	next  int64 // bytes until the next look
}

// newMeter refuses at once when there is no room.
func newMeter(ctx context.Context, r io.Reader, f floor) (*meter, error) {
	room, err := f.room()
	if err != nil {
		return nil, err
	}
	return &meter{ended: ctx.Err, r: r, floor: f, left: room, next: checkEvery}, nil
}

func (m *meter) Read(p []byte) (int, error) {
	if err := m.ended(); err != nil {
		return 0, err
	}
	if m.next <= 0 {
		if _, err := m.floor.room(); err != nil {
			return 0, err
		}
		m.next = checkEvery
	}
	n, err := m.r.Read(p)
	m.left -= int64(n)
	m.next -= int64(n)
	if m.left < 0 {
		return n, errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf("no space left for images: the data is larger than what may be used on %s", m.floor.path))
	}
	return n, err
}
