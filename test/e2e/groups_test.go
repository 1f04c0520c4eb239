package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/crashgroup"
	"github.com/tritond/triton/pkg/tritonapi/wire"
	"github.com/tritond/triton/test/images"
)

// groups asks for the tenant's crash groups.
func (u *under) groups(t *testing.T) []*crashgroup.Group {
	t.Helper()
	var l wire.GroupList
	if err := json.Unmarshal([]byte(u.triton(t, "cores", "groups", "-json")), &l); err != nil {
		t.Fatal(err)
	}
	return l.Groups
}

// awaitGroup waits until the bug that is in a function was counted so often, and returns its group.
func (u *under) awaitGroup(t *testing.T, function string, count uint64) *crashgroup.Group {
	t.Helper()
	var found *crashgroup.Group
	eventually(t, 30*time.Second, fmt.Sprintf("%d crashes in %s are counted", count, function), func() bool {
		for _, g := range u.groups(t) {
			if slices.Contains(g.Frames, function) && g.Count >= count {
				found = g
			}
		}
		return found != nil
	})
	if found.Count != count {
		t.Fatalf("%d crashes in %s are counted, want %d", found.Count, function, count)
	}
	return found
}

// TestOneBugIsOneGroup: however an address space is laid out, whatever was kept of it, and over a kill of the daemon. What
// a group knows outlives its dumps, and a fix that is none is told of.
func TestOneBugIsOneGroup(t *testing.T) {
	exe := build(t, "stacks", "cc", "-O2", "-g", "-fPIE", "-pie", "-pthread", "testdata/stacks/stacks.c")
	u := taking(t, "socket")
	for _, policy := range []string{"full", "mini", "full", "mini"} {
		u.crashIn(t, images.Busybox, policy, exe, "sort")
	}
	u.kill(t) // with some counted and some not
	u.restart(t)
	u.awaitTaken(t, "socket")
	u.crashIn(t, images.Busybox, "full", exe, "sort")
	u.crashIn(t, images.Busybox, "full", exe, "abort")
	u.crashIn(t, images.Busybox, "mini", exe, "abort")
	one, two := u.awaitGroup(t, "compare", 5), u.awaitGroup(t, "give_up", 2)
	if all := u.groups(t); len(all) != 2 || one.ID == two.ID {
		t.Fatalf("two bugs are %d groups\n%s", len(all), u.triton(t, "cores", "groups"))
	}
	equal(t, "state", string(one.State), "new")
	if len(one.Exact.Seen) != 1 || len(one.Images.Seen) != 1 || !strings.HasPrefix(one.Images.Seen[0].ID, "sha256:") || len(one.Nodes.Seen) != 1 {
		t.Errorf("one program on one machine is seen as %+v", one)
	}
	var l wire.Group
	if err := json.Unmarshal([]byte(u.triton(t, "cores", "groups", "show", "-json", one.ID[:8])), &l); err != nil {
		t.Fatal(err)
	}
	places, bodies := map[uint64]bool{}, map[string]int{}
	for _, k := range l.Cores {
		var r coreRecord
		if err := json.Unmarshal([]byte(u.triton(t, "cores", "show", "-json", k.ID)), &r); err != nil {
			t.Fatal(err)
		}
		places[r.Threads[0].PC] = true
		bodies[r.Body]++
	}
	if len(places) < 2 || bodies["full"] != 3 || bodies["mini"] != 2 {
		t.Errorf("crashed at %d addresses (the test wants several), bodies %v", len(places), bodies)
	}
	if n := len(u.dumpsOf(t, one.ID)); n != 5 {
		t.Errorf("%d dumps are listed by group, want 5", n)
	}
	u.groupRegresses(t, one.ID, exe)
}

// dumpsOf lists the ids of a group's dumps.
func (u *under) dumpsOf(t *testing.T, group string) (ids []string) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(u.triton(t, "cores", "ls", "group="+group)), "\n")[1:] {
		ids = append(ids, strings.Fields(line)[0])
	}
	return ids
}

func (u *under) groupRegresses(t *testing.T, id, exe string) {
	t.Helper()
	matches(t, "resolve", u.triton(t, "cores", "groups", "resolve", id), "^"+id+"  resolved\n$")
	u.crashIn(t, images.Busybox, "mini", exe, "sort")
	equal(t, "state, with the image that is known to crash", string(u.awaitGroup(t, "compare", 6).State), "resolved")
	base := u.name(t)
	u.ok(t, "create", "--name", base, images.Busybox)
	fixed := u.called(t)
	u.ok(t, "commit", base, fixed)
	u.crashIn(t, fixed, "mini", exe, "sort")
	g := u.awaitGroup(t, "compare", 7)
	equal(t, "state, with another image", string(g.State), "regressed")
	if g.Regressed.Image != fixed || len(g.Images.Seen) != 2 {
		t.Errorf("regressed by %+v, images %+v", g.Regressed, g.Images)
	}
	matches(t, "events", u.past(t, 1, "--filter", "event=coredump", "--filter", "image="+fixed),
		"triton.group="+id+", triton.group.state=regressed")
	u.triton(t, append([]string{"cores", "rm"}, u.dumpsOf(t, id)...)...)
	u.awaitGroup(t, "compare", 7)
	text := u.triton(t, "cores", "groups", "show", id)
	matches(t, "group", text, `(?s)`+id+`, regressed.*crashes +7,.*regressed .*`+fixed)
	_, metrics := get(t, "http://"+u.tritond.HTTP+"/metrics", "")
	for _, want := range []string{
		`triton_crashes_total{state="regressed",tenant="default"} 1`, `triton_crashes_total{state="resolved",tenant="default"} 1`,
		`triton_crash_groups{state="regressed",tenant="default"} 1`, `triton_crash_groups{state="new",tenant="default"} 1`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("/metrics has no %s", want)
		}
	}
}
