package telemetry

import (
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCallsAreShownAsCHasThem(t *testing.T) {
	cwd := uint64(0xffffffffffffff9c)
	for _, c := range []struct {
		nr   int
		args [6]uint64
		want string
	}{
		{unix.SYS_OPENAT, [6]uint64{cwd, 0x7f00, unix.O_RDWR | unix.O_CREAT | unix.O_CLOEXEC, 0o644}, "openat(AT_FDCWD, 0x7f00, O_RDWR|O_CREAT|O_CLOEXEC, 0644)"},
		{unix.SYS_OPENAT, [6]uint64{3, 0, 0, 0}, "openat(3, NULL, O_RDONLY, 0)"},
		{unix.SYS_TGKILL, [6]uint64{12, 13, 6}, "tgkill(12, 13, SIGABRT)"},
		{unix.SYS_CLOSE, [6]uint64{^uint64(0), 77}, "close(-1)"},
		{unix.SYS_MMAP, [6]uint64{0, 4096, 3, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, 0xffffffff, 0}, "mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0x0)"},
		{unix.SYS_MMAP, [6]uint64{0, 1, 0, 0x40000000, 0, 0}, "mmap(NULL, 1, PROT_NONE, 0x40000000, 0, 0x0)"},
		{unix.SYS_SOCKET, [6]uint64{unix.AF_INET6, 1, 0}, "socket(AF_INET6, SOCK_STREAM, 0)"},
		{unix.SYS_SOCKET, [6]uint64{unix.AF_INET, 2 | unix.SOCK_CLOEXEC, 17}, "socket(AF_INET, SOCK_DGRAM|SOCK_CLOEXEC, 17)"},
		{unix.SYS_SOCKET, [6]uint64{unix.AF_INET, 15, 0}, "socket(AF_INET, 0xf, 0)"},
		{unix.SYS_GETPPID, [6]uint64{9, 9}, "getppid()"},
		{unix.SYS_KEYCTL, [6]uint64{1, 2, 3, 4, 5, 6}, "keyctl(0x1, 0x2, 0x3, 0x4, 0x5, 0x6)"},
		{syscallOther, [6]uint64{}, "other(0x0, 0x0, 0x0, 0x0, 0x0, 0x0)"},
	} {
		if got := FormatCall(c.nr, c.args); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
	for result, want := range map[int64]string{0: "", 7: "", -2: "ENOENT", -4095: "E4095", -4096: "", -512: "ERESTARTSYS"} {
		if got := CallError(unix.SYS_OPENAT, result); got != want {
			t.Errorf("result %d is %q, want %q", result, got, want)
		}
	}
	if got := CallError(unix.SYS_RT_SIGRETURN, -2); got != "" {
		t.Errorf("rt_sigreturn has the error %s", got)
	}
}

// A name in the table that the kernel does not have would never be looked up.
func TestEverySignatureIsOfACall(t *testing.T) {
	known := map[string]bool{}
	for nr := range syscallNames {
		known[SyscallName(nr)] = true
	}
	for name, kinds := range signatures {
		if !known[name] {
			t.Errorf("there is no system call %s", name)
		}
		if len(kinds) > 6 || strings.Trim(kinds, "dfDpuxmorMsST"+inMemory) != "" {
			t.Errorf("%s has arguments %q", name, kinds)
		}
	}
}

func FuzzFormatCall(f *testing.F) {
	f.Add(257, []byte("\x9c\xff\xff\xff\xff\xff\xff\xff"), int64(-2))
	f.Add(-1, []byte{}, int64(-1<<63))
	f.Fuzz(func(t *testing.T, nr int, raw []byte, result int64) {
		var b [48]byte
		var args [6]uint64
		copy(b[:], raw)
		for i := range args {
			args[i] = binary.LittleEndian.Uint64(b[8*i:])
		}
		s := FormatTraced(nr, args, [2][]byte{raw[:min(len(raw), readMost)], raw[len(raw)/2:][:min(len(raw)-len(raw)/2, readMost)]})
		if len(s) > 4000 {
			t.Errorf("call %d with memory is shown as %q", nr, s)
		}
		s = FormatCall(nr, args)
		if !strings.HasPrefix(s, SyscallName(nr)+"(") || !strings.HasSuffix(s, ")") || len(s) > 1000 {
			t.Errorf("call %d is shown as %q", nr, s)
		}
		if e := CallError(nr, result); e != "" && result >= 0 {
			t.Errorf("result %d is the error %s", result, e)
		}
	})
}
