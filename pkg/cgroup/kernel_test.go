package cgroup

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

// newGroup returns this machine's file systems and a path of the test's own, which is gone after it.
func newGroup(t *testing.T) (*FS, string) {
	t.Helper()
	fs, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4)
	rand.Read(b)
	top := "/triton-t" + hex.EncodeToString(b)
	t.Cleanup(func() {
		if err := errors.Join(fs.Kill(top), fs.Remove(top)); err != nil {
			t.Errorf("clean up: %v", err)
		}
		if left, _ := filepath.Glob("/sys/fs/cgroup/*" + top); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	return fs, top + "/c"
}

// startIn runs a shell command in the group; it is reaped at the end of the test.
func startIn(t *testing.T, fs *FS, path, script string) *exec.Cmd {
	t.Helper()
	// The shell waits for its input until it is in the group, so that all of its work is counted there.
	cmd := exec.Command("/bin/sh", "-c", "read go; "+script)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if err := fs.Join(path, cmd.Process.Pid, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// eventually waits for a condition, with a deadline.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

func TestKernelMakeIsIdempotentAndKeepsIDs(t *testing.T) {
	fs, path := newGroup(t)
	first, err := fs.Make(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := fs.Make(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(first, second); d != "" {
		t.Errorf("ids changed (-first +second):\n%s", d)
	}
	if fs.Mode() != V1 && first.V2 == 0 {
		t.Error("no cgroup2 id")
	}
	for c, ino := range first.V1 {
		var st syscall.Stat_t
		if err := syscall.Stat(fs.Dir(c, path), &st); err != nil || st.Ino != ino {
			t.Errorf("%s: id %d, directory has %d (%v)", c, ino, st.Ino, err)
		}
	}
}

func TestKernelTasksCanJoinEveryHierarchy(t *testing.T) {
	fs, path := newGroup(t)
	if _, err := fs.Make(path); err != nil {
		t.Fatal(err)
	}
	cmd := startIn(t, fs, path, "sleep 60")
	table, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "cgroup"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range strings.Split(strings.TrimSpace(string(table)), "\n") {
		if !strings.HasSuffix(l, ":"+path) {
			t.Errorf("process is elsewhere: %s", l)
		}
	}
}

func TestKernelUsageCounts(t *testing.T) {
	fs, path := newGroup(t)
	if _, err := fs.Make(path); err != nil {
		t.Fatal(err)
	}
	if dir := fs.Dir("memory", path); fs.Mode() == Hybrid {
		if err := os.WriteFile(dir+"/memory.limit_in_bytes", []byte("67108864"), 0); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(fs.Dir("pids", path)+"/pids.max", []byte("50"), 0); err != nil {
			t.Fatal(err)
		}
	}
	startIn(t, fs, path, "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exec sleep 60")
	eventually(t, "processor time", func() bool {
		u, err := fs.Usage(path)
		if err != nil {
			t.Fatal(err)
		}
		return u.CPUTotal >= 20*time.Millisecond && u.CPUUser > 0
	})
	u, more, err := fs.DetailedUsage(path)
	if err != nil {
		t.Fatal(err)
	}
	if more.Processes != 1 {
		t.Errorf("%d processes, want 1", more.Processes)
	}
	eventually(t, "page faults, which the kernel adds up every other second", func() bool {
		_, more, err := fs.DetailedUsage(path)
		return err == nil && more.PageFaults > 0
	})
	if u.Pids != 1 || u.MemoryUsage == 0 || u.MemoryWorkingSet == 0 || u.MemoryPeak < u.MemoryUsage {
		t.Errorf("implausible use: %+v", u)
	}
	if fs.Mode() == Hybrid && (u.MemoryLimit != 64<<20 || u.PidsLimit != 50) {
		t.Errorf("limits = %d bytes, %d pids, want 64 MiB, 50", u.MemoryLimit, u.PidsLimit)
	}
}

func TestKernelUsageCountsOOMKills(t *testing.T) {
	fs, path := newGroup(t)
	if _, err := fs.Make(path); err != nil {
		t.Fatal(err)
	}
	limit := "memory.max"
	if fs.Mode() == Hybrid {
		limit = "memory.limit_in_bytes"
	}
	if err := os.WriteFile(filepath.Join(fs.Dir("memory", path), limit), []byte("8388608"), 0); err != nil {
		t.Fatal(err)
	}
	// tail keeps all of its input while it waits for a line's end.
	cmd := startIn(t, fs, path, "exec tail -n1 /dev/zero")
	err := cmd.Wait()
	var ee *exec.ExitError
	if !errors.As(err, &ee) || ee.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("process ended with %v, want a kill", err)
	}
	u, err := fs.Usage(path)
	if err != nil || u.OOMKills != 1 {
		t.Errorf("oom kills = %d (%v), want 1", u.OOMKills, err)
	}
}

func TestKernelUsageOfMissingGroupIsNotFound(t *testing.T) {
	fs, path := newGroup(t)
	if _, err := fs.Usage(path); !errdefs.IsNotFound(err) {
		t.Errorf("error = %v, want not found", err)
	}
}

func TestKernelUsageAllocatesNothing(t *testing.T) {
	fs, path := newGroup(t)
	if _, err := fs.Make(path); err != nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(100, func() {
		if _, err := fs.Usage(path); err != nil {
			t.Fatal(err)
		}
	})
	if n > 0 {
		t.Errorf("%v allocations per reading, want none", n)
	}
}

func TestKernelKillReachesNestedAndFrozenProcesses(t *testing.T) {
	fs, path := newGroup(t)
	if _, err := fs.Make(path + "/inner"); err != nil {
		t.Fatal(err)
	}
	outer := startIn(t, fs, path, "sleep 60 & sleep 60 & wait")
	inner := startIn(t, fs, path+"/inner", "exec sleep 60")
	eventually(t, "forks", func() bool { pids, _ := fs.Pids(path); return len(pids) == 4 })
	if dir := fs.Dir("freezer", path); fs.Mode() == Hybrid {
		if err := os.WriteFile(dir+"/freezer.state", []byte("FROZEN"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := fs.Kill(path); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []*exec.Cmd{outer, inner} {
		err := cmd.Wait()
		var ee *exec.ExitError
		if !errors.As(err, &ee) || ee.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Errorf("process ended with %v, want a kill", err)
		}
	}
	eventually(t, "an empty group", func() bool { pids, _ := fs.Pids(path); return len(pids) == 0 })
}

func TestKernelKillWithoutCgroupKill(t *testing.T) {
	all, path := newGroup(t)
	if all.Mode() != Hybrid {
		t.Skip("needs v1 hierarchies")
	}
	if _, err := all.Make(path); err != nil {
		t.Fatal(err)
	}
	v1only := &FS{mode: V1, v1: all.v1}
	cmd := startIn(t, all, path, "while :; do /bin/true; done")
	if err := v1only.Kill(path); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	eventually(t, "an empty group", func() bool { pids, _ := all.Pids(path); return len(pids) == 0 })
}

func TestKernelRemoveTakesChildrenAndRepeats(t *testing.T) {
	fs, path := newGroup(t)
	if _, err := fs.Make(path + "/a/b"); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Make(path + "/c"); err != nil {
		t.Fatal(err)
	}
	got, err := fs.Children(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"a", "c"}, got); d != "" {
		t.Errorf("children (-want +got):\n%s", d)
	}
	for range 2 {
		if err := fs.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := fs.IDs(path); !errdefs.IsNotFound(err) {
		t.Errorf("ids after remove: %v, want not found", err)
	}
}

func TestKernelRemoveWaitsForTheKilled(t *testing.T) {
	fs, path := newGroup(t)
	if _, err := fs.Make(path); err != nil {
		t.Fatal(err)
	}
	cmd := startIn(t, fs, path, "sleep 60 & sleep 60 & wait")
	go cmd.Wait() // reap at once
	if err := errors.Join(fs.Kill(path), fs.Remove(path)); err != nil {
		t.Fatal(err)
	}
}

func TestRootIsRefused(t *testing.T) {
	fs := &FS{mode: V2, v2: t.TempDir()}
	for _, path := range []string{"", "/", "..", "/a/.."} {
		if err := fs.Kill(path); !errdefs.IsInvalidArgument(err) {
			t.Errorf("kill %q: %v, want a refusal", path, err)
		}
		if err := fs.Remove(path); !errdefs.IsInvalidArgument(err) {
			t.Errorf("remove %q: %v, want a refusal", path, err)
		}
	}
}

func BenchmarkUsage(b *testing.B) {
	fs, err := Detect()
	if err != nil {
		b.Fatal(err)
	}
	path := "/triton-tbench"
	if _, err := fs.Make(path); err != nil {
		b.Fatal(err)
	}
	defer fs.Remove(path)
	for b.Loop() {
		if _, err := fs.Usage(path); err != nil {
			b.Fatal(err)
		}
	}
}

func TestKernelQuickenMovesNobody(t *testing.T) {
	fs, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := fs.Quicken(); err != nil {
			t.Fatal(err)
		}
	}
	after, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(before), string(after)); diff != "" {
		t.Errorf("groups (-before +after):\n%s", diff)
	}
}
