package probes

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/probes/exitmap"
	"unsafe"
)

const (
	loaderEnv = "TRITON_TEST_LOADER" // a pin directory: the test binary is then a daemon that gets killed
	parentEnv = "TRITON_TEST_PARENT" // the pid that it registers
)

// loaderMain opens probes, registers a parent, and waits to be killed.
func loaderMain(dir string) {
	p, err := Open(context.Background(), Config{PinDir: dir, MaxContainers: 2})
	if err == nil {
		pid, _ := strconv.Atoi(os.Getenv(parentEnv))
		err = p.RegisterParent(pid, 4711)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print("r")
	select {}
}

// shimChild starts an actor that is a shim, registers it, and lets it fork; it returns the pid of the last stage.
func shimChild(t *testing.T, shim *process, register func(pid int)) int {
	t.Helper()
	shim.paused(t)
	register(shim.cmd.Process.Pid)
	shim.release(t)
	for {
		f := readFields(t, shim.out)
		if len(f) == 1 { // lines of two are stages reaped
			return f[0]
		}
	}
}

// reaped lets the last stage end, and returns the status that wait4 gave the shim.
func reaped(t *testing.T, shim *process, pid int) uint32 {
	t.Helper()
	shim.release(t)
	for {
		f := readFields(t, shim.out)
		if len(f) == 2 && f[0] == pid {
			return uint32(f[1])
		}
	}
}

func readFields(t *testing.T, r *bufio.Reader) []int {
	t.Helper()
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("read from actor: %v (after %q)", err, line)
	}
	var ns []int
	for _, f := range strings.Fields(line) {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatalf("actor said %q", line)
		}
		ns = append(ns, n)
	}
	return ns
}

