package dockerapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/triton"
)

var testNow = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// stocked has four containers, oldest first: gone (exited 3), made (created), web (running), hosty (running, host network).
func stocked(t *testing.T) *testServer {
	t.Helper()
	s := startServer(t, func(c *Config) {
		c.Now = func() time.Time { return testNow }
	})
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.nets.bridge = triton.NetworkInfo{Link: "tn01", Spec: triton.NetworkSpec{
		Pool: triton.Pool{Subnet: netip.MustParsePrefix("172.30.0.0/16"), Gateway: netip.MustParseAddr("172.30.0.1")},
	}}
	for i, c := range []triton.Container{
		{Name: "gone", Spec: triton.Spec{Labels: map[string]string{"tier": "back", "x": "1"}, Cmd: []string{"false"}},
			State: triton.State{Status: triton.StatusExited, Run: 1, ExitCode: 3, StartedAt: testNow.Add(-time.Hour), FinishedAt: testNow.Add(-2 * time.Minute)}},
		{Name: "made", Spec: triton.Spec{Image: "old", ImageID: "sha256:" + strings.Repeat("99", 32), Cmd: []string{"sh", "-c", "a b"}},
			State: triton.State{Status: triton.StatusCreated}},
		{Name: "web", Spec: triton.Spec{Labels: map[string]string{"tier": "front"}, Cmd: []string{"httpd", "-f"}, ExposedPorts: []string{"53/udp", "80/tcp"},
			Hostname: "box", Env: []string{"PATH=/bin"}, NetworkMode: "bridge", Log: triton.LogConfig{Driver: "json-file"},
			Mounts: []triton.Mount{
				{Type: triton.MountBind, Source: "/srv", Target: "/data", ReadOnly: true, CreateSource: true, Bind: "/srv:/data:ro"},
				{Type: triton.MountBind, Source: "/etc", Target: "/etc2", Propagation: "rslave"},
				{Type: triton.MountTmpfs, Target: "/t", Options: []string{"size=1m"}},
			},
			Resources: triton.Resources{Memory: 64 << 20, MemorySwap: 128 << 20, PidsLimit: 9}, Ulimits: []triton.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}},
			CapAdd: []string{"CAP_NET_ADMIN"}, DNS: []string{"1.1.1.1"}},
			State:   triton.State{Status: triton.StatusRunning, Run: 1, Pid: 4242, StartedAt: testNow.Add(-3 * time.Second)},
			Network: triton.Endpoint{Network: "bridge", Address: "172.30.0.2/16", Gateway: "172.30.0.1", MAC: "02:42:ac:1e:00:02", NetNS: "/run/tritond/ns/1/net"}},
		{Name: "hosty", Spec: triton.Spec{NetworkMode: "host", Cmd: []string{"sleep"}},
			State: triton.State{Status: triton.StatusPaused, Run: 1, Pid: 5, StartedAt: testNow.Add(-3 * time.Hour)}},
	} {
		c.Key = triton.ContainerKey{Tenant: triton.DefaultTenant, ID: strings.Repeat(fmt.Sprintf("%x%d", i+10, i), 32)}
		c.Created = testNow.Add(time.Duration(i-10) * time.Hour)
		if c.Spec.Image == "" {
			c.Spec.Image, c.Spec.ImageID = "busybox", busyboxImage().ID
		}
		c.DataDir = "/var/lib/tritond/tenants/default/containers/" + c.Key.ID
		c.LogPath = c.DataDir + "/" + c.Key.ID + "-json.log"
		s.b.containers[c.Key] = &fakeContainer{c: c}
	}
	return s
}

func TestListGolden(t *testing.T) {
	s := stocked(t)
	for range 2 { // the second time from the cache
		golden(t, "list.json", []byte(s.do(t, "GET", "/v1.43/containers/json?all=1", "").body))
	}
}

func TestInspectGolden(t *testing.T) {
	s := stocked(t)
	for _, name := range []string{"web", "gone"} {
		golden(t, "inspect-"+name+".json", []byte(s.do(t, "GET", "/v1.43/containers/"+name+"/json", "").body))
	}
}

