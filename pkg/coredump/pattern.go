package coredump

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	patternFile = "/proc/sys/kernel/core_pattern"
	// maxPattern is CORENAME_MAX_SIZE of fs/coredump.c less its terminating zero.
	maxPattern = 127
	// socketMark begins a pattern that names a socket with request and ack.
	socketMark = "@@"
	// kernelDefault is the pattern of a kernel that nobody told another.
	kernelDefault = "core"
)

// ErrTaken says that another daemon takes this machine's core dumps.
var ErrTaken = errors.New("core dumps of this machine are taken already")

// ErrOldKernel says that the kernel does not hand dumps to a socket: before 6.17 it would write files of that name.
var ErrOldKernel = errors.New("core dumps need Linux 6.17 or newer")

// socketProtocol tells whether this kernel knows patterns that begin with socketMark.
func socketProtocol() error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return fmt.Errorf("read the kernel's version: %w", err)
	}
	release := unix.ByteSliceToString(uts.Release[:])
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("read the kernel's version %q: %w", release, err)
	}
	if major < 6 || major == 6 && minor < 17 {
		return fmt.Errorf("%w, this is %s", ErrOldKernel, release)
	}
	return nil
}

// Pattern is kernel.core_pattern while it names our socket.
type Pattern struct {
	ours string
	// Previous is what it was, and what it becomes again.
	Previous string
}

// TakePattern points kernel.core_pattern at socket, where somebody listens already. What it was before is written beside
// the socket first, so that Restore works after a kill. A pattern that names a dead socket of another daemon is replaced.
func TakePattern(socket string) (*Pattern, error) {
	p := &Pattern{ours: socketMark + socket}
	if len(p.ours) > maxPattern || strings.ContainsAny(socket, "% \n") {
		return nil, fmt.Errorf("core socket %s: the kernel cannot name it", socket)
	}
	now, err := readPattern()
	if err != nil {
		return nil, err
	}
	p.Previous = now
	if other, ok := strings.CutPrefix(now, socketMark); ok {
		if now != p.ours && alive(other) {
			return nil, fmt.Errorf("%w: by the socket %s", ErrTaken, other)
		}
		p.Previous = previousOf(other)
	}
	if err := os.WriteFile(previousPath(socket), []byte(p.Previous+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("save kernel.core_pattern: %w", err)
	}
	if err := writePattern(p.ours); err != nil {
		return nil, err
	}
	return p, nil
}

// Restore writes the previous pattern back, unless somebody else has changed it meanwhile.
func (p *Pattern) Restore() error {
	now, err := readPattern()
	if err != nil {
		return err
	}
	if now == p.ours {
		if err := writePattern(p.Previous); err != nil {
			return err
		}
	}
	if err := os.Remove(previousPath(strings.TrimPrefix(p.ours, socketMark))); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget the previous core pattern: %w", err)
	}
	return nil
}

// RestorePattern is Restore for the socket of a daemon that was killed; it does nothing if the pattern is not that one's.
func RestorePattern(socket string) error {
	return (&Pattern{ours: socketMark + socket, Previous: previousOf(socket)}).Restore()
}

func previousPath(socket string) string { return socket + ".previous" }

// previousOf is what was saved beside a socket, or the kernel's default where nothing usable was.
func previousOf(socket string) string {
	b, err := os.ReadFile(previousPath(socket))
	s := strings.TrimSpace(string(b))
	if err != nil || s == "" || len(s) > maxPattern || strings.HasPrefix(s, socketMark) {
		return kernelDefault
	}
	return s
}

// alive reports whether a process listens on a socket. A connection that says nothing is dropped by who accepts it.
func alive(socket string) bool {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

func readPattern() (string, error) {
	b, err := os.ReadFile(patternFile)
	if err != nil {
		return "", fmt.Errorf("read kernel.core_pattern: %w", err)
	}
	return strings.TrimSuffix(string(b), "\n"), nil
}

func writePattern(s string) error {
	if err := os.WriteFile(patternFile, []byte(s), 0); err != nil {
		return fmt.Errorf("set kernel.core_pattern to %q: %w", s, err)
	}
	return nil
}
