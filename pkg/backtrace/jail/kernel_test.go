package jail

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/backtrace"
)

// TestMain is also the program that the tests put into the jail: its name says what it does there.
func TestMain(m *testing.M) {
	inside, ok := strings.CutPrefix(filepath.Base(os.Args[0]), "inside-")
	if !ok {
		os.Exit(m.Run())
	}
	if err := insides[inside](); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	os.Exit(0)
}

// insides are what the programs in the jail do. What they have to say is the error.
var insides = map[string]func() error{
	"before": before, "calls": calls, "memory": tooMuchMemory, "spin": spin, "chatter": chatter, "greedy": greedy, "child": Child,
}

// put runs one of insides in the jail.
func put(ctx context.Context, t *testing.T, inside string, mem backtrace.Memory) error {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Below a folder that nobody may enter.
	dir, err := os.MkdirTemp("/tmp", "jail")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "inside-"+inside)
	in, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(out.Close(), os.Chmod(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	secret, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	_, _, err = Run(ctx, program, &backtrace.Process{}, mem, []*os.File{nil, secret})
	return err
}

type noMemory struct{}

// Load implements backtrace.Memory.
func (noMemory) Load([]byte, uint64) bool { return false }

// before tells who and where the process is before it locks itself in.
func before() error {
	if err := closeOthers(os.Args); err != nil {
		return err
	}
	var said []string
	say := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	groups, err := os.Getgroups()
	say("ids %d %d %d %d %v %v", os.Getuid(), os.Geteuid(), os.Getgid(), os.Getegid(), groups, err)
	say("environment %q", os.Environ())
	links, err := net.Interfaces()
	for _, l := range links {
		say("link %s up %t", l.Name, l.Flags&net.FlagUp != 0)
	}
	say("pid %d of parent %d, %v", os.Getpid(), os.Getppid(), err)
	var fds []string
	for fd := range 1024 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			fds = append(fds, fmt.Sprint(fd))
		}
	}
	say("descriptors %s", strings.Join(fds, " "))
	return errors.New(strings.Join(said, "\n"))
}

// TestKernelNobodyIsNowhere: the process of an analysis is nobody, alone in its namespaces, without environment, and has
// no descriptors but those that it was given.
func TestKernelNobodyIsNowhere(t *testing.T) {
	t.Setenv("SECRET", "of the daemon")
	// What the daemon has from who started it.
	inherited, err := unix.FcntlInt(0, unix.F_DUPFD, 200)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inherited)
	err = put(t.Context(), t, "before", noMemory{})
	if err == nil {
		t.Fatal("it says nothing")
	}
	for _, want := range []string{
		"ids 65534 65534 65534 65534 [] <nil>\n", "environment [\"GOTRACEBACK=none\"]\nlink lo up false\npid 1 of parent 0, <nil>\n",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %q", want, err)
		}
	}
	// The first file is nil, and the runtime opened an epoll and an event of its own, behind 0, 1, 2, memory and file.
	_, fds, _ := strings.Cut(err.Error(), "descriptors ")
	if got := strings.Fields(fds); len(got) < 5 || len(got) > 7 || !slices.Equal(got[:5], []string{"0", "1", "2", "3", "4"}) {
		t.Errorf("descriptors %q", got)
	}
}

