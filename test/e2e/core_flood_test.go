package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/tritonapi/wire"
	"github.com/tritond/triton/test/images"
)

// floodRecord is what the test of a flood reads of a dump's record.
type floodRecord struct {
	ID, Comm, Body string
	Repeats        uint64
	LastRepeat     time.Time
	Container      struct{ ID string }
}

// recordsOf are the records on the disk of a container's dumps.
func (u *under) recordsOf(t *testing.T, container string) (all []floodRecord) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(u.tritond.DataRoot, "cores", "*", "*", "record.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if os.IsNotExist(err) { // it made room for another
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var r floodRecord
		if err := json.Unmarshal(b, &r); err != nil {
			t.Fatal(err)
		}
		if r.Container.ID == container {
			all = append(all, r)
		}
	}
	return all
}

// TestCoreFloodIsCounted: of a container that crashes without end, most crashes are only counted, and a dump says how many;
// another crash in it, its own end and the crash of another container have whole dumps all the same.
func TestCoreFloodIsCounted(t *testing.T) { captures(t, coreFloodIsCounted) }

func coreFloodIsCounted(t *testing.T, form string) {
	u := taking(t, form, "--core-cpu", "1")
	const counted = `triton_core_dumps_total{result="counted"`
	name := u.detached(t, "--cpus", "1", "--memory", "256m", "--pids-limit", "64", images.Programs, "flood", "cores")
	id := u.inspect(t, name, "{{.Id}}")
	eventually(t, time.Minute, "crashes are counted", func() bool { return u.metric(t, counted) > 100 })

	u.fails(t, 139, "", "exec", name, "crash")
	others := 0
	for _, r := range u.recordsOf(t, id) {
		if r.Comm == "crash" {
			equal(t, "body of another crash in the container", r.Body, "full")
			others++
		}
	}
	if others != 1 {
		t.Errorf("%d dumps of another crash in the container", others)
	}
	neighbour := u.name(t)
	u.fails(t, 139, "", "run", "--name", neighbour, images.Programs, "crash")
	equal(t, "body of the neighbour's crash", u.onlyCore(t, neighbour).Body, "full")

	u.ok(t, "rm", "-f", name)
	var told uint64
	eventually(t, time.Minute, "a record says how many crashes were counted", func() bool {
		told = 0
		for _, r := range u.recordsOf(t, id) {
			if told = max(told, r.Repeats); (r.Repeats > 0) == r.LastRepeat.IsZero() {
				t.Errorf("%d repeats, the last at %s", r.Repeats, r.LastRepeat)
			}
		}
		return told > 0 && float64(told) == u.metric(t, counted)
	})
	for _, r := range u.recordsOf(t, id) {
		if r.Repeats > 0 {
			matches(t, "triton cores show", u.triton(t, "cores", "show", r.ID), `repeats +\d+ crashes at the same place, until .*, were only counted`)
		}
	}
	// So does the group of that place.
	eventually(t, time.Minute, "groups have all crashes that were counted", func() bool {
		var l wire.GroupList
		if err := u.api.JSON(t.Context(), http.MethodGet, wire.GroupsPath, nil, &l); err != nil {
			t.Fatal(err)
		}
		var sum uint64
		for _, g := range l.Groups {
			if sum += g.CountedOnly; g.CountedOnly >= g.Count || g.Containers.Seen[0].Count > g.Count {
				t.Errorf("%d of %d crashes were counted, the container had %+v", g.CountedOnly, g.Count, g.Containers)
			}
		}
		return sum == told
	})
	matches(t, "triton cores groups", u.triton(t, "cores", "groups"), `\d+ \(\d+ only counted\)`)
	t.Logf("%d crashes were counted", told)
}

// TestCoreOfAFirstProcessIsWhole: a container that ends by a crash again and again has a dump of each end, whatever its crashes took.
func TestCoreOfAFirstProcessIsWhole(t *testing.T) {
	u := taking(t, "socket", "--core-cpu", "0.001")
	name := u.detached(t, "--restart", "on-failure:5", images.Programs, "crash", "big", "256", "1")
	eventually(t, 2*time.Minute, "it is given up", func() bool { return u.inspect(t, name, "{{.RestartCount}} {{.State.Status}}") == "5 exited" })
	if n := len(u.recordsOf(t, u.inspect(t, name, "{{.Id}}"))); n != 6 {
		t.Errorf("%d dumps of 6 ends", n)
	}
	if n := u.metric(t, `triton_core_dumps_total{result="counted"`); n != 0 {
		t.Errorf("%.0f crashes were only counted", n)
	}
}
