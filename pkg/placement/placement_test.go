package placement

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/cgroup"
	"github.com/tritond/triton/pkg/sched"
	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
)

const gib = 1 << 30

// rig is a machine of 4 cores and 8 GiB whose clock and use the test decides.
type rig struct {
	*Placement
	t       *testing.T
	cfg     Config
	now     time.Time
	machine cgroup.Machine
	samples map[triton.ContainerKey]telemetry.Sample
}

func (r *rig) Last(key triton.ContainerKey) (telemetry.Sample, bool) {
	s, ok := r.samples[key]
	return s, ok
}

func (r *rig) Passed() <-chan struct{} { return nil }

func newRig(t *testing.T, change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{
		t: t, now: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC), samples: map[triton.ContainerKey]telemetry.Sample{},
		machine: cgroup.Machine{CPU: time.Hour, Online: 4, MemoryTotal: 8 * gib, MemoryAvailable: 8 * gib},
	}
	r.cfg = Config{
		Node: "here", Promises: PromiseReservations, Dir: filepath.Join(t.TempDir(), "placement"), Samples: r,
		Machine: func() (cgroup.Machine, error) { return r.machine, nil },
		Images:  func(context.Context, triton.Tenant) ([]string, error) { return []string{"nginx:1.27"}, nil },
		Now:     func() time.Time { return r.now }, Log: slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&r.cfg)
	}
	r.machine.Time = r.now
	r.reopen()
	return r
}

