package cgroup

import (
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
	if r.err != nil {
		return nil
	}
	r.path = append(append(r.path[:r.dir], name...), 0)
	// os.ReadFile costs three allocations and a poller registration per file; there are ten files per container.
	at := unix.AT_FDCWD
	fd, _, errno := syscall.Syscall6(syscall.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(&r.path[0])),
		syscall.O_RDONLY|syscall.O_CLOEXEC, 0, 0, 0)
	if errno != 0 {
		return r.fail("open", errno)
	}
	defer syscall.Close(int(fd))
	n := 0
	for n < len(r.buf) {
		k, err := syscall.Read(int(fd), r.buf[n:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return r.fail("read", err)
		}
		if k == 0 {
			break
		}
		n += k
	}
	r.found = true
	return r.buf[:n]
}

// fail keeps the first failure, unless it says that the file is not there: EOPNOTSUPP comes from pressure files of a
// kernel booted with psi=0.
func (r *reader) fail(op string, err error) []byte {
	if !gone(err) && !errors.Is(err, syscall.EOPNOTSUPP) && r.err == nil {
		r.err = fmt.Errorf("%s %s: %w", op, r.path[:len(r.path)-1], err)
	}
	return nil
}
