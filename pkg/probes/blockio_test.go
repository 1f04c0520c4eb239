package probes

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// blkioCgroup makes a directory in v1's blkio hierarchy; on a pure v2 host there is none, and v2 is what is charged.
func blkioCgroup(t *testing.T, pid int) map[string]uint64 {
	t.Helper()
	const root = "/sys/fs/cgroup/blkio"
	if _, err := os.Stat(root); err != nil {
		return nil
	}
	dir := filepath.Join(root, "t"+randomHex())
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, "blkio cgroup removed", func() bool { return os.Remove(dir) == nil })
	})
	if err := os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	return map[string]uint64{"blkio": st.Ino}
}

// Direct writes are charged to the container by the hierarchy that the block layer uses, and to nobody else: a
// container whose cgroup2 id equals that blkio id gets nothing.
func TestKernelBlockWritesAreChargedByTheirOwnHierarchy(t *testing.T) {
	dir, err := os.MkdirTemp(".", "blockio") // the temporary directory may be a tmpfs
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := open(t, Config{})
	cg, key, double := newCgroup(t), newKey(), newKey()
	proc := start(t, cg, actorBinary(t), "direct", filepath.Join(dir, "file"), "1024")
	proc.paused(t)
	ids := CgroupIDs{V2: cg.id, V1: blkioCgroup(t, proc.cmd.Process.Pid)}
	if _, err := p.Watch(key, ids); err != nil {
		t.Fatal(err)
	}
	if id := ids.V1["blkio"]; id != 0 && id != cg.id {
		if _, err := p.Watch(double, CgroupIDs{V2: id, V1: map[string]uint64{"blkio": 1 << 40}}); err != nil {
			t.Fatal(err)
		}
	}
	proc.release(t)
	if st := proc.wait(t); st != 0 {
		t.Fatalf("actor ended with status %#x", st)
	}
	s := snapshot(t, p, key)
	if s.BlockWriteBytes < 1<<20 || s.BlockWrites < 256 {
		t.Errorf("wrote %d bytes in %d requests, want at least 1 MiB in 256", s.BlockWriteBytes, s.BlockWrites)
	}
	if len(ids.V1) > 0 && ids.V1["blkio"] != cg.id {
		if d := snapshot(t, p, double); d.BlockWrites != 0 || d.SyscallCount() != 0 {
			t.Errorf("the container with the same id elsewhere was charged %d writes", d.BlockWrites)
		}
	}
}
