package probes

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// A program that makes known numbers of known calls, in several threads and processes, is counted exactly: call by
// call and error by error as strace counts it, plus its exits, which strace leaves out.
func TestKernelCountsEqualStrace(t *testing.T) {
	actor := actorBinary(t)
	p := open(t, Config{})
	key, cg := watch(t, p)
	proc := start(t, cg, actor, "gate", actor, "calls")
	proc.paused(t)
	before := snapshot(t, p, key)
	proc.release(t)
	if st := proc.wait(t); st != 0 {
		t.Fatalf("actor ended with status %#x", st)
	}
	after := snapshot(t, p, key)
	got := counts(before, after)

	known := map[int][2]uint64{
		unix.SYS_GETPPID:      {5000, 0},
		unix.SYS_CLOSE:        {500, 500},
		unix.SYS_OPENAT:       {250, 250},
		unix.SYS_TGKILL:       {20, 0},
		unix.SYS_RT_SIGRETURN: {20, 0},
		unix.SYS_GETSID:       {70, 0},
		unix.SYS_CLONE:        {10, 0},
		unix.SYS_CLONE3:       {4, 0},
		unix.SYS_WAIT4:        {10, 0},
		unix.SYS_EXECVE:       {1, 0},
		unix.SYS_EXIT_GROUP:   {11, 0},
		unix.SYS_EXIT:         {4, 0},
	}
	for nr, want := range known {
		if got[nr] != want {
			t.Errorf("call %d: got %v, want %v", nr, got[nr], want)
		}
	}

	want := straceCounts(t, actor, "calls")
	want[unix.SYS_EXIT_GROUP], want[unix.SYS_EXIT] = [2]uint64{11, 0}, [2]uint64{4, 0}
	want[unix.SYS_READ] = [2]uint64{want[unix.SYS_READ][0] + 1, 0} // the gate's
	for _, racy := range []int{unix.SYS_FUTEX, unix.SYS_MADVISE} { // depend on which thread is first
		delete(got, racy)
		delete(want, racy)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("strace -c (-) and Triton (+) differ:\n%s", d)
	}
	if n := after.Dropped.Total(); n != 0 {
		t.Errorf("dropped %d", n)
	}
}

// straceCounts runs argv under strace -c and returns calls and errors by number.
func straceCounts(t *testing.T, argv ...string) map[int][2]uint64 {
	t.Helper()
	file := t.TempDir() + "/strace"
	cmd := exec.Command("strace", append([]string{"-c", "-f", "-U", "calls,errors,name", "-o", file}, argv...)...)
	cmd.Env = []string{}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("strace: %v\n%s", err, out)
	}
	numbers := syscallNumbersByName(t)
	m := map[int][2]uint64{}
	for _, line := range strings.Split(readFile(t, file), "\n") {
		f := strings.Fields(line)
		if len(f) < 2 || f[len(f)-1] == "total" {
			continue
		}
		calls, err := strconv.ParseUint(f[0], 10, 64)
		if err != nil {
			continue // a heading
		}
		var errs uint64
		if len(f) == 3 {
			errs, _ = strconv.ParseUint(f[1], 10, 64)
		}
		nr, ok := numbers[f[len(f)-1]]
		if !ok {
			t.Fatalf("no number for %q", line)
		}
		m[nr] = [2]uint64{calls, errs}
	}
	if len(m) == 0 {
		t.Fatal("strace counted nothing")
	}
	return m
}

// syscallNumbersByName asks the kernel's headers, through the compiler.
func syscallNumbersByName(t *testing.T) map[string]int {
	t.Helper()
	cmd := exec.Command("clang", "-E", "-dM", "-include", "asm/unistd.h", "-x", "c", "/dev/null")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]int{}
	for _, line := range strings.Split(string(out), "\n") {
		name, value, _ := strings.Cut(strings.TrimPrefix(line, "#define __NR_"), " ")
		if nr, err := strconv.Atoi(value); err == nil {
			m[name] = nr
		}
	}
	return m
}

// The number of durations is the number of calls that have one, in each histogram, and their sums agree.
func TestKernelHistogramsHoldEveryTimedCall(t *testing.T) {
	actor := actorBinary(t)
	p := open(t, Config{})
	key, cg := watch(t, p)
	proc := start(t, cg, actor, "calls")
	proc.wait(t)
	s := snapshot(t, p, key)
	var timed, sum uint64
	for nr, c := range s.Syscalls {
		if c.Count != c.Untimed+c.Durations.Count() {
			t.Errorf("call %d: %d calls, %d untimed, %d durations", nr, c.Count, c.Untimed, c.Durations.Count())
		}
		timed += c.Durations.Count()
		sum += c.Durations.SumNs
	}
	if got := s.Durations.Count(); got != timed {
		t.Errorf("all calls: %d durations, want %d", got, timed)
	}
	if s.Durations.SumNs != sum {
		t.Errorf("all calls: sum %d, want %d", s.Durations.SumNs, sum)
	}
	sleep := s.Syscalls[unix.SYS_CLOCK_NANOSLEEP].Durations // 3 times 1 ms
	if sleep.Count() != 3 || sleep.SumNs < 3e6 {
		t.Errorf("3 sleeps of 1 ms: %d durations, %d ns", sleep.Count(), sleep.SumNs)
	}
	for i, n := range sleep.Counts {
		if n > 0 && sleep.Bound(i) < 0.001 {
			t.Errorf("a sleep of 1 ms lies in the bucket up to %g s", sleep.Bound(i))
		}
	}
}

