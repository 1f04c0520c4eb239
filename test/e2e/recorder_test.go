package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
	"github.com/tritond/triton/test/images"
)

// A running container's threads tell what they wait in; a killed one's death record tells the same, and a container that
// ended refers to it.
func TestFlightRecorderTellsTheLastCalls(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	name := u.detached(t, images.Busybox, "sleep", "1234")
	asleep := func(threads []triton.Recording, ended string) bool {
		return slices.ContainsFunc(threads, func(r triton.Recording) bool {
			last := len(r.Calls) - 1
			return last >= 0 && strings.Contains(r.Calls[last].Name, "nanosleep") && r.Calls[last].InCall == (ended == "") && r.Calls[last].Error == ended &&
				slices.ContainsFunc(r.Calls, func(c triton.Call) bool { return c.Name == "execve" && c.Error == "" })
		})
	}
	var r wire.Recorder
	eventually(t, commandTime, "the recorder shows the sleep", func() bool {
		if err := json.Unmarshal([]byte(u.triton(t, "recorder", "-json", name)), &r); err != nil {
			t.Fatal(err)
		}
		return asleep(r.Threads, "")
	})
	equal(t, "id", r.ID, u.inspect(t, name, "{{.Id}}"))
	if table := u.triton(t, "recorder", name); !strings.Contains(table, "nanosleep") || !strings.Contains(table, "has not returned") {
		t.Errorf("the table shows no sleep:\n%s", table)
	}
	pid := u.pid(t, name)
	hostKill(t, "KILL", pid)
	equal(t, "exit code", u.ok(t, "wait", name), "137")
	d := u.deathOf(t, name)
	if !asleep(d.Threads, "ERESTART_RESTARTBLOCK") || d.Threads[0].Pid != pid || d.Threads[0].Ended.IsZero() || d.At.Sub(d.Threads[0].Ended) > time.Minute {
		t.Errorf("the death record has the threads %+v", d.Threads)
	}
	if shown := u.triton(t, "deaths", "show", name); !strings.Contains(shown, "last system calls:") || !strings.Contains(shown, "nanosleep") {
		t.Errorf("the record is shown without calls:\n%s", shown)
	}
}
