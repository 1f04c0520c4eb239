package probes

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// startOn is start of a process that never has another CPU. One that is put there later may have waited elsewhere, and the kernel
// counts it as waiting, too, if it sleeps and has not left its run queue yet (since Linux 6.12).
func startOn(t *testing.T, cpu int, cg cgroup, argv ...string) *process {
	t.Helper()
	runtime.LockOSThread() // children have its CPUs
	defer runtime.UnlockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.SchedSetaffinity(0, &before); err != nil {
			t.Error(err)
		}
	}()
	return start(t, cg, argv...)
}

// schedstat is how long the first thread of a process, which may be a zombie, ran and waited.
func (p *process) schedstat(t *testing.T) (ran, waited time.Duration) {
	t.Helper()
	f := strings.Fields(readFile(t, fmt.Sprintf("/proc/%d/schedstat", p.cmd.Process.Pid)))
	return time.Duration(parse(t, f[0])), time.Duration(parse(t, f[1]))
}

// waitsOf has the waits of a victim by kind of culprit, and by container.
func waitsOf(t *testing.T, p *Probes, victim triton.ContainerKey) (map[triton.Culprit]time.Duration, map[triton.ContainerKey]time.Duration) {
	t.Helper()
	all, err := p.Delays()
	if err != nil {
		t.Fatal(err)
	}
	kinds, containers := map[triton.Culprit]time.Duration{}, map[triton.ContainerKey]time.Duration{}
	for _, d := range all[victim] {
		kinds[d.Culprit] += d.Wait
		if d.Culprit == triton.CulpritContainer {
			containers[d.Container] += d.Wait
		}
	}
	return kinds, containers
}

// One victim and one culprit share a CPU, an innocent has another one. The victim never sleeps, so whenever the culprit
// runs the victim waits for it: what it is charged is the culprit's own CPU time, of which the kernel's schedstat is the
// witness. They may differ by a tenth: the run queue's clock has the time of interrupts in it, which schedstat has not, and
// the culprit ran a little before the victim began. The row's sum is the victim's run_delay, to the nanosecond.
func TestKernelDelaysNameTheCulprit(t *testing.T) {
	for _, level := range []Level{Detail, Counters} {
		t.Run(string(level), func(t *testing.T) {
			p := open(t, Config{Level: level})
			begin := func(cpu int, calls string) (triton.ContainerKey, *process) {
				key, cg := watch(t, p)
				proc := startOn(t, cpu, cg, actorBinary(t), "gate", actorBinary(t), "churn", calls)
				proc.paused(t)
				return key, proc
			}
			victimKey, victim := begin(0, "2000000000")
			culpritKey, culprit := begin(0, "1500000")
			innocentKey, innocent := begin(1, "1500000")
			victim.release(t)
			innocent.release(t)
			culprit.release(t)
			for _, proc := range []*process{culprit, innocent} {
				eventually(t, "actor ended", func() bool { return procState(proc.cmd.Process.Pid) == "Z" })
			}
			victim.cmd.Process.Kill()
			eventually(t, "victim ended", func() bool { return procState(victim.cmd.Process.Pid) == "Z" })

			ran, _ := culprit.schedstat(t)
			_, waited := victim.schedstat(t)
			kinds, containers := waitsOf(t, p, victimKey)
			if got := containers[culpritKey]; got < ran*9/10 || got > ran*11/10 {
				t.Errorf("the culprit is charged %v, it ran %v", got, ran)
			}
			if got := containers[innocentKey]; got != 0 {
				t.Errorf("the innocent is charged %v", got)
			}
			var sum time.Duration
			for _, wait := range kinds {
				sum += wait
			}
			if sum != waited {
				t.Errorf("the row has %v, the victim waited %v", sum, waited)
			}
			if got, unseen := kinds[triton.CulpritUnknown], p.UnseenSwitches(); got > waited/10+time.Duration(unseen)*10*time.Millisecond {
				t.Errorf("%v of %v are unattributed, %d switches were not seen", got, waited, unseen)
			}
			endCulprit(t, p, victimKey, culpritKey, kinds)
		})
	}
}

