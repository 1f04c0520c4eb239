package dashboard

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A container's row and page tell its level; rates that are estimates are marked, what is not counted has none.
func TestLevelsAndEstimatesAreTold(t *testing.T) {
	f := newFleet()
	f.add("acme", "web")
	_, url := f.start(t)
	f.pass(1)
	b := dial(t, url, "alice")
	b.say(Request{Op: "sub", ID: 1, Topic: "containers"})
	b.reply("ok")
	var table TableFrame
	b.frame(&table)
	one := dial(t, url, "alice")
	one.say(Request{Op: "sub", ID: 1, Topic: "container", Key: "web"})
	one.reply("ok")
	var page ContainerFrame
	one.frame(&page)
	for i, level := range []string{"sampled", "counters", "detail"} {
		f.level = level
		f.pass(2 + i)
		table, page = TableFrame{}, ContainerFrame{}
		b.frame(&table)
		if len(table.Meta) != 1 || table.Meta[0].Level != level {
			t.Errorf("%s: rows described %+v", level, table.Meta)
		}
		if got := math.IsNaN(cell(&table, colSyscalls, 0)); got != (level == "counters") {
			t.Errorf("%s: rate of system calls unknown %v", level, got)
		}
		one.frame(&page)
		if page.Meta == nil || page.Meta.Level != level || len(page.Columns) != 1 {
			t.Fatalf("%s: page %+v", level, page)
		}
		sampled := level == "sampled"
		if page.Columns[0].Estimated != sampled || page.Calls.Estimated != sampled || (page.Calls.Guessed > 0) != sampled || (page.Calls.Off > 0) != sampled {
			t.Errorf("%s: column %+v, calls %+v", level, page.Columns[0], page.Calls)
		}
	}
}

// Every page is told when the level changes, those of tenants too, and one that comes later with the greeting.
func TestEveryPageIsToldOfALevelThatChanged(t *testing.T) {
	f := newFleet()
	h, url := f.start(t)
	alice, bob := dial(t, url, "alice"), dial(t, url, "bob")
	f.mu.Lock()
	f.machine = Level{Level: "sampled", Why: "too dear", AtMs: 7}
	f.mu.Unlock()
	h.LevelChanged()
	want := &Level{Level: "sampled", Why: "too dear", AtMs: 7, Missing: []string{"x"}}
	for _, b := range []*browser{alice, bob} {
		if diff := cmp.Diff(want, b.reply("level").Level); diff != "" {
			t.Error(diff)
		}
	}
	if diff := cmp.Diff(want, h.hello(Caller{}).Level); diff != "" {
		t.Error(diff)
	}
}