func TestCreateGolden(t *testing.T) {
	s := startServer(t)
	r := s.do(t, "POST", "/containers/create?name=nn&ignored=1", `{"Image":"busybox"}`)
	var resp struct{ ID string }
	if err := json.Unmarshal([]byte(r.body), &resp); err != nil || !triton.ValidID(resp.ID) {
		t.Fatalf("got %+v", r)
	}
	golden(t, "create.json", []byte(strings.ReplaceAll(r.body, resp.ID, "ID")))
}

// names lists the names a query selects.
func (s *testServer) names(t *testing.T, query string) string {
	t.Helper()
	r := s.do(t, "GET", "/containers/json?"+query, "")
	var list []struct{ Names []string }
	if err := json.Unmarshal([]byte(r.body), &list); err != nil || r.status != 200 {
		t.Fatalf("%s: %+v", query, r)
	}
	var names []string
	for _, c := range list {
		names = append(names, strings.TrimPrefix(c.Names[0], "/"))
	}
	return strings.Join(names, " ")
}

func TestListFilters(t *testing.T) {
	s := stocked(t)
	for _, tc := range []struct{ query, filters, want string }{
		{"", ``, "hosty web"},
		{"all=1", ``, "hosty web made gone"},
		{"all=true", `{}`, "hosty web made gone"},
		{"limit=3", ``, "hosty web made"},
		{"limit=-1", ``, "hosty web"},
		{"", `{"name":["^/we"]}`, "web"},
		{"", `{"name":{"we":true}}`, "web"},
		{"all=1", `{"name":["made","gone"]}`, "made gone"},
		{"", `{"id":["` + strings.Repeat("c2", 6) + `"]}`, "web"},
		{"all=1", `{"label":["tier"]}`, "web gone"},
		{"all=1", `{"label":["tier=back","x"]}`, "gone"},
		{"", `{"status":["exited"]}`, "gone"},
		{"", `{"status":["created","paused"]}`, "hosty made"},
		{"all=1", `{"exited":["3"]}`, "gone"},
		{"all=1", `{"exited":["0"]}`, ""},
		{"all=1", `{"ancestor":["busybox"]}`, "hosty web gone"},
		{"all=1", `{"ancestor":["nosuch"]}`, ""},
		{"all=1", `{"before":["web"]}`, "made gone"},
		{"all=1", `{"since":["made"]}`, "hosty web"},
		{"all=1", `{"since":["gone"],"before":["hosty"]}`, "web made"},
		{"all=1", `{"network":["host"]}`, "hosty"},
		{"all=1", `{"network":["` + networkID("bridge")[:12] + `"]}`, "web made gone"},
		{"", `{"health":["none"]}`, "hosty web"},
		{"", `{"health":["healthy"]}`, ""},
		{"", `{"volume":["/data"]}`, "web"},
		{"", `{"volume":["/srv"]}`, "web"},
		{"", `{"volume":["/t"]}`, ""},
		{"", `{"expose":["80"]}`, "web"},
		{"", `{"expose":["50-60/udp"]}`, "web"},
		{"", `{"expose":["81"]}`, ""},
		{"", `{"publish":["80"]}`, ""},
		{"", `{"is-task":["true"]}`, ""},
		{"", `{"is-task":["false"]}`, "hosty web"},
		{"", `{"isolation":["default"]}`, "hosty web"},
	} {
		if got := s.names(t, tc.query+"&filters="+url.QueryEscape(tc.filters)); got != tc.want {
			t.Errorf("%s %s: got %q, want %q", tc.query, tc.filters, got, tc.want)
		}
	}
	for filters, want := range map[string]string{
		`{"bogus":["1"]}`:  "invalid filter 'bogus'",
		`{"exited":["x"]}`: "invalid filter 'exited=x'",
		`{"status":["odd"]}`: "invalid filter 'status=odd': invalid value for state (odd): " +
			"must be one of created, running, paused, restarting, removing, exited, dead",
		`{"is-task":["no"]}`: "invalid filter 'is-task=no'",
		`{"expose":["a:b"]}`: "filter for 'expose' should not contain ':': a:b",
	} {
		s.do(t, "GET", "/containers/json?filters="+url.QueryEscape(filters), "").want(t, 400, want)
	}
	s.do(t, "GET", "/containers/json?filters=nonsense", "").want(t, 400, "")
	s.do(t, "GET", "/containers/json?limit=x", "").want(t, 400, `invalid limit "x": not a number`)
	if r := s.do(t, "GET", "/containers/json?all=1&size=1", ""); r.status != 200 || !strings.Contains(r.body, `"SizeRw":5`) {
		t.Errorf("sizes: %d %s", r.status, r.body)
	}
	s.do(t, "GET", "/containers/json?filters="+url.QueryEscape(`{"before":["nope"]}`), "").want(t, 404, "No such container: nope")
}

