package jsonlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/tritond/triton/pkg/triton"
)

// maxRotated bounds the rotated files looked for, should a directory hold a longer series than any writer makes.
const maxRotated = 1000

// logFiles are a log's open files, oldest first; the last is the current one.
type logFiles []*logFile

func (l logFiles) close() {
	for _, f := range l {
		f.close()
	}
}

// maxReopen bounds the attempts to see a log between two rotations, each of which takes microseconds.
const maxReopen = 100

// openFiles opens the current file and its rotated predecessors as they were at one moment: a rotation meanwhile is
// noticed, and the files are opened again.
func (l *Log) openFiles() (logFiles, error) {
	for try := 1; ; try++ {
		files, whole, err := l.openOnce()
		if err != nil {
			return nil, err
		}
		if len(files) == 0 || whole && same(files[len(files)-1].file, l.path) || try == maxReopen {
			return files, nil // at last with what is there: somebody removed a file of the series
		}
		files.close()
	}
}

// openOnce opens the files one by one. whole is false when a rotation shows: each step of it leaves a gap in the series
// for a moment, or moves a file that was opened to where the next one is looked for.
func (l *Log) openOnce() (files logFiles, whole bool, err error) {
	var newest logFiles
	whole = true
	for i := range maxRotated {
		f, err := l.openRotated(i)
		if errors.Is(err, os.ErrNotExist) {
			if i == 0 {
				continue // within a rotation, or nothing was ever logged: predecessors may be there
			}
			if !thereRotated(l.path, i+1) {
				break
			}
			whole = false
			continue
		}
		if err != nil {
			newest.close()
			return nil, false, fmt.Errorf("open log: %w", err)
		}
		if n := len(newest); n > 0 && sameText(newest[n-1], f) {
			whole = false
			f.close()
			continue
		}
		newest = append(newest, f)
	}
	files = make(logFiles, len(newest))
	for i, f := range newest {
		files[len(newest)-1-i] = f
	}
	return files, whole, nil
}

// find returns the place of a file that is held open, compressed by now or not; -1: it is gone. Where no generations are known:
// its inode is not used again while it is held, but may have been before; the newest counts.
func (l logFiles) find(f *logFile) int {
	for i := len(l) - 1; i >= 0; i-- {
		if l[i].openFile == f.openFile || l[i].packed && l[i].id.is(f.id) {
			return i
		}
	}
	return -1
}

// upTo drops the files that came after one; all of them where that is gone, for then they all did.
func (l logFiles) upTo(last identity) logFiles {
	for i := len(l) - 1; i >= 0; i-- {
		if l[i].id.is(last) {
			l[i+1:].close()
			return l[:i+1]
		}
	}
	l.close()
	return nil
}

// End is the end of the log at path; the zero LogPlace where there is none.
func End(path string) (triton.LogPlace, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return triton.LogPlace{}, nil
	}
	if err != nil {
		return triton.LogPlace{}, fmt.Errorf("open log: %w", err)
	}
	defer f.Close()
	return endOf(f)
}

func endOf(f *os.File) (triton.LogPlace, error) {
	mark, err := place(f)
	return triton.LogPlace{Ino: mark.Ino, Generation: generationOf(f), Offset: mark.Offset}, err
}

// thereRotated reports whether there is a file that was rotated i times.
func thereRotated(path string, i int) bool {
	_, plain := os.Lstat(rotated(path, i))
	_, packed := os.Lstat(rotated(path, i) + packedSuffix)
	return plain == nil || packed == nil
}

// same reports whether path still names the open file f; a path that is gone names none, which is no news.
func same(f *os.File, path string) bool {
	now, err := os.Stat(path)
	if err != nil {
		return true
	}
	mine, err := f.Stat()
	return err == nil && os.SameFile(now, mine)
}

// seekTail positions files so that reading them in order gives the last n lines, and drops the files before; a torn
// line at the very end is no line. n < 0: all.
func (l logFiles) seekTail(n int) (logFiles, error) {
	if n < 0 {
		return l, nil
	}
	for i := len(l) - 1; i >= 0; i-- {
		if err := l[i].unpack(); err != nil {
			return nil, err
		}
		at, found, err := tailOffset(l[i], n)
		if err != nil {
			return nil, err
		}
		l[i].at = at
		if n -= found; n == 0 {
			l[:i].close()
			return l[i:], nil
		}
	}
	return l, nil
}

// tailOffset returns where the last n lines that f had when it was opened begin, and how many of them there are.
func tailOffset(f *logFile, n int) (at int64, found int, err error) {
	const block = 32 << 10
	buf := make([]byte, block)
	ends := 0 // newlines seen, from the end
	for pos := f.size; pos > 0; {
		part := buf[:min(block, pos)]
		pos -= int64(len(part))
		had, err := f.text.ReadAt(part, pos)
		if err != nil && !errors.Is(err, io.EOF) { // at its end: it was emptied meanwhile
			return 0, 0, fmt.Errorf("read log: %w", err)
		}
		for rest := part[:had]; ; {
			i := bytes.LastIndexByte(rest, '\n')
			if i < 0 {
				break
			}
			if ends == n {
				return pos + int64(i) + 1, n, nil
			}
			ends++
			rest = rest[:i]
		}
	}
	return 0, ends, nil
}
