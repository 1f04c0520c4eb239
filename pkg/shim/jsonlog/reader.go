package jsonlog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tritond/triton/pkg/triton"
)

// ReadStats count what a reader could not deliver.
type ReadStats struct {
	Corrupt int // lines that are no records
	Torn    int // a last line without its end, when no more can come
	// Missed counts the times a follower was so slow that files were rotated away unread.
	Missed int
}

// Read reads the log at path by a Reader of its own, which nobody holds.
func Read(ctx context.Context, path string, opts triton.LogOptions, ended <-chan struct{}, each func(triton.LogRecord) error) (ReadStats, error) {
	return NewLog(path).NewReader(opts).Read(ctx, ended, each)
}

// Reader reads one log once.
type Reader struct {
	log  *Log
	opts triton.LogOptions
	held held

	// Of the call of Read.
	ctx   context.Context //nolint:containedctx // of one call of Read
	each  func(triton.LogRecord) error
	stats ReadStats

	dec  decoder
	line []byte // the beginning of a line whose end has not come yet
	skip bool   // within a line that is too long
}

// Read calls each with the records of the log, oldest first, across rotated files. Tail of the options counts lines of
// both streams before the others of them select, as docker's does, back from the log's end when it was opened. With
// Follow it goes on until ended is closed (the container has ended and its output is in the log), ctx ends, or a record
// is later than Until; without, what is written meanwhile is not read, so that a log that grows without end has one. An
// error of each stops the reading and is returned. A log that does not exist yet is empty.
func (r *Reader) Read(ctx context.Context, ended <-chan struct{}, each func(triton.LogRecord) error) (ReadStats, error) {
	defer r.held.give()
	r.ctx, r.each = ctx, each
	if !r.opts.Follow {
		err := r.readOnce()
		return r.stats, err
	}
	watch, err := newWatcher(r.log.path) // before the first read: no change is missed
	if err != nil {
		return r.stats, err
	}
	defer watch.close()
	err = r.follow(watch, ended)
	return r.stats, err
}

// errDone ends the reading early: a record was later than opts.Until.
var errDone = errors.New("read enough")

func (r *Reader) readOnce() error {
	files, err := r.open()
	if err != nil {
		return err
	}
	defer files.close()
	for i, f := range files {
		if err := f.unpack(); err != nil {
			return err
		}
		if end := r.opts.UpTo; end != nil && i == len(files)-1 {
			if f.size < end.Offset {
				break // it was emptied: all that is in it came later
			}
			f.size = end.Offset
		}
		if err := r.drain(io.LimitReader(f, f.size-f.at)); err != nil {
			return ignoreDone(err)
		}
		if now, err := f.sizeNow(); err == nil && now > f.size {
			r.line, r.skip = r.line[:0], false // the end of the last line was being written
		}
		r.endFile()
	}
	return nil
}

func (r *Reader) open() (logFiles, error) {
	files, err := r.held.open(r.log)
	if err != nil {
		return nil, err
	}
	if end := r.opts.UpTo; end != nil {
		files = files.upTo(placeOf(*end))
	}
	kept, err := files.seekTail(r.opts.Tail)
	if err != nil {
		files.close()
	}
	return kept, err
}

func ignoreDone(err error) error {
	if errors.Is(err, errDone) {
		return nil
	}
	return err
}

