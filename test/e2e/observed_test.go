package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

// observed is the part of GET /triton/v1/containers/{ref}/observed that the tests look at.
type observed struct {
	ID           string
	Name         string
	Run          int
	Running      bool
	CgroupID     uint64
	Syscalls     map[string]syscallTotals
	Execs, Exits uint64
	FatalSignals uint64
	OOMKills     uint64
	Dropped      uint64
	CPUSeconds   float64
	Waits        map[string]float64
}

type syscallTotals struct {
	Count, Errors uint64
}

func (u *under) observed(ctx context.Context, ref string) (observed, error) {
	var o observed
	err := u.api.JSON(ctx, http.MethodGet, "/triton/v1/containers/"+ref+"/observed", nil, &o)
	return o, err
}

// mustObserve fails the test when there is no observation of ref.
func (u *under) mustObserve(t *testing.T, ref string) observed {
	t.Helper()
	o, err := u.observed(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// totals is what the program's own calls must come to, by name.
type totals map[string]syscallTotals

// expected asks the syscalls program what it would do.
func expected(t *testing.T, rounds string) totals {
	t.Helper()
	out, err := exec.Command(filepath.Join(all.images.Bin, "syscalls"), "expect", rounds).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := totals{}
	for line := range strings.Lines(string(out)) {
		var name string
		var s syscallTotals
		if _, err := fmt.Sscan(line, &name, &s.Count, &s.Errors); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		want[name] = s
	}
	return want
}

// only picks the calls that want names out of what was observed.
func (o observed) only(want totals) totals {
	got := totals{}
	for name := range want {
		if s, ok := o.Syscalls[name]; ok {
			got[name] = s
		}
	}
	return got
}

func TestSyscallCountsAreExact(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	// Two at once: what one does must not be charged to the other.
	names := map[string]string{u.name(t): "100", u.name(t): "37"}
	for name, rounds := range names {
		u.ok(t, "run", "-d", "--name", name, images.Programs, "syscalls", rounds)
	}
	for name, rounds := range names {
		equal(t, "exit code", u.ok(t, "wait", name), "0")
		o := u.mustObserve(t, name)
		want := expected(t, rounds)
		if diff := cmp.Diff(want, o.only(want)); diff != "" {
			t.Errorf("%s rounds (-want +got):\n%s", rounds, diff)
		}
		if o.Dropped != 0 {
			t.Errorf("%d records dropped", o.Dropped)
		}
	}
}

func TestSyscallCountsEqualStrace(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	const rounds = "50"
	report := filepath.Join(t.TempDir(), "strace")
	cmd := exec.Command("strace", "-f", "-c", "-o", report, filepath.Join(all.images.Bin, "syscalls"), rounds)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("strace: %v\n%s", err, out)
	}
	name := u.name(t)
	u.ok(t, "run", "--name", name, images.Programs, "syscalls", rounds)
	want := expected(t, rounds)
	if diff := cmp.Diff(want, straceTotals(t, report, want)); diff != "" {
		t.Errorf("strace disagrees with the program (-program +strace):\n%s", diff)
	}
	if diff := cmp.Diff(straceTotals(t, report, want), u.mustObserve(t, name).only(want)); diff != "" {
		t.Errorf("counts (-strace +observed):\n%s", diff)
	}
}

// straceTotals reads the table of `strace -c`: % time, seconds, usecs/call, calls, errors (may be empty), syscall.
func straceTotals(t *testing.T, path string, of totals) totals {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := totals{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		name := f[len(f)-1]
		if _, ok := of[name]; !ok {
			continue
		}
		var s syscallTotals
		s.Count, err = strconv.ParseUint(f[3], 10, 64)
		if err == nil && len(f) == 6 {
			s.Errors, err = strconv.ParseUint(f[4], 10, 64)
		}
		if err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		got[name] = s
	}
	return got
}

func TestExecsAreChargedToTheirContainer(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	name := u.detached(t, images.Programs, "sleep", "1000")
	other := u.detached(t, images.Programs, "sleep", "1000")
	want := expected(t, "20")
	if got := u.mustObserve(t, name).only(want); len(got) > 0 {
		t.Fatalf("calls before the exec: %v", got)
	}
	u.ok(t, "exec", name, "syscalls", "20")
	if diff := cmp.Diff(want, u.mustObserve(t, name).only(want)); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if got := u.mustObserve(t, other).only(want); len(got) > 0 {
		t.Errorf("calls charged to another container: %v", got)
	}
}

func TestDeathsAreObserved(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	crashed := u.name(t)
	u.docker(t, "run", "--name", crashed, images.Programs, "crash")
	if o := u.mustObserve(t, crashed); o.FatalSignals != 1 || o.OOMKills != 0 || o.Running {
		t.Errorf("after SIGSEGV: %+v", o)
	}
	hungry := u.name(t)
	u.docker(t, "run", "--name", hungry, "--memory", "32m", "--memory-swap", "32m", images.Programs, "memhog", "200")
	if o := u.mustObserve(t, hungry); o.OOMKills != 1 {
		t.Errorf("after OOM: %+v", o)
	}
}

func TestMetricsShowContainers(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	running := u.detached(t, images.Programs, "lines", "0", "50", "0")
	metrics := engine.NewAPI("tcp://"+u.tritond.HTTP, 1)
	defer metrics.Close()
	series := func(name string) *regexp.Regexp {
		return regexp.MustCompile(`(?m)^` + name + `\{[^}]*name="` + running + `"[^}]*\} ([1-9]|0\.)`)
	}
	eventually(t, 30*time.Second, "/metrics shows "+running, func() bool {
		r, err := metrics.Do(t.Context(), http.MethodGet, "/metrics", "", nil)
		if err != nil || r.Status != http.StatusOK {
			t.Fatalf("/metrics: %v %d", err, r.Status)
		}
		for _, name := range []string{
			"triton_container_syscalls_total", "triton_container_syscall_duration_seconds_count",
			"triton_container_runqueue_latency_seconds_count", "container_memory_usage_bytes", "container_cpu_usage_seconds_total",
		} {
			if !series(name).Match(r.Body) {
				return false
			}
		}
		return true
	})
}

// size is everything about a daemon that must not grow with the number of runs.
type size struct {
	Goroutines, FDs, Containers, Slots int `json:",omitempty"`
	Mounts, Cgroups, Links, Processes  int
}

func (u *under) size(t *testing.T) size {
	t.Helper()
	var s size
	vars := engine.NewAPI(u.tritond.Host, 1)
	defer vars.Close()
	if err := vars.JSON(t.Context(), http.MethodGet, "/triton/v1/debug/vars", nil, &s); err != nil {
		t.Fatal(err)
	}
	d := u.tritond
	s.Mounts = len(engine.Mounts(d.Root))
	s.Cgroups = engine.CountCgroups(engine.Cgroups("triton-" + d.Instance))
	s.Links = d.Links()
	s.Processes = len(d.Shims())
	for _, pid := range d.Shims() {
		if n, err := engine.CountFDs(pid); err == nil {
			s.FDs += n
		}
	}
	return s
}

// TestThousandRunsAreAllObservedAndLeaveNothing is the proof of the first promise: 1,000 (in the short form 250) runs
// of a program that does nothing, one after the other, each with a complete record, while a bystander is charged nothing.
func TestThousandRunsAreAllObservedAndLeaveNothing(t *testing.T) {
	u := own(t)
	runs, warm := 250, 20
	if all.long {
		runs = 1000
	}
	bystander := u.detached(t, images.Busybox, "sleep", "100000")
	ids := make(map[string]bool, runs)
	for range warm {
		runTrue(t, u)
	}
	before, quiet := u.size(t), u.mustObserve(t, bystander)
	for range runs {
		o := runTrue(t, u)
		if ids[o.ID] {
			t.Fatalf("two runs have the id %s", o.ID)
		}
		ids[o.ID] = true
	}
	loud := u.mustObserve(t, bystander)
	quiet.Waits, loud.Waits = nil, nil // it sleeps on
	if diff := cmp.Diff(quiet, loud); diff != "" {
		t.Errorf("the bystander was charged (-before +after):\n%s", diff)
	}
	var after size
	grown := func() bool {
		after = u.size(t)
		// The pools of shims and namespaces refill in the background: a few may be missing or under way.
		return after.FDs > before.FDs+12 || after.Goroutines > before.Goroutines+8 || after.Slots > before.Slots ||
			after.Containers > before.Containers || after.Mounts > before.Mounts+4 || after.Cgroups > before.Cgroups ||
			after.Links > before.Links+2 || after.Processes > before.Processes+1
	}
	if !within(10*time.Second, func() bool { return !grown() }) {
		t.Errorf("grown by %d runs: before %+v, after %+v", runs, before, after)
	}
	if len(ids) != runs {
		t.Errorf("%d records of %d runs", len(ids), runs)
	}
	// So many writes take the store past its snapshots: it must open again after a kill, too.
	pid := u.pid(t, bystander)
	u.kill(t)
	u.restart(t)
	if now := u.pid(t, bystander); now != pid {
		t.Errorf("the bystander had pid %d, now %d", pid, now)
	}
}

// runTrue runs /true by the API, removes it and returns its record, which outlives the container.
func runTrue(t *testing.T, u *under) observed {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTime)
	defer cancel()
	id, code, err := u.api.RunOnce(ctx, map[string]any{"Image": images.True})
	if err == nil {
		err = u.api.Remove(ctx, id)
	}
	if err != nil || code != 0 {
		t.Fatalf("run: exit code %d, %v", code, err)
	}
	o, err := u.observed(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	// All that /true does, and nothing that was done to start it.
	want := observed{
		ID: id, Run: 1, Execs: 1, Exits: max(o.Exits, 1), // exits of the processes that set it up may be among them
		Syscalls: map[string]syscallTotals{"execve": {Count: 1}, "exit_group": {Count: 1}},
	}
	got := o
	got.Name, got.CgroupID, got.CPUSeconds = "", 0, 0
	got.Waits = nil // how long even this program waits, for a lock or a page, is the machine's business
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("record of %s (-want +got):\n%s", id, diff)
	}
	return o
}
