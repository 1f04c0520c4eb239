package jsonlog

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/tritond/triton/pkg/triton"
)

// Log is what the readers of one log have in common: its open files, of which there is one each however many read it.
type Log struct {
	path string

	mu   sync.Mutex
	open map[inode]*openFile
}

// NewLog returns the log at path, be it there or not. It opens nothing.
func NewLog(path string) *Log { return &Log{path: path} }

// NewReader prepares to read the log.
func (l *Log) NewReader(opts triton.LogOptions) *Reader { return &Reader{log: l, opts: opts} }

// inode says which file an open one is. Its number is not used again before it is closed.
type inode struct{ dev, ino uint64 }

// openFile is a file of a log, open for those of its readers that have it before them.
type openFile struct {
	log    *Log
	inode  inode
	file   *os.File
	id     identity // of the file that was written, before it was compressed
	packed bool     // file is the compressed one
	having int      // readers; the log's mu guards it

	unpacking    sync.Mutex // guards what follows, of a compressed file
	unpacked     *os.File   // nil: nobody reads it
	unpackedSize int64
	reading      int // readers
}

// share gives the open file of the log that f is, in which case f is closed, or makes f one.
func (l *Log) share(f *os.File, packed bool) (*logFile, error) {
	mark, err := place(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	at := inode{mark.Dev, mark.Ino}
	o := l.open[at]
	if o != nil {
		f.Close()
	} else {
		o = &openFile{log: l, inode: at, file: f, packed: packed}
		if !packed {
			o.id = identityOf(f, mark.Ino)
		} else if o.id, err = packedIdentity(f); err != nil {
			f.Close()
			return nil, err
		}
		if l.open == nil {
			l.open = map[inode]*openFile{}
		}
		l.open[at] = o
	}
	o.having++
	if packed {
		return &logFile{openFile: o}, nil
	}
	return &logFile{openFile: o, size: mark.Offset, text: o.file}, nil
}

// leave closes the file after its last reader.
func (o *openFile) leave() {
	o.log.mu.Lock()
	defer o.log.mu.Unlock()
	if o.having--; o.having == 0 {
		delete(o.log.open, o.inode)
		o.file.Close()
	}
}

// logFile is a file of a log as one reader has it.
type logFile struct {
	*openFile
	text *os.File // what is read; of a compressed file nil until it is unpacked
	size int64    // of text when the reader got the file
	at   int64    // of text, where the reader is
	left bool
}

// close leaves the file. It may be called again.
func (f *logFile) close() {
	if f.left {
		return
	}
	f.left = true
	if f.packed && f.text != nil {
		f.leaveText()
	}
	f.leave()
}

// Read reads on.
func (f *logFile) Read(p []byte) (int, error) {
	n, err := f.text.ReadAt(p, f.at)
	f.at += int64(n)
	return n, err
}

// sizeNow is the size of the text now.
func (f *logFile) sizeNow() (int64, error) {
	mark, err := place(f.text)
	return mark.Offset, err
}

// unpack has the text of a compressed file made: a file without a name in the log's folder, on disk and not in memory. It is
// there for all who read the file at the time. It does nothing for one that is not compressed.
func (f *logFile) unpack() error {
	if f.text != nil {
		return nil
	}
	f.unpacking.Lock()
	defer f.unpacking.Unlock()
	if f.unpacked == nil {
		var err error
		if f.unpacked, f.unpackedSize, err = unpackFrom(f.file); err != nil {
			return fmt.Errorf("compressed log %s: %w", filepath.Base(f.file.Name()), err)
		}
	}
	f.reading++
	f.text, f.size = f.unpacked, f.unpackedSize
	return nil
}

func (f *logFile) leaveText() {
	f.unpacking.Lock()
	defer f.unpacking.Unlock()
	if f.reading--; f.reading == 0 {
		f.unpacked.Close()
		f.unpacked = nil
	}
}

func unpackFrom(from *os.File) (text *os.File, size int64, err error) {
	z, err := gzip.NewReader(wholeOf(from))
	if err != nil {
		return nil, 0, err
	}
	if text, err = unnamedFile(filepath.Dir(from.Name())); err != nil {
		return nil, 0, fmt.Errorf("make room: %w", err)
	}
	if size, err = io.Copy(text, z); err != nil {
		return nil, 0, errors.Join(err, text.Close())
	}
	return text, size, nil
}

// wholeOf reads an open file from its start, and leaves its own place alone.
func wholeOf(f *os.File) io.Reader { return io.NewSectionReader(f, 0, 1<<62) }

// packedIdentity reads the header of a compressed file.
func packedIdentity(f *os.File) (identity, error) {
	z, err := gzip.NewReader(wholeOf(f))
	if err != nil {
		return identity{}, fmt.Errorf("compressed log %s: %w", filepath.Base(f.Name()), err)
	}
	return unpackIdentity(z.Extra), nil
}
