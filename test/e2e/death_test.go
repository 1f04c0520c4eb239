package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/death"
	"github.com/tritond/triton/test/images"
)

// deathOf returns the newest death record of a container.
func (u *under) deathOf(t *testing.T, name string) death.Record {
	t.Helper()
	var r death.Record
	if err := json.Unmarshal([]byte(u.triton(t, "deaths", "show", "-json", name)), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func (u *under) noDeathOf(t *testing.T, name string) {
	t.Helper()
	if out := u.triton(t, "deaths", "ls"); strings.Contains(out, name) {
		t.Errorf("%s has a death record:\n%s", name, out)
	}
}

// hostKill sends a signal from a process of its own, and returns that one's pid.
func hostKill(t *testing.T, signal string, pid int) int {
	t.Helper()
	cmd := exec.Command("/bin/kill", "-"+signal, strconv.Itoa(pid))
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// TestDeathNamesWhoSentTheSignal: inspect, the event and the record agree; the lines that it said last are there.
func TestDeathNamesWhoSentTheSignal(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	name := u.detached(t, "--memory", "64m", images.Busybox, "sh", "-c", "echo last words; sleep 1234")
	eventually(t, 30*time.Second, "it spoke", func() bool { return strings.Contains(u.ok(t, "logs", name), "last words") })
	killer := hostKill(t, "KILL", u.pid(t, name))
	equal(t, "exit code", u.ok(t, "wait", name), "137")
	r := u.deathOf(t, name)
	if r.Kind != death.KindSignal || r.Signal != "SIGKILL" || r.Sender == nil || r.Sender.Pid != killer || r.Sender.Comm != "kill" || r.Sender.Ordered {
		t.Errorf("record %+v, sender %+v, want kill, pid %d", r, r.Sender, killer)
	}
	if r.Limits.Memory != 64<<20 || r.Memory.Limit != 64<<20 || r.ImageID == "" || strings.Join(r.Log, "") != "stdout: last words" || len(r.Missing) > 0 {
		t.Errorf("limits %+v, memory %+v, log %q, missing %q", r.Limits, r.Memory, r.Log, r.Missing)
	}
	equal(t, "State.Error", u.inspect(t, name, "{{.State.Error}}"), r.Reason)
	matches(t, "events", u.past(t, 1, "--filter", "container="+name, "--filter", "event=die"),
		`signal=SIGKILL, triton.death=`+r.ID+`, triton.reason=SIGKILL from "kill"`)
	matches(t, "show", u.triton(t, "deaths", "show", name), `(?s)reason +SIGKILL from "kill".*last words`)
}

// TestDeathOfWhatDockerEndsSaysNothingInStateError: a stop is told as one; what is removed by force, or ends well, is no death.
func TestDeathOfWhatDockerEndsSaysNothingInStateError(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	name := u.detached(t, images.Busybox, "sh", "-c", `trap "exit 5" TERM; echo ready; while :; do sleep 0.1; done`)
	eventually(t, 30*time.Second, "it traps", func() bool { return strings.Contains(u.ok(t, "logs", name), "ready") })
	u.ok(t, "stop", name)
	r := u.deathOf(t, name)
	if r.Kind != death.KindExit || r.Code != 5 || r.Sender == nil || r.Sender.Signal != "SIGTERM" || !r.Sender.Ordered {
		t.Errorf("record %+v, sender %+v", r, r.Sender)
	}
	equal(t, "State.Error", u.inspect(t, name, "{{.State.Error}}"), "")

	forced, well := u.detached(t, images.Busybox, "sleep", "1234"), u.name(t)
	u.ok(t, "rm", "-f", forced)
	u.ok(t, "run", "--name", well, images.Busybox, "true")
	u.noDeathOf(t, forced)
	u.noDeathOf(t, well)
}

func TestDeathForWantOfMemoryHasTheMemory(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	name := u.name(t)
	u.fails(t, 137, "", "run", "--name", name, "--memory", "32m", "--memory-swap", "32m", images.Programs, "memhog", "200")
	r := u.deathOf(t, name)
	if r.Kind != death.KindOOM || !r.OOMKilled || r.Memory.Limit != 32<<20 || r.Memory.Peak < 24<<20 || r.Memory.Peak > 32<<20 {
		t.Errorf("kind %s, memory %+v", r.Kind, r.Memory)
	}
	equal(t, "State.Error", u.inspect(t, name, "{{.State.Error}}"), r.Reason)
}

// TestDeathForWantOfMemoryHasThePicture: what the kernel saw as it chose whom to kill, and why that one.
func TestDeathForWantOfMemoryHasThePicture(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	name := u.name(t)
	// The smaller one is chosen for its oom_score_adj; the larger one finds room then, or is too fast for that and is chosen too.
	u.docker(t, "run", "--name", name, "--memory", "64m", "--memory-swap", "64m", images.Programs, "sh", "-c",
		"memhog 20 hold & chosen=$!; echo 900 > /proc/$chosen/oom_score_adj; memhog 50 hold & wait $chosen; exit 137")
	r := u.deathOf(t, name)
	o := r.Memory.OOM
	if o == nil || o.Scope != death.OOMContainer || len(r.Memory.Victims) == 0 || len(o.Tasks) == 0 {
		t.Fatalf("memory %+v, missing %q", r.Memory, r.Missing)
	}
	if o.Source != death.OOMKernel { // the kernel logs ten a while; a machine that kills more is told of from what is left
		t.Logf("picture from %s", o.Source)
	}
	if o.Limit != 64<<20 || o.Usage < 32<<20 || o.Usage > 64<<20 || o.Stat["total_rss"]+o.Stat["anon"]+o.Stat["rss"] == 0 {
		t.Errorf("used %d of %d, stat %v", o.Usage, o.Limit, o.Stat)
	}
	victims, victim := r.Memory.Victims, o.Tasks[0]
	adj := map[int]int{1: 900, 2: 0}[len(victims)]
	if o.Source == death.OOMKernel { // else the victim may be gone
		if victim.Pid != o.Chosen || victim.Pid != victims[len(victims)-1].Pid || victim.ScoreAdj != adj || victim.Comm != "memhog" {
			t.Errorf("chosen %d of %+v, victims %+v", o.Chosen, o.Tasks, victims)
		}
		if len(o.Tasks) != 4-len(victims) || victim.RSS < 1<<20 || victim.RSS > 64<<20 || victim.Score <= o.Tasks[1].Score || adj > 0 && victim.RSS > 21<<20 {
			t.Errorf("tasks %+v", o.Tasks)
		}
	}
	matches(t, "show", u.triton(t, "deaths", "show", name), `(?s)in use +[0-9.]+ MiB of 64\.0 MiB.*memhog .*killed\n`)
}

// TestDeathByAGoPanicHasItsGoroutines: as the first process of a container it leaves no core.
func TestDeathByAGoPanicHasItsGoroutines(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	name := u.name(t)
	u.fails(t, 2, "", "run", "--rm", "--name", name, images.Busybox, "sh", "-c",
		`printf 'panic: boom\n\ngoroutine 7 [running]:\nmain.main()\n\t/src/main.go:30 +0x1d\n' >&2; exit 2`)
	r := u.deathOf(t, name) // the container is gone
	if r.Panic == nil || r.Panic.Message != "panic: boom" || len(r.Panic.Goroutines) != 1 || r.Panic.Goroutines[0].Frames[0].Func != "main.main" {
		t.Errorf("panic %+v", r.Panic)
	}
	equal(t, "reason", r.Reason, "exited with 2: panic: boom")
}

// TestDeathWhileNoDaemonLivesIsRecordedOnce: with its sender, whom the kernel's program remembers.
func TestDeathWhileNoDaemonLivesIsRecordedOnce(t *testing.T) {
	u := own(t)
	name := u.detached(t, images.Busybox, "sleep", "1234")
	pid := u.pid(t, name)
	u.kill(t)
	killer := hostKill(t, "KILL", pid)
	gone(t, pid)
	for range 2 {
		u.restart(t)
		r := u.deathOf(t, name)
		if r.Sender == nil || r.Sender.Pid != killer || r.Code != 137 {
			t.Errorf("record %+v, sender %+v, want pid %d", r, r.Sender, killer)
		}
		if n := strings.Count(u.triton(t, "deaths", "ls"), name); n != 1 {
			t.Errorf("%d records", n)
		}
		u.kill(t)
	}
	u.restart(t)
	if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); err == nil {
		t.Error("the process is still there")
	}
}