// reopen is a new daemon on the same directory.
func (r *rig) reopen() {
	r.t.Helper()
	p, err := New(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Placement = p
	r.second(0)
}

// second passes with the machine using so many cores, and each container of use so many.
func (r *rig) second(cores float64, use ...string) {
	r.now = r.now.Add(time.Second)
	r.machine.Time = r.now
	r.machine.Busy += time.Duration(cores * float64(time.Second))
	r.machine.CPU += 4 * time.Second
	for _, id := range use {
		k := key(id)
		s := r.samples[k]
		s.Usage.Time = r.now
		s.Usage.CPUTotal += time.Duration(cores / float64(len(use)) * float64(time.Second))
		s.Usage.MemoryWorkingSet = 64 << 20
		r.samples[k] = s
	}
	r.tick()
}

func key(id string) triton.ContainerKey {
	return triton.ContainerKey{Tenant: triton.DefaultTenant, ID: id}
}

func containerOf(id string, change ...func(*triton.Spec)) Container {
	s := &triton.Spec{Image: "web", ImageID: "sha256:web"}
	for _, c := range change {
		c(s)
	}
	return Container{Key: key(id), Name: id, Spec: s}
}

func reserve(bytes int64) func(*triton.Spec) {
	return func(s *triton.Spec) { s.Resources.MemoryReservation = bytes }
}

func cores(text string) func(*triton.Spec) {
	return func(s *triton.Spec) { s.Labels = map[string]string{minCPULabel: text} }
}

func (r *rig) place(c Container) sched.Decision {
	r.t.Helper()
	d, err := r.Place(r.t.Context(), c)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// wantRefusal fails the test unless the error is a refusal with these words.
func wantRefusal(t *testing.T, err error, words string) {
	t.Helper()
	if !errors.Is(err, errdefs.ErrResourceExhausted) || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want one line of a refusal with %q", err, words)
	}
}

func TestPromisedMemoryIsNotPromisedTwice(t *testing.T) {
	r := newRig(t)
	r.place(containerOf("a", reserve(5*gib)))
	_, err := r.Place(t.Context(), containerOf("b", reserve(5*gib)))
	wantRefusal(t, err, "no suitable node (1 node: memory 2.0 GiB short)")
	if d := r.place(containerOf("c", func(s *triton.Spec) { s.Resources.Memory = 64 * gib })); d.Node != "here" || d.MaxMemory != 64*gib {
		t.Errorf("a limit beyond the machine: %+v", d)
	}
	r.Drop(key("a"))
	r.place(containerOf("b", reserve(5*gib)))
}

func TestPromisedCoresAreNotPromisedTwice(t *testing.T) {
	r := newRig(t)
	r.place(containerOf("a", cores("3")))
	_, err := r.Place(t.Context(), containerOf("b", cores("2")))
	wantRefusal(t, err, "cpu: risk of overload")
	r.place(containerOf("c"))
	_, err = r.Place(t.Context(), containerOf("d", cores("5")))
	wantRefusal(t, err, "cpu 1.0 cores more than the node has")
}

func TestWhatIsPromisedIsAMatterOfSettings(t *testing.T) {
	limited := func(s *triton.Spec) {
		s.Resources = triton.Resources{Memory: 2 * gib, NanoCPUs: 15e8, MemoryReservation: gib}
		s.Labels = map[string]string{minCPULabel: "0.5"}
	}
	for promises, want := range map[Promises][2]float64{
		PromiseNothing: {0, 0}, PromiseReservations: {0.5, gib}, PromiseLimits: {1.5, 2 * gib},
	} {
		r := newRig(t, func(c *Config) { c.Promises = promises })
		d := r.place(containerOf("a", limited))
		if got := [2]float64{d.CPU, float64(d.Memory)}; got != want || d.MaxCPU != 1.5 || d.MaxMemory != 2*gib {
			t.Errorf("%s: promised %v, want %v; limits %v and %v", promises, got, want, d.MaxCPU, d.MaxMemory)
		}
		_, err := r.Place(t.Context(), containerOf("b", reserve(64*gib)))
		if refused := err != nil; refused != (promises != PromiseNothing) {
			t.Errorf("%s: a reservation of 64 GiB: %v", promises, err)
		}
	}
}

func TestReservationLapsesAndAStartAsksAgain(t *testing.T) {
	r := newRig(t)
	r.place(containerOf("a", reserve(5*gib)))
	if d, err := r.Admit(t.Context(), key("a")); d != nil || err != nil {
		t.Fatalf("started at once it is asked nothing: %v, %v", d, err)
	}
	r.now = r.now.Add(reservedFor)
	r.second(0)
	r.place(containerOf("b", reserve(5*gib)))
	_, err := r.Admit(t.Context(), key("a"))
	wantRefusal(t, err, "memory 2.0 GiB short")
	r.Drop(key("b"))
	if d, err := r.Admit(t.Context(), key("a")); d == nil || err != nil {
		t.Errorf("with room again: %v, %v", d, err)
	}
}

// A policy's restart keeps what was promised through the pause; an end for good gives it back.
func TestRestartingKeepsItsPromise(t *testing.T) {
	r := newRig(t)
	r.place(containerOf("a", reserve(5*gib)))
	r.Started(key("a"))
	r.Ended(key("a"), End{Again: true})
	_, err := r.Place(t.Context(), containerOf("b", reserve(5*gib)))
	wantRefusal(t, err, "memory")
	r.Started(key("a"))
	r.Ended(key("a"), End{})
	r.place(containerOf("b", reserve(5*gib)))
}

func TestUpdateThatPromisesTooMuchLeavesTheOldPromise(t *testing.T) {
	r := newRig(t)
	r.place(containerOf("a", reserve(2*gib)))
	r.Started(key("a"))
	r.place(containerOf("b", reserve(2*gib)))
	_, err := r.Change(t.Context(), containerOf("a", reserve(7*gib)))
	wantRefusal(t, err, "memory 1.0 GiB short")
	if d, err := r.Change(t.Context(), containerOf("a", reserve(4*gib))); err != nil || d == nil {
		t.Fatalf("more that fits: %v, %v", d, err)
	}
	_, err = r.Place(t.Context(), containerOf("c", reserve(3*gib)))
	wantRefusal(t, err, "memory 1.0 GiB short")
	if d, err := r.Change(t.Context(), containerOf("a", reserve(gib))); err != nil || d != nil {
		t.Fatalf("less is no decision: %v, %v", d, err)
	}
	r.place(containerOf("c", reserve(3*gib)))
}

func TestImageThatBurnsIsExpectedTo(t *testing.T) {
	r := newRig(t)
	if d := r.place(containerOf("a")); d.Basis != sched.FromNothing.String() {
		t.Errorf("expected %.2f by %s", d.Expected, d.Basis)
	}
	r.Started(key("a"))
	for range 5 {
		r.second(1.5, "a")
	}
	own, ok := r.Seen(key("a"))
	if !ok || math.Abs(own.Mean-1.5) > 0.01 || own.MemPeak != 64 {
		t.Errorf("seen %+v", own)
	}
	r.now = r.now.Add(time.Second)
	r.Ended(key("a"), End{At: r.now, Usage: &triton.Usage{CPUTotal: 9 * time.Second}})
	d := r.place(containerOf("b"))
	if d.Basis != sched.FromImage.String() || math.Abs(d.Expected-1.5) > 0.01 || d.ExpectedMemory != 64<<20 {
		t.Errorf("expected %.2f cores and %d bytes by %s, want 1.5 by its image's history", d.Expected, d.ExpectedMemory, d.Basis)
	}
	// The same content under another tenant's name is known, another content under the same name is not.
	other := Container{Key: triton.ContainerKey{Tenant: "other", ID: "c"}, Name: "c", Spec: &triton.Spec{Image: "mine", ImageID: "sha256:web"}}
	if d := r.place(other); d.Basis != sched.FromImage.String() {
		t.Errorf("same content: by %s", d.Basis)
	}
	other.Key.ID, other.Spec = "d", &triton.Spec{Image: "web", ImageID: "sha256:else"}
	if d := r.place(other); d.Basis != sched.FromNothing.String() {
		t.Errorf("another content of the same name: by %s", d.Basis)
	}
	// A new version under the tenant's old name is.
	if d := r.place(containerOf("e", func(s *triton.Spec) { s.ImageID = "sha256:new" })); d.Basis != sched.FromImage.String() {
		t.Errorf("a new version: by %s", d.Basis)
	}
}

// A run that is over before any sample is known by its last reading.
func TestShortRunIsRemembered(t *testing.T) {
	r := newRig(t)
	r.place(containerOf("a"))
	r.Started(key("a"))
	r.now = r.now.Add(200 * time.Millisecond)
	r.Ended(key("a"), End{At: r.now, Usage: &triton.Usage{CPUTotal: 100 * time.Millisecond, MemoryPeak: 32 << 20}})
	if d := r.place(containerOf("b")); math.Abs(d.Expected-0.5) > 0.01 || d.ExpectedMemory != 32<<20 {
		t.Errorf("expected %.2f cores and %d bytes, want 0.5 and 32 MiB", d.Expected, d.ExpectedMemory)
	}
}

// What an earlier daemon saw of a run is not counted again.
func TestResumedRunCountsFromItsFirstReading(t *testing.T) {
	r := newRig(t)
	r.samples[key("a")] = telemetry.Sample{Usage: triton.Usage{Time: r.now, CPUTotal: time.Hour}}
	r.Keep(containerOf("a"))
	r.Resumed(key("a"))
	r.second(0.5, "a")
	r.second(0.5, "a")
	if own, ok := r.Seen(key("a")); !ok || own.Samples != 1 || math.Abs(own.Mean-0.5) > 0.01 {
		t.Errorf("seen %+v, want 0.5 cores once", own)
	}
}

func TestCrashesAreToldAndRefuseNothing(t *testing.T) {
	r := newRig(t)
	for _, id := range []string{"a", "b", "c", "d"} {
		r.place(containerOf(id))
		r.Started(key(id))
		r.Ended(key(id), End{Crashed: true})
	}
	d := r.place(containerOf("e", reserve(gib), cores("1")))
	if len(d.Despite) != 1 || d.Candidates[0].Crashes != 4 || !strings.Contains(d.Explain(), "crashed there 4 times of late") {
		t.Errorf("%s", d.Explain())
	}
}

func TestConstraintsAreHeld(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Labels = map[string]string{"zone": "eu"} })
	r.place(containerOf("db"))
	r.Rename(key("db"), "database")
	ask := func(text string) error {
		_, err := r.Place(t.Context(), containerOf("x", func(s *triton.Spec) { s.Env = []string{"A=b", text} }))
		r.Drop(key("x"))
		return err
	}
	for _, text := range []string{"constraint:zone==eu", "constraint:node==here", "affinity:container==database", "affinity:image==nginx",
		"affinity:image==web:latest", "constraint:zone==~us"} {
		if err := ask(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"constraint:zone==us", "constraint:node!=here", "affinity:container==db2", "affinity:image==redis"} {
		wantRefusal(t, ask(text), "no suitable node")
	}
	for _, text := range []string{"constraint:zone", "constraint:zone=eu", "affinity:container==/(/", "constraint:a b==c"} {
		if err := ask(text); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"", "x", "-1", "0", "NaN", "Inf"} {
		if _, err := r.Place(t.Context(), containerOf("y", cores(text))); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s=%q: %v", minCPULabel, text, err)
		}
	}
}

