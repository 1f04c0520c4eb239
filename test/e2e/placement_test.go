package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tritond/triton/test/images"
)

// decision is the part of `triton explain --json` that the tests look at.
type decision struct {
	Decision struct {
		Image, Node, Basis string
		Expected           float64
		ExpectedMemory     int64
		Memory, MaxMemory  int64
		Candidates         []struct{ Crashes float64 }
	}
	Seen *struct{ Seconds, CPU float64 }
}

func (u *under) explained(t *testing.T, name string) decision {
	t.Helper()
	var d decision
	if err := json.Unmarshal([]byte(u.triton(t, "explain", "--json", name)), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// called gives the busybox image a name of the test's own, and with it a history.
func (u *under) called(t *testing.T) string {
	t.Helper()
	image := u.name(t) + ":v1"
	u.ok(t, "tag", images.Busybox, image)
	t.Cleanup(func() { u.docker(t, "rmi", image) })
	return image
}

// busy is a program that only computes, for some tenths of a second on a free processor.
const busy = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"

// next is the decision about a new container of an image.
func (u *under) next(t *testing.T, image string, flags ...string) (name string, d decision) {
	t.Helper()
	name = u.name(t)
	u.ok(t, append(append([]string{"create", "--name", name}, flags...), image, "true")...)
	return name, u.explained(t, name)
}

func TestRefusalReachesTheCommandLine(t *testing.T) {
	u := shared(t)
	tritonOnly(t)
	for _, c := range []struct {
		pattern string
		flags   []string
	}{
		{`Error response from daemon: no suitable node \(1 node: memory [0-9.]+ TiB short\)\n`, []string{"--memory-reservation", "2t"}},
		{`no suitable node \(1 node: cpu [0-9.]+ cores more than the node has\)`, []string{"--label", "triton.cpu.min=4000"}},
		{`no suitable node \(1 node: label zone=nowhere\)`, []string{"-e", "constraint:zone==nowhere"}},
		{`no suitable node \(1 node: label zone=nowhere\)`, []string{"--label", `com.docker.swarm.constraints=["zone==nowhere"]`}},
		{`no suitable node \(1 node: affinity:container==nosuch\)`, []string{"-e", "affinity:container==nosuch"}},
		{`label triton.cpu.min="many": must be a number of cores`, []string{"--label", "triton.cpu.min=many"}},
		{`constraint "constraint:zone": no operator`, []string{"-e", "constraint:zone"}},
	} {
		name := u.name(t)
		u.fails(t, anyFailure, c.pattern, append(append([]string{"create", "--name", name}, c.flags...), images.Busybox, "true")...)
		u.fails(t, anyFailure, "(?i)no such", "inspect", name)
	}
	// A limit is no promise, and what nobody promised is shared out.
	_, d := u.next(t, images.Busybox, "-m", "2t", "--memory-reservation", "16m")
	if d.Decision.MaxMemory != 2<<40 || d.Decision.Memory != 16<<20 || d.Decision.Node == "" {
		t.Errorf("%+v", d)
	}
	name := u.detached(t, "--memory-reservation", "16m", images.Busybox, "sleep", "1000")
	u.fails(t, anyFailure, `Cannot update container .*no suitable node \(1 node: memory .* short\)`, "update", "--memory-reservation", "2t", name)
	equal(t, "unchanged", u.inspect(t, name, "{{.HostConfig.MemoryReservation}}"), "16777216")
	u.ok(t, "run", "--rm", "-e", "affinity:container=="+name, images.Busybox, "true")
}

func TestImageThatBurnsIsExpectedToNextTime(t *testing.T) {
	u := shared(t)
	tritonOnly(t)
	burning, sleeping := u.called(t), u.called(t)
	name := u.name(t)
	u.ok(t, "run", "--name", name, burning, "sh", "-c", busy)
	o := u.mustObserve(t, name)
	started, err := time.Parse(time.RFC3339Nano, u.inspect(t, name, "{{.State.StartedAt}}"))
	if err != nil {
		t.Fatal(err)
	}
	finished, err := time.Parse(time.RFC3339Nano, u.inspect(t, name, "{{.State.FinishedAt}}"))
	if err != nil {
		t.Fatal(err)
	}
	used := o.CPUSeconds / finished.Sub(started).Seconds()
	u.ok(t, "run", "--rm", sleeping, "sleep", "1")

	again, d := u.next(t, burning)
	_, idle := u.next(t, sleeping)
	if d.Decision.Basis != "history of the image" || d.Decision.Expected < used/2 || d.Decision.Expected > 2*used {
		t.Errorf("it used %.2f cores, of the next %.2f are expected by %s", used, d.Decision.Expected, d.Decision.Basis)
	}
	if idle.Decision.Basis != "history of the image" || idle.Decision.Expected > d.Decision.Expected/2 {
		t.Errorf("of one that sleeps %.2f cores are expected by %s, of one that computes %.2f", idle.Decision.Expected, idle.Decision.Basis, d.Decision.Expected)
	}
	text := u.triton(t, "explain", again)
	matches(t, "text", text, `(?m)^container [0-9a-f]{12} of image `+burning+` is promised nothing\n`+
		`expected to use [0-9.]+ cores now and [0-9.]+ [KMG]iB, by history of the image\nplaced on \S+, best of 1 nodes`)
	// What one is seen to use is told as well.
	live := u.detached(t, burning, "sh", "-c", "while :; do :; done")
	eventually(t, 20*time.Second, "it is seen to compute", func() bool {
		d := u.explained(t, live)
		return d.Seen != nil && d.Seen.CPU > 0.01
	})
}

func TestCrashesAreToldNextTime(t *testing.T) {
	u := shared(t)
	tritonOnly(t)
	image := u.called(t)
	for _, program := range []string{"exit 3", "ulimit -c 0; sh -c 'kill -SEGV $$'; exit $?", "true"} {
		u.docker(t, "run", "--rm", image, "sh", "-c", program)
	}
	stopped := u.detached(t, image, "sleep", "1000") // by hand: no crash
	u.ok(t, "stop", "-t", "0", stopped)
	name, d := u.next(t, image, "--memory-reservation", "16m")
	if n := d.Decision.Candidates[0].Crashes; n < 1.9 || n > 2 {
		t.Errorf("%.2f crashes counted, want 2", n)
	}
	matches(t, "text", u.triton(t, "explain", name), "the image crashed there 2 times of late")
}

// A daemon that is killed has told the next one of what it saw; why each container is where it is stays known.
func TestHistoryAndDecisionsSurviveAKill(t *testing.T) {
	t.Parallel()
	u := own(t)
	image := u.called(t)
	u.fails(t, 3, "", "run", "--rm", image, "sh", "-c", busy+"; exit 3")
	name, before := u.next(t, image)
	history := filepath.Join(u.tritond.DataRoot, "placement", "history.json")
	eventually(t, 30*time.Second, "the history is on disk", func() bool {
		b, err := os.ReadFile(history)
		return err == nil && strings.Contains(string(b), "default|"+image)
	})
	u.kill(t)
	if err := os.WriteFile(history+".tmp", []byte(`{"format":1,`), 0o600); err != nil {
		t.Fatal(err)
	}
	u.restart(t)
	equal(t, "the decision", u.explained(t, name).Decision.Basis, before.Decision.Basis)
	equal(t, "the decision's image", u.explained(t, name).Decision.Image, image)
	_, after := u.next(t, image)
	if after.Decision.Basis != "history of the image" || after.Decision.Expected < before.Decision.Expected/2 ||
		after.Decision.Candidates[0].Crashes < 0.9 {
		t.Errorf("before the kill %+v, after it %+v", before.Decision, after.Decision)
	}
	// A container that stood still asks again.
	u.ok(t, "start", name)
	u.ok(t, "wait", name)
}

// By --promises, limits are promises too, or nothing is.
func TestPromisesAreAMatterOfSettings(t *testing.T) {
	t.Parallel()
	limits := own(t, "--promises", "limits", "--label", "zone=eu")
	limits.fails(t, anyFailure, `no suitable node \(1 node: memory .* short\)`, "create", "-m", "2t", images.Busybox, "true")
	limits.ok(t, "create", "--name", "fits", "-m", "64m", "-e", "constraint:zone==eu", images.Busybox, "true")
	matches(t, "explained", limits.triton(t, "explain", "fits"), "is promised 64 MiB, limited to 64 MiB")
	equal(t, "labels", limits.ok(t, "info", "-f", "{{json .Labels}}"), `["zone=eu"]`)
	nothing := own(t, "--promises", "none")
	nothing.ok(t, "create", "--name", "huge", "--memory-reservation", "2t", images.Busybox, "true")
	matches(t, "explained", nothing.triton(t, "explain", "huge"), "is promised nothing")
	nothing.fails(t, anyFailure, "label zone=eu", "create", "-e", "constraint:zone==eu", images.Busybox, "true")
}
