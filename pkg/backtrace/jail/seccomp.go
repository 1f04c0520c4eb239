package jail

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// allowed are the system calls that the Go runtime and reading and writing open descriptors need.
var allowed = []uint32{
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_PREAD64, unix.SYS_CLOSE, unix.SYS_FSTAT, unix.SYS_FCNTL,
	unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MPROTECT, unix.SYS_MADVISE, unix.SYS_MINCORE,
	unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_SCHED_GETAFFINITY,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK,
	unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_TGKILL, unix.SYS_GETRANDOM,
	unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2,
	unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ,
}

// Where struct seccomp_data has what the filter reads (linux/seccomp.h), and classes of its instructions.
const (
	dataNr   = 0
	dataArch = 4
	dataArg0 = 16

	load    = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	equal   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	bitsSet = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	ret     = unix.BPF_RET | unix.BPF_K

	// x32 is the bit of calls of the ABI with short pointers.
	x32 = 0x40000000
)

// filter lets what is allowed pass, lets threads be made but no processes, and refuses the rest with EPERM.
func filter() []unix.SockFilter {
	const retAllow, retKill, retPerm = unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_KILL_PROCESS, unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	f := []unix.SockFilter{
		{Code: load, K: dataArch},
		{Code: equal, Jt: 1, K: unix.AUDIT_ARCH_X86_64},
		{Code: ret, K: retKill},
		{Code: load, K: dataNr},
		{Code: bitsSet, Jf: 1, K: x32},
		{Code: ret, K: retKill},
		{Code: equal, Jf: 4, K: unix.SYS_CLONE},
		{Code: load, K: dataArg0},
		{Code: bitsSet, Jf: 1, K: unix.CLONE_THREAD},
		{Code: ret, K: retAllow},
		{Code: ret, K: retPerm},
	}
	for _, nr := range allowed {
		f = append(f, unix.SockFilter{Code: equal, Jf: 1, K: nr}, unix.SockFilter{Code: ret, K: retAllow})
	}
	return append(f, unix.SockFilter{Code: ret, K: retPerm})
}

// confine puts all threads of this process behind the filter; there is no way back.
func confine() error {
	runtime.LockOSThread() // no_new_privs is a thread's; the filter spreads it
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	f := filter()
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	if r, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&prog))); errno != 0 || r != 0 {
		return fmt.Errorf("filter of system calls: %w (thread %d)", errno, r)
	}
	return nil
}
