package jsonlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"sync"
	"syscall"

	"github.com/tritond/triton/pkg/triton"
)

// logMode is the mode docker gives its log files.
const logMode = 0o640

// Config says where a log is and how it is rotated.
type Config struct {
	Path    string
	MaxSize int64 // bytes at which the file is rotated before the next write; 0: never
	MaxFile int   // files kept, the current one included; below 2: the file is emptied instead
	// Compress says that rotated files are compressed, which a goroutine of the Writer does until Close. The next rotation
	// waits for it.
	Compress bool
}

// Mark is the place of one write: enough to find out after a crash whether it was done.
type Mark struct {
	Dev, Ino uint64
	Offset   int64 // the file's size before the write
	Size     int64 // bytes to be written
}

// Stats count what was written and what could not be.
type Stats struct {
	Bytes        uint64 // of log file
	Records      uint64
	DroppedBytes uint64 // of output
	LastError    string
}

// Writer appends records to a log. It never blocks on a full disk and never gives up: output that cannot be written is
// counted, and the next write tries again. It may be used by several goroutines.
type Writer struct {
	cfg Config

	mu    sync.Mutex
	file  *os.File // nil: to be opened by the next write
	stats Stats

	packing *packing // the last compression that was begun, until it was waited for
}

// Open opens or creates the log and ends a torn last line, so that the next record starts on a line of its own. The
// Writer is usable even when an error is returned: each write tries to open the file again.
func Open(cfg Config) (*Writer, error) {
	w := &Writer{cfg: cfg}
	return w, errors.Join(tidy(cfg.Path), w.open())
}

func (w *Writer) open() error {
	f, err := os.OpenFile(w.cfg.Path, os.O_RDWR|os.O_CREATE|os.O_APPEND, logMode)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	if err := endTornLine(f); err != nil {
		f.Close()
		return err
	}
	w.file = f
	return nil
}

// Append writes encoded records that stand for payload bytes of output, by one write. before is called with the place
// of the write, immediately before it (nil: nobody asks). A write that fails half-way is undone. The error is for the
// curious: it is counted in Stats already.
func (w *Writer) Append(encoded []byte, records, payload int, before func(Mark)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.append(encoded, before)
	if err != nil {
		w.stats.DroppedBytes += uint64(payload)
		w.stats.LastError = err.Error()
		return err
	}
	w.stats.Bytes += uint64(len(encoded))
	w.stats.Records += uint64(records)
	return nil
}

func (w *Writer) append(encoded []byte, before func(Mark)) error {
	if w.file == nil {
		if err := w.open(); err != nil {
			return err
		}
	}
	mark, err := place(w.file)
	if err != nil {
		return err
	}
	if w.cfg.MaxSize > 0 && mark.Offset >= w.cfg.MaxSize {
		if err := w.rotate(); err != nil {
			w.stats.LastError = err.Error() // the old file goes on growing: better than losing output
		} else if mark, err = place(w.file); err != nil {
			return err
		}
	}
	mark.Size = int64(len(encoded))
	if before != nil {
		before(mark)
	}
	if _, err := w.file.Write(encoded); err != nil {
		return errors.Join(fmt.Errorf("write log: %w", err), undo(w.file, mark))
	}
	return nil
}

// End is the end of what was written.
func (w *Writer) End() (triton.LogPlace, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return End(w.cfg.Path)
	}
	return endOf(w.file)
}

// Room returns how many bytes the current file takes before it is rotated, at least 1.
func (w *Writer) Room() int {
	if w.cfg.MaxSize <= 0 {
		return math.MaxInt
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	room := w.cfg.MaxSize
	if w.file != nil {
		if now, err := place(w.file); err == nil && now.Offset < room {
			room -= now.Offset
		}
	}
	return int(max(room, 1))
}

// Rotate starts a new file now.
func (w *Writer) Rotate() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rotate()
}

// rotate renames path to path.1, path.1 to path.2 and so on, dropping the oldest, and opens a new file. The old one
// stays open until the new one is there: a full disk costs the rotation, not the output.
func (w *Writer) rotate() error {
	if w.cfg.MaxFile < 2 {
		if w.file == nil {
			return w.open()
		}
		if err := w.file.Truncate(0); err != nil {
			return fmt.Errorf("empty log: %w", err)
		}
		return nil
	}
	w.endPacking() // a file that is being compressed must not be renamed
	if err := w.shift(); err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	old := w.file
	if err := w.open(); err != nil {
		return err
	}
	if old != nil {
		old.Close()
	}
	if w.cfg.Compress {
		w.packing = beginPacking(rotated(w.cfg.Path, 1))
	}
	return nil
}

// shift renames the files of the series, which may be compressed or not.
func (w *Writer) shift() error {
	last := rotated(w.cfg.Path, w.cfg.MaxFile-1)
	if err := errors.Join(removeIfThere(last), removeIfThere(last+packedSuffix)); err != nil {
		return err
	}
	for i := w.cfg.MaxFile - 1; i > 0; i-- {
		for _, suffix := range []string{"", packedSuffix} {
			err := os.Rename(rotated(w.cfg.Path, i-1)+suffix, rotated(w.cfg.Path, i)+suffix)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// endPacking waits for the compression under way. One that failed leaves its file as it was, and readable. w.mu is held.
func (w *Writer) endPacking() {
	if w.packing == nil {
		return
	}
	if err := w.packing.wait(); err != nil && !errors.Is(err, errStopped) {
		w.stats.LastError = err.Error()
	}
	w.packing = nil
}

// rotated names the file that was rotated i times; 0 is the current one.
func rotated(path string, i int) string {
	if i == 0 {
		return path
	}
	return path + "." + strconv.Itoa(i)
}

// Stats returns the counts since Open.
func (w *Writer) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}

// Close closes the file, and cuts off a compression under way; a later Append opens it again.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.packing != nil {
		close(w.packing.stop)
		w.endPacking()
	}
	f := w.file
	w.file = nil
	if f == nil {
		return nil
	}
	return f.Close()
}

// Settle decides what became of a write whose writer died. It reports true when the write was done; otherwise it
// removes what was written of it, so that it can be done again. It must run before the log is written to.
func Settle(path string, m Mark) (done bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("settle log: %w", err)
	}
	defer f.Close()
	now, err := place(f)
	if err != nil {
		return false, err
	}
	if now.Dev != m.Dev || now.Ino != m.Ino || now.Offset < m.Offset {
		return false, nil // another file by now, or emptied: the write is not in it
	}
	if now.Offset >= m.Offset+m.Size {
		return true, nil
	}
	return false, undo(f, m)
}

// place returns the file's identity and size. The size is read, not remembered: users empty logs in place.
func place(f *os.File) (Mark, error) {
	info, err := f.Stat()
	if err != nil {
		return Mark{}, fmt.Errorf("stat log: %w", err)
	}
	st := info.Sys().(*syscall.Stat_t)
	return Mark{Dev: st.Dev, Ino: st.Ino, Offset: info.Size()}, nil
}

func undo(f *os.File, m Mark) error {
	if err := f.Truncate(m.Offset); err != nil {
		return fmt.Errorf("undo torn write: %w", err)
	}
	return nil
}

// endTornLine makes the file end with a newline. What is torn cannot be completed here; readers skip and count it.
func endTornLine(f *os.File) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, size-1); err != nil {
		return fmt.Errorf("read end of log: %w", err)
	}
	if bytes.Equal(last, []byte{'\n'}) {
		return nil
	}
	if _, err := f.Write([]byte{'\n'}); err != nil {
		return fmt.Errorf("end torn line: %w", err)
	}
	return nil
}
