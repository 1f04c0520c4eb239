package handover

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// LinkSuffix makes a socket's path that of the helper.
	LinkSuffix = ".pipe"
	// Args are core(5)'s specifiers that the helper gets: the crashed process, the number of a descriptor with a pidfd of
	// it, empty where the kernel gives none (before 6.16), and how it may be dumped.
	Args = "%P %F %d"

	// Magic begins a message of 16 bytes; the process's number and flags follow, each of 32 bits.
	Magic = "TRITONC1"
	// Files are in the message: the core, a pidfd.
	Files = 2
	// ByNumber in the flags says that the pidfd was opened by number, which may have become another's. The flags' lowest
	// eight bits are what %d was.
	ByNumber = 1 << 8

	// bound is how long to wait for a place in the socket's queue.
	bound = 10 * time.Second
)

// SocketOf is the socket that belongs to a helper which was started as name.
func SocketOf(name string) (string, bool) { return strings.CutSuffix(name, LinkSuffix) }

// Send gives the core on the pipe to who listens on socket. The arguments are those that the kernel expanded: process,
// pidfd or "", dumpable. It is the whole work of the helper.
func Send(socket string, pipe int, args []string) error {
	if len(args) != strings.Count(Args, "%") {
		return fmt.Errorf("%d arguments, %q are meant", len(args), Args)
	}
	pid, err := strconv.ParseInt(args[0], 10, 32)
	if err != nil {
		return fmt.Errorf("process %q: %w", args[0], err)
	}
	flags, err := strconv.ParseUint(args[2], 10, 8)
	if err != nil {
		return fmt.Errorf("dumpable %q: %w", args[2], err)
	}
	pidfd, err := strconv.Atoi(args[1])
	if err != nil {
		flags |= ByNumber
		if pidfd, err = unix.PidfdOpen(int(pid), 0); err != nil {
			return fmt.Errorf("crashed process %d: %w", pid, err)
		}
	}
	message := append([]byte(Magic), 0, 0, 0, 0, 0, 0, 0, 0)
	binary.NativeEndian.PutUint32(message[8:], uint32(pid))
	binary.NativeEndian.PutUint32(message[12:], uint32(flags))
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(s)
	// Not more than this: a queue that is full stays full while no daemon lives.
	timeout := unix.NsecToTimeval(int64(bound))
	if err := unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout); err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	if err := unix.Connect(s, &unix.SockaddrUnix{Name: socket}); err != nil {
		return fmt.Errorf("connect to %s: %w", socket, err)
	}
	if err := unix.Sendmsg(s, message, unix.UnixRights(pipe, pidfd), nil, 0); err != nil {
		return fmt.Errorf("hand the core of process %d over: %w", pid, err)
	}
	return nil
}
