package shim

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/utils"
	"golang.org/x/sys/unix"
)

// stdio is the shim's side of a process's standard files. The container's side is open only until the process runs.
type stdio struct {
	cfg     Stdio
	streams []*stream // stdout and stderr, or a terminal as stdout
	pty     *os.File  // the master; nil: no terminal

	stdinMu sync.Mutex // orders writes of several clients
	stdin   *os.File   // write end, or the pty master; nil: none

	childSide []*os.File
	console   *os.File // receives the pty master

	// ready is closed when the files are there, or never will be: clients may send input before an exec starts.
	ready     chan struct{}
	readyOnce sync.Once
}

func newStdio(cfg Stdio) *stdio { return &stdio{cfg: cfg, ready: make(chan struct{})} }

func (io *stdio) setReady() { io.readyOnce.Do(func() { close(io.ready) }) }

// open makes the files for p and enters them. root is the container's root on the host: pipes are given to it, so that
// a program can open /dev/stdout again. On an error the caller closes what was made.
func (io *stdio) open(p *libcontainer.Process, root hostIDs, lasting bool) error {
	var err error
	if io.cfg.TTY {
		err = io.openConsole(p)
	} else {
		err = io.openPipes(p, root.uid, root.gid, lasting)
	}
	if err != nil {
		return fmt.Errorf("stdio: %w", err)
	}
	return nil
}

func (io *stdio) openConsole(p *libcontainer.Process) error {
	ours, theirs, err := utils.NewSockPair("console")
	if err != nil {
		return err
	}
	p.ConsoleSocket = theirs
	p.ConsoleHeight, p.ConsoleWidth = uint16(io.cfg.Size[0]), uint16(io.cfg.Size[1])
	io.console = ours
	io.childSide = append(io.childSide, theirs)
	return nil
}

// receiveConsole takes the pty master that init sent. It must be called after the process was started, when the message
// is there.
func (io *stdio) receiveConsole(lasting bool) error {
	if io.console == nil {
		return nil
	}
	defer func() { io.console.Close(); io.console = nil }()
	master, err := utils.RecvFile(io.console) //nolint:staticcheck // its successor is internal to runc
	if err != nil {
		return fmt.Errorf("receive console: %w", err)
	}
	fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	master.Close()
	if err != nil {
		return fmt.Errorf("receive console: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return fmt.Errorf("receive console: %w", err)
	}
	return io.setConsole(os.NewFile(uintptr(fd), "pty"), lasting)
}

func (io *stdio) setConsole(master *os.File, lasting bool) error {
	s, err := newStream(master, streamStdout, lasting)
	if err != nil {
		return err
	}
	io.pty, io.streams = master, []*stream{s}
	if io.cfg.Stdin {
		io.stdin = master
	}
	return nil
}

// The names of the streams, in the log and in the keeper. A terminal's output is stdout, as in docker.
const (
	streamStdout = "stdout"
	streamStderr = "stderr"
)

func (io *stdio) openPipes(p *libcontainer.Process, uid, gid int, lasting bool) error {
	for _, label := range []string{streamStdout, streamStderr} {
		ours, theirs, err := outputPipe(uid, gid)
		if err != nil {
			return err
		}
		io.childSide = append(io.childSide, theirs)
		s, err := newStream(ours, label, lasting)
		if err != nil {
			ours.Close()
			return err
		}
		io.streams = append(io.streams, s)
		if label == streamStdout {
			p.Stdout = theirs
		} else {
			p.Stderr = theirs
		}
	}
	if !io.cfg.Stdin {
		// Opened by the host's /dev/null, whose owner must never change: no chown here, and libcontainer's own
		// fixStdioPermissions passes over it.
		null, err := os.Open(os.DevNull)
		if err != nil {
			return err
		}
		p.Stdin = null
		io.childSide = append(io.childSide, null)
		return nil
	}
	theirs, ours, err := pipe(uid, gid, 1)
	if err != nil {
		return err
	}
	p.Stdin, io.stdin = theirs, ours
	io.childSide = append(io.childSide, theirs)
	return nil
}

func outputPipe(uid, gid int) (ours, theirs *os.File, err error) { return pipe(uid, gid, 0) }

// pipe makes a pipe owned by uid and gid whose end number nonblocking (0: read, 1: write) is ours. Only that end is in
// non-blocking mode, and it is before the runtime sees it, so that waiting on it costs no thread.
func pipe(uid, gid, nonblocking int) (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("pipe: %w", err)
	}
	err = errors.Join(unix.Fchown(fds[0], uid, gid), unix.SetNonblock(fds[nonblocking], true))
	if err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, fmt.Errorf("pipe: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "pipe-r"), os.NewFile(uintptr(fds[1]), "pipe-w"), nil
}

// closeChildSide drops what the process has inherited; without it the pipes would never end.
func (io *stdio) closeChildSide() {
	for _, f := range io.childSide {
		f.Close()
	}
	io.childSide = nil
}

// writeStdin writes p to the process; several clients take turns, whole frames at a time. An error means that nobody
// reads any more. It waits for the process's start.
func (io *stdio) writeStdin(p []byte) error {
	<-io.ready
	io.stdinMu.Lock()
	defer io.stdinMu.Unlock()
	if io.stdin == nil {
		return os.ErrClosed
	}
	_, err := io.stdin.Write(p)
	return err
}

// closeStdin ends the process's input. A terminal has no such end: programs read an end-of-file character instead.
// It does not wait for a write that the process does not take: that write fails.
func (io *stdio) closeStdin() {
	<-io.ready
	if io.stdin != nil && io.pty == nil {
		io.stdin.Close()
	}
}

func (io *stdio) resize(height, width uint) error {
	if !io.cfg.TTY {
		return invalid("the process has no terminal")
	}
	select {
	case <-io.ready:
	default:
		return conflict("process not started")
	}
	if io.pty == nil {
		return notFound("the process's terminal is gone")
	}
	size := &unix.Winsize{Row: uint16(height), Col: uint16(width)}
	if err := unix.IoctlSetWinsize(rawFD(io.pty), unix.TIOCSWINSZ, size); err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	return nil
}

// close releases everything. The pumps must have ended.
func (io *stdio) close() {
	io.setReady()
	io.closeStdin()
	io.closeChildSide()
	if io.console != nil {
		io.console.Close()
	}
	for _, s := range io.streams {
		s.close()
	}
}
