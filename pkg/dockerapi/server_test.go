package dockerapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/auth"
)

func TestErrorKindsBecomeStatus(t *testing.T) {
	for _, tc := range []struct {
		err     error
		status  int
		message string
	}{
		{fmt.Errorf("gone: %w", errdefs.ErrNotFound), 404, "gone"},
		{fmt.Errorf("taken: %w", errdefs.ErrAlreadyExists), 409, "taken"},
		{fmt.Errorf("running: %w", errdefs.ErrFailedPrecondition), 409, "running"},
		{fmt.Errorf("running: %w", errdefs.ErrConflict), 409, "running"},
		{fmt.Errorf("bad: %w", errdefs.ErrInvalidArgument), 400, "bad"},
		{fmt.Errorf("who: %w", errdefs.ErrUnauthenticated), 401, "who: unauthorized"},
		{fmt.Errorf("no: %w", errdefs.ErrPermissionDenied), 403, "no: permission denied"},
		{fmt.Errorf("later: %w", errdefs.ErrNotImplemented), 501, "later"},
		{fmt.Errorf("full: %w", errdefs.ErrResourceExhausted), 503, "full"},
		{fmt.Errorf("down: %w", errdefs.ErrUnavailable), 503, "down"},
		{fmt.Errorf("same: %w", ErrNotModified), 304, "same: not modified"},
		{errors.New("oh"), 500, "oh"},
		{fmt.Errorf("body: %w", &http.MaxBytesError{Limit: 1}), 413, "body: http: request body too large"},
	} {
		if got := statusOf(tc.err); got != tc.status {
			t.Errorf("%v: got %d, want %d", tc.err, got, tc.status)
		}
		if got := messageOf(tc.err); got != tc.message {
			t.Errorf("%v: got %q, want %q", tc.err, got, tc.message)
		}
	}
}

func TestBodies(t *testing.T) {
	s := startServer(t)
	s.do(t, "POST", "/containers/create", "{}", "Content-Type", "text/plain").want(t, 400,
		"unsupported Content-Type header (text/plain): must be 'application/json'")
	s.do(t, "POST", "/containers/create", "{}", "Content-Type", "x;;").want(t, 400, "")
	s.do(t, "POST", "/containers/create", "").want(t, 400, "invalid JSON: got EOF while reading request body")
	s.do(t, "POST", "/containers/create", `{"Image":"busybox"} x`).want(t, 400, "unexpected content after JSON")
	s.do(t, "POST", "/containers/create", `{"Image":"`+strings.Repeat("x", maxBody)+`"}`).want(t, 413, "request body: http: request body too large")
	s.do(t, "POST", "/containers/create", `{"Image":"nosuch"}`).want(t, 404, "No such image: nosuch:latest")
	s.do(t, "POST", "/containers/create", `{"Cmd":["a"]}`).want(t, 400, "Image: no image specified")
	s.do(t, "POST", "/containers/create?name=a", `{"Image":"busybox"}`).want(t, 400, "Invalid container name (a), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
	s.do(t, "POST", "/containers/create?platform=linux/arm64", `{"Image":"busybox"}`).want(t, 404,
		"image with reference busybox was found but its platform (linux/amd64) does not match the specified platform (linux/arm64)")
	s.do(t, "POST", "/containers/create?platform=linux/amd64&name=/ok", `{"Image":"busybox"}`).want(t, 201, "")
	s.do(t, "POST", "/containers/ok/start", `{"a":"not empty"}`).want(t, 400,
		"starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
	s.do(t, "POST", "/containers/ok/start", `{}`).want(t, 204, "")
}

func TestStartAndStopTwiceAreNotModified(t *testing.T) {
	s := startServer(t)
	s.container(t, "web", `{"Image":"busybox","Cmd":["sleep"]}`)
	s.do(t, "POST", "/containers/web/stop", "").want(t, 304, "")
	s.do(t, "POST", "/containers/web/start", "").want(t, 204, "")
	if r := s.do(t, "POST", "/containers/web/start", ""); r.status != 304 || r.body != "" {
		t.Errorf("got %+v", r)
	}
	s.do(t, "POST", "/containers/web/stop?t=x", "").want(t, 400, `invalid t "x": not a number of seconds`)
	s.do(t, "POST", "/containers/web/resize?h=1&w=-1", "").want(t, 400, `invalid resize width "-1": invalid syntax`)
	s.do(t, "POST", "/containers/web/resize?h=1&w=2", "").want(t, 200, "")
	s.do(t, "DELETE", "/containers/web", "").want(t, 409, "")
	s.do(t, "DELETE", "/containers/web?link=1", "").want(t, 400, "Conflict, cannot remove the default link name of the container")
	s.do(t, "DELETE", "/containers/web/db?link=1", "").want(t, 404, "cannot get link db")
	s.do(t, "DELETE", "/containers/web/db", "").want(t, 404, "No such container: web/db")
	s.do(t, "POST", "/containers/web/stop?t=0", "").want(t, 204, "")
	s.do(t, "POST", "/containers/web/kill", "").want(t, 409, "")
	s.do(t, "DELETE", "/containers/web?v=1&force=1", "").want(t, 204, "")
	s.do(t, "DELETE", "/containers/web", "").want(t, 404, "No such container: web")
}

func TestFailedStart(t *testing.T) {
	s := startServer(t)
	for cmd, want := range map[string]int{"missing": 400, "noexec": 400, "broken": 500} {
		s.container(t, cmd, `{"Image":"busybox","Cmd":["`+cmd+`"]}`)
		s.do(t, "POST", "/containers/"+cmd+"/start", "").want(t, want, "")
	}
}

func TestCallerDecides(t *testing.T) {
	s := startServer(t, func(c *Config) {
		c.Caller = func(*http.Request) (auth.Caller, error) {
			return auth.Caller{}, fmt.Errorf("certificate needed: %w", errdefs.ErrUnauthenticated)
		}
		c.Extra = func(mux *http.ServeMux) {
			mux.HandleFunc("GET /triton/v1/x", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "extra") })
		}
	})
	s.do(t, "GET", "/version", "").want(t, 401, "certificate needed: unauthorized")
	if r := s.do(t, "GET", "/triton/v1/x", ""); r.body != "extra" {
		t.Errorf("got %+v", r)
	}
}

