package coredump

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// The protocol of include/uapi/linux/coredump.h.
const (
	askKernel = 1 << 0 // the kernel writes the core to the socket
	askReject = 1 << 2 // no core, and no core bit in the exit status
	askWait   = 1 << 3 // the process is held until the socket is closed

	requestSize = 16 // size, size_ack, mask
	maxRequest  = 4096
	ackSize     = 16
	markReqAck  = 0
)

// dumpedByRoot is PIDFD_COREDUMP_ROOT: the process is setuid or the like, its core is for root only.
const dumpedByRoot = 1 << 3

// peer is the crashing process, as the kernel names it without a race.
type peer struct {
	pidfd    *os.File
	pid      int // of the thread group, in our namespace
	ppid     int
	uid, gid int
	cgroupID uint64
	rootOnly bool
	byNumber bool // pidfd was opened by number: what the core says must be compared with the process
}

// hello reads the rest of the kernel's request, which begins with head, and answers with mask; the stream follows, if it
// was asked for.
func hello(head []byte, conn io.ReadWriter, mask uint64) error {
	size, ackMax := binary.NativeEndian.Uint32(head), binary.NativeEndian.Uint32(head[4:])
	offered := binary.NativeEndian.Uint64(head[8:])
	if size < requestSize || size > maxRequest || ackMax < ackSize {
		return fmt.Errorf("core request of %d bytes, answer of %d: unknown form", size, ackMax)
	}
	if _, err := io.CopyN(io.Discard, conn, int64(size-requestSize)); err != nil {
		return fmt.Errorf("core request: %w", err)
	}
	if mask&^offered != 0 {
		return fmt.Errorf("the kernel offers %#x for a core, %#x is needed", offered, mask)
	}
	ack := make([]byte, ackSize)
	binary.NativeEndian.PutUint32(ack, ackSize)
	binary.NativeEndian.PutUint64(ack[8:], mask)
	if _, err := conn.Write(ack); err != nil {
		return fmt.Errorf("core answer: %w", err)
	}
	mark := make([]byte, 4)
	if _, err := io.ReadFull(conn, mark); err != nil {
		return fmt.Errorf("core mark: %w", err)
	}
	if m := binary.NativeEndian.Uint32(mark); m != markReqAck {
		return fmt.Errorf("the kernel refused the answer to its core request: mark %d", m)
	}
	return nil
}

// peerOf asks the kernel who is at the other end.
func peerOf(conn *net.UnixConn) (*peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, serr := -1, error(nil)
	if err := raw.Control(func(s uintptr) {
		fd, serr = unix.GetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	}); err != nil {
		return nil, err
	}
	if serr != nil {
		return nil, fmt.Errorf("pidfd of the crashed process: %w", serr)
	}
	p := &peer{pidfd: os.NewFile(uintptr(fd), "pidfd")}
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_PID | unix.PIDFD_INFO_CREDS | unix.PIDFD_INFO_CGROUPID | unix.PIDFD_INFO_COREDUMP}
	if err := pidfdInfo(fd, &info); err != nil {
		p.pidfd.Close()
		return nil, err
	}
	if info.Mask&unix.PIDFD_INFO_COREDUMP == 0 {
		p.pidfd.Close()
		return nil, errors.New("a process connected that does not dump core")
	}
	p.pid, p.ppid, p.cgroupID = int(info.Tgid), int(info.Ppid), info.Cgroupid
	p.uid, p.gid = int(info.Ruid), int(info.Rgid)
	p.rootOnly = info.Coredump_mask&dumpedByRoot != 0
	return p, nil
}

// gone reports whether the process has ended: then its pid may be another's.
func (p *peer) gone() bool {
	fds := []unix.PollFd{{Fd: int32(p.pidfd.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err != nil && !errors.Is(err, unix.EINTR) || n > 0
}
