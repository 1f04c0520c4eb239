package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// Config says where a journal lies and how much of the past it keeps.
type Config struct {
	Dir string
	// Node is put into events that name no node.
	Node string
	// SegmentSize is the size of one file in bytes, 0: 4 MiB. Segments is how many are kept, 0: 4; at least 2.
	// An event takes about 300 bytes, so the defaults hold some 50,000.
	SegmentSize int64
	Segments    int
	// Log is told of damage found; nil: nothing is logged.
	Log *slog.Logger
}

const (
	defaultSegmentSize = 4 << 20
	defaultSegments    = 4
	// maxLineShare bounds one line to this part of a segment, so that a few huge events cannot push out all others.
	maxLineShare = 4
)

// Stats tells what a journal holds and what it lost.
type Stats struct {
	First, Last uint64 // sequence numbers that are kept; Last 0: none was ever given
	Bytes       int64
	Corrupt     uint64 // lines found unreadable by Open, and skipped
	TornBytes   int64  // bytes of an unfinished last line that Open cut off
	Refused     uint64 // events that Append could not write
}

// Journal is the open journal. Its methods may be called from any goroutine.
type Journal struct {
	cfg Config

	mu       sync.Mutex
	segments []segment // oldest first; the last one is written to
	file     *os.File  // of the last segment; nil after Close
	next     uint64    // sequence number of the next event, from 1
	stats    Stats
	changed  chan struct{} // closed and replaced by each Append, closed for good by Close
}

// segment is one file: the events first to last. It is a value, copied for readers.
type segment struct {
	first, last      uint64 // last < first: empty
	size             int64  // bytes that are whole lines
	minTime, maxTime int64  // of its events, Unix nanoseconds
}

// Open reads the journal in cfg.Dir, which it makes, and repairs what a crash left: an unfinished last line is cut off,
// damaged lines are counted and skipped.
func Open(cfg Config) (*Journal, error) {
	if cfg.SegmentSize == 0 {
		cfg.SegmentSize = defaultSegmentSize
	}
	if cfg.Segments == 0 {
		cfg.Segments = defaultSegments
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Dir == "" || cfg.Segments < 2 || cfg.SegmentSize < 1<<10 {
		return nil, fmt.Errorf("open journal %q: needs a directory and 2 segments of 1 KiB at least: %w", cfg.Dir, errdefs.ErrInvalidArgument)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j := &Journal{cfg: cfg, next: 1, changed: make(chan struct{})}
	if err := j.recover(); err != nil {
		return nil, fmt.Errorf("open journal %s: %w", cfg.Dir, err)
	}
	if j.stats.Corrupt > 0 || j.stats.TornBytes > 0 {
		cfg.Log.Warn("journal was damaged", "dir", cfg.Dir, "corruptLines", j.stats.Corrupt, "tornBytes", j.stats.TornBytes)
	}
	return j, nil
}

// Append gives e the next sequence number, this node's name and, where it has none, the present time; writes it and
// wakes the followers. When it returns, the event survives the end of this process (not a power cut). An event too
// large is ErrInvalidArgument, a full disk ErrResourceExhausted; neither uses up a number.
func (j *Journal) Append(e triton.Event) (triton.Event, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e, err := j.append(e)
	if err != nil {
		j.stats.Refused++
		return e, fmt.Errorf("journal %s event of %s: %w", e.Action, triton.ShortID(e.ID), err)
	}
	close(j.changed)
	j.changed = make(chan struct{})
	return e, nil
}

func (j *Journal) append(e triton.Event) (triton.Event, error) {
	if j.file == nil {
		return e, fmt.Errorf("journal is closed: %w", errdefs.ErrUnavailable)
	}
	e.Seq = j.next
	if e.Node == "" {
		e.Node = j.cfg.Node
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	line, err := encode(e)
	if err != nil {
		return e, err
	}
	if limit := j.cfg.SegmentSize / maxLineShare; int64(len(line)) > limit {
		return e, fmt.Errorf("%d bytes: at most %d: %w", len(line), limit, errdefs.ErrInvalidArgument)
	}
	if cur := j.segments[len(j.segments)-1]; cur.size > 0 && cur.size+int64(len(line)) > j.cfg.SegmentSize {
		if err := j.rotate(); err != nil {
			return e, err
		}
	}
	cur := &j.segments[len(j.segments)-1]
	if _, err := j.file.WriteAt(line, cur.size); err != nil {
		// What was written of the line lies beyond size: readers do not see it, the next line overwrites it.
		return e, errors.Join(kindOf(err), j.file.Truncate(cur.size))
	}
	cur.add(e.Seq, e.Time.UnixNano(), int64(len(line)))
	j.next++
	return e, nil
}

// add takes a line into the segment's bounds.
func (s *segment) add(seq uint64, at, length int64) {
	if s.last < s.first {
		s.minTime, s.maxTime = at, at
	}
	s.last = seq
	s.minTime, s.maxTime = min(s.minTime, at), max(s.maxTime, at)
	s.size += length
}

// rotate begins a segment. The oldest goes first, which makes room on a full disk.
func (j *Journal) rotate() error {
	if err := j.dropOldest(j.cfg.Segments - 1); err != nil {
		return err
	}
	file, err := j.create(j.next)
	if err != nil {
		return err
	}
	j.file.Close()
	j.file = file
	j.segments = append(j.segments, segment{first: j.next, last: j.next - 1})
	return nil
}

// dropOldest removes segments until at most keep are left, never the one that is written to.
func (j *Journal) dropOldest(keep int) error {
	for len(j.segments) > max(keep, 1) {
		if err := os.Remove(j.path(j.segments[0].first)); err != nil && !os.IsNotExist(err) {
			return err
		}
		j.segments = j.segments[1:]
	}
	return nil
}

// create makes a segment's file and takes its blocks, so that a disk which fills up later does not stop the journal.
func (j *Journal) create(first uint64) (*os.File, error) {
	file, err := os.OpenFile(j.path(first), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, kindOf(err)
	}
	err = unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, j.cfg.SegmentSize)
	if errors.Is(err, syscall.ENOSPC) {
		file.Close()
		os.Remove(file.Name())
		return nil, kindOf(err)
	}
	return file, nil // a file system without fallocate has no reserve
}

// Stats returns the present numbers.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	st := j.stats
	st.First, st.Last = j.segments[0].first, j.next-1
	for _, s := range j.segments {
		st.Bytes += s.size
	}
	return st
}

// Close writes through to the disk and ends the followers, whose calls return ErrUnavailable. It may be called twice.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	err := errors.Join(j.file.Sync(), j.file.Close())
	j.file = nil
	close(j.changed)
	return err
}

// snapshot returns the segments as they are and a channel that is closed once there is more.
func (j *Journal) snapshot() (segments []segment, next uint64, changed <-chan struct{}, closed bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]segment(nil), j.segments...), j.next, j.changed, j.file == nil
}

// wait blocks until changed, the timer or ctx. It reports whether there is more to read.
func wait(ctx context.Context, changed <-chan struct{}, until <-chan time.Time) (more bool, err error) {
	select {
	case <-changed:
		return true, nil
	case <-until:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func (j *Journal) path(first uint64) string {
	return filepath.Join(j.cfg.Dir, fmt.Sprintf("%020d%s", first, suffix))
}

// suffix ends the names of segments; before it stands the first sequence number in 20 digits.
const suffix = ".events"

func kindOf(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", err, errdefs.ErrResourceExhausted)
	}
	return err
}
