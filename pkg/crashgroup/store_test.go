package crashgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

const acme = triton.Tenant("acme")

// bench is a store with a clock that tests turn.
type bench struct {
	*Store
	t   *testing.T
	dir string
	now time.Time
	n   int
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, dir: t.TempDir(), now: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)}
	b.reopen(DefaultKeep)
	return b
}

func (b *bench) reopen(keep int) {
	b.t.Helper()
	s, damaged, err := Open(b.dir, keep, func() time.Time { return b.now })
	if err != nil || damaged != 0 {
		b.t.Fatalf("open: %d damaged, %v", damaged, err)
	}
	b.Store = s
}

// crash makes a new crash of a bug in an image.
func (b *bench) crash(bug, image string) *Crash {
	b.n++
	return &Crash{
		Dump: fmt.Sprintf("%012x", b.n), Container: triton.ContainerKey{Tenant: acme, ID: "c"}, Name: "web", Image: image, ImageID: "sha256:" + image,
		Node: "n1", At: b.now, Signal: "SIGSEGV", Comm: "web", Top: "parse (a.c:1)", Fuzzy: bug, Exact: bug, Frames: []string{"parse"},
	}
}

func (b *bench) count(c *Crash) *Group {
	b.t.Helper()
	g, err := b.Count(c)
	if err != nil {
		b.t.Fatal(err)
	}
	return g
}

const bug, other = "00000000000a", "00000000000b"

// A crash is told of again after a kill: it counts once, also for the daemon that comes after.
func TestACrashIsCountedOnce(t *testing.T) {
	b := newBench(t)
	first := b.crash(bug, "web:1")
	b.count(first)
	b.count(first)
	b.now = b.now.Add(time.Hour)
	second := b.crash(bug, "web:2")
	b.count(second)
	b.reopen(DefaultKeep)
	b.count(second)
	b.count(b.crash(other, "web:2"))
	g, err := b.Get(acme, bug[:11]+"a", false)
	if err != nil {
		t.Fatal(err)
	}
	if g.Count != 2 || !g.First.Equal(first.At) || !g.Last.Equal(second.At) || g.State != StateNew {
		t.Errorf("count %d, first %s, last %s, %s", g.Count, g.First, g.Last, g.State)
	}
	want := []Tally{
		{Name: "web:2", ID: "sha256:web:2", Count: 1, First: second.At, Last: second.At},
		{Name: "web:1", ID: "sha256:web:1", Count: 1, First: first.At, Last: first.At},
	}
	if diff := cmp.Diff(want, g.Images.Seen); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	if groups, _, err := b.List(acme, false); err != nil || len(groups) != 2 {
		t.Errorf("%d groups, %v; two bugs are two", len(groups), err)
	}
}

