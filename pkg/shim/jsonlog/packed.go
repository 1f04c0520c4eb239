package jsonlog

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Files that were rotated may be compressed: path.1 becomes path.1.gz, by way of path.1.gz.tmp. The header has the
// identity of the file that it was, by which a reader that still holds that one knows where it is.
const (
	packedSuffix = ".gz"
	underWay     = packedSuffix + ".tmp"
)

// errStopped ends a compression that the writer's end cuts off; the file stays as it was.
var errStopped = errors.New("compression stopped")

// packing is a compression under way.
type packing struct {
	done, stop chan struct{}
	err        error // to be read when done is closed
}

// beginPacking starts the goroutine, which ends by itself, or soon after stop was closed.
func beginPacking(path string) *packing {
	p := &packing{done: make(chan struct{}), stop: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = pack(path, p.stop)
	}()
	return p
}

func (p *packing) wait() error {
	<-p.done
	return p.err
}

// pack compresses the file at path until stop is closed. Whatever the moment of a crash, path or the compressed file is
// whole; both may be there, and then they hold the same.
func pack(path string, stop <-chan struct{}) error {
	err := packInto(path+underWay, path, stop)
	if err == nil {
		err = os.Rename(path+underWay, path+packedSuffix)
	}
	if err != nil {
		return fmt.Errorf("compress log: %w", errors.Join(err, removeIfThere(path+underWay)))
	}
	return removeIfThere(path)
}

func packInto(to, from string, stop <-chan struct{}) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	mark, err := place(in)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, logMode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	z, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return err
	}
	z.Extra = identityOf(in, mark.Ino).packed()
	if _, err := io.Copy(z, stoppable{in, stop}); err != nil {
		return err
	}
	return z.Close()
}

// stoppable reads until a channel is closed.
type stoppable struct {
	io.Reader
	stop <-chan struct{}
}

func (s stoppable) Read(p []byte) (int, error) {
	if isClosed(s.stop) {
		return 0, errStopped
	}
	return s.Reader.Read(p)
}

// tidy removes what a writer that was killed left of a compression: the half, or the file that was compressed already.
func tidy(path string) error {
	first := rotated(path, 1)
	err := removeIfThere(first + underWay)
	if _, serr := os.Stat(first + packedSuffix); serr == nil {
		err = errors.Join(err, removeIfThere(first))
	}
	return err
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// openRotated opens the file that was rotated i times, compressed or not.
func (l *Log) openRotated(i int) (*logFile, error) {
	f, err := os.Open(rotated(l.path, i))
	packed := i > 0 && errors.Is(err, os.ErrNotExist)
	if packed {
		f, err = os.Open(rotated(l.path, i) + packedSuffix)
	}
	if err != nil {
		return nil, err
	}
	return l.share(f, packed)
}

// unnamedFile makes a file without a name in a folder, or above it where it was removed.
func unnamedFile(dir string) (*os.File, error) {
	for {
		f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
		if !errors.Is(err, os.ErrNotExist) || filepath.Dir(dir) == dir {
			return f, err
		}
		dir = filepath.Dir(dir)
	}
}

// sameText reports whether two files hold the same: they are one file, or one is the other's compressed form.
func sameText(a, b *logFile) bool {
	return a.packed != b.packed && a.id.is(b.id) || a.openFile == b.openFile
}
