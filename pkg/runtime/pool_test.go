package runtime

import (
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/cgroup"
)

func (r *rig) idleCount() int {
	r.rt.mu.Lock()
	defer r.rt.mu.Unlock()
	return len(r.rt.idle)
}

func TestKernelPoolFillsAndRefills(t *testing.T) {
	r := newRig(t)
	r.eventually("a full pool", func() bool { return r.idleCount() == defaultPool })
	first := r.rt.idle[0].pid
	p, err := r.rt.claim(r.ctx())
	r.must(err)
	if p.pid != first {
		t.Errorf("claimed %d, want the oldest, %d", p.pid, first)
	}
	r.eventually("a full pool again", func() bool { return r.idleCount() == defaultPool })
	r.must(r.rt.dismiss(r.ctx(), p))
}

func TestKernelDeadIdleShimIsReplaced(t *testing.T) {
	r := newRig(t)
	r.eventually("a full pool", func() bool { return r.idleCount() == defaultPool })
	dead := r.rt.idle[0]
	r.must(syscall.Kill(dead.pid, syscall.SIGKILL))
	p, err := r.rt.claim(r.ctx())
	r.must(err)
	if p == dead {
		t.Error("claimed the dead one")
	}
	r.must(r.rt.dismiss(r.ctx(), p))
	r.eventually("a full pool", func() bool { return r.idleCount() == defaultPool })
	r.eventually("no zombie", func() bool { return syscall.Kill(dead.pid, 0) != nil })
	for _, f := range []string{dead.socket, dead.log} {
		if _, err := os.Stat(f); !os.IsNotExist(err) {
			t.Errorf("%s: %v, want none", filepath.Base(f), err)
		}
	}
}

func TestKernelEmptyPoolStartsShimsInline(t *testing.T) {
	r := newRig(t)
	r.stop()
	r.open(-1)
	if rec, out := r.run(nil, "echo hi"); rec.Code != 0 || out != "hi\n" {
		t.Errorf("exit %d, log %q, want 0, hi", rec.Code, out)
	}
}

func TestKernelParallelClaimsAreDistinct(t *testing.T) {
	r := newRig(t)
	const n = 8
	got := make([]*process, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			p, err := r.rt.claim(r.ctx())
			if err != nil {
				t.Error(err)
				return
			}
			got[i] = p
		})
	}
	wg.Wait()
	seen := map[int]bool{}
	for _, p := range got {
		if p == nil || seen[p.pid] {
			t.Fatalf("shim claimed twice or not at all: %+v", p)
		}
		seen[p.pid] = true
		r.must(r.rt.dismiss(r.ctx(), p))
	}
}

func TestKernelShimsAreSessionsOfTheirOwn(t *testing.T) {
	r := newRig(t)
	r.eventually("a full pool", func() bool { return r.idleCount() == defaultPool })
	for _, p := range r.rt.idle {
		if sid, err := unix.Getsid(p.pid); err != nil || sid != p.pid {
			t.Errorf("shim %d is in session %d (%v), want its own", p.pid, sid, err)
		}
	}
	if r.cg.Mode() == cgroup.Hybrid {
		pids, err := r.cg.Pids(r.rt.shimGroup())
		if err != nil || len(pids) != defaultPool+1 {
			t.Errorf("%d processes in the shims' group (%v), want %d shims and the keeper", len(pids), err, defaultPool)
		}
	}
}

// What shims take of the CPUs is the instance's, and both groups have a process's weight on every CPU.
func TestKernelShimsShareTheCPUsOfTheirInstance(t *testing.T) {
	r := newRig(t)
	r.eventually("a full pool", func() bool { return r.idleCount() == defaultPool })
	file, weight := "cpu.shares", 1024*goruntime.NumCPU()
	if r.cg.Mode() == cgroup.V2 {
		file, weight = "cpu.weight", 100*goruntime.NumCPU()
	}
	for _, group := range []string{r.rt.ownGroup(), r.rt.shimGroup()} {
		text, err := os.ReadFile(filepath.Join(r.cg.Dir("cpu", group), file))
		if err != nil || strings.TrimSpace(string(text)) != strconv.Itoa(weight) {
			t.Errorf("%s has the weight %q (%v), want %d", group, text, err, weight)
		}
	}
	text, err := os.ReadFile(filepath.Join(r.cg.Dir("cpu", r.rt.shimGroup()), "cgroup.procs"))
	r.must(err)
	for _, p := range r.rt.idle {
		if !slices.Contains(strings.Fields(string(text)), strconv.Itoa(p.pid)) {
			t.Errorf("shim %d is not among %q", p.pid, text)
		}
	}
}

func TestKernelShimsAreReapedAfterDelete(t *testing.T) {
	r := newRig(t)
	b := r.bundle(0, nil, "true")
	task := r.create(b)
	pid := shimPid(task)
	r.must(task.Start(r.ctx()))
	_, err := task.Wait(r.ctx())
	r.must(err)
	r.must(task.Delete(r.ctx(), false))
	r.eventually("no shim and no zombie", func() bool { return syscall.Kill(pid, 0) != nil })
	for _, pattern := range []string{"run/shims/" + task.claim.Shim + ".*", "run/c/*"} {
		if left, _ := filepath.Glob(filepath.Join(r.dir, pattern)); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

func TestKernelKeeperIsReplacedAndOutlivesClose(t *testing.T) {
	r := newRig(t)
	b := r.bundle(0, nil, "sleep 60")
	task := r.create(b)
	r.must(task.Start(r.ctx()))
	keeper := r.rt.keeper.pid
	r.restart()
	if r.rt.keeper != nil || syscall.Kill(keeper, 0) != nil {
		t.Errorf("keeper %d was not kept while it held descriptors", keeper)
	}
	r.must(syscall.Kill(keeper, syscall.SIGKILL))
	r.eventually("another keeper", func() bool {
		k, err := r.rt.dialKeeper(r.ctx())
		if err == nil {
			k.Close()
		}
		return err == nil
	})
	found, err := r.rt.Load(r.ctx(), b.Key)
	r.must(err)
	r.must(found.Task.Delete(r.ctx(), true))
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	_, err := Open(t.Context(), Config{RunRoot: "relative", ShimPath: "/no/such/shim"})
	if err == nil {
		t.Fatal("opened")
	}
	for _, want := range []string{"instance", "not absolute", "shim program"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q: %v", want, err)
		}
	}
}