// The states, as the documentation has them.
func TestStatesOfAGroup(t *testing.T) {
	b := newBench(t)
	step := func(want State, g *Group) {
		t.Helper()
		if g.State != want {
			t.Errorf("%s, want %s", g.State, want)
		}
		b.reopen(DefaultKeep) // nothing of it is in memory alone
		if groups, _ := b.Counts(); groups[acme][want] != 1 {
			t.Errorf("counts %v, want one %s", groups, want)
		}
		b.now = b.now.Add(time.Minute)
	}
	resolve := func() *Group {
		g, err := b.Resolve(acme, bug, "jane", false)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	get := func() *Group {
		g, err := b.Get(acme, bug, false)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	step(StateNew, b.count(b.crash(bug, "web:1")))
	late := b.crash(bug, "web:9") // happens now, is told of when the group is resolved
	b.now = b.now.Add(NewFor)
	step(StateKnown, get())
	step(StateResolved, resolve())
	step(StateResolved, b.count(b.crash(bug, "web:1"))) // one that is still deployed
	step(StateResolved, b.count(late))
	fixed := b.crash(bug, "web:2")
	step(StateRegressed, b.count(fixed))
	step(StateRegressed, b.count(b.crash(bug, "web:3")))
	if r := get().Regressed; r == nil || r.Dump != fixed.Dump || r.ImageID != fixed.ImageID {
		t.Errorf("regressed by %+v, want the first crash of web:2", r)
	}
	step(StateResolved, resolve())
	step(StateResolved, b.count(b.crash(bug, "web:3")))
	if g := get(); g.Resolved.By != "jane" || len(g.Resolved.Images) != 4 {
		t.Errorf("resolved: %+v, want by jane with four images", g.Resolved)
	}
	g, err := b.Reopen(acme, bug, false)
	if err != nil {
		t.Fatal(err)
	}
	step(StateKnown, g)
	if g.Count != 6 {
		t.Errorf("%d crashes, want 6", g.Count)
	}
}

func TestGroupsOfOthersAreNotThere(t *testing.T) {
	b := newBench(t)
	b.count(b.crash(bug, "web:1"))
	setuid := b.crash(bug, "web:1")
	setuid.OperatorOnly = true
	hidden := b.count(setuid)
	if hidden.ID == bug || hidden.Count != 1 {
		t.Errorf("a setuid program's crash is in group %s with %d", hidden.ID, hidden.Count)
	}
	for name, err := range map[string]error{
		"other tenant":    second(b.Get("globex", bug, true)),
		"other resolves":  second(b.Resolve("globex", bug, "x", true)),
		"other reopens":   second(b.Reopen("globex", bug, true)),
		"setuid program":  second(b.Get(acme, hidden.ID, false)),
		"setuid resolved": second(b.Resolve(acme, hidden.ID, "x", false)),
		"no reference":    second(b.Get(acme, "", true)),
	} {
		if !errdefs.IsNotFound(err) {
			t.Errorf("%s: %v, want not found", name, err)
		}
	}
	if groups, _, err := b.List(acme, false); err != nil || len(groups) != 1 || groups[0].ID != bug {
		t.Errorf("the tenant sees %d groups, %v", len(groups), err)
	}
	if groups, _, err := b.List(acme, true); err != nil || len(groups) != 2 {
		t.Errorf("the operator sees %d groups, %v", len(groups), err)
	}
	if _, err := b.Count(&Crash{Container: triton.ContainerKey{Tenant: "../x"}, Fuzzy: bug}); err == nil {
		t.Error("a tenant that is a path is taken")
	}
	if _, err := b.Count(&Crash{Container: triton.ContainerKey{Tenant: acme}, Fuzzy: "../../../../x"}); err == nil {
		t.Error("a signature that is a path is taken")
	}
}

func second(_ *Group, err error) error { return err }

// However many bugs, images and containers there are, a store stays small, and says what it has dropped.
func TestGroupsAreBounded(t *testing.T) {
	b := newBench(t)
	b.reopen(3)
	for i := range 5 {
		b.now = b.now.Add(time.Minute)
		b.count(b.crash(fmt.Sprintf("%012x", i), "web:1"))
	}
	b.now = b.now.Add(time.Minute)
	long := string(make([]byte, 4*maxText))
	g, err := b.Get(acme, fmt.Sprintf("%012x", 4), false)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxCounted + 10 {
		c := b.crash(g.ID, fmt.Sprintf("web:%d%s", i, long))
		c.Top, c.Comm = long, long
		g.add(c)
	}
	if err := b.save(g); err != nil {
		t.Fatal(err)
	}
	groups, _, err := b.List(acme, false)
	if err != nil || len(groups) != 3 || groups[2].ID != fmt.Sprintf("%012x", 2) {
		t.Fatalf("%d groups, %v; want the newest three", len(groups), err)
	}
	g = groups[0]
	total := g.Images.Others
	for _, i := range g.Images.Seen {
		total += i.Count
	}
	if len(g.Images.Seen) != maxTallies || total != g.Count || len(g.Counted) != maxCounted || g.Count != maxCounted+11 {
		t.Errorf("%d images with %d crashes of %d, %d dumps", len(g.Images.Seen), total, g.Count, len(g.Counted))
	}
	info, err := os.Stat(filepath.Join(b.dir, string(acme), g.ID+suffix))
	if err != nil || info.Size() > maxFile {
		t.Errorf("its file has %d bytes, %v", info.Size(), err)
	}
	if _, dropped := b.Counts(); dropped != 2 {
		t.Errorf("%d dropped, want 2", dropped)
	}
	b.reopen(3)
	if g2, err := b.Get(acme, g.ID, false); err != nil || g2.Count != g.Count {
		t.Errorf("read back: %v", err)
	}
}

// What a kill or a bad disk leaves: half a file goes, a damaged one is told of and not overwritten.
func TestHalfAndDamagedFiles(t *testing.T) {
	b := newBench(t)
	b.count(b.crash(bug, "web:1"))
	path := filepath.Join(b.dir, string(acme), bug+suffix)
	if err := os.WriteFile(path+".tmp", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.reopen(DefaultKeep)
	if _, err := os.Stat(path + ".tmp"); !os.IsNotExist(err) {
		t.Errorf("half a file stays: %v", err)
	}
	if err := os.WriteFile(path, []byte(`{"id":"`+other+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, damaged, err := Open(b.dir, DefaultKeep, time.Now); err != nil || damaged != 1 {
		t.Errorf("%d damaged, %v", damaged, err)
	}
	if _, damaged, err := b.List(acme, true); err != nil || damaged != 1 {
		t.Errorf("list: %d damaged, %v", damaged, err)
	}
	if _, err := b.Count(b.crash(bug, "web:1")); err == nil {
		t.Error("a damaged group is begun anew without a word")
	}
}

// Crashes that were only counted are like the one that they are told with: they make no group, no regression and no dump.
func TestCrashesThatWereOnlyCounted(t *testing.T) {
	b := newBench(t)
	c := b.crash(bug, "web:1")
	b.count(c)
	first := b.now
	b.now = b.now.Add(time.Minute)
	like := *c
	like.At = b.now
	for _, n := range []uint64{5, 2} {
		if err := b.CountOnly(bug, &like, n); err != nil {
			t.Fatal(err)
		}
	}
	b.reopen(DefaultKeep)
	g, err := b.Get(acme, bug, false)
	if err != nil {
		t.Fatal(err)
	}
	seen := func(name, id string) Tallies {
		return Tallies{Seen: []Tally{{Name: name, ID: id, Count: 8, First: first, Last: b.now}}}
	}
	want := &Group{
		ID: bug, Tenant: acme, State: StateNew, Signal: "SIGSEGV", Frames: c.Frames, Top: c.Top, Comm: c.Comm, Count: 8, CountedOnly: 7, First: first, Last: b.now,
		Exact: seen(bug, ""), Images: seen("web:1", "sha256:web:1"), Containers: seen("web", ""), Nodes: seen("n1", ""), Counted: []string{c.Dump},
	}
	if diff := cmp.Diff(want, g); diff != "" {
		t.Error(diff)
	}
	if err := b.CountOnly(other, &like, 1); !errdefs.IsNotFound(err) {
		t.Errorf("a group that is not there: %v", err)
	}
}
