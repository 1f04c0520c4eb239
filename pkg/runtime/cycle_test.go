package runtime

import (
	"path/filepath"
	"testing"

	"github.com/tritond/triton/pkg/triton"
)

// TestKernelRunsLeaveNothing runs a container twenty times, as `docker run --rm` does, and checks that the
// process holds no more descriptors after than before.
func TestKernelRunsLeaveNothing(t *testing.T) {
	r := newRig(t)
	b := r.bundle(0, func(s *triton.Spec) { s.Cmd = []string{"true"}; s.Log.Driver = triton.LogNone }, "")
	run := func(n int) {
		b.Run = n
		task, err := r.rt.Create(r.ctx(), b)
		r.must(err)
		r.must(task.Start(r.ctx()))
		rec, err := task.Wait(r.ctx())
		if err != nil || rec.Code != 0 || rec.Run != n {
			t.Fatalf("run %d ended with %+v (%v)", n, rec, err)
		}
		r.must(task.Delete(r.ctx(), false))
	}
	run(1)
	before := descriptors(t)
	for n := 2; n <= 20; n++ {
		run(n)
	}
	r.eventually("no more descriptors than before", func() bool { return descriptors(t) <= before })
	r.eventually("no child but pool and keeper", func() bool {
		r.rt.mu.Lock()
		defer r.rt.mu.Unlock()
		return len(r.rt.children) <= defaultPool+1 && len(r.rt.own) <= defaultPool
	})
}

func descriptors(t *testing.T) int {
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