// A call that seccomp refuses never reaches the entry hook, and is counted with its error all the same.
func TestKernelCountsCallsThatSeccompRefuses(t *testing.T) {
	actor := actorBinary(t)
	p := open(t, Config{})
	key, cg := watch(t, p)
	start(t, cg, actor, "refused").wait(t)
	s := snapshot(t, p, key)
	got := s.Syscalls[unix.SYS_GETPGID]
	if got.Count != 100 || got.Errors != 100 || got.Untimed != 100 {
		t.Errorf("refused calls: count %d, errors %d, untimed %d, want 100 each", got.Count, got.Errors, got.Untimed)
	}
	if n := s.Syscalls[unix.SYS_GETSID].Count; n != 1 {
		t.Errorf("allowed call: counted %d, want 1", n)
	}
}

// Tasks of a cgroup below the container's are the container's; those beside it are not.
func TestKernelNestedCgroupsBelongToTheContainer(t *testing.T) {
	actor := actorBinary(t)
	p := open(t, Config{})
	key, cg := watch(t, p)
	deep := childCgroup(t, childCgroup(t, childCgroup(t, cg)))
	beside := newCgroup(t)
	start(t, deep, actor, "churn", "777").wait(t)
	start(t, beside, actor, "churn", "555").wait(t)
	start(t, cgroup{}, actor, "churn", "333").wait(t)
	if n := snapshot(t, p, key).Syscalls[unix.SYS_GETPPID].Count; n != 777 {
		t.Errorf("counted %d calls, want the nested cgroup's 777", n)
	}
}

// Whoever comes to use a slot and cells after another finds them empty, and nothing is charged across.
func TestKernelSlotsAreReusedEmpty(t *testing.T) {
	actor := actorBinary(t)
	p := open(t, Config{MaxContainers: 2, CellsPerContainer: 48})
	for i := range 12 {
		key, cg := watch(t, p)
		n := 100 + i
		start(t, cg, actor, "churn", fmt.Sprint(n)).wait(t)
		got, err := p.Unwatch(key)
		if err != nil {
			t.Fatal(err)
		}
		if c := got.Syscalls[unix.SYS_GETPPID].Count; c != uint64(n) {
			t.Errorf("container %d: counted %d calls, want %d", i, c, n)
		}
		if got.Execs != 1 || got.Exits != 1 || got.Syscalls[unix.SYS_EXIT_GROUP].Count != 1 || got.Syscalls[unix.SYS_EXECVE].Count != 1 {
			t.Errorf("container %d: record is incomplete: %+v", i, got)
		}
		if got.Dropped != (Drops{}) {
			t.Errorf("container %d: dropped %+v", i, got.Dropped)
		}
	}
	if err := p.reap(); err != nil {
		t.Fatal(err)
	}
	for i := range p.kernel.slots.vals {
		if s := p.kernel.slots.at(i); s.Execs != 0 || s.Cells != [syscallNumbers]uint32{} {
			t.Errorf("slot %d is not empty after its last use", i)
		}
	}
	for i := range p.kernel.cells.vals {
		if c := p.kernel.cells.at(i); c.SumNs != 0 || c.Untimed != 0 {
			t.Errorf("cell %d is not empty after its last use", i)
		}
	}
}

// With an empty pool calls go to the slot's shared cell, counted as such; the sum stays exact.
func TestKernelEmptyPoolIsCountedNotLost(t *testing.T) {
	actor := actorBinary(t)
	p := open(t, Config{MaxContainers: 1, CellsPerContainer: 1})
	key, cg := watch(t, p)
	start(t, cg, actor, "churn", "500").wait(t)
	s := snapshot(t, p, key)
	if s.Dropped.Cells == 0 || s.Syscalls[SyscallOther].Count != s.Dropped.Cells {
		t.Errorf("shared cell holds %d calls, dropped says %d", s.Syscalls[SyscallOther].Count, s.Dropped.Cells)
	}
	if n := s.SyscallCount(); n < 500 {
		t.Errorf("counted %d calls in all, want at least 500", n)
	}
	if d := p.Drops()["cells"]; d != s.Dropped.Cells {
		t.Errorf("drops by reason say %d, want %d", d, s.Dropped.Cells)
	}
}