// limitCPU gives a control group 20 ms of each 100 ms of a CPU, and returns what puts a process under the limit: where
// version 1 has the controller, the process has to be in a group of that too.
func limitCPU(t *testing.T, cg cgroup) func(pid int) {
	t.Helper()
	put := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	if cgroup2Root() != "/sys/fs/cgroup" {
		v1 := childCgroup(t, cgroup{dir: "/sys/fs/cgroup/cpu"})
		put(filepath.Join(v1.dir, "cpu.cfs_quota_us"), "20000")
		return func(pid int) { put(filepath.Join(v1.dir, "cgroup.procs"), strconv.Itoa(pid)) }
	}
	put(filepath.Join(cgroup2Root(), "cgroup.subtree_control"), "+cpu")
	put(filepath.Join(filepath.Dir(cg.dir), "cgroup.subtree_control"), "+cpu")
	put(filepath.Join(cg.dir, "cpu.max"), "20000 100000")
	return func(int) {}
}

// idleTime is how long the first CPU had nothing to run, in the kernel's account.
func idleTime(t *testing.T) time.Duration {
	t.Helper()
	_, line, _ := strings.Cut(readFile(t, "/proc/stat"), "\ncpu0 ")
	f := strings.Fields(line)
	return time.Duration(parse(t, f[3])+parse(t, f[4])) * 10 * time.Millisecond // idle and iowait, in USER_HZ
}

// A quota holds a victim back that never sleeps, so that its CPU is idle but for what others run for moments: those are charged
// what they ran, and nobody is charged what nobody ran. The kernel's idle time is the witness; it is told in steps of 10 ms.
func TestKernelWhatNobodyRanIsNobodys(t *testing.T) {
	p := open(t, Config{Level: Counters})
	victimKey, victimGroup := watch(t, p)
	innocentKey, innocentGroup := watch(t, p)
	limit := limitCPU(t, victimGroup)
	victim := startOn(t, 0, victimGroup, actorBinary(t), "gate", actorBinary(t), "churn", "2000000000")
	innocent := startOn(t, 0, innocentGroup, actorBinary(t), "gate", actorBinary(t), "bursts", "60")
	for _, proc := range []*process{victim, innocent} {
		proc.paused(t)
	}
	limit(victim.cmd.Process.Pid)
	before := idleTime(t)
	victim.release(t)
	innocent.release(t)
	eventually(t, "innocent ended", func() bool { return procState(innocent.cmd.Process.Pid) == "Z" })
	victim.cmd.Process.Kill()
	eventually(t, "victim ended", func() bool { return procState(victim.cmd.Process.Pid) == "Z" })
	idle := idleTime(t) - before

	ran, _ := innocent.schedstat(t)
	_, waited := victim.schedstat(t)
	kinds, containers := waitsOf(t, p, victimKey)
	t.Logf("waited %v, idle %v, by the innocent, which ran %v, %v, all %v", waited, idle, ran, containers[innocentKey], kinds)
	if got := containers[innocentKey]; got == 0 || got > ran*11/10 {
		t.Errorf("the innocent is charged %v, it ran %v", got, ran)
	}
	const step = 30 * time.Millisecond
	if nobody := kinds[triton.CulpritIdle]; nobody > idle*11/10+step || nobody+kinds[triton.CulpritUnknown] < idle*9/10-step {
		t.Errorf("nobody is charged %v, and %v are unattributed, the CPU was idle for %v", nobody, kinds[triton.CulpritUnknown], idle)
	}
	if waited < 200*time.Millisecond {
		t.Errorf("the quota held the victim back for %v, too short to tell", waited)
	}
}

// endCulprit: what a culprit did stays when it has ended, under another name.
func endCulprit(t *testing.T, p *Probes, victim, culprit triton.ContainerKey, before map[triton.Culprit]time.Duration) {
	t.Helper()
	if _, err := p.Unwatch(culprit); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"retired", "freed"} {
		kinds, containers := waitsOf(t, p, victim)
		if containers[culprit] != 0 || kinds[triton.CulpritEnded]+kinds[triton.CulpritContainer] != before[triton.CulpritContainer] {
			t.Errorf("%s: %v, before the culprit's end %v", when, kinds, before)
		}
		if err := p.reap(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Unwatch(victim); err != nil {
		t.Fatal(err)
	}
	if err := p.reap(); err != nil {
		t.Fatal(err)
	}
	if all, err := p.Delays(); err != nil || len(all[victim]) != 0 {
		t.Errorf("a container that ended has delays: %v, %v", all[victim], err)
	}
}