func TestEvents(t *testing.T) {
	s := startServer(t)
	s.container(t, "web", `{"Image":"busybox","Cmd":["true"],"Labels":{"a":"b"}}`)
	get := func(query string) []string {
		t.Helper()
		r := s.do(t, "GET", "/events?"+query, "")
		if r.status != 200 || r.header.Get("Content-Type") != "application/json" {
			t.Fatalf("%s: %+v", query, r)
		}
		var actions []string
		for _, line := range strings.Split(strings.TrimSpace(r.body), "\n") {
			var e struct{ Action, Status, ID, From string }
			if line == "" {
				continue
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.Status != e.Action || e.From != "busybox" || e.ID == "" {
				t.Errorf("%s: %v", line, err)
			}
			actions = append(actions, e.Action)
		}
		return actions
	}
	s.do(t, "POST", "/containers/web/start", "").want(t, 204, "")
	s.do(t, "POST", "/containers/web/wait", "").want(t, 200, "")
	now := time.Now()
	until := fmt.Sprintf("until=%d.%09d", now.Unix(), now.Nanosecond())
	all := []string{"create", "start", "die"}
	for _, tc := range []struct {
		query, filters string
		want           []string
	}{
		{until, "", all},
		{"since=1h&" + until, "", all},
		{fmt.Sprintf("since=%d&", now.Unix()-60) + until, "", all},
		{until, `{"event":["die"]}`, []string{"die"}},
		{until, `{"event":{"start":true,"die":true}}`, []string{"start", "die"}},
		{until, `{"type":["container"],"container":["web"]}`, all},
		{until, `{"type":["image"]}`, nil},
		{until, `{"container":["other"]}`, nil},
		{until, `{"image":["busybox"]}`, all},
		{until, `{"image":["alpine"]}`, nil},
		{until, `{"label":["a"]}`, nil}, // the fake's events carry no labels
		{until, `{"scope":["swarm"]}`, nil},
	} {
		got := get(tc.query + "&filters=" + url.QueryEscape(tc.filters))
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", tc.query, tc.filters, diff)
		}
	}
	s.do(t, "GET", "/events?since=20&until=10", "").want(t, 400, "`since` time (20) cannot be after `until` time (10)")
	s.do(t, "GET", "/events?filters="+url.QueryEscape(`{"bogus":["x"]}`), "").want(t, 400, "invalid filter 'bogus'")
}