func register(t *testing.T, p *Probes, cgroupID uint64) func(int) {
	return func(pid int) {
		if err := p.RegisterParent(pid, cgroupID); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever way a first process ends, the exit program has the status that its parent gets from wait4.
func TestKernelExitStatusIsWhatWaitGives(t *testing.T) {
	p := open(t, Config{})
	for mode, want := range map[string]uint32{
		"exit37":      37 << 8,
		"segv":        11,
		"term":        15,
		"thread-exit": 9 << 8,
		// Which thread's code this is depends on the kernel: the last one's since 5.16.
		"leader-first": 6 << 8,
	} {
		t.Run(mode, func(t *testing.T) {
			shim := start(t, cgroup{}, actorBinary(t), "shim", mode)
			began := time.Now()
			pid := shimChild(t, shim, register(t, p, 99))
			st, ok, err := p.Exit(pid)
			if err != nil || !ok || st.Ended || st.Stage != 2 {
				t.Fatalf("while it runs: %+v, %t, %v", st, ok, err)
			}
			waited := reaped(t, shim, pid)
			st, ok, err = p.Exit(pid)
			if err != nil || !ok {
				t.Fatalf("no record: %t, %v", ok, err)
			}
			if st.At.Before(began) || st.At.After(time.Now().Add(time.Millisecond)) {
				t.Errorf("ended at %s, between %s and now", st.At, began)
			}
			got := st
			got.At = time.Time{}
			wantSt := ExitStatus{Ended: true, WaitStatus: waited, CgroupID: 99, Parent: shim.cmd.Process.Pid, Stage: 2}
			if d := cmp.Diff(wantSt, got); d != "" {
				t.Errorf("record (-want +got):\n%s", d)
			}
			if waited&^0x80 != want {
				t.Errorf("wait status %#x, want %#x", waited, want)
			}
			if err := p.ForgetParent(shim.cmd.Process.Pid); err != nil {
				t.Fatal(err)
			}
			if n := entries(t, p.exits.exits); n != 0 {
				t.Errorf("%d entries left after the parent was forgotten", n)
			}
		})
	}
}

// entries counts what a hash map holds.
func entries(t *testing.T, m *ebpf.Map) int {
	t.Helper()
	n := 0
	var key uint32
	var val []byte
	it := m.Iterate()
	for it.Next(&key, &val) {
		n++
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

// The daemon is killed while a container runs; the container ends while no process of Triton lives; the next daemon
// finds the status, and a shim finds it without a daemon.
func TestKernelExitProgramOutlivesTheDaemon(t *testing.T) {
	dir := bpffs(t)
	shim := start(t, cgroup{}, actorBinary(t), "shim", "exit37")
	pid := shimChild(t, shim, func(parent int) { killedLoader(t, dir, parent) })
	waited := reaped(t, shim, pid)

	got, ok, err := exitmap.Lookup(ExitMapPath(dir), pid)
	if err != nil || !ok || !got.Ended || got.WaitStatus != waited || got.CgroupID != 4711 {
		t.Errorf("without a daemon: %+v, %t, %v; want status %#x", got, ok, err, waited)
	}
	p := open(t, Config{PinDir: dir, MaxExits: 77}) // another bound: the pinned map stays
	again, ok, err := p.Exit(pid)
	if err != nil || !ok || again.WaitStatus != waited {
		t.Errorf("next daemon: %+v, %t, %v", again, ok, err)
	}
	if n := p.exits.exits.MaxEntries(); n != 8192 {
		t.Errorf("exit map has room for %d, want the first daemon's 8192", n)
	}
	if err := p.ForgetExit(pid); err != nil {
		t.Fatal(err)
	}
	if _, ok, _ := p.Exit(pid); ok {
		t.Error("forgotten entry is still there")
	}
}

// killedLoader runs a daemon that registers parent and is killed.
func killedLoader(t *testing.T, dir string, parent int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), loaderEnv+"="+dir, parentEnv+"="+strconv.Itoa(parent))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make([]byte, 1)
	if _, err := out.Read(ready); err != nil {
		t.Errorf("daemon did not start: %v", err)
	}
	cmd.Process.Kill()
	cmd.Wait()
}

// Who ends a first process is known after its end, and to the next daemon too.
func TestKernelSenderOfTheLastSignalIsKept(t *testing.T) {
	dir := bpffs(t)
	shim := start(t, cgroup{}, actorBinary(t), "shim", "exit37")
	pid := shimChild(t, shim, func(parent int) { killedLoader(t, dir, parent) })
	kill := exec.Command("/bin/kill", "-KILL", strconv.Itoa(pid))
	began := time.Now().Add(-time.Millisecond)
	if err := kill.Run(); err != nil {
		t.Fatal(err)
	}
	p := open(t, Config{PinDir: dir})
	got, ok, err := p.Sender(pid)
	if err != nil || !ok {
		t.Fatalf("%t, %v", ok, err)
	}
	if got.At.Before(began) || got.At.After(time.Now().Add(time.Millisecond)) || got.CgroupID == 0 {
		t.Errorf("at %s, began %s; cgroup %d", got.At, began, got.CgroupID)
	}
	got.At, got.CgroupID = time.Time{}, 0
	if d := cmp.Diff(Sender{Signal: 9, Pid: kill.Process.Pid, UID: os.Getuid(), Comm: "kill"}, got); d != "" {
		t.Errorf("sender (-want +got):\n%s", d)
	}
	if s, ok, err := p.Sender(os.Getpid()); ok || err != nil {
		t.Errorf("of a process that is no container's: %+v, %v", s, err)
	}
}

// A container's program that clones with CLONE_PARENT makes siblings of itself; none of them takes room in the map.
func TestKernelHostileSiblingsAreNotEntered(t *testing.T) {
	p := open(t, Config{MaxExits: 8})
	shim := start(t, cgroup{}, actorBinary(t), "shim", "hostile")
	pid := shimChild(t, shim, register(t, p, 1))
	reaped(t, shim, pid)
	st, ok, err := p.Exit(pid)
	if err != nil || !ok || st.WaitStatus != 3<<8 {
		t.Errorf("the program's own status: %+v, %t, %v", st, ok, err)
	}
	if n := entries(t, p.exits.exits); n != 1 {
		t.Errorf("map holds %d entries, want only the program's", n)
	}
	if n := p.exits.count(exitsRefused); n < 50 {
		t.Errorf("refused %d siblings, want at least 50", n)
	}
	if n := p.Drops()["exits"]; n != 0 {
		t.Errorf("%d statuses lost", n)
	}
}

// A full map loses a status, and says so.
func TestKernelFullExitMapIsCounted(t *testing.T) {
	p := open(t, Config{MaxExits: 1})
	shim := start(t, cgroup{}, actorBinary(t), "shim", "exit37")
	pid := shimChild(t, shim, register(t, p, 1)) // stage 0 takes the only place
	if n := p.Drops()["exits"]; n == 0 {
		t.Error("no loss counted")
	}
	if _, ok, err := p.Exit(pid); ok || err != nil {
		t.Errorf("an entry after all: %v", err)
	}
}

// Pins of another layout are refused, not overwritten: they may hold what nobody has read yet.
func TestKernelForeignPinsAreRefused(t *testing.T) {
	dir := bpffs(t)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Pin(ExitMapPath(dir)); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), Config{PinDir: dir, MaxContainers: 1})
	if !errdefs.IsFailedPrecondition(err) {
		t.Errorf("open gave %v, want a failed precondition", err)
	}
	if _, _, err := exitmap.Lookup(ExitMapPath(dir), 1); err == nil {
		t.Error("lookup took a foreign map for an exit map")
	}
	if _, _, err := exitmap.Lookup(dir+"/none", 1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("lookup in no map gave %v", err)
	}
}

// A daemon that died between two pins is completed by the next.
func TestKernelHalfPinnedProgramIsCompleted(t *testing.T) {
	for _, lost := range []string{bpf.ExitsProgExitsFork, bpf.ExitsProgExitsExit, bpf.ExitsMapExits} {
		t.Run(lost, func(t *testing.T) {
			dir := bpffs(t)
			p := open(t, Config{PinDir: dir})
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(dir + "/" + lost); err != nil {
				t.Fatal(err)
			}
			p = open(t, Config{PinDir: dir})
			shim := start(t, cgroup{}, actorBinary(t), "shim", "exit37")
			pid := shimChild(t, shim, register(t, p, 1))
			reaped(t, shim, pid)
			if st, ok, err := p.Exit(pid); err != nil || !ok || st.WaitStatus != 37<<8 {
				t.Errorf("got %+v, %t, %v", st, ok, err)
			}
		})
	}
}

func TestExitRecordLayoutIsTheKernels(t *testing.T) {
	if got := unsafe.Sizeof(bpf.ExitsExitRecord{}); got != exitmap.RecordSize {
		t.Errorf("struct exit_record has %d bytes, exitmap reads %d", got, exitmap.RecordSize)
	}
}