// A kill at any moment leaves the last history that was saved, whole.
func TestHistoryOutlivesTheDaemon(t *testing.T) {
	r := newRig(t)
	r.place(containerOf("a"))
	r.Started(key("a"))
	r.now = r.now.Add(10 * time.Second)
	r.Ended(key("a"), End{At: r.now, Usage: &triton.Usage{CPUTotal: 10 * time.Second}, Crashed: true})
	if err := r.save(false); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(r.cfg.Dir, historyFile)
	if err := os.WriteFile(path+".tmp", []byte(`{"format":1,"hist`), 0o600); err != nil { // killed while it wrote
		t.Fatal(err)
	}
	r.reopen()
	d := r.place(containerOf("b"))
	if d.Basis != sched.FromImage.String() || math.Abs(d.Expected-1) > 0.01 || d.Candidates[0].Crashes < 0.99 {
		t.Errorf("after the restart: %s", d.Explain())
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.save(false); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("an unchanged history is written again: %v", err)
	}
}

func TestHistoryFadesWhileNobodyRuns(t *testing.T) {
	r := newRig(t)
	r.Keep(containerOf("a"))
	r.Started(key("a"))
	r.now = r.now.Add(time.Second)
	r.Ended(key("a"), End{At: r.now, Usage: &triton.Usage{CPUTotal: time.Second}, Crashed: true})
	if err := r.save(true); err != nil {
		t.Fatal(err)
	}
	r.now = r.now.Add(72 * time.Hour)
	r.reopen()
	if c := r.place(containerOf("b")).Candidates[0].Crashes; c < 0.45 || c > 0.55 {
		t.Errorf("after three days one crash counts %.2f, want a half", c)
	}
	r.now = r.now.Add((rememberedFor + 1) * time.Hour)
	r.reopen()
	if len(r.history.Images) != 0 {
		t.Errorf("%d images are remembered after two months", len(r.history.Images))
	}
}

