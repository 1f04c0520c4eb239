package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tritond/triton/test/images"
)

// event is one line of `docker events --format '{{json .}}'`.
type event struct {
	Type, Action string
	Actor        struct {
		ID         string
		Attributes map[string]string
	}
	TimeNano int64
}

func parseEvents(t *testing.T, out string) []event {
	t.Helper()
	var events []event
	for line := range strings.Lines(out) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		events = append(events, e)
	}
	return events
}

func actions(events []event) []string {
	var a []string
	for _, e := range events {
		a = append(a, e.Action)
	}
	return a
}

func TestEventsOfARunComeInOrder(t *testing.T) {
	u := shared(t)
	name := u.name(t)
	since := fmt.Sprint(time.Now().Unix() - 1)
	u.docker(t, "run", "--rm", "--name", name, "--label", "l=v", images.Busybox, "sh", "-c", "exit 5")
	var events []event
	eventually(t, 10*time.Second, "destroy is in the events", func() bool {
		out := u.ok(t, "events", "--since", since, "--until", "0s", "--filter", "container="+name, "--format", "{{json .}}")
		events = parseEvents(t, out)
		return slices.Contains(actions(events), "destroy")
	})
	if diff := cmp.Diff([]string{"create", "attach", "start", "die", "destroy"}, actions(events)); diff != "" {
		t.Errorf("actions (-want +got):\n%s", diff)
	}
	last := int64(0)
	for _, e := range events {
		if e.Type != "container" || e.Actor.Attributes["name"] != name || e.Actor.Attributes["l"] != "v" || e.Actor.Attributes["image"] != images.Busybox {
			t.Errorf("incomplete event %+v", e)
		}
		if e.TimeNano < last {
			t.Errorf("%s is dated before its predecessor", e.Action)
		}
		last = e.TimeNano
		if e.Action == "die" {
			equal(t, "exitCode", e.Actor.Attributes["exitCode"], "5")
		}
	}
}

func TestEventsCanBeFilteredAndBounded(t *testing.T) {
	u := shared(t)
	label := "run=" + randomHex()
	since := fmt.Sprint(time.Now().Unix() - 1)
	name := u.detached(t, "--label", label, images.Busybox, "sleep", "1000")
	u.ok(t, "kill", "-s", "KILL", name)
	u.ok(t, "wait", name)
	u.ok(t, "rm", name)
	list := func(filters ...string) []string {
		args := []string{"events", "--since", since, "--until", "0s", "--format", "{{.Action}}", "--filter", "label=" + label}
		for _, f := range filters {
			args = append(args, "--filter", f)
		}
		return strings.Fields(u.ok(t, args...))
	}
	eventually(t, 10*time.Second, "destroy is in the events", func() bool { return slices.Contains(list(), "destroy") })
	for _, c := range []struct {
		filters []string
		want    []string
	}{
		{nil, []string{"create", "start", "kill", "die", "destroy"}},
		{[]string{"event=die"}, []string{"die"}},
		{[]string{"event=start", "event=die"}, []string{"start", "die"}},
		{[]string{"type=container", "event=create"}, []string{"create"}},
		{[]string{"type=image"}, []string{}},
		{[]string{"image=" + images.Busybox, "event=kill"}, []string{"kill"}},
	} {
		if diff := cmp.Diff(c.want, list(c.filters...)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.filters, diff)
		}
	}
	before := u.ok(t, "events", "--since", "0", "--until", fmt.Sprint(time.Now().Unix()-3600), "--filter", "label="+label)
	equal(t, "events until an hour ago", before, "")
	if u.tritond != nil { // engine 20.10 ignores it here, against its own rule for lists
		u.fails(t, 1, "(?i)invalid filter", "events", "--until", "0s", "--filter", "bogus=1")
	}
}

func TestEventsAreStreamedAsTheyHappen(t *testing.T) {
	u := shared(t)
	label := "live=" + randomHex()
	x := u.terminal(t, 24, 200, "events", "--filter", "label="+label, "--format", "{{.Type}}:{{.Action}}")
	name := u.name(t)
	u.ok(t, "create", "--name", name, "--label", label, images.True)
	// The client may subscribe after the create, or after the first start.
	eventually(t, 20*time.Second, "a start is streamed", func() bool {
		u.ok(t, "start", name)
		u.ok(t, "wait", name)
		x.mu.Lock()
		defer x.mu.Unlock()
		return strings.Contains(x.out.String(), "container:start")
	})
	x.expect("container:die")
}

// past returns the events of the last five minutes that match, a line each, as soon as there are n: `--until` has whole
// seconds, so what happened in the one under way is not among them yet.
func (u *under) past(t *testing.T, n int, args ...string) string {
	t.Helper()
	var out string
	eventually(t, 10*time.Second, fmt.Sprintf("%d events of %v", n, args), func() bool {
		out = u.ok(t, append([]string{"events", "--since", "5m", "--until", "0s"}, args...)...)
		return len(strings.Split(out, "\n")) >= n && out != ""
	})
	return out
}
