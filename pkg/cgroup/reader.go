package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reader reads small files of one directory after the other into one buffer, without allocating.
type reader struct {
	path  []byte // directory, then file name, then 0
	dir   int    // length of the directory in path, with its slash
	buf   [readMax]byte
	err   error // the first real failure
	found bool  // some file existed
}

// readMax holds the longest file read here, v1's memory.stat (1.5 kB), several times over. A longer one is cut.
const readMax = 8 << 10

// readers is a pool of buffers, not state: readings run in several goroutines.
var readers = sync.Pool{New: func() any { return new(reader) }}

// cd makes the directory of path below mount the current one; false when there is no such hierarchy.
func (r *reader) cd(mount, path string) bool {
	r.path = append(append(append(r.path[:0], mount...), path...), '/')
	r.dir = len(r.path)
	return mount != ""
}

// file returns the content of a file of the current directory, valid until the next call. What does not exist is empty.
func (r *reader) file(name string) []byte {
	fd, ok := r.open(name)
	if !ok {
		return nil
	}
	defer syscall.Close(fd)
	n := 0
	for n < len(r.buf) {
		k := r.read(fd, r.buf[n:])
		if k < 0 {
			return nil
		}
		if k == 0 {
			break
		}
		n += k
	}
	r.found = true
	return r.buf[:n]
}

// lines counts the lines of a file of the current directory, however long it is. What does not exist has none.
func (r *reader) lines(name string) (n uint64) {
	fd, ok := r.open(name)
	if !ok {
		return 0
	}
	defer syscall.Close(fd)
	for {
		k := r.read(fd, r.buf[:])
		if k <= 0 {
			return n
		}
		n += uint64(bytes.Count(r.buf[:k], []byte{'\n'}))
	}
}

// open opens a file of the current directory; false: it is not there, or something failed before.
func (r *reader) open(name string) (int, bool) {
	if r.err != nil {
		return 0, false
	}
	r.path = append(append(r.path[:r.dir], name...), 0)
	// os.ReadFile costs three allocations and a poller registration per file; there are ten files per container.
	at := unix.AT_FDCWD
	fd, _, errno := syscall.Syscall6(syscall.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(&r.path[0])),
		syscall.O_RDONLY|syscall.O_CLOEXEC, 0, 0, 0)
	if errno != 0 {
		r.fail("open", errno)
		return 0, false
	}
	return int(fd), true
}

// read reads once; below 0: it failed.
func (r *reader) read(fd int, b []byte) int {
	for {
		k, err := syscall.Read(fd, b)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			r.fail("read", err)
			return -1
		}
		return k
	}
}

// fail keeps the first failure, unless it says that the file is not there: EOPNOTSUPP comes from pressure files of a
// kernel booted with psi=0.
func (r *reader) fail(op string, err error) {
	if !gone(err) && !errors.Is(err, syscall.EOPNOTSUPP) && r.err == nil {
		r.err = fmt.Errorf("%s %s: %w", op, r.path[:len(r.path)-1], err)
	}
}
