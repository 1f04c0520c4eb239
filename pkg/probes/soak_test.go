package probes

import (
	"os"
	"testing"

	"github.com/tritond/triton/bpf"
	"golang.org/x/sys/unix"
)

// Many short containers one after the other, on few slots: each has a complete record of its own, and nothing grows.
func TestKernelShortContainersLeaveCompleteRecords(t *testing.T) {
	const n = 200
	p := open(t, Config{MaxContainers: 4, Linger: -1})
	run(t, p)
	actor := actorBinary(t)
	cg := newCgroup(t)
	var fds int
	for i := range n {
		key := newKey()
		if _, err := p.Watch(key, CgroupIDs{V2: cg.id}); err != nil {
			t.Fatalf("container %d: %v", i, err)
		}
		start(t, cg, actor, "churn", "1").wait(t)
		s, err := p.Unwatch(key)
		if err != nil {
			t.Fatal(err)
		}
		for nr, want := range map[int]uint64{unix.SYS_EXECVE: 1, unix.SYS_EXIT_GROUP: 1, unix.SYS_GETPPID: 1} {
			if got := s.Syscalls[nr].Count; got != want {
				t.Errorf("container %d: call %d counted %d times, want %d", i, nr, got, want)
			}
		}
		if s.Execs != 1 || s.Exits != 1 || s.FatalSignals != 0 || s.Dropped.Total() != 0 {
			t.Errorf("container %d: execs %d, exits %d, fatal %d, dropped %+v", i, s.Execs, s.Exits, s.FatalSignals, s.Dropped)
		}
		if i == n/10 {
			fds = openFiles(t)
		}
	}
	if got := openFiles(t); got > fds+2 { // one process's pipes may still be closing
		t.Errorf("%d open files after %d containers, %d after %d", got, n, fds, n/10)
	}
	eventually(t, "all slots free", func() bool {
		p.mu.RLock()
		defer p.mu.RUnlock()
		return len(p.table.free) == 4 && len(p.table.retired) == 0
	})
	var fresh uint64
	if err := p.kernel.variables[bpf.MeasureVarFreshCells].Get(&fresh); err != nil {
		t.Fatal(err)
	}
	if limit := uint64(p.kernel.maps["cells"].MaxEntries()); fresh >= limit {
		t.Errorf("all %d cells were taken fresh; none was used again", limit)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	ents, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(ents)
}
