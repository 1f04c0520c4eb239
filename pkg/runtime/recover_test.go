package runtime

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

// killShim kills the shim of a task and waits until it is gone.
func (r *rig) killShim(t *Task) int {
	r.Helper()
	pid := shimPid(t)
	r.must(syscall.Kill(pid, syscall.SIGKILL))
	r.eventually("death of the shim", func() bool { return !isShim(pid) })
	return pid
}

// isShim reports whether pid runs a program; a zombie does not.
func isShim(pid int) bool {
	b, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "cmdline"))
	return err == nil && len(b) > 0
}

// lines is a script that writes numbered lines, in bursts, until a file appears, and ends with code 7.
const lines = `i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i; [ $((i%20)) = 0 ] && sleep 0.01; done; echo end $i; exit 7`

// stopLines lets such a script end, by a file in the upper layer.
func (r *rig) stopLines(b Bundle) {
	r.Helper()
	r.must(os.WriteFile(filepath.Join("/proc", fmt.Sprint(firstPid(r, b)), "root/stop"), nil, 0o644))
}

func firstPid(r *rig, b Bundle) int {
	c, err := readClaim(filepath.Join(r.dir, "run/c", b.Key.ID))
	r.must(err)
	return c.Pid
}

// checkLines fails unless the log has every line once, in order.
func (r *rig) checkLines(b Bundle) {
	r.Helper()
	got := strings.Split(strings.TrimSpace(r.log(b)), "\n")
	for i, l := range got[:len(got)-1] {
		if l != fmt.Sprint(i+1) {
			r.Fatalf("line %d is %q", i+1, l)
		}
	}
	if want := fmt.Sprintf("end %d", len(got)-1); got[len(got)-1] != want {
		r.Errorf("last line is %q, want %q", got[len(got)-1], want)
	}
}

func TestKernelWaitSurvivesTheShim(t *testing.T) {
	r := newRig(t)
	b := r.bundle(0, nil, lines)
	task := r.create(b)
	r.must(task.Start(r.ctx()))
	type end struct {
		rec triton.ExitRecord
		err error
	}
	ends := make(chan end, 1)
	go func() {
		rec, err := task.Wait(r.ctx())
		ends <- end{rec, err}
	}()
	for range 2 {
		before := len(r.log(b))
		r.eventually("output", func() bool { return len(r.log(b)) > before+100 })
		old := r.killShim(task)
		r.eventually("adoption", func() bool { return shimPid(task) != old })
		if got := r.parents.of(shimPid(task)); got != b.CgroupID {
			t.Errorf("exit program knows %d of the new shim, want control group %d", got, b.CgroupID)
		}
		if got := r.parents.of(old); got != 0 {
			t.Errorf("exit program still knows the dead shim")
		}
	}
	pid := task.Pid()
	r.stopLines(b)
	e := <-ends
	r.must(e.err)
	if e.rec.Pid != pid || e.rec.Run != 1 {
		t.Errorf("record %+v, want pid %d run 1", e.rec, pid)
	}
	// Without the exit program in this test the kernel's word is the best source.
	if e.rec.Code != 7 || e.rec.Source == triton.ExitLost {
		t.Errorf("exit = %+v, want 7", e.rec)
	}
	r.checkLines(b)
}

func TestKernelVerbsSurviveTheShim(t *testing.T) {
	r := newRig(t)
	b := r.bundle(0, nil, "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done")
	task := r.create(b)
	r.must(task.Start(r.ctx()))
	r.eventually("the trap", func() bool { return r.log(b) != "" })
	r.killShim(task)
	r.must(task.Signal(r.ctx(), "", 0+15, false))
	rec, err := task.Wait(r.ctx())
	if err != nil || rec.Code != 9 {
		t.Errorf("exit = %+v (%v), want 9", rec, err)
	}
}

func TestKernelRestartFindsTheRunning(t *testing.T) {
	r := newRig(t)
	b := r.bundle(0, nil, lines)
	task := r.create(b)
	r.must(task.Start(r.ctx()))
	r.eventually("output", func() bool { return len(r.log(b)) > 100 })
	r.restart()
	found, err := r.rt.Load(r.ctx(), b.Key)
	r.must(err)
	r.Cleanup(func() { r.must(found.Task.Delete(r.ctx(), true)) })
	if found.Exit != nil || !found.Started || found.Run != 1 || found.StartedAt.IsZero() || found.Task.Pid() != task.Pid() ||
		found.Task.StartTime() != task.StartTime() {
		t.Fatalf("found %+v, want it running as pid %d", found, task.Pid())
	}
	r.stopLines(b)
	if rec, err := found.Task.Wait(r.ctx()); err != nil || rec.Code != 7 || rec.Source != triton.ExitByWait {
		t.Errorf("exit = %+v (%v), want 7 by wait", rec, err)
	}
	r.checkLines(b)
}

