package probes

import (
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

// waitByFile is WAIT_BY_FILE of bpf/reasons.h.
const waitByFile = 255

// waitReasons tells the programs what a task waits for in each system call, by number; calls that are not listed are
// triton.WaitOther.
func waitReasons() [syscallNumbers]uint8 {
	var out [syscallNumbers]uint8
	for nr := range out {
		out[nr] = uint8(triton.WaitOther)
	}
	for reason, calls := range map[uint8][]int{
		waitByFile: {
			unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_PWRITE64,
			unix.SYS_PREADV, unix.SYS_PWRITEV, unix.SYS_PREADV2, unix.SYS_PWRITEV2, unix.SYS_SENDFILE, unix.SYS_SPLICE,
		},
		uint8(triton.WaitDisk): {
			unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_SYNC, unix.SYS_SYNCFS, unix.SYS_SYNC_FILE_RANGE, unix.SYS_MSYNC,
			unix.SYS_FALLOCATE, unix.SYS_TRUNCATE, unix.SYS_FTRUNCATE, unix.SYS_COPY_FILE_RANGE, unix.SYS_IO_GETEVENTS,
		},
		uint8(triton.WaitNetwork): {
			unix.SYS_CONNECT, unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_RECVMMSG,
			unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG,
		},
		uint8(triton.WaitLock): {
			unix.SYS_FUTEX, unix.SYS_FUTEX_WAITV, unix.SYS_FLOCK, unix.SYS_FCNTL, unix.SYS_SEMOP, unix.SYS_SEMTIMEDOP,
		},
		uint8(triton.WaitSleep): {unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP},
		uint8(triton.WaitPoll): {
			unix.SYS_POLL, unix.SYS_PPOLL, unix.SYS_SELECT, unix.SYS_PSELECT6, unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT,
			unix.SYS_EPOLL_PWAIT2, unix.SYS_IO_URING_ENTER,
		},
		uint8(triton.WaitPipe): {
			unix.SYS_MSGRCV, unix.SYS_MSGSND, unix.SYS_MQ_TIMEDRECEIVE, unix.SYS_MQ_TIMEDSEND, unix.SYS_TEE, unix.SYS_VMSPLICE,
		},
		uint8(triton.WaitChild): {unix.SYS_WAIT4, unix.SYS_WAITID, unix.SYS_VFORK, unix.SYS_CLONE, unix.SYS_CLONE3},
	} {
		for _, nr := range calls {
			out[nr] = reason
		}
	}
	return out
}

// The two lists of reasons are one.
var _ = [1]struct{}{}[len(bpf.MeasureSlot{}.OffCpuNs)-int(triton.WaitReasons)]
