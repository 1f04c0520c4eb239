package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/test/images"
)

// stays starts a program of three threads that waits, and returns its container and its pid on the host.
func (u *under) stays(t *testing.T, mib string, flags ...string) (name string, pid int) {
	t.Helper()
	name = u.name(t)
	u.ok(t, append(append([]string{"run", "-d", "--name", name}, flags...), images.Programs, "crash", "stay", mib)...)
	eventually(t, 20*time.Second, "the program is ready", func() bool { return strings.Contains(u.ok(t, "logs", name), "ready") })
	return name, u.pid(t, name)
}

func statusOf(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestSnapshotOfWhatGoesOn: gdb reads the same threads in it as the record has, whole and mini, and the process lives on.
func TestSnapshotOfWhatGoesOn(t *testing.T) {
	u := shared(t)
	tritonOnly(t)
	name, pid := u.stays(t, "4", "-e", "SECRET=hunter2hunter2")
	for _, flags := range [][]string{{}, {"-mini"}} {
		out := u.triton(t, append(append([]string{"snapshot"}, flags...), name)...)
		id, _, _ := strings.Cut(out, " ")
		matches(t, "snapshot", out, `the process stood for [0-9.]+(µs|ms|s)`)
		var r coreRecord
		if err := json.Unmarshal([]byte(u.triton(t, "cores", "show", "-json", id)), &r); err != nil {
			t.Fatal(err)
		}
		equal(t, "body", r.Body, map[bool]string{true: "mini", false: "full"}[len(flags) > 0])
		if len(r.Threads) != 3 || len(r.Missing) > 0 || r.Threads[0].Call != "pause" {
			t.Errorf("threads %+v, missing %q", r.Threads, r.Missing)
		}
		if calls := r.Threads[0].Calls; len(calls) == 0 || calls[len(calls)-1].Text != "pause()" {
			t.Errorf("the first thread's last calls are %+v, want a pause at the end", calls)
		}
		core := filepath.Join(t.TempDir(), "core")
		kind := "-mini=false"
		if len(flags) > 0 {
			kind = "-mini"
		}
		u.triton(t, "cores", "pull", kind, "-o", core, id)
		if diff := cmp.Diff(gdbPCs(t, core), r.pcs()); diff != "" {
			t.Errorf("%q: gdb and the record differ (-gdb +record):\n%s", flags, diff)
		}
		if strings.Contains(read(t, core), "hunter2hunter2") {
			t.Error("the core has the value of an environment variable")
		}
		u.triton(t, "cores", "rm", id)
	}
	matches(t, "status", statusOf(t, pid), `TracerPid:\s+0\n`)
	equal(t, "state", u.inspect(t, name, "{{.State.Status}} {{.State.Pid}}"), fmt.Sprintf("running %d", pid))
	u.ok(t, "pause", name)
	if out, err := exec.Command(filepath.Join(all.bin, "triton"), "-H", u.tritond.Host, "snapshot", name).CombinedOutput(); err == nil || !strings.Contains(string(out), "paused") {
		t.Errorf("snapshot of a paused container: %v, %s", err, out)
	}
	u.ok(t, "unpause", name)
}

// TestSnapshotSurvivesAKill: a daemon that is killed while a process stands for it leaves it running, and no half a dump.
func TestSnapshotSurvivesAKill(t *testing.T) {
	tritonOnly(t)
	u := own(t)
	name, pid := u.stays(t, "160")
	cmd := exec.Command(filepath.Join(all.bin, "triton"), "-H", u.tritond.Host, "snapshot", name)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	traced := false
	for end := time.Now().Add(20 * time.Second); !traced && time.Now().Before(end); {
		traced = !strings.Contains(statusOf(t, pid), "TracerPid:\t0\n")
	}
	u.kill(t)
	if err := cmd.Wait(); err == nil {
		t.Error("the snapshot was complete before the kill")
	}
	if !traced {
		t.Error("the process never stood")
	}
	eventually(t, 10*time.Second, "the process goes on", func() bool {
		s := statusOf(t, pid)
		return strings.Contains(s, "TracerPid:\t0\n") && strings.Contains(s, "State:\tS")
	})
	u.restart(t)
	equal(t, "state", u.inspect(t, name, "{{.State.Status}} {{.State.Pid}}"), fmt.Sprintf("running %d", pid))
	if out := u.triton(t, "cores", "ls"); strings.Contains(out, name) {
		t.Errorf("half a snapshot is listed:\n%s", out)
	}
	if left, err := filepath.Glob(filepath.Join(u.tritond.DataRoot, "cores", "*", "????????????")); err != nil || len(left) > 0 {
		t.Errorf("left on disk: %q, %v", left, err)
	}
}
