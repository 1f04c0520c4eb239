package shim

import (
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// startKeeper gives the rig a keeper and returns its process.
func (r *rig) startKeeper() *exec.Cmd {
	r.t.Helper()
	r.keeperPath = filepath.Join(r.dir, "keeper")
	r.req.Keeper = r.keeperPath
	cmd := r.daemon("keep", r.keeperPath)
	await(r.t, "keeper answers", func() error {
		k, _, err := DialKeeper(r.ctx(), r.keeperPath, Hello{})
		if err == nil {
			k.Close()
		}
		return err
	})
	return cmd
}

// adoptBy kills nothing: it has a new shim adopt the container, which becomes the rig's.
func (r *rig) adoptBy(pid ProcessReply) AdoptReply {
	r.t.Helper()
	shim, client := r.startShim(2)
	reply, err := client.Adopt(r.ctx(), AdoptRequest{Create: r.req, Pid: pid.Pid, StartTime: pid.StartTime})
	must(r.t, err)
	r.shim, r.client = shim, client
	return reply
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	must(t, cmd.Process.Kill())
	cmd.Wait()
}

// numbered returns the lines that a script printed from 1 to n.
func numbered(n int) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

func TestKernelKilledShimLosesNoLineAndNoExitCode(t *testing.T) {
	const lines = 200
	r := newRig(t, "sh", "-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do i=$((i+1)); echo line $i; usleep 2000; done; exit 37", lines))
	r.startKeeper()
	r.create()
	must(t, r.client.Start(r.ctx()))
	state, err := r.client.State(r.ctx())
	must(t, err)
	// Three shims die under the output, one after the other.
	for _, at := range []int{20, 80, 140} {
		await(t, "output flows", func() error {
			if n := strings.Count(r.logText(), "\n"); n < at {
				return fmt.Errorf("%d lines", n)
			}
			return nil
		})
		waited := make(chan error, 1)
		go func() {
			_, err := r.client.Wait(r.ctx(), "")
			waited <- err
		}()
		kill(t, r.shim)
		if err := <-waited; !errors.Is(err, ErrShimGone) {
			t.Errorf("wait on a killed shim: got %v, want ErrShimGone", err)
		}
		reply := r.adoptBy(ProcessReply{Pid: state.Pid, StartTime: state.StartTime})
		if reply.LostStdio || reply.Exit != nil {
			t.Fatalf("adopt: %+v", reply)
		}
	}
	rec := r.wait("")
	if rec.Code != 37 || rec.Source != triton.ExitByPidfd {
		t.Errorf("got code %d by %s, want 37 by pidfd", rec.Code, rec.Source)
	}
	if got := r.logText(); got != numbered(lines) {
		t.Errorf("log: got %d lines, want %d, in order", strings.Count(got, "\n"), lines)
	}
	if st, err := r.client.State(r.ctx()); err != nil || !st.Adopted {
		t.Errorf("state: %+v, %v", st, err)
	}
}

// A torrent of output makes it likely that a kill hits a shim between any two steps.
func TestKernelKilledShimLosesNothingOfATorrent(t *testing.T) {
	const last = 400000
	r := newRig(t, "sh", "-c", fmt.Sprintf("seq 1 %d; exit 3", last))
	r.startKeeper()
	r.create()
	state, err := r.client.State(r.ctx())
	must(t, err)
	must(t, r.client.Start(r.ctx()))
	for round := 0; round < 8; round++ {
		<-time.After(time.Duration(round) * 700 * time.Microsecond) // another point of the work each time
		kill(t, r.shim)
		if r.adoptBy(ProcessReply{Pid: state.Pid, StartTime: state.StartTime}).Exit != nil {
			t.Logf("ended after %d kills", round+1)
			break
		}
	}
	if rec := r.wait(""); rec.Code != 3 {
		t.Errorf("exit: %+v", rec)
	}
	var want strings.Builder
	for i := 1; i <= last; i++ {
		fmt.Fprintln(&want, i)
	}
	if got := r.logText(); got != want.String() {
		t.Errorf("log: %d lines, %d bytes; want %d lines, %d bytes", strings.Count(got, "\n"), len(got), last, want.Len())
	}
}

func TestKernelEndWhileNoShimLivesIsFoundOut(t *testing.T) {
	r := newRig(t, "sh", "-c", "read x; echo last words; exit 19")
	r.req.Stdio = Stdio{Stdin: true} // the shim's death ends stdin, and so the program
	r.startKeeper()
	r.create()
	must(t, r.client.Start(r.ctx()))
	state, err := r.client.State(r.ctx())
	must(t, err)
	kill(t, r.shim)
	pidfd, err := openPidfd(state.Pid)
	if err == nil {
		waitPidfd(pidfd)
		pidfd.Close()
	}
	reply := r.adoptBy(ProcessReply{Pid: state.Pid, StartTime: state.StartTime})
	if reply.Exit == nil || reply.Exit.Code != 19 {
		t.Errorf("adopt: %+v, want code 19", reply.Exit)
	}
	if got := r.logText(); got != "last words\n" {
		t.Errorf("log %q", got)
	}
}