// calls locks the process in and tries what it may not do.
func calls() error {
	if err := lock(); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	path, _ := unix.BytePtrFromString("/etc/passwd")
	buf := make([]byte, 256)
	at, name := uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(path))
	cwd := ^uintptr(unix.AT_FDCWD*-1 - 1)
	var said []string
	for _, c := range []struct {
		name       string
		nr         uintptr
		a, b, d, e uintptr
	}{
		{"open", unix.SYS_OPEN, name, 0, 0, 0}, {"openat", unix.SYS_OPENAT, cwd, name, 0, 0}, {"openat2", unix.SYS_OPENAT2, cwd, name, at, 24},
		{"creat", unix.SYS_CREAT, name, 0, 0, 0}, {"stat", unix.SYS_STAT, name, at, 0, 0}, {"readlink", unix.SYS_READLINK, name, at, 9, 0},
		{"access", unix.SYS_ACCESS, name, 0, 0, 0}, {"unlink", unix.SYS_UNLINK, name, 0, 0, 0}, {"rename", unix.SYS_RENAME, name, name, 0, 0},
		{"mkdir", unix.SYS_MKDIR, name, 0, 0, 0}, {"chdir", unix.SYS_CHDIR, name, 0, 0, 0}, {"chroot", unix.SYS_CHROOT, name, 0, 0, 0},
		{"mount", unix.SYS_MOUNT, name, name, name, 0}, {"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, 0, at, 0, 0},
		{"socket", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0, 0}, {"unix socket", unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0, 0},
		{"socketpair", unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_STREAM, 0, at}, {"connect", unix.SYS_CONNECT, memoryFD, at, 16, 0},
		{"bind", unix.SYS_BIND, memoryFD, at, 16, 0}, {"sendmsg", unix.SYS_SENDMSG, memoryFD, at, 0, 0}, {"recvmsg", unix.SYS_RECVMSG, memoryFD, at, 0, 0},
		{"execve", unix.SYS_EXECVE, name, 0, 0, 0}, {"execveat", unix.SYS_EXECVEAT, cwd, name, 0, 0}, {"fork", unix.SYS_FORK, 0, 0, 0, 0},
		{"vfork", unix.SYS_VFORK, 0, 0, 0, 0}, {"clone", unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0}, {"clone3", unix.SYS_CLONE3, at, 88, 0, 0},
		{"unshare", unix.SYS_UNSHARE, unix.CLONE_NEWUSER, 0, 0, 0}, {"setns", unix.SYS_SETNS, memoryFD, 0, 0, 0},
		{"kill", unix.SYS_KILL, 1, 0, 0, 0}, {"kill all", unix.SYS_KILL, ^uintptr(0), 0, 0, 0}, {"pidfd_open", unix.SYS_PIDFD_OPEN, 1, 0, 0, 0},
		{"rt_sigqueueinfo", unix.SYS_RT_SIGQUEUEINFO, 1, 0, at, 0}, {"ptrace", unix.SYS_PTRACE, unix.PTRACE_TRACEME, 0, 0, 0},
		{"process_vm_readv", unix.SYS_PROCESS_VM_READV, 1, at, 1, at}, {"setuid", unix.SYS_SETUID, 0, 0, 0, 0}, {"setresuid", unix.SYS_SETRESUID, 0, 0, 0, 0},
		{"prctl", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1, 0, 0}, {"prlimit64", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_CPU, 0, at},
		{"setrlimit", unix.SYS_SETRLIMIT, unix.RLIMIT_AS, at, 0, 0}, {"seccomp", unix.SYS_SECCOMP, 0, 0, 0, 0}, {"bpf", unix.SYS_BPF, 0, at, 8, 0},
		{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, at, 0, 0, ^uintptr(0)}, {"userfaultfd", unix.SYS_USERFAULTFD, 0, 0, 0, 0},
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, 1, at, 0, 0}, {"ioctl", unix.SYS_IOCTL, 0, unix.TIOCSTI, at, 0}, {"keyctl", unix.SYS_KEYCTL, 0, 0, 0, 0},
		{"memfd_create", unix.SYS_MEMFD_CREATE, name, 0, 0, 0}, {"ftruncate", unix.SYS_FTRUNCATE, 4, 0, 0, 0}, {"fchmod", unix.SYS_FCHMOD, 4, 0o777, 0, 0},
		{"pwrite64", unix.SYS_PWRITE64, 4, at, 1, 0}, {"inotify_init", unix.SYS_INOTIFY_INIT, 0, 0, 0, 0}, {"shmget", unix.SYS_SHMGET, 1, 4096, 0o1666, 0},
		{"times", unix.SYS_TIMES, at, 0, 0, 0}, {"no such call", 100000, 0, 0, 0, 0},
	} {
		_, _, errno := unix.RawSyscall6(c.nr, c.a, c.b, c.d, c.e, 0, 0)
		if errno != unix.EPERM {
			said = append(said, fmt.Sprintf("%s gives %d (%s)", c.name, int(errno), errno.Error()))
		}
	}
	// What it is there for still goes.
	if n, err := unix.Pread(filesFD, buf, 0); n < 1 || err != nil {
		said = append(said, fmt.Sprintf("the file that it was given: %d, %v", n, err))
	}
	grown := make([]byte, 64<<20)
	done := make(chan bool)
	go func() { grown[len(grown)-1] = 1; close(done) }()
	<-done
	return fmt.Errorf("tried: %s", strings.Join(said, "; "))
}

