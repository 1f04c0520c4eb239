package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// Entry is an event as a follower gets it.
type Entry struct {
	triton.Event
	// Lost counts the events, of any tenant, between the entry before and this one that the journal no longer has:
	// the follower was slower than the journal's bound, or lines were damaged.
	Lost uint64
}

// Read calls emit for the kept events of tenant ("": all) from since to before until (zero: no bound), in order of
// their numbers. Times need not be in that order: a death found late keeps its true time.
func (j *Journal) Read(ctx context.Context, tenant triton.Tenant, since, until time.Time, emit func(triton.Event) error) error {
	c := cursor{j: j, want: filter{tenant: tenant, since: since, until: until}}
	defer c.close()
	segments, _, _, _ := j.snapshot()
	return c.drain(ctx, segments, func(e Entry) error { return emit(e.Event) })
}

// Follow calls emit for each event of tenant ("": all) from number from on (0: the oldest kept), first the kept ones,
// then new ones as they come, until ctx ends, emit fails or the journal closes (ErrUnavailable). It reads from the
// files, so a slow emit holds up nobody; where the journal's bound overtakes it, Entry.Lost says by how much.
// A number that was not given yet, the next one excepted, is ErrOutOfRange.
func (j *Journal) Follow(ctx context.Context, tenant triton.Tenant, from uint64, emit func(Entry) error) error {
	if _, next, _, _ := j.snapshot(); from > next {
		return fmt.Errorf("follow journal from %d: the next number is %d: %w", from, next, errdefs.ErrOutOfRange)
	}
	c := cursor{j: j, next: from, want: filter{tenant: tenant}}
	defer c.close()
	return c.follow(ctx, nil, emit)
}

// Stream is what `docker events` shows: the events of tenant from since on (zero: only new ones), then new ones until
// the moment until (zero: without end). A gap shows as an event of type daemon and action lost, with a count.
func (j *Journal) Stream(ctx context.Context, tenant triton.Tenant, since, until time.Time, emit func(triton.Event) error) error {
	c := cursor{j: j, want: filter{tenant: tenant, since: since, until: until}}
	defer c.close()
	if since.IsZero() {
		_, c.next, _, _ = j.snapshot()
	}
	var end <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		end = timer.C
	}
	return c.follow(ctx, end, func(e Entry) error {
		if e.Lost > 0 {
			if err := emit(lostEvent(e)); err != nil {
				return err
			}
		}
		return emit(e.Event)
	})
}

// lostEvent tells a reader of plain events of a gap. Its number is 0: it is not in the journal.
func lostEvent(before Entry) triton.Event {
	return triton.Event{
		Node: before.Node, Time: before.Time, Tenant: before.Tenant, Type: triton.EventDaemon, Action: "lost",
		ID: before.Node, Attributes: map[string]string{"count": strconv.FormatUint(before.Lost, 10)},
	}
}

// filter selects events.
type filter struct {
	tenant       triton.Tenant
	since, until time.Time
}

// overlaps reports whether any time from low to high can match.
func (f filter) overlaps(low, high int64) bool {
	return (f.since.IsZero() || high >= f.since.UnixNano()) && (f.until.IsZero() || low < f.until.UnixNano())
}

// cursor is one reader's place. It is used by one goroutine.
type cursor struct {
	j    *Journal
	want filter
	next uint64 // number to read next; 0: the oldest there is
	lost uint64 // not yet told to the reader

	file  *os.File // of the segment that begins with first, read up to at
	first uint64
	at    int64
}

// follow drains what there is and waits for more.
func (c *cursor) follow(ctx context.Context, end <-chan time.Time, emit func(Entry) error) error {
	for {
		segments, _, changed, closed := c.j.snapshot()
		if err := c.drain(ctx, segments, emit); err != nil {
			return err
		}
		if closed {
			return fmt.Errorf("follow journal: it is closed: %w", errdefs.ErrUnavailable)
		}
		if more, err := wait(ctx, changed, end); !more {
			return err
		}
	}
}

// drain reads all segments to their ends.
func (c *cursor) drain(ctx context.Context, segments []segment, emit func(Entry) error) error {
	for _, seg := range segments {
		switch {
		case seg.last < seg.first || seg.last < c.next:
			continue
		case !c.want.overlaps(seg.minTime, seg.maxTime):
			c.pass(seg.first)
			c.next = seg.last + 1
			continue
		}
		if err := c.readSegment(ctx, seg, emit); err != nil {
			return err
		}
	}
	return nil
}

func (c *cursor) readSegment(ctx context.Context, seg segment, emit func(Entry) error) error {
	if c.file == nil || c.first != seg.first {
		c.close()
		file, err := os.Open(c.j.path(seg.first))
		if errors.Is(err, os.ErrNotExist) {
			return nil // dropped since the snapshot: the next segment shows the gap
		}
		if err != nil {
			return fmt.Errorf("read journal: %w", err)
		}
		c.file, c.first, c.at = file, seg.first, 0
	}
	lines := newLines(io.NewSectionReader(c.file, c.at, seg.size-c.at), c.j.cfg.SegmentSize/maxLineShare)
	for {
		raw, length, err := lines.next()
		if errors.Is(err, io.EOF) {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("read journal: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		c.at += length
		if err := c.take(raw, emit); err != nil {
			return err
		}
	}
}

// take passes on one line, if it is whole and wanted. Of a damaged one the next whole line shows the gap.
func (c *cursor) take(raw []byte, emit func(Entry) error) error {
	if l, err := parse(raw); err == nil && l.seq >= c.next {
		return c.takeLine(l, emit)
	}
	return nil
}

func (c *cursor) takeLine(l line, emit func(Entry) error) error {
	c.pass(l.seq)
	c.next = l.seq + 1
	if !c.want.overlaps(l.time, l.time) {
		return nil
	}
	if e, err := l.event(); err != nil {
		c.lost++
	} else if c.want.tenant == "" || c.want.tenant == e.Tenant {
		entry := Entry{Event: e, Lost: c.lost}
		c.lost = 0
		return emit(entry)
	}
	return nil
}

// pass counts what is missing between the last number read and seq.
func (c *cursor) pass(seq uint64) {
	if c.next != 0 && seq > c.next {
		c.lost += seq - c.next
	}
}

func (c *cursor) close() {
	if c.file != nil {
		c.file.Close()
		c.file = nil
	}
}