// follow reads what is there, then what comes.
func (r *Reader) follow(watch *watcher, ended <-chan struct{}) error {
	files, err := r.open()
	if err != nil {
		return err
	}
	defer func() { files.close() }()
	for {
		last := isClosed(ended) // asked before the read: what was written until then is read now
		if files, err = r.catchUp(files); err != nil {
			return ignoreDone(err)
		}
		if last {
			r.endFile()
			return nil
		}
		select {
		case <-watch.changed:
		case <-ended:
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// catchUp reads every file to its end, going on to those that a rotation put in its place, and returns the current one
// alone.
func (r *Reader) catchUp(files logFiles) (logFiles, error) {
	for {
		for len(files) > 0 {
			f := files[0]
			if err := f.unpack(); err != nil {
				return files, err
			}
			if err := r.rewindEmptied(f); err != nil {
				return files, err
			}
			if err := r.drain(f); err != nil {
				return files, err
			}
			if len(files) == 1 {
				break
			}
			r.endFile()
			f.close()
			files = files[1:]
		}
		next, err := r.newer(files)
		if err != nil || next == nil {
			return files, err
		}
		if len(files) == 1 {
			// Nothing is written to a file once it was renamed, but it may have been between our read and that.
			if err := r.drain(files[0]); err != nil {
				next.close()
				return files, err
			}
			r.endFile()
		}
		files.close()
		files = next
	}
}

// newer returns the files that came after the one we hold; nil: it is still the current one.
func (r *Reader) newer(files logFiles) (logFiles, error) {
	// In this order: that a path names no other file means something only while it was there.
	if len(files) == 1 && same(files[0].file, r.log.path) && !r.held.waiting() {
		return nil, nil
	}
	all, err := r.held.open(r.log)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	if len(files) == 0 {
		return all, nil
	}
	if i := all.find(files[0]); i >= 0 {
		all[:i+1].close()
		if i+1 == len(all) {
			return nil, nil // current again: the path was missing within a rotation
		}
		return all[i+1:], nil
	}
	r.stats.Missed++ // ours is gone, and so may be some after it
	return all, nil
}

// rewindEmptied goes back to the start of a file that was emptied in place: rotation with one file, or a user.
func (r *Reader) rewindEmptied(f *logFile) error {
	size, err := f.sizeNow()
	if err == nil && size < f.at {
		r.endFile()
		f.at = 0
	}
	return err
}

// drain reads a file to its present end, or as much of it as from has.
func (r *Reader) drain(from io.Reader) error {
	in := bufio.NewReaderSize(from, 64<<10)
	for n := 0; ; n++ {
		part, err := in.ReadSlice('\n')
		if err == nil {
			if err := r.take(part); err != nil {
				return err
			}
			if n%256 == 0 && r.ctx.Err() != nil {
				return context.Cause(r.ctx)
			}
			continue
		}
		r.keep(part)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
		default:
			return fmt.Errorf("read log: %w", err)
		}
	}
}

// keep stores the beginning of a line, unless it is longer than any record.
func (r *Reader) keep(part []byte) {
	if r.skip || len(r.line)+len(part) > maxRecord {
		r.skip, r.line = true, nil
		return
	}
	r.line = append(r.line, part...)
}

// take handles the end of a line.
func (r *Reader) take(part []byte) error {
	r.keep(part)
	if r.skip {
		r.skip = false
		r.stats.Corrupt++
		return nil
	}
	line := bytes.TrimSuffix(r.line, []byte("\n"))
	r.line = r.line[:0]
	if len(line) == 0 {
		return nil // what ends a torn line may add an empty one
	}
	if rec, err := r.dec.decode(line); err == nil {
		return r.deliver(rec)
	}
	r.stats.Corrupt++ // the reader sees the count; the lines behind this one are good
	return nil
}

func (r *Reader) deliver(rec triton.LogRecord) error {
	switch o := &r.opts; {
	case !o.Until.IsZero() && rec.Time.After(o.Until):
		return errDone
	case !o.Since.IsZero() && rec.Time.Before(o.Since):
		return nil
	case rec.Stream == "stdout" && !o.Stdout, rec.Stream == "stderr" && !o.Stderr:
		return nil
	}
	return r.each(rec)
}

// endFile accounts for a line whose end will not come.
func (r *Reader) endFile() {
	if len(r.line) > 0 || r.skip {
		r.stats.Torn++
	}
	r.line, r.skip = r.line[:0], false
}