// TestKernelFilterRefuses: what an analysis that went astray could do harm with is refused, each with EPERM: the process
// lives on to say so.
func TestKernelFilterRefuses(t *testing.T) {
	err := put(t.Context(), t, "calls", noMemory{})
	if err == nil || !strings.HasSuffix(err.Error(), "exit status 3: tried: \n") {
		t.Errorf("%v", err)
	}
}

// TestKernelFilterKnowsItsABI: system calls of 32 bits and of the ABI with short pointers, whose numbers mean others, end
// the process.
func TestKernelFilterKnowsItsABI(t *testing.T) {
	f := filter()
	if f[0].K != dataArch || f[1].K != unix.AUDIT_ARCH_X86_64 || f[2].K != unix.SECCOMP_RET_KILL_PROCESS || f[4].K != x32 || f[5].K != unix.SECCOMP_RET_KILL_PROCESS {
		t.Errorf("the filter begins with %+v", f[:6])
	}
}

// tooMuchMemory takes address space until there is no more.
func tooMuchMemory() error {
	if err := lock(); err != nil {
		return err
	}
	for n := 0; n < 16; n++ {
		if _, err := unix.Mmap(-1, 0, 1<<30, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE); err != nil {
			return fmt.Errorf("after %d GiB: %w", n, err)
		}
	}
	return errors.New("no end")
}

// spin counts for ever, with a second of processor time.
func spin() error {
	if err := lockFor(time.Second); err != nil {
		return err
	}
	for n := 0; ; n++ {
	}
}

// chatter answers without end.
func chatter() error {
	block := make([]byte, 1<<20)
	for {
		if _, err := os.Stdout.Write(block); err != nil {
			return err
		}
	}
}

// greedy asks for more memory at once than is given.
func greedy() error {
	conn := os.NewFile(memoryFD, "memory")
	q := make([]byte, requestSize)
	q[15] = 0x7f
	if _, err := conn.Write(q); err != nil {
		return err
	}
	_, err := conn.Read(q)
	return fmt.Errorf("answered: %w", err)
}

// TestKernelLimitsAct: address space and processor time are bounded from within, the whole from without.
func TestKernelLimitsAct(t *testing.T) {
	if err := put(t.Context(), t, "memory", noMemory{}); err == nil || !strings.Contains(err.Error(), "cannot allocate memory") {
		t.Errorf("address space without end: %v", err)
	}
	began := time.Now()
	if err := put(t.Context(), t, "spin", noMemory{}); err == nil || !strings.Contains(err.Error(), "the analysis ended: signal: ") {
		t.Errorf("processor time without end: %v", err)
	}
	if took := time.Since(began); took > MaxTime {
		t.Errorf("a second of processor time took %s", took)
	}
	if err := put(t.Context(), t, "greedy", noMemory{}); err == nil || !strings.Contains(err.Error(), "asked for") {
		t.Errorf("memory without end: %v", err)
	}
}

// TestKernelTimeIsUp: what takes too long is killed with all that waits for it, and nothing is left of it.
func TestKernelTimeIsUp(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := put(ctx, t, "chatter", noMemory{}); err == nil || !strings.Contains(err.Error(), "took longer") {
		t.Errorf("an answer without end: %v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s to end it", took)
	}
}

// TestKernelChildAnswers: the real child reads its job behind the filter, and asks for memory that is not there.
func TestKernelChildAnswers(t *testing.T) {
	asked := make(chan uint64, 64)
	err := put(t.Context(), t, "child", memoryFunc(func(_ []byte, addr uint64) bool {
		select {
		case asked <- addr:
		default:
		}
		return false
	}))
	if err != nil {
		t.Error(err)
	}
}

type memoryFunc func(b []byte, addr uint64) bool

// Load implements backtrace.Memory.
func (f memoryFunc) Load(b []byte, addr uint64) bool { return f(b, addr) }