func TestKernelRestartFindsThePaused(t *testing.T) {
	r := newRig(t)
	b := r.bundle(0, nil, "sleep 60")
	task := r.create(b)
	r.must(task.Start(r.ctx()))
	r.must(task.Pause(r.ctx()))
	r.restart()
	found, err := r.rt.Load(r.ctx(), b.Key)
	r.must(err)
	if !found.Paused {
		t.Errorf("found %+v, want it paused", found)
	}
	r.must(found.Task.Delete(r.ctx(), true))
}

func TestKernelExitMeanwhileIsFound(t *testing.T) {
	r := newRig(t)
	b := r.bundle(0, nil, lines)
	task := r.create(b)
	r.must(task.Start(r.ctx()))
	r.eventually("output", func() bool { return len(r.log(b)) > 100 })
	r.stop()
	r.stopLines(b)
	r.eventually("the record", func() bool { _, ok, _ := readExit(b.DataDir, 1); return ok })
	at := time.Now()
	r.open(defaultPool)
	found, err := r.rt.Load(r.ctx(), b.Key)
	r.must(err)
	if found.Exit == nil || found.Exit.Code != 7 || found.Exit.At.After(at) || found.Task == nil {
		t.Fatalf("found %+v, want an exit with 7 before %s", found, at)
	}
	r.checkLines(b)
	r.must(found.Task.Delete(r.ctx(), true))
	// The record outlives the run-time state, as it must a reboot.
	found, err = r.rt.Load(r.ctx(), b.Key)
	if err != nil || found.Task != nil || found.Exit == nil || found.Exit.Code != 7 {
		t.Errorf("after delete: %+v (%v), want the record alone", found, err)
	}
}

// TestKernelExitWithoutShimOrDaemonIsFound: both were dead when the container ended.
func TestKernelExitWithoutShimOrDaemonIsFound(t *testing.T) {
	r := newRig(t)
	b := r.bundle(0, nil, lines)
	task := r.create(b)
	r.must(task.Start(r.ctx()))
	r.eventually("output", func() bool { return len(r.log(b)) > 100 })
	r.stop()
	r.killShim(task)
	r.stopLines(b)
	r.eventually("the end", func() bool { return !isShim(task.Pid()) })
	r.open(defaultPool)
	found, err := r.rt.Load(r.ctx(), b.Key)
	r.must(err)
	if found.Task == nil {
		t.Fatal("found no task")
	}
	r.Cleanup(func() { r.must(found.Task.Delete(r.ctx(), true)) })
	rec, err := found.Task.Wait(r.ctx())
	if err != nil || rec.Code != 7 || rec.Source == triton.ExitLost {
		t.Errorf("exit = %+v (%v), want 7", rec, err)
	}
	r.checkLines(b)
}

func TestKernelLoadAdoptsAndDeletes(t *testing.T) {
	r := newRig(t)
	b := r.bundle(0, nil, "sleep 60")
	task := r.create(b)
	r.must(task.Start(r.ctx()))
	r.stop()
	old := r.killShim(task)
	r.open(defaultPool)
	found, err := r.rt.Load(r.ctx(), b.Key)
	r.must(err)
	if found.Exit != nil || !found.Started || found.Task.Pid() != task.Pid() || shimPid(found.Task) == old {
		t.Errorf("found %+v, want it running under another shim", found)
	}
	r.must(found.Task.Delete(r.ctx(), true))
	if isShim(task.Pid()) {
		t.Error("the container lives on after delete")
	}
}

func TestKernelCrashesWithinCreate(t *testing.T) {
	for name, change := range map[string]func(*rig, *Task, string){
		"without pid": func(r *rig, task *Task, dir string) {
			c := task.claim
			c.Pid, c.StartTime = 0, 0
			r.must(c.write(dir))
		},
		"without request": func(r *rig, task *Task, dir string) {
			r.killShim(task)
			r.must(syscall.Kill(task.Pid(), syscall.SIGKILL))
			r.must(os.Remove(filepath.Join(dir, createFile)))
		},
		"without pid and shim": func(r *rig, task *Task, dir string) {
			c := task.claim
			c.Pid, c.StartTime = 0, 0
			r.must(c.write(dir))
			r.killShim(task)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			b := r.bundle(0, nil, "true")
			task := r.create(b)
			r.stop()
			change(r, task, filepath.Join(r.dir, "run/c", b.Key.ID))
			r.open(defaultPool)
			found, err := r.rt.Load(r.ctx(), b.Key)
			r.must(err)
			if found.Started {
				t.Errorf("found %+v, want a run that never started", found)
			}
			if found.Task != nil {
				r.must(found.Task.Delete(r.ctx(), true))
			}
			if isShim(task.Pid()) {
				t.Error("the first process lives on")
			}
		})
	}
}

