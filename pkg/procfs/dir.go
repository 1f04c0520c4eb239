package procfs

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Dir is /proc/PID, opened. Its files can be read as long as the process lives, and are never another process's.
type Dir struct{ f *os.File }

// Open opens the directory of the process that has pid now; the caller makes sure that it is the one that was meant.
func Open(pid int) (*Dir, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		return nil, err
	}
	return &Dir{f}, nil
}

// Close closes it; what was opened of it stays open.
func (d *Dir) Close() error { return d.f.Close() }

// FD is its descriptor, for *at system calls.
func (d *Dir) FD() int { return int(d.f.Fd()) }

// Again opens the directory once more, for who may outlive d.
func (d *Dir) Again() (*Dir, error) {
	fd, err := unix.Openat(d.FD(), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("directory of a process: %w", err)
	}
	return &Dir{os.NewFile(uintptr(fd), "proc")}, nil
}

// Open opens a file of procfs itself: never a path of the process's own file system.
func (d *Dir) Open(name string) (*os.File, error) {
	fd, err := unix.Openat(d.FD(), name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s of a process: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// maxFile bounds what is read of one file of procfs: a process decides how much some of them hold.
const maxFile = 4 << 20

// Read reads a file of procfs, at most its first 4 MiB.
func (d *Dir) Read(name string) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// Link is where a symbolic link of procfs leads; "": it is not there.
func (d *Dir) Link(name string) string {
	b := make([]byte, 4096)
	n, err := unix.Readlinkat(d.FD(), name, b)
	if err != nil {
		return ""
	}
	return string(b[:n])
}

// Has reports whether procfs has an entry.
func (d *Dir) Has(name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(d.FD(), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// List names what is in a directory of procfs, at most limit entries.
func (d *Dir) List(name string, limit int) []string {
	fd, err := unix.Openat(d.FD(), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	names, err := f.Readdirnames(limit)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	return names
}

// Mapped opens the file that is mapped from start to end, as a line of maps has them; os.ErrNotExist: none is any more. The
// kernel leads to the file itself by no path, so that nothing that the container can put in its place is opened; and it is
// only read if it is a regular file.
func (d *Dir) Mapped(start, end uint64) (*os.File, error) {
	at, err := unix.Openat(d.FD(), fmt.Sprintf("map_files/%x-%x", start, end), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a mapped file: %w", err)
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return nil, fmt.Errorf("stat a mapped file: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.New("not a regular file")
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", at), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a mapped file: %w", err)
	}
	return os.NewFile(uintptr(fd), "mapped"), nil
}
