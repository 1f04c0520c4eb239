package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

// hunt is how many containers TestRaceHunt makes in each of its loops; TRITON_E2E_LONG makes it 50, `make test-races` so too,
// with a daemon that ends at its first data race.
const hunt = 6

// TestRaceHunt makes, starts, kills and removes containers in four loops at once, beside readers of everything that changes
// meanwhile. own checks that nothing is left, and the daemon must live until then.
func TestRaceHunt(t *testing.T) {
	t.Parallel()
	u := own(t)
	loops, each := 4, hunt
	if all.long {
		each = 50
	}
	since := time.Now()
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for _, path := range []string{"/v1.41/containers/json?all=1", "/v1.41/info", "/v1.41/events?since=0&until=" + fmt.Sprint(since.Unix()+1)} {
		readers.Go(func() { readAll(ctx, t, u.api, path) })
	}
	ids := make([][]string, loops)
	var wg sync.WaitGroup
	for loop := range loops {
		wg.Go(func() {
			for range each {
				id, err := oneLife(ctx, u.api)
				if err != nil {
					t.Errorf("%s: %v", id, err)
				}
				ids[loop] = append(ids[loop], id)
			}
		})
	}
	wg.Wait()
	stop()
	readers.Wait()
	checkLives(t, u, since, slices.Concat(ids...))
}

// readAll asks for path, and for each container that a list names, until ctx ends.
func readAll(ctx context.Context, t *testing.T, api *engine.API, path string) {
	for ctx.Err() == nil {
		r, err := api.Do(ctx, http.MethodGet, path, "", nil)
		if ctx.Err() != nil {
			return
		}
		if err != nil || r.Status != http.StatusOK {
			t.Errorf("GET %s: %d %v", path, r.Status, err)
			return
		}
		var list []struct{ Id string }
		if !strings.HasPrefix(string(r.Body), "[") || json.Unmarshal(r.Body, &list) != nil {
			continue
		}
		for _, c := range list {
			r, err := api.Do(ctx, http.MethodGet, "/v1.41/containers/"+c.Id+"/json", "", nil)
			if ctx.Err() == nil && (err != nil || r.Status != http.StatusOK && r.Status != http.StatusNotFound) {
				t.Errorf("inspect %s: %d %v", c.Id, r.Status, err)
			}
		}
	}
}

// oneLife is a container from its making to its removal, killed while it runs.
func oneLife(ctx context.Context, api *engine.API) (id string, err error) {
	var made struct{ Id string }
	spec := map[string]any{"Image": images.Busybox, "Cmd": []string{"sleep", "1000"}, "HostConfig": map[string]any{"NetworkMode": "none"}}
	if err := api.JSON(ctx, http.MethodPost, "/v1.41/containers/create", spec, &made); err != nil {
		return "", err
	}
	at := "/v1.41/containers/" + made.Id
	for _, verb := range []string{"/start", "/kill"} {
		if err := api.JSON(ctx, http.MethodPost, at+verb, nil, nil); err != nil {
			return made.Id, err
		}
	}
	var ended struct{ StatusCode int }
	if err := api.JSON(ctx, http.MethodPost, at+"/wait", nil, &ended); err != nil {
		return made.Id, err
	}
	if ended.StatusCode != 137 {
		err = fmt.Errorf("exit code %d, want 137", ended.StatusCode)
	}
	if derr := api.JSON(ctx, http.MethodDelete, at, nil, nil); derr != nil {
		return made.Id, derr
	}
	return made.Id, err
}

// checkLives wants each container's events complete and in order, and no container left.
func checkLives(t *testing.T, u *under, since time.Time, ids []string) {
	t.Helper()
	want := "create start kill die destroy"
	var got map[string][]string
	eventually(t, 20*time.Second, "the last destroy is in the events", func() bool {
		got = map[string][]string{}
		out := u.ok(t, "events", "--since", fmt.Sprint(since.Unix()-1), "--until", "0s", "--filter", "type=container", "--format", "{{json .}}")
		for _, e := range parseEvents(t, out) {
			got[e.Actor.ID] = append(got[e.Actor.ID], e.Action)
		}
		return !slices.ContainsFunc(ids, func(id string) bool { return !slices.Contains(got[id], "destroy") })
	})
	for _, id := range ids {
		equal(t, "events of "+id, strings.Join(got[id], " "), want)
	}
	equal(t, "containers left", u.ok(t, "ps", "-aq"), "")
}
