package shim

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openPidfd opens a descriptor of the process that becomes readable when it ends, without costing a thread.
func openPidfd(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// waitPidfd blocks until the process ended (it may still be a zombie) or the descriptor is closed.
func waitPidfd(pidfd *os.File) error {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool { return pollPidfd(int(fd))&unix.POLLIN != 0 })
}

// pollPidfd returns what is known at once: POLLIN for an ended process, POLLHUP for one that was reaped too.
func pollPidfd(fd int) int16 {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, 0)
		if !errors.Is(err, unix.EINTR) {
			return fds[0].Revents
		}
	}
}

// signalPidfd sends a signal; unix.ESRCH: the process has ended.
func signalPidfd(pidfd *os.File, sig int) error {
	err := unix.PidfdSendSignal(rawFD(pidfd), unix.Signal(sig), nil, 0)
	runtime.KeepAlive(pidfd)
	return err
}

// pidfdInfo is struct pidfd_info of include/uapi/linux/pidfd.h, first published size (PIDFD_INFO_SIZE_VER0).
type pidfdInfo struct {
	Mask, CgroupID uint64
	_              [11]uint32 // ids
	ExitCode       int32      // a wait status
}

const (
	pidfdInfoExit = 1 << 3 // PIDFD_INFO_EXIT, since 6.15
	// pidfdGetInfo is PIDFD_GET_INFO = _IOWR(0xFF, 11, struct pidfd_info) with the size above.
	pidfdGetInfo = 3<<30 | unsafe.Sizeof(pidfdInfo{})<<16 | 0xff<<8 | 11
)

// exitStatus asks the kernel for the wait status of a process that is not our child. It is known from when its parent
// reaped it until the last pidfd is closed; false: not reaped yet, or the kernel is older than 6.15.
func exitStatus(pidfd *os.File) (status uint32, known bool) {
	info := pidfdInfo{Mask: pidfdInfoExit}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(rawFD(pidfd)), pidfdGetInfo, uintptr(unsafe.Pointer(&info)))
	runtime.KeepAlive(pidfd)
	if errno != 0 || info.Mask&pidfdInfoExit == 0 {
		return 0, false
	}
	return uint32(info.ExitCode), true
}

// startTime returns field 22 of /proc/PID/stat: clock ticks between boot and the process's start.
func startTime(pid int) (uint64, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("start time: %w", err)
	}
	// The second field is the program's name in parentheses and may hold anything: fields are counted from its end.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const afterName = 22 - 3
	if len(fields) <= afterName {
		return 0, fmt.Errorf("start time of %d: malformed stat", pid)
	}
	return strconv.ParseUint(string(fields[afterName]), 10, 64)
}
