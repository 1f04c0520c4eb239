package telemetry

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// signatures has the kinds of the arguments of common calls, a letter each: d is a signed number, f a descriptor, D a
// directory's descriptor, p a pointer, u an unsigned number, x a number in hexadecimal, m a mode in octal, o flags of open, r
// a protection, M flags of mmap, s a signal, S a socket family, T a socket type; P a pointer to a path, A to an address whose
// length is the next argument, N to one whose length is where the next argument points to, b to bytes that the call reads, as
// many as the next argument says, B to those that it wrote, as many as its result. At most two of the last five are read
// (Captures). Of calls that are not here all six registers are shown.
var signatures = map[string]string{
	"read": "fBu", "write": "fbu", "pread64": "fBud", "pwrite64": "fbud", "readv": "fpd", "writev": "fpd", "open": "Pom", "openat": "DPom",
	"close": "f", "stat": "Pp", "lstat": "Pp", "fstat": "fp", "newfstatat": "DPpx", "statx": "DPxxp", "lseek": "fdd", "access": "Pm",
	"faccessat": "DPm", "faccessat2": "DPmx", "readlink": "PBu", "readlinkat": "DPBu", "unlink": "P", "unlinkat": "DPx", "mkdir": "Pm",
	"mkdirat": "DPm", "rmdir": "P", "rename": "PP", "renameat2": "DPDPx", "link": "PP", "symlink": "PP", "linkat": "DPDPx", "symlinkat": "PDP",
	"chmod": "Pm", "fchmodat": "DPm", "chown": "Pdd", "fchownat": "DPddx", "truncate": "Pd", "creat": "Pm",
	"statfs": "Pp", "mknod": "Pmx", "chroot": "P", "mount": "PPpxp", "umount2": "Px", "getxattr": "PPpu", "inotify_add_watch": "fPx",
	"renameat": "DPDP", "utimensat": "DPpx", "memfd_create": "Px", "chdir": "P", "getcwd": "Bu", "getdents64": "fpu", "fsync": "f",
	"fdatasync": "f", "ftruncate": "fd", "fcntl": "fdx", "ioctl": "fxx", "dup": "f", "dup2": "ff", "dup3": "ffx", "pipe": "p", "pipe2": "px",
	"mmap": "purMfx", "munmap": "pu", "mprotect": "pur", "madvise": "pud", "brk": "p", "mremap": "puuxp",
	"socket": "STd", "socketpair": "STdp", "bind": "fAd", "listen": "fd", "accept": "fNp", "accept4": "fNpx", "connect": "fAd",
	"sendto": "fbuxAd", "recvfrom": "fBuxNp", "sendmsg": "fpx", "recvmsg": "fpx", "shutdown": "fd", "setsockopt": "fddpd",
	"getsockopt": "fddpp", "getsockname": "fNp", "getpeername": "fNp", "poll": "pud", "ppoll": "puppu", "select": "dpppp",
	"epoll_create1": "x", "epoll_ctl": "fdfp", "epoll_wait": "fpdd", "epoll_pwait": "fpddpu", "eventfd2": "ux", "futex": "pxupxx",
	"nanosleep": "pp", "clock_nanosleep": "dxpp", "clock_gettime": "dp", "gettimeofday": "pp", "getpid": "", "gettid": "", "getppid": "",
	"getuid": "", "geteuid": "", "getgid": "", "getegid": "", "setuid": "d", "setgid": "d", "kill": "ds", "tkill": "ds", "tgkill": "dds",
	"rt_sigaction": "sppu", "rt_sigprocmask": "dppu", "rt_sigreturn": "", "sigaltstack": "pp", "clone": "xpppp", "clone3": "pu", "fork": "",
	"vfork": "", "execve": "Ppp", "execveat": "DPppx", "exit": "d", "exit_group": "d", "wait4": "dpxp", "waitid": "ddpxp", "prctl": "dxxxx",
	"arch_prctl": "xp", "set_tid_address": "p", "set_robust_list": "pu", "prlimit64": "ddpp", "getrlimit": "dp", "getrandom": "pux",
	"sched_yield": "", "sched_getaffinity": "dup", "rseq": "puxx", "uname": "p", "sendfile": "ffpu", "splice": "fpfpux", "pause": "",
}

// FormatCall is a system call as C has it, without its result; what its pointers point to is not read.
func FormatCall(nr int, args [6]uint64) string { return FormatTraced(nr, args, [2][]byte{}) }

// FormatTraced is FormatCall with what was read of the arguments that Captures names; nil: could not be read.
func FormatTraced(nr int, args [6]uint64, memory [2][]byte) string {
	name := SyscallName(nr)
	kinds, ok := signatures[name]
	if !ok {
		kinds = "xxxxxx"
	}
	out := make([]string, 0, len(kinds))
	for i, kind := range kinds {
		arg := formatArgument(kind, args[i])
		if strings.ContainsRune(inMemory, kind) {
			if memory[0] != nil {
				arg = formatMemory(kind, memory[0])
			}
			memory[0], memory[1] = memory[1], nil
		}
		out = append(out, arg)
	}
	return name + "(" + strings.Join(out, ", ") + ")"
}

