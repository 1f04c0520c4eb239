package coredump

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/coredump/handover"
)

// Where the kernel does not know the socket, it starts a program for each crash and gives it the core on a pipe. Ours
// (cmd/triton-core) does no work: it hands the pipe and a pidfd to the keeper's socket and ends. The pipe's open end holds
// the process, also while no daemon lives, and all that follows is done as with the kernel's own socket.

const (
	pipeMark = "|"
	// linkSuffix makes a socket's path that of the link to the helper, which the pattern names: the kernel takes 127
	// characters, and the helper learns the socket from its own name.
	linkSuffix = handover.LinkSuffix
	pipeArgs   = " " + handover.Args
	// pipeLimit is how many crashes are held at a time in the pipe form. At 0, the kernel's default, none is.
	pipeLimit     = "64"
	pipeLimitFile = "/proc/sys/kernel/core_pipe_limit"
)

// handedOver takes what the helper sent.
func handedOver(conn *net.UnixConn, message []byte, files []*os.File) (stream, *peer, error) {
	if err := fromRoot(conn); err != nil {
		return nil, nil, err
	}
	if len(files) != handover.Files || !bytes.HasPrefix(message, []byte(handover.Magic)) {
		return nil, nil, fmt.Errorf("core handed over with %d descriptors: unknown form", len(files))
	}
	pipe, err := pollable(files[0])
	if err != nil {
		return nil, nil, err
	}
	flags := binary.NativeEndian.Uint32(message[12:])
	p := &peer{
		pidfd: files[1], pid: int(int32(binary.NativeEndian.Uint32(message[8:]))), rootOnly: flags&0xff != 1, byNumber: flags&handover.ByNumber != 0,
	}
	if err := p.credentials(); err != nil {
		return nil, nil, errors.Join(err, pipe.Close())
	}
	if err := pipe.SetDeadline(time.Now().Add(handshakeBound)); err != nil {
		return nil, nil, errors.Join(err, pipe.Close())
	}
	return pipeStream{pipe}, p, nil
}

// fromRoot refuses what was not sent by root.
func fromRoot(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(s uintptr) { cred, cerr = unix.GetsockoptUcred(int(s), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if cerr != nil {
		return fmt.Errorf("who hands a core over: %w", cerr)
	}
	if cred.Uid != 0 {
		return fmt.Errorf("uid %d hands a core over: only the kernel's helper may", cred.Uid)
	}
	return nil
}

// pollable is a copy of a pipe whose reads can have a deadline; the given file is closed.
func pollable(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("core pipe: %w", err)
	}
	if err := errors.Join(unix.SetNonblock(fd, true), f.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("core pipe: %w", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "core pipe"), nil
}

// credentials reads from procfs what the kernel's socket tells by itself, and makes sure that the process dumps core.
func (p *peer) credentials() error {
	proc, err := openProc(p)
	if err != nil {
		return err
	}
	defer proc.close()
	status, err := proc.Read("status")
	if err != nil {
		return err
	}
	if field(status, "CoreDumping:", 0) != 1 {
		return fmt.Errorf("process %d does not dump core", p.pid)
	}
	p.ppid, p.uid, p.gid = field(status, "PPid:", 0), field(status, "Uid:", 0), field(status, "Gid:", 0)
	return nil
}

// field is the nth number on a line of /proc/PID/status, -1 if there is none.
func field(status []byte, key string, nth int) int {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(key)); ok {
			if f := bytes.Fields(rest); nth < len(f) {
				if n, err := strconv.Atoi(string(f[nth])); err == nil {
					return n
				}
			}
		}
	}
	return -1
}

// verify compares the auxiliary vector in the notes with the process's own. Both have addresses that differ in each
// process, so that a core is not ascribed to a process that got the crashed one's number after a SIGKILL.
func (p *peer) verify(proc *procDir, h *Head) error {
	if !p.byNumber {
		return nil
	}
	own, err := proc.Read("auxv")
	if err != nil {
		return err
	}
	if n := min(len(own), len(h.Auxv)); n == 0 || !bytes.Equal(own[:n], h.Auxv[:n]) {
		return fmt.Errorf("process %d is not the one that crashed: %w", p.pid, errGone)
	}
	return nil
}

// linkHelper makes the link that the pattern names.
func linkHelper(socket, helper string) error {
	if st, err := os.Stat(helper); err != nil || st.Mode()&0o111 == 0 {
		return errors.Join(fmt.Errorf("%w: %s is no program", ErrNoHelper, helper), err)
	}
	link := socket + linkSuffix
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("link to the core helper: %w", err)
	}
	if err := os.Symlink(helper, link); err != nil {
		return fmt.Errorf("link to the core helper: %w", err)
	}
	return nil
}