func TestDamagedHistoryIsPutAside(t *testing.T) {
	for _, text := range []string{"", "{", "[]", `{"format":2,"history":{}}`, `{"format":1}`, `{"format":1,"history":{"images":{"a":null}}}`,
		`{"format":1,"history":{"images":{"a":{"profile":{"hours":-1}}}}}`} {
		r := newRig(t)
		path := filepath.Join(r.cfg.Dir, historyFile)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r.reopen()
		r.place(containerOf("a"))
		if kept, err := os.ReadFile(path + ".damaged"); err != nil || string(kept) != text {
			t.Errorf("%q: kept %q, %v", text, kept, err)
		}
	}
}

// Whatever the file says, decisions are made of numbers.
func FuzzHistory(f *testing.F) {
	f.Add([]byte(`{"format":1,"saved":"2026-11-25T00:00:00Z","margin":{"n":1.4,"ease":1},"history":{"images":{"default|web:latest":{"profile":{"mean":[1],"hours":3,"mem":{"mean":1}}}}}}`))
	f.Add([]byte(`{"format":1,"history":{"images":{"sha256:web":{"crashes":{"here":9e11},"profile":{"runs":1,"hours":1e-9,"days":[0,1e9],"peak":1e12}}}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := decode(b); err != nil {
			return
		}
		r := newRig(t)
		if err := os.WriteFile(filepath.Join(r.cfg.Dir, historyFile), b, 0o600); err != nil {
			t.Fatal(err)
		}
		r.reopen()
		d := r.place(containerOf("a"))
		if math.IsNaN(d.Expected) || math.IsInf(d.Expected, 0) || d.Expected < 0 || math.IsNaN(d.Candidates[0].Cost) {
			t.Errorf("%+v", d)
		}
		if err := r.save(true); err != nil {
			t.Error(err)
		}
	})
}

func TestLimitsBoundTheCores(t *testing.T) {
	for _, c := range []struct {
		r    triton.Resources
		want float64
	}{
		{triton.Resources{}, 0},
		{triton.Resources{NanoCPUs: 25e8}, 2.5},
		{triton.Resources{CPUQuota: 50_000}, 0.5},
		{triton.Resources{CPUQuota: 50_000, CPUPeriod: 25_000}, 2},
		{triton.Resources{CpusetCPUs: "0-2,5"}, 4},
		{triton.Resources{CpusetCPUs: "1", NanoCPUs: 2e9}, 1},
	} {
		if got := maxCPUs(&c.r); got != c.want {
			t.Errorf("%+v: %v cores, want %v", c.r, got, c.want)
		}
	}
}

func TestImageHasOneNameHoweverSpelled(t *testing.T) {
	got := map[string]string{}
	for _, ref := range []string{"redis", "docker.io/library/redis:latest", "localhost:5000/a/b:1", "sha256:0123", strings.Repeat("0a", 32)} {
		got[ref] = imageName(ref)
	}
	want := map[string]string{
		"redis": "redis:latest", "docker.io/library/redis:latest": "redis:latest", "localhost:5000/a/b:1": "localhost:5000/a/b:1",
		"sha256:0123": "sha256:0123", strings.Repeat("0a", 32): strings.Repeat("0a", 32),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
