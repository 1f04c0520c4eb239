package telemetry

import (
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func TestMemoryOfCallsIsShown(t *testing.T) {
	cwd := uint64(0xffffffffffffff9c)
	in4 := []byte{2, 0, 0x1f, 0x90, 10, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0}
	in6 := append([]byte{10, 0, 0, 53, 0, 0, 0, 0}, append(make([]byte, 15), 1, 0, 0, 0, 0)...)
	for _, c := range []struct {
		nr     int
		args   [6]uint64
		memory [2][]byte
		want   string
	}{
		{unix.SYS_OPENAT, [6]uint64{cwd, 7, 0}, [2][]byte{[]byte("/etc/\x1b[1m\x00rest")}, `openat(AT_FDCWD, "/etc/\x1b[1m", O_RDONLY, 0)`},
		{unix.SYS_OPENAT, [6]uint64{cwd, 7, 0}, [2][]byte{}, "openat(AT_FDCWD, 0x7, O_RDONLY, 0)"},
		{unix.SYS_RENAME, [6]uint64{1, 2}, [2][]byte{[]byte("a\x00"), []byte("b\x00")}, `rename("a", "b")`},
		{unix.SYS_CHDIR, [6]uint64{1}, [2][]byte{slices.Repeat([]byte("x"), readMost)}, `chdir("` + strings.Repeat("x", readMost) + `"...)`},
		{unix.SYS_CONNECT, [6]uint64{3, 9, 16}, [2][]byte{in4}, "connect(3, 10.0.0.7:8080, 16)"},
		{unix.SYS_CONNECT, [6]uint64{3, 9, 28}, [2][]byte{in6}, "connect(3, [::1]:53, 28)"},
		{unix.SYS_CONNECT, [6]uint64{3, 9, 9}, [2][]byte{[]byte("\x01\x00/run/s\x00")}, "connect(3, unix:/run/s, 9)"},
		{unix.SYS_BIND, [6]uint64{3, 9, 5}, [2][]byte{[]byte("\x01\x00\x00ab")}, "bind(3, unix:@ab, 5)"},
		{unix.SYS_CONNECT, [6]uint64{3, 9, 1}, [2][]byte{{2}}, `connect(3, "\x02", 1)`},
		{unix.SYS_WRITE, [6]uint64{1, 9, 40}, [2][]byte{slices.Repeat([]byte("y"), shownMost)}, `write(1, "` + strings.Repeat("y", shownMost) + `"..., 40)`},
		{unix.SYS_SENDTO, [6]uint64{1, 9, 2, 0, 8, 16}, [2][]byte{[]byte("hi"), in4}, `sendto(1, "hi", 2, 0x0, 10.0.0.7:8080, 16)`},
	} {
		if got := FormatTraced(c.nr, c.args, c.memory); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

// The indices and kinds are those of bpf/trace.h.
func TestCapturesNameTheArguments(t *testing.T) {
	for nr, want := range map[int]uint16{
		unix.SYS_GETPPID: 0, unix.SYS_OPENAT: 1 | 1<<3, unix.SYS_RENAME: 0 | 1<<3 | (1|1<<3)<<8, unix.SYS_CONNECT: 1 | 2<<3,
		unix.SYS_ACCEPT4: 1 | 3<<3, unix.SYS_SENDTO: 1 | 4<<3 | (4|2<<3)<<8, unix.SYS_READ: 1 | 5<<3,
	} {
		if got := Captures(nr); got != want {
			t.Errorf("%s: %#x, want %#x", SyscallName(nr), got, want)
		}
	}
}

func TestSyscallsAreNamedByPatterns(t *testing.T) {
	got, err := MatchSyscalls([]string{"open*", "stat"})
	if err != nil || !slices.Contains(got, unix.SYS_OPENAT) || !slices.Contains(got, unix.SYS_OPEN) || !slices.Contains(got, unix.SYS_STAT) || slices.Contains(got, unix.SYS_READ) {
		t.Errorf("%v, %v", got, err)
	}
	if all, err := MatchSyscalls(nil); all != nil || err != nil {
		t.Errorf("no pattern: %v, %v", all, err)
	}
	for _, wrong := range []string{"opne*", "", "[", "other"} {
		if _, err := MatchSyscalls([]string{wrong}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}