func FuzzFilters(f *testing.F) {
	f.Add(`{"label":["a"]}`)
	f.Add(`{"label":{"a":true,"b":false}}`)
	f.Add(`{"a":null}`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseFilters(text, "label", "name")
		if err != nil {
			return
		}
		for name, set := range got {
			if name != "label" && name != "name" || len(set) == 0 {
				t.Errorf("%q: got %v", text, got)
			}
		}
		anyMatch(got.patterns("name"), "x")
		got.labels("label", nil)
	})
}

func TestListFollowsWhatChanges(t *testing.T) {
	s := stocked(t)
	list := func() string { return s.do(t, "GET", "/containers/json?all=1", "").body }
	before := list()
	s.b.mu.Lock()
	for _, c := range s.b.containers {
		if c.c.Name == "web" {
			c.c.State = triton.State{Status: triton.StatusExited, Run: 1, ExitCode: 9, StartedAt: testNow, FinishedAt: testNow.Add(-time.Minute)}
			c.c.Name = "renamed"
		}
	}
	s.b.mu.Unlock()
	after := list()
	if before == after || !strings.Contains(after, `"Names":["/renamed"]`) || !strings.Contains(after, `"Status":"Exited (9) About a minute ago"`) {
		t.Errorf("got %s", after)
	}
	// The name now means another image: docker ps shows the id.
	s.do(t, "DELETE", "/images/busybox", "").want(t, 200, "")
	if got := list(); !strings.Contains(got, `"Image":"`+busyboxImage().ID+`"`) {
		t.Errorf("got %s", got)
	}
}

func TestListForgetsRemovedContainers(t *testing.T) {
	s := startServer(t)
	for range 5 {
		for range 50 {
			s.container(t, "", `{"Image":"busybox"}`)
		}
		s.names(t, "all=1")
		s.b.mu.Lock()
		clear(s.b.containers)
		s.b.mu.Unlock()
	}
	s.names(t, "all=1")
	if got := len(s.list.rows); got > 64 {
		t.Errorf("%d rows are kept of no container", got)
	}
}