func TestEventsAreStreamed(t *testing.T) {
	s := startServer(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://d/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.client.Do(req) // returns with the header, before any event
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	id := s.container(t, "web", `{"Image":"busybox"}`)
	var e struct {
		Action string
		Actor  struct{ ID string }
	}
	if err := dec.Decode(&e); err != nil || e.Action != "create" || e.Actor.ID != id {
		t.Errorf("got %+v %v", e, err)
	}
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"": {}, "0": {}, "1136073600.000000001": time.Unix(1136073600, 1), "1.5": time.Unix(1, 500000000), "7": time.Unix(7, 0),
		"1.1234567891234": time.Unix(1, 123456789), "10m": now.Add(-10 * time.Minute), "0s": now,
		"2026-01-01T00:00:00Z": time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), "2026-01-01": time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		got, err := parseTime(text, now)
		if err != nil || !got.Equal(want) {
			t.Errorf("%q: got %v %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"x", "1.x", "1.-1", "1.2.3"} {
		if got, err := parseTime(text, now); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestImages(t *testing.T) {
	s := startServer(t)
	r := s.do(t, "POST", "/images/load?quiet=1", "archive", "Content-Type", "application/x-tar")
	want := `{"stream":"Loaded image: busybox:latest\n"}` + "\n" + `{"stream":"Loaded image ID: sha256:` + strings.Repeat("12", 32) + `\n"}` + "\n"
	if diff := cmp.Diff(want, r.body); diff != "" || string(s.b.loaded) != "archive" {
		t.Errorf("load (-want +got):\n%s", diff)
	}
	s.b.loadErr = fmt.Errorf("not a tar: %w", errdefs.ErrInvalidArgument)
	if r := s.do(t, "POST", "/images/load", "x"); r.status != 200 || r.body != `{"errorDetail":{"message":"not a tar"},"error":"not a tar"}`+"\n" {
		t.Errorf("failed load: %+v", r)
	}
	s.do(t, "POST", "/images/create?fromSrc=http://x", "").want(t, 501, "")
	r = s.do(t, "POST", "/images/create?fromSrc=-&repo=mine&tag=v1&message=hi&changes="+url.QueryEscape("CMD x"), "tar")
	if want := `{"status":"sha256:` + strings.Repeat("34", 32) + `"}` + "\n"; r.body != want {
		t.Errorf("import: %+v", r)
	}
	s.do(t, "POST", "/images/busybox/tag?repo=reg.io:5000/a/b&tag=x", "").want(t, 201, "")
	s.do(t, "POST", "/images/busybox/tag?repo=BAD", "").want(t, 400, "")
	s.do(t, "POST", "/images/nope/tag?repo=x", "").want(t, 404, "No such image: nope:latest")
	golden(t, "image.json", []byte(s.do(t, "GET", "/v1.51/images/reg.io:5000/a/b:x/json", "").body))
	golden(t, "image-1.43.json", []byte(s.do(t, "GET", "/v1.43/images/busybox/json", "").body))
	golden(t, "images-1.51.json", []byte(s.do(t, "GET", "/v1.51/images/json", "").body))
	golden(t, "images-1.40.json", []byte(s.do(t, "GET", "/v1.40/images/json", "").body))
	for filters, want := range map[string]string{
		`{"dangling":["true"]}`: "", `{"dangling":{"false":true}}`: "mine busybox", `{"label":["maker=test"]}`: "busybox",
		`{"reference":["mine"]}`: "mine", `{"reference":["*/*/b:x"]}`: "busybox", `{"before":["mine:v1"]}`: "busybox", `{"since":["busybox"]}`: "mine",
		`{"until":["1750000000"]}`: "busybox",
	} {
		r := s.do(t, "GET", "/images/json?filters="+url.QueryEscape(filters), "")
		var list []struct{ ID string }
		if err := json.Unmarshal([]byte(r.body), &list); err != nil {
			t.Fatal(r.body)
		}
		var names []string
		for _, i := range list {
			names = append(names, map[bool]string{true: "busybox", false: "mine"}[i.ID == busyboxImage().ID])
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: got %q, want %q", filters, got, want)
		}
	}
	s.do(t, "GET", "/images/json?filters="+url.QueryEscape(`{"x":["1"]}`), "").want(t, 400, "invalid filter 'x'")
	if r := s.do(t, "DELETE", "/images/mine:v1", ""); r.body != `[{"Untagged":"mine:v1"},{"Deleted":"sha256:`+strings.Repeat("34", 32)+`"}]`+"\n" {
		t.Errorf("delete: %+v", r)
	}
}

func TestInfo(t *testing.T) {
	s := startServer(t)
	r := s.do(t, "GET", "/v1.51/info", "")
	for _, want := range []string{`"NCPU":2`, `"MemTotal":8589934592`, `"ServerVersion":"0.1"`, `"Swarm":{"NodeID":""`, `"LocalNodeState":"inactive"`,
		`"Name":"node1"`} {
		if !strings.Contains(r.body, want) {
			t.Errorf("no %s in %s", want, r.body)
		}
	}
	if strings.Contains(r.body, "BridgeNfIptables") || !strings.Contains(s.do(t, "GET", "/v1.49/info", "").body, `"BridgeNfIptables":false`) {
		t.Error("BridgeNfIptables is for clients below 1.50")
	}
}