func TestKernelClaimedShimWithoutCreateIsDismissed(t *testing.T) {
	r := newRig(t)
	p, err := r.rt.claim(r.ctx())
	r.must(err)
	key := triton.ContainerKey{Tenant: "default", ID: triton.NewID()}
	dir := r.rt.runDir(key.ID)
	r.must(os.Mkdir(dir, 0o711))
	r.must(claim{Key: key, Run: 1, Shim: p.id, ShimPid: p.pid, CgroupPath: "/triton-" + r.instance + "/" + key.ID}.write(dir))
	found, err := r.rt.Load(r.ctx(), key)
	r.must(err)
	if d := cmp.Diff(Found{}, found, cmp.AllowUnexported(Found{})); d != "" {
		t.Errorf("found (-want +got):\n%s", d)
	}
}

func TestKernelCorruptClaimIsNoLoss(t *testing.T) {
	r := newRig(t)
	b := r.bundle(0, nil, "sleep 60")
	task := r.create(b)
	r.must(task.Start(r.ctx()))
	r.must(os.WriteFile(filepath.Join(r.rt.runDir(b.Key.ID), claimFile), []byte(`{"key":`), 0o600))
	r.restart()
	found, err := r.rt.Load(r.ctx(), b.Key)
	r.must(err)
	if found.Task == nil || found.Task.Pid() != task.Pid() || r.parents.of(shimPid(found.Task)) != b.CgroupID {
		t.Fatalf("found %+v, want it running", found)
	}
	r.must(found.Task.Delete(r.ctx(), true))
}

func TestKernelLoadOfNothing(t *testing.T) {
	r := newRig(t)
	found, err := r.rt.Load(r.ctx(), triton.ContainerKey{Tenant: "default", ID: triton.NewID()})
	if err != nil || found.Task != nil || found.Exit != nil {
		t.Errorf("found %+v (%v), want nothing", found, err)
	}
}

func TestKernelOlderDaemonIsFenced(t *testing.T) {
	r := newRig(t)
	b := r.bundle(0, nil, "sleep 60")
	task := r.create(b)
	r.must(task.Start(r.ctx()))
	older := r.rt
	r.open(-1)
	found, err := r.rt.Load(r.ctx(), b.Key)
	r.must(err)
	if err := task.Signal(r.ctx(), "", 9, false); !errdefs.IsAborted(err) {
		t.Errorf("signal by the older daemon: %v, want it fenced", err)
	}
	if s, err := task.State(r.ctx()); err != nil || s.Status != triton.StatusRunning {
		t.Errorf("state = %s (%v), want running: the older daemon may look", s.Status, err)
	}
	if older == r.rt || found.Task == task {
		t.Error("one daemon was tested, not two")
	}
	r.must(found.Task.Delete(r.ctx(), true))
}

func TestKernelOrphansAreRemoved(t *testing.T) {
	r := newRig(t)
	kept, lost, shimless := r.bundle(0, nil, "sleep 60"), r.bundle(1, nil, "sleep 60"), r.bundle(2, nil, "sleep 60")
	tasks := map[string]*Task{}
	for _, b := range []Bundle{kept, lost, shimless} {
		task := r.create(b)
		r.must(task.Start(r.ctx()))
		tasks[b.Key.ID] = task
	}
	r.stop()
	r.killShim(tasks[shimless.Key.ID])
	stray := "/triton-" + r.instance + "/" + triton.NewID()
	_, err := r.cg.Make(stray)
	r.must(err)
	r.must(os.WriteFile(filepath.Join(r.dir, "run/shims/0123456789abcdef.log"), nil, 0o600))
	r.open(defaultPool)
	found, err := r.rt.Load(r.ctx(), kept.Key)
	r.must(err)
	gone, err := r.rt.Orphans(r.ctx(), func(k triton.ContainerKey) bool { return k == kept.Key })
	r.must(err)
	for _, want := range []string{"container " + lost.Key.String(), "container " + shimless.Key.String(), "shim 0123456789abcdef", "control group " + stray} {
		if !strings.Contains(strings.Join(gone, "\n"), want) {
			t.Errorf("%q is not among the removed: %q", want, gone)
		}
	}
	for id, task := range tasks {
		if got, want := isShim(task.Pid()), id == kept.Key.ID; got != want {
			t.Errorf("container %s lives: %v, want %v", id[:12], got, want)
		}
	}
	again, err := r.rt.Orphans(r.ctx(), func(k triton.ContainerKey) bool { return k == kept.Key })
	if err != nil || len(again) > 0 {
		t.Errorf("a second time removed %q (%v), want nothing", again, err)
	}
	r.must(found.Task.Delete(r.ctx(), true))
}

func TestKernelWaitEndsWithItsContext(t *testing.T) {
	r := newRig(t)
	b := r.bundle(0, nil, "sleep 60")
	task := r.create(b)
	r.must(task.Start(r.ctx()))
	ctx, cancel := context.WithCancel(context.Background())
	errs := make(chan error, 1)
	go func() {
		_, err := task.Wait(ctx)
		errs <- err
	}()
	cancel()
	if err := <-errs; err == nil {
		t.Error("wait returned no error")
	}
}