func TestStatusText(t *testing.T) {
	at := func(d time.Duration) time.Time { return testNow.Add(-d) }
	for want, st := range map[string]triton.State{
		"Up 3 seconds":                {Status: triton.StatusRunning, StartedAt: at(3 * time.Second)},
		"Up 2 hours (Paused)":         {Status: triton.StatusPaused, StartedAt: at(2 * time.Hour)},
		"Created":                     {Status: triton.StatusCreated},
		"Exited (0) 2 minutes ago":    {Status: triton.StatusExited, FinishedAt: at(2 * time.Minute)},
		"Exited (137) 5 weeks ago":    {Status: triton.StatusExited, ExitCode: 137, FinishedAt: at(35 * 24 * time.Hour)},
		"Up Less than a second":       {Status: triton.StatusRunning, StartedAt: at(0)},
		"Dead":                        {Status: triton.StatusDead},
		"Restarting (3) 1 second ago": {Status: triton.StatusRestarting, ExitCode: 3, FinishedAt: at(time.Second)},
		"Exited (1) 10 seconds ago":   {Status: triton.StatusExited, ExitCode: 1, FinishedAt: at(10 * time.Second)},
	} {
		if got := statusText(&st, nil, testNow); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestStatusTextTellsHealth(t *testing.T) {
	st := triton.State{Status: triton.StatusRunning, StartedAt: testNow.Add(-3 * time.Second)}
	for status, want := range map[string]string{
		triton.HealthStarting: "Up 3 seconds (health: starting)", triton.HealthHealthy: "Up 3 seconds (healthy)",
		triton.HealthUnhealthy: "Up 3 seconds (unhealthy)",
	} {
		if got := statusText(&st, &triton.Health{Status: status}, testNow); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestNetworks(t *testing.T) {
	s := stocked(t)
	golden(t, "network-bridge.json", []byte(strings.ReplaceAll(s.do(t, "GET", "/networks/bridge", "").body, endpointOf(t, s), "ENDPOINT")))
	if r := s.do(t, "GET", "/networks?filters="+url.QueryEscape(`{"driver":{"null":true}}`), ""); strings.Count(r.body, `"Name"`) != 1 ||
		!strings.Contains(r.body, `"Name":"none"`) {
		t.Errorf("got %s", r.body)
	}
	s.do(t, "GET", "/networks/nope", "").want(t, 404, "network nope not found")
	s.do(t, "POST", "/networks/create", `{"Name":"x","Driver":"overlay"}`).want(t, 400, `Driver: "overlay" is not supported by this version of triton: bridge is`)
	if r := s.do(t, "POST", "/networks/create", `{"Name":"x","Labels":{"a":"b"}}`); r.status != 201 {
		t.Fatalf("create: got %d %s", r.status, r.body)
	}
	if r := s.do(t, "GET", "/networks?filters="+url.QueryEscape(`{"type":["custom"],"label":["a=b"]}`), ""); strings.Count(r.body, `"Name"`) != 1 {
		t.Errorf("by type and label: got %s", r.body)
	}
	id := s.Backend.(*fakeBackend).nets.networks[0].Key.ID
	for _, ref := range []string{"x", id, id[:6]} {
		if r := s.do(t, "POST", "/networks/"+ref+"/connect", `{"Container":"web","EndpointConfig":{"Aliases":["a"]}}`); r.status != 200 {
			t.Errorf("connect to %s: got %d %s", ref, r.status, r.body)
		}
	}
	if got := s.Backend.(*fakeBackend).nets.joined; len(got) != 3 || got[0].Network != id || got[2].Network != id {
		t.Errorf("joined: got %+v, want the id each time", got)
	}
	s.do(t, "POST", "/networks/x/connect", `{"Container":"nope"}`).want(t, 404, "No such container: nope")
	s.do(t, "POST", "/networks/x/connect", `{}`).want(t, 400, `invalid name or ID supplied: ""`)
	s.do(t, "DELETE", "/networks/nope", "").want(t, 404, "network nope not found")
	if r := s.do(t, "DELETE", "/networks/"+networkID("host"), ""); r.status != 204 || s.Backend.(*fakeBackend).nets.removed[0] != "host" {
		t.Errorf("remove host by id: got %d, %v", r.status, s.Backend.(*fakeBackend).nets.removed)
	}
}

func endpointOf(t *testing.T, s *testServer) string {
	t.Helper()
	var c struct{ NetworkSettings struct{ EndpointID string } }
	if err := json.Unmarshal([]byte(s.do(t, "GET", "/containers/web/json", "").body), &c); err != nil {
		t.Fatal(err)
	}
	return c.NetworkSettings.EndpointID
}

// BenchmarkList50 is a whole request on a unix socket's worth of handler: 50 running containers.
func BenchmarkList50(b *testing.B) {
	s, req := list50(b)
	b.ReportAllocs()
	for b.Loop() {
		s.ServeHTTP(httptest.NewRecorder(), req)
	}
}

func list50(tb testing.TB) (http.Handler, *http.Request) {
	tb.Helper()
	back := newFakeBackend()
	for i := range 50 {
		key := triton.ContainerKey{Tenant: triton.DefaultTenant, ID: triton.NewID()}
		back.containers[key] = &fakeContainer{c: triton.Container{
			Key: key, Name: fmt.Sprintf("c%d", i), Created: testNow,
			Spec:    triton.Spec{Image: "busybox", ImageID: busyboxImage().ID, Cmd: []string{"sleep", "1000"}, Labels: map[string]string{"a": "b"}},
			State:   triton.State{Status: triton.StatusRunning, StartedAt: testNow},
			Network: triton.Endpoint{Network: "bridge", Address: "172.30.0.2/16", Gateway: "172.30.0.1", MAC: "02:42:ac:1e:00:02"},
		}}
	}
	s := New(Config{Backend: back, Now: time.Now, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Caller: func(*http.Request) (auth.Caller, error) { return auth.Caller{Tenant: triton.DefaultTenant}, nil }})
	return s.Handler(), httptest.NewRequestWithContext(context.Background(), "GET", "/v1.51/containers/json", nil)
}

// TestListReusesRows: what makes docker ps of 50 containers fast is that nothing is encoded or parsed again. Encoding a
// row takes some 50 allocations.
func TestListReusesRows(t *testing.T) {
	h, req := list50(t)
	h.ServeHTTP(httptest.NewRecorder(), req)
	allocs := testing.AllocsPerRun(20, func() { h.ServeHTTP(httptest.NewRecorder(), req) })
	if perRow := allocs / 50; perRow > 8 {
		t.Errorf("got %.1f allocations per row, want 8 at most", perRow)
	}
}

// TestListAnswersAgainWhileNothingChanged: an answer is given again within its second, to its own question and tenant
// only, and never after a change.
func TestListAnswersAgainWhileNothingChanged(t *testing.T) {
	back := newFakeBackend()
	back.still = true
	now, tenant := testNow, triton.DefaultTenant
	s := New(Config{
		Backend: back, Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
		Caller: func(*http.Request) (auth.Caller, error) { return auth.Caller{Tenant: tenant}, nil },
	})
	lists := func(path string) int {
		before := back.lists
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), "GET", path, nil))
		if w.Code != http.StatusOK || w.Body.String() != "[]\n" {
			t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
		return back.lists - before
	}
	for _, step := range []struct {
		name   string
		change func()
		path   string
		want   int
	}{
		{"first", func() {}, "/containers/json", 1},
		{"again", func() {}, "/containers/json", 0},
		{"another question", func() {}, "/containers/json?all=1", 1},
		{"another tenant", func() { tenant = "other" }, "/containers/json", 1},
		{"its own tenant", func() { tenant = triton.DefaultTenant }, "/containers/json", 0},
		{"the next second", func() { now = now.Add(time.Second) }, "/containers/json", 1},
		{"a change", func() { back.changes++ }, "/containers/json", 1},
		{"again after it", func() {}, "/containers/json", 0},
	} {
		step.change()
		if got := lists(step.path); got != step.want {
			t.Errorf("%s: the backend was asked %d times, want %d", step.name, got, step.want)
		}
	}
}

func TestForeignObjectsAreNotFound(t *testing.T) {
	s := stocked(t)
	for _, at := range []string{
		"GET /containers/web/json", "POST /containers/web/start", "POST /containers/web/stop", "POST /containers/web/kill", "POST /containers/web/restart",
		"POST /containers/web/wait", "POST /containers/web/attach", "GET /containers/web/logs?stdout=1", "DELETE /containers/web",
		"POST /containers/web/resize?h=1&w=1",
		"GET /images/busybox/json", "POST /images/busybox/tag?repo=x", "DELETE /images/busybox",
	} {
		method, path, _ := strings.Cut(at, " ")
		if r := s.do(t, method, path, "", "X-Tenant", "other"); r.status != 404 {
			t.Errorf("%s: got %d %s", at, r.status, r.body)
		}
	}
	for _, path := range []string{"/containers/json?all=1", "/images/json"} {
		if r := s.do(t, "GET", path, "", "X-Tenant", "other"); r.body != "[]\n" {
			t.Errorf("%s: got %s", path, r.body)
		}
	}
	if diff := cmp.Diff("hosty web", s.names(t, "")); diff != "" {
		t.Error(diff)
	}
}
