package shim

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestKernelKillEndsDespiteStartsOfExecs kills the first process while execs enter its namespaces: a helper of theirs that
// nobody reaped would keep it from ending for ever, and each that fails would leave zombies.
func TestKernelKillEndsDespiteStartsOfExecs(t *testing.T) {
	for range 8 {
		r := newRig(t, "sleep", "1000")
		r.create()
		must(t, r.client.Start(r.ctx()))
		process, err := json.Marshal(testSpec([]string{"true"}).Process)
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		var started, wg sync.WaitGroup
		for worker := range 4 {
			started.Add(1)
			wg.Go(func() {
				first := sync.OnceFunc(started.Done)
				defer first()
				for i := 0; ctx.Err() == nil; i++ {
					id := fmt.Sprintf("%d-%d", worker, i)
					if err := r.client.Exec(ctx, ExecRequest{ID: id, Process: process}); err != nil {
						return // not running any more
					}
					_, _ = r.client.ExecStart(ctx, id) // fails when it comes too late
					first()
				}
			})
		}
		started.Wait()
		must(t, r.client.Signal(r.ctx(), SignalRequest{Signal: int(unix.SIGKILL)}))
		if rec := r.wait(""); rec.Code != 137 {
			t.Errorf("exit: %+v", rec)
		}
		wg.Wait()
		cancel()
		await(t, "no child is left", func() error {
			left, err := childrenOf(itoa(r.shim.Process.Pid))
			if err == nil && len(left) > 0 {
				err = fmt.Errorf("children %v of the shim", left)
			}
			return err
		})
	}
}

// TestKernelFailedStartLeavesNoChild: of an exec in a namespace that is not there, and of one without a program.
func TestKernelFailedStartLeavesNoChild(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	r.create()
	must(t, r.client.Start(r.ctx()))
	for i := range 3 {
		if _, _, err := r.exec(itoa(i), Stdio{}, nil, "/missing"); err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("start of a missing program: %v", err)
		}
	}
	left, err := childrenOf(itoa(r.shim.Process.Pid))
	must(t, err)
	st, err := r.client.State(r.ctx())
	must(t, err)
	if len(left) != 1 || left[0] != st.Pid {
		t.Errorf("children %v of the shim, want only %d", left, st.Pid)
	}
}
