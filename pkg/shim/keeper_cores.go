package shim

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// coresGrace is how long crashes wait for a daemon that died. A crash holds its whole process, and a container's
	// restart, meanwhile.
	coresGrace = time.Minute
	// coresBacklog is how many crashes may wait; the kernel's connect does not block, so one more would be lost.
	coresBacklog = 4096
	// coresPollMs bounds how long the letting-go goes on after a daemon came back.
	coresPollMs = 200
)

// coreSocket is the socket that kernel.core_pattern names. The keeper only keeps it: a daemon accepts on a copy.
type coreSocket struct {
	log *slog.Logger

	mu     sync.Mutex
	path   string
	file   *os.File // nil: none
	leases int
	grace  *time.Timer
	ended  sync.WaitGroup // of the letting-go
}

// open returns a copy of the listening socket, which it makes if it is not at path already.
func (c *coreSocket) open(path string) (*os.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file != nil && c.path == path {
		return dup(c.file)
	}
	if c.file != nil {
		return nil, conflict("core dumps are taken at %s", c.path)
	}
	// Made beside it and put in its place: there is no moment at which a crash finds no socket, or a dead one.
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("stale core socket: %w", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("core socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), path)
	old := unix.Umask(0o177)
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: fresh})
	unix.Umask(old)
	if err == nil {
		err = unix.Listen(fd, coresBacklog)
	}
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("core socket %s: %w", path, err)
	}
	c.path, c.file = path, f
	return dup(f)
}

// enter counts a daemon that accepts.
func (c *coreSocket) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leases++
	if c.grace != nil {
		c.grace.Stop()
		c.grace = nil
	}
}

// leave begins the grace time when the last daemon has gone.
func (c *coreSocket) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leases--
	if c.leases == 0 && c.file != nil {
		c.grace = time.AfterFunc(coresGrace, c.letGo)
	}
}

// letGo ends crashes that wait for a daemon which does not come back, until one does.
func (c *coreSocket) letGo() {
	c.mu.Lock()
	if c.leases > 0 || c.file == nil {
		c.mu.Unlock()
		return
	}
	f, err := dup(c.file)
	if err == nil {
		c.ended.Add(1)
	}
	c.mu.Unlock()
	if err != nil {
		c.log.Error("crashes wait and no daemon takes them", "err", err)
		return
	}
	defer c.ended.Done()
	defer f.Close()
	for c.abandoned() {
		fds := []unix.PollFd{{Fd: int32(rawFD(f)), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, coresPollMs); err != nil || n == 0 {
			continue
		}
		nfd, _, err := unix.Accept4(rawFD(f), unix.SOCK_CLOEXEC)
		if err != nil {
			continue
		}
		unix.Close(nfd)
		c.log.Warn("a crash ended without a dump: no daemon")
	}
}

func (c *coreSocket) abandoned() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leases == 0 && c.file != nil
}

// drop closes the socket and removes its file; without one it does nothing.
func (c *coreSocket) drop() error {
	c.mu.Lock()
	f, path := c.file, c.path
	c.file = nil
	if c.grace != nil {
		c.grace.Stop()
		c.grace = nil
	}
	c.mu.Unlock()
	c.ended.Wait()
	if f == nil {
		return nil
	}
	f.Close()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove core socket: %w", err)
	}
	return nil
}