func TestKernelKeeperMayDieToo(t *testing.T) {
	r := newRig(t, "sh", "-c", "i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo line $i; usleep 5000; done; exit 8")
	keeper := r.startKeeper()
	r.create()
	must(t, r.client.Start(r.ctx()))
	state, err := r.client.State(r.ctx())
	must(t, err)
	kill(t, keeper)
	r.startKeeper()
	await(t, "the shim hands over again", func() error {
		k, _, err := DialKeeper(r.ctx(), r.keeperPath, Hello{})
		if err != nil {
			return err
		}
		defer k.Close()
		held, err := k.Fetch(r.ctx(), FetchRequest{Key: r.key, Run: 1})
		for _, h := range held {
			h.File.Close()
		}
		if err == nil && len(held) != 7 {
			err = fmt.Errorf("keeper holds %d descriptors", len(held))
		}
		return err
	})
	kill(t, r.shim)
	r.adoptBy(ProcessReply{Pid: state.Pid, StartTime: state.StartTime})
	if rec := r.wait(""); rec.Code != 8 {
		t.Errorf("exit: %+v", rec)
	}
	if got := r.logText(); got != numbered(200) {
		t.Errorf("log has %d lines, want 200", strings.Count(got, "\n"))
	}
}

func TestKernelDeleteReleasesTheKeeper(t *testing.T) {
	r := newRig(t, "true")
	keeper := r.startKeeper()
	if rec := r.run(); rec.Code != 0 {
		t.Errorf("exit: %+v", rec)
	}
	k, _, err := DialKeeper(r.ctx(), r.keeperPath, Hello{})
	must(t, err)
	defer k.Close()
	if err := k.Shutdown(r.ctx()); err == nil {
		t.Error("the keeper ended while it held descriptors")
	}
	r.remove()
	must(t, k.Shutdown(r.ctx()))
	must(t, keeper.Wait())
}

func TestKernelLiveShimsContainerCannotBeAdopted(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	r.startKeeper()
	r.create()
	state, err := r.client.State(r.ctx())
	must(t, err)
	_, thief := r.startShim(2)
	var e *Error
	_, err = thief.Adopt(r.ctx(), AdoptRequest{Create: r.req, Pid: state.Pid, StartTime: state.StartTime})
	if !errors.As(err, &e) || e.Kind != KindConflict {
		t.Errorf("adopt: %v", err)
	}
	if _, err := r.client.State(r.ctx()); err != nil {
		t.Errorf("state: %v", err)
	}
}

func TestKernelSourcesOfAStrangersStatusAreBelievedInOrder(t *testing.T) {
	child := exec.Command("sh", "-c", "exit 12")
	must(t, child.Start())
	pidfd, err := openPidfd(child.Process.Pid)
	must(t, err)
	defer pidfd.Close()
	at := time.Unix(1700000000, 0)
	seen := ExitStatus{WaitStatus: 9, At: at, Ended: true}
	c := &container{logs: slog.New(slog.DiscardHandler)}
	c.req.ExitMap = "pinned"
	p := &process{pid: child.Process.Pid, pidfd: pidfd}
	for _, tc := range []struct {
		name   string
		reaped bool
		lookup ExitLookup
		want   triton.ExitRecord
	}{
		{"not reaped, not recorded", false, nil, triton.ExitRecord{}},
		{"recorded as running", false, func(string, int) (ExitStatus, bool, error) { return ExitStatus{}, true, nil }, triton.ExitRecord{}},
		{"recorded", false, func(string, int) (ExitStatus, bool, error) { return seen, true, nil },
			triton.ExitRecord{Code: 137, Signal: 9, At: at, Source: triton.ExitByBPF}},
		{"reaped", true, func(string, int) (ExitStatus, bool, error) { return ExitStatus{}, false, nil },
			triton.ExitRecord{Code: 12, Source: triton.ExitByPidfd}},
		{"reaped, the map is broken", true, func(string, int) (ExitStatus, bool, error) { return seen, false, errors.New("broken") },
			triton.ExitRecord{Code: 12, Source: triton.ExitByPidfd}},
		{"reaped and recorded", true, func(string, int) (ExitStatus, bool, error) { return seen, true, nil },
			triton.ExitRecord{Code: 137, Signal: 9, At: at, Source: triton.ExitByBPF}},
	} {
		if tc.reaped && child.ProcessState == nil {
			child.Wait()
		}
		c.lookup = tc.lookup
		var rec triton.ExitRecord
		known := c.knownStatus(p, &rec)
		if rec != tc.want || known != (tc.want.Source != "") {
			t.Errorf("%s: known %v, %+v; want %+v", tc.name, known, rec, tc.want)
		}
	}
	p.pidfd, c.lookup = nil, nil // nobody knows
	var rec triton.ExitRecord
	c.strangerStatus(p, &rec)
	if rec.Code != triton.ExitLostCode || rec.Source != triton.ExitLost {
		t.Errorf("nobody knows: %+v", rec)
	}
}
