package procfs

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func open(t *testing.T, pid int) *Dir {
	t.Helper()
	d, err := Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// The start of the stack is in the stack, and another program of the same process has another one.
func TestStackStartTellsAnExec(t *testing.T) {
	cmd := exec.Command("sh", "-c", "read x; exec cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}()
	d := open(t, cmd.Process.Pid)
	start := func() (at uint64, inStack bool) {
		stat, err := d.Read("stat")
		if err != nil {
			t.Fatal(err)
		}
		maps, err := d.Read("maps")
		if err != nil {
			t.Fatal(err)
		}
		at = StackStart(string(stat))
		for _, m := range ParseMaps(string(maps), nil) {
			inStack = inStack || m.Path == "[stack]" && m.Start <= at && at < m.End
		}
		return at, inStack
	}
	if _, err := in.Write([]byte("x\ny")); err != nil { // sh reads the first line, cat the rest
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	after, ok := start()
	if !ok {
		t.Errorf("%#x is not in the stack", after)
	}
	own, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	if self := StackStart(string(own)); self == 0 || self == after {
		t.Errorf("two programs begin their stacks at %#x and %#x", self, after)
	}
}

// A process started between the moments before and after its start, and is in this one's control group.
func TestStartAndCgroupOfAProcess(t *testing.T) {
	sinceBoot := func() time.Duration {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
			t.Fatal(err)
		}
		return time.Duration(now.Nano()).Truncate(10 * time.Millisecond)
	}
	before := sinceBoot()
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	after := sinceBoot()
	defer func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}()
	d := open(t, cmd.Process.Pid)
	stat, err := d.Read("stat")
	if err != nil {
		t.Fatal(err)
	}
	if at, ok := Started(string(stat)); !ok || at < before || at > after {
		t.Errorf("started at %s, %t; between %s and %s is meant", at, ok, before, after)
	}
	own := open(t, os.Getpid())
	if path := d.Cgroup(); path == "" || path != own.Cgroup() {
		t.Errorf("in %q, this process in %q", path, own.Cgroup())
	}
}

// A mapped file is found by its range although its name is gone, and what was never mapped is not there.
func TestMappedOpensTheFileItself(t *testing.T) {
	d := open(t, os.Getpid())
	maps, err := d.Read("maps")
	if err != nil {
		t.Fatal(err)
	}
	all := ParseMaps(string(maps), nil)
	i := 0
	for i < len(all) && all[i].Inode == "0" {
		i++
	}
	f, err := d.Mapped(all[i].Start, all[i].End)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.Stat("/proc/self/exe")
	if err != nil || !os.SameFile(got, want) {
		t.Errorf("it opened %v, want the test's own program: %v", got, err)
	}
	if _, err := d.Mapped(4096, 8192); !os.IsNotExist(err) && !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a range of nothing: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"/proc/self/maps", "/proc/self/stat"} {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add("1 (a) b) R 1")
	f.Add("1:name=systemd:/x\n0::/y\n")
	f.Add("10-0 r-xp 0 0:0 0\n0-1 r 0 0:0 0\n0-ffffffffffffffff rwxs ffffffffffffffff 08:01 12   /a b\\012\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, m := range ParseMaps(text, func(m *Mapping, key, value string) {
			if m.End <= m.Start {
				t.Errorf("%+v", m)
			}
		}) {
			if m.End <= m.Start {
				t.Errorf("%+v", m)
			}
		}
		StackStart(text)
		if at, ok := Started(text); ok && at < 0 {
			t.Errorf("started at %s", at)
		}
		if from, to, ok := Environment(text); ok && to < from {
			t.Errorf("environment from %d to %d", from, to)
		}
		if path := Cgroup(text); strings.Contains(path, "\n") {
			t.Errorf("cgroup %q", path)
		}
	})
}
