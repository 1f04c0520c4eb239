package coredump

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
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
var ErrOldKernel = errors.New("core dumps on a socket need Linux 6.17 or newer")

// ErrNoHelper says that the program for the pipe form is not installed.
var ErrNoHelper = errors.New("core dumps on a pipe need the helper")

// Forms in which the kernel hands cores over.
const (
	FormAuto   = "auto"   // the socket where the kernel knows it, else the pipe
	FormSocket = "socket" // a socket that the kernel connects to
	FormPipe   = "pipe"   // a program that the kernel starts
)

// form is Config.Form with auto decided.
func (s *Service) form() (string, error) {
	if s.cfg.Form == FormPipe {
		return FormPipe, nil
	}
	err := socketProtocol()
	switch {
	case err == nil:
		return FormSocket, nil
	case s.cfg.Form != FormSocket && errors.Is(err, ErrOldKernel):
		return FormPipe, nil
	}
	return "", err
}

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

// Pattern is kernel.core_pattern while it names our socket or its helper.
type Pattern struct {
	socket string
	// Ours is what it is.
	Ours string
	// Previous is what it was, and what it becomes again.
	Previous string
	// limit is what kernel.core_pipe_limit was, "" if it was not changed.
	limit string
}

// Honours reports whether crashes of no container can go where a pattern says while it is replaced. A socket's cannot:
// it would take the daemon for the process that crashed.
func Honours(pattern string) bool { return !strings.HasPrefix(pattern, "@") }

// takePattern points kernel.core_pattern at our socket, where somebody listens already. What it was before is written
// beside the socket first, so that RestorePattern works after a kill. A pattern of a dead daemon is replaced.
func (s *Service) takePattern(form string) (*Pattern, error) {
	p := &Pattern{socket: s.cfg.Socket, Ours: socketMark + s.cfg.Socket}
	if form == FormPipe {
		p.Ours = pipeMark + s.cfg.Socket + linkSuffix + pipeArgs
	}
	if len(p.Ours) > maxPattern || strings.ContainsAny(p.socket, "% \n") {
		return nil, fmt.Errorf("core socket %s: the kernel cannot name it", p.socket)
	}
	now, err := readSysctl(patternFile)
	if err != nil {
		return nil, err
	}
	p.Previous = now
	if other, ok := socketIn(now); ok {
		if other != p.socket && alive(other) {
			return nil, fmt.Errorf("%w: by the socket %s", ErrTaken, other)
		}
		p.Previous, p.limit = previousOf(other)
	}
	if form == FormPipe {
		if err := linkHelper(p.socket, s.cfg.Helper); err != nil {
			return nil, err
		}
		limit, err := readSysctl(pipeLimitFile)
		if err != nil {
			return nil, err
		}
		if p.limit == "" && limit == "0" {
			p.limit = limit
		}
	}
	if err := os.WriteFile(previousPath(p.socket), []byte(p.Previous+"\n"+p.limit+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("save kernel.core_pattern: %w", err)
	}
	if form == FormPipe && p.limit != "" {
		if err := writeSysctl(pipeLimitFile, pipeLimit); err != nil {
			return nil, err
		}
	}
	return p, writeSysctl(patternFile, p.Ours)
}

// Restore writes the previous pattern back, unless somebody else has changed it meanwhile.
func (p *Pattern) Restore() error {
	now, err := readSysctl(patternFile)
	if err != nil {
		return err
	}
	if socket, ok := socketIn(now); ok && socket == p.socket {
		if err := writeSysctl(patternFile, p.Previous); err != nil {
			return err
		}
	}
	if p.limit != "" {
		limit, err := readSysctl(pipeLimitFile)
		if err == nil && limit == pipeLimit {
			err = writeSysctl(pipeLimitFile, p.limit)
		}
		if err != nil {
			return err
		}
	}
	for _, path := range []string{previousPath(p.socket), p.socket + linkSuffix} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("forget the previous core pattern: %w", err)
		}
	}
	return nil
}

// RestorePattern is Restore for the socket of a daemon that was killed; it does nothing if the pattern is not that one's.
func RestorePattern(socket string) error {
	previous, limit := previousOf(socket)
	return (&Pattern{socket: socket, Previous: previous, limit: limit}).Restore()
}

// socketIn returns the socket that a pattern of ours, or of another daemon of our kind, names.
func socketIn(pattern string) (string, bool) {
	if socket, ok := strings.CutPrefix(pattern, socketMark); ok {
		return socket, true
	}
	helper, ok := strings.CutPrefix(pattern, pipeMark)
	if !ok {
		return "", false
	}
	return strings.CutSuffix(helper, linkSuffix+pipeArgs)
}

func previousPath(socket string) string { return socket + ".previous" }

// previousOf is the pattern and the limit that were saved beside a socket: the kernel's default where nothing usable was,
// and "" where the limit was not changed.
func previousOf(socket string) (pattern, limit string) {
	b, err := os.ReadFile(previousPath(socket))
	pattern, rest, _ := strings.Cut(string(b), "\n")
	if _, ours := socketIn(pattern); err != nil || ours || pattern == "" || len(pattern) > maxPattern {
		pattern = kernelDefault
	}
	if limit = strings.TrimSpace(rest); limit != "" {
		if _, err := strconv.ParseUint(limit, 10, 32); err != nil {
			limit = ""
		}
	}
	return pattern, limit
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

func readSysctl(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read a setting of core dumps: %w", err)
	}
	return strings.TrimSuffix(string(b), "\n"), nil
}

func writeSysctl(path, s string) error {
	if err := os.WriteFile(path, []byte(s), 0); err != nil {
		return fmt.Errorf("set %s to %q: %w", path, s, err)
	}
	return nil
}