func formatArgument(kind rune, v uint64) string {
	switch kind {
	case 'd', 'f':
		return strconv.Itoa(int(int32(v)))
	case 'D':
		if int32(v) == unix.AT_FDCWD {
			return "AT_FDCWD"
		}
		return strconv.Itoa(int(int32(v)))
	case 'u':
		return strconv.FormatUint(v, 10)
	case 'm':
		return fmt.Sprintf("%#o", uint32(v))
	case 'o':
		return accessModes[v&unix.O_ACCMODE] + formatFlags(uint32(v)&^unix.O_ACCMODE, openFlags)
	case 'r':
		return strings.TrimPrefix(flagsOr(uint32(v), protections, "PROT_NONE"), "|")
	case 'M':
		return strings.TrimPrefix(flagsOr(uint32(v), mapFlags, "0"), "|")
	case 's':
		if name := unix.SignalName(unix.Signal(int32(v))); name != "" {
			return name
		}
		return strconv.Itoa(int(int32(v)))
	case 'T':
		if v&0xf < uint64(len(socketTypes)) && socketTypes[v&0xf] != "" {
			return socketTypes[v&0xf] + formatFlags(uint32(v)&^0xf, socketFlags)
		}
	case 'S':
		if name, ok := families[v]; ok {
			return name
		}
		return strconv.FormatUint(v, 10)
	}
	if v == 0 && strings.ContainsRune("p"+inMemory, kind) {
		return "NULL"
	}
	return fmt.Sprintf("%#x", v)
}

type bitName struct {
	bits uint32
	name string
}

var (
	accessModes = [4]string{"O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"}
	// openFlags has what contains other bits first.
	openFlags = []bitName{
		{unix.O_TMPFILE, "O_TMPFILE"}, {unix.O_SYNC, "O_SYNC"}, {unix.O_CREAT, "O_CREAT"}, {unix.O_EXCL, "O_EXCL"}, {unix.O_NOCTTY, "O_NOCTTY"},
		{unix.O_TRUNC, "O_TRUNC"}, {unix.O_APPEND, "O_APPEND"}, {unix.O_NONBLOCK, "O_NONBLOCK"}, {unix.O_DSYNC, "O_DSYNC"},
		{unix.O_DIRECT, "O_DIRECT"}, {unix.O_DIRECTORY, "O_DIRECTORY"}, {unix.O_NOFOLLOW, "O_NOFOLLOW"}, {unix.O_NOATIME, "O_NOATIME"},
		{unix.O_CLOEXEC, "O_CLOEXEC"}, {unix.O_PATH, "O_PATH"},
	}
	protections = []bitName{{unix.PROT_READ, "PROT_READ"}, {unix.PROT_WRITE, "PROT_WRITE"}, {unix.PROT_EXEC, "PROT_EXEC"}}
	mapFlags    = []bitName{
		{unix.MAP_SHARED_VALIDATE, "MAP_SHARED_VALIDATE"}, {unix.MAP_SHARED, "MAP_SHARED"}, {unix.MAP_PRIVATE, "MAP_PRIVATE"},
		{unix.MAP_FIXED, "MAP_FIXED"}, {unix.MAP_ANONYMOUS, "MAP_ANONYMOUS"}, {unix.MAP_NORESERVE, "MAP_NORESERVE"},
		{unix.MAP_POPULATE, "MAP_POPULATE"}, {unix.MAP_STACK, "MAP_STACK"}, {unix.MAP_HUGETLB, "MAP_HUGETLB"},
		{unix.MAP_GROWSDOWN, "MAP_GROWSDOWN"}, {unix.MAP_FIXED_NOREPLACE, "MAP_FIXED_NOREPLACE"},
	}
	families = map[uint64]string{
		unix.AF_UNIX: "AF_UNIX", unix.AF_INET: "AF_INET", unix.AF_INET6: "AF_INET6", unix.AF_NETLINK: "AF_NETLINK", unix.AF_PACKET: "AF_PACKET",
		unix.AF_VSOCK: "AF_VSOCK", unix.AF_ALG: "AF_ALG",
	}
)

// flagsOr is formatFlags, or none when no bit is set.
func flagsOr(v uint32, names []bitName, none string) string {
	if v == 0 {
		return none
	}
	return formatFlags(v, names)
}

// formatFlags gives "|A|B|0x40": names, then what has none.
func formatFlags(v uint32, names []bitName) string {
	var out strings.Builder
	for _, n := range names {
		if v&n.bits == n.bits {
			out.WriteString("|" + n.name)
			v &^= n.bits
		}
	}
	if v != 0 {
		fmt.Fprintf(&out, "|%#x", v)
	}
	return out.String()
}

// sysRtSigreturn leaves a register of the interrupted program in the place of a result.
const sysRtSigreturn = unix.SYS_RT_SIGRETURN

// restarts are results of interrupted calls that programs never see: include/linux/errno.h.
var restarts = map[int64]string{512: "ERESTARTSYS", 513: "ERESTARTNOINTR", 514: "ERESTARTNOHAND", 516: "ERESTART_RESTARTBLOCK"}

// CallError names the error that a system call ended with, "" when it did not.
func CallError(nr int, result int64) string {
	if result >= 0 || result < -4095 || nr == sysRtSigreturn {
		return ""
	}
	if name := unix.ErrnoName(unix.Errno(-result)); name != "" {
		return name
	}
	if name := restarts[-result]; name != "" {
		return name
	}
	return "E" + strconv.FormatInt(-result, 10)
}
