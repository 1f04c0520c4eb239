package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// etcd ends its process when a write meets a full disk. So it never meets one: the blocks it will need for deletes are
// allocated while there is room. Its log takes them ahead (two segments); the database gets them here, beyond its end;
// the ballast is given back for the small files of a snapshot.
const (
	// reserveSize is what the database may grow by when the disk is full. Deletes and compactions write a few pages
	// each and reuse those of the commits before.
	reserveSize = 8 << 20
	ballastSize = 1 << 20
)

// space watches the file system under the store.
type space struct {
	dir     string
	minFree uint64

	mu       sync.Mutex
	reserved int64 // up to which offset the database's blocks are allocated
	ballast  bool
}

func newSpace(dir string, minFree uint64) *space { return &space{dir: dir, minFree: minFree} }

// admit says whether etcd may be handed a write now.
func (c *Cluster) admit(grows bool) error {
	if reason := c.death.reason(); reason != "" {
		return fmt.Errorf("etcd has stopped: %s: %w", reason, errdefs.ErrUnavailable)
	}
	free, err := c.space.free()
	if err != nil {
		return err
	}
	if !grows {
		if free < ballastSize {
			c.space.dropBallast()
		}
		return nil
	}
	if free < c.space.minFree {
		return fmt.Errorf("only %d bytes are free under %s, the floor is %d: free some space, or remove containers and images: %w",
			free, c.cfg.Dir, c.space.minFree, errdefs.ErrResourceExhausted)
	}
	if err := c.space.keepReserve(c.etcd.Server.Backend().Size()); err != nil {
		return fmt.Errorf("no space left for the store under %s: %w", c.cfg.Dir, err)
	}
	return nil
}

// free is what an unprivileged writer could still write, in bytes.
func (s *space) free() (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return 0, fmt.Errorf("free space under %s: %w", s.dir, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// keepReserve makes sure that at least half the reserve lies allocated beyond the database's size, and that the
// ballast exists. A full disk is ErrResourceExhausted.
func (s *space) keepReserve(size int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if size+reserveSize/2 > s.reserved {
		if err := allocate(databasePath(s.dir), os.O_RDWR, unix.FALLOC_FL_KEEP_SIZE, size+reserveSize); err != nil {
			return err
		}
		s.reserved = size + reserveSize
	}
	if !s.ballast {
		if err := allocate(s.ballastPath(), os.O_RDWR|os.O_CREATE, 0, ballastSize); err != nil {
			return err
		}
		s.ballast = true
	}
	return nil
}

// forgetReserve is called when the database became another file.
func (s *space) forgetReserve() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved = 0
}

func (s *space) dropBallast() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if os.Remove(s.ballastPath()) == nil {
		s.ballast = false
	}
}

func (s *space) ballastPath() string { return filepath.Join(s.dir, "ballast") }

// allocate gives the file at path real blocks up to size. File systems without fallocate keep no reserve.
func allocate(path string, flags int, mode uint32, size int64) error {
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return kindOfSpace(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), mode, 0, size); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return kindOfSpace(fmt.Errorf("allocate %d bytes of %s: %w", size, path, err))
	}
	return nil
}

func kindOfSpace(err error) error {
	if isSpace(err) {
		return fmt.Errorf("%w: %w", err, errdefs.ErrResourceExhausted)
	}
	return err
}

func isSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
