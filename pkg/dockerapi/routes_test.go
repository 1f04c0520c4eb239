package dockerapi

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEveryEndpointHasARow reads testdata/endpoints.txt: the 108 endpoints of API 1.56's definition (swagger.yaml of
// github.com/moby/moby/api v1.56.1).
func TestEveryEndpointHasARow(t *testing.T) {
	raw, err := os.ReadFile("testdata/endpoints.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if got, want := len(lines), 108; got != want {
		t.Fatalf("endpoints: got %d, want %d", got, want)
	}
	inTable := map[string]bool{}
	for _, r := range routeTable() {
		inTable[r.method+" "+strings.ReplaceAll(r.path, "...", "")] = true
	}
	for _, line := range append(lines, "POST /grpc", "POST /session", "GET /debug/{path}") {
		if !inTable[line] {
			t.Errorf("no row for %s", line)
		}
	}
	idx := indexRoutes(routeTable())
	for _, r := range routeTable() {
		path := strings.NewReplacer("{name...}", "a/b", "{path...}", "x/y", "{", "", "}", "").Replace(r.path)
		got, _ := idx.find(r.method, path)
		if got == nil || got.path != r.path {
			t.Errorf("%s %s: finds %+v, want %s", r.method, path, got, r.path)
		}
	}
}

func TestMatchBindsNames(t *testing.T) {
	idx := indexRoutes(routeTable())
	for _, tc := range []struct {
		method, path, want string
		vars               map[string]string
	}{
		{"GET", "/images/a/b:1/json", "/images/{name...}/json", map[string]string{"name": "a/b:1"}},
		{"GET", "/images/json", "/images/json", nil},
		{"GET", "/images/get", "/images/get", nil},
		{"GET", "/images/x/get", "/images/{name...}/get", map[string]string{"name": "x"}},
		{"DELETE", "/images/r:5/a/json", "/images/{name...}", map[string]string{"name": "r:5/a/json"}},
		{"POST", "/containers/x/start", "/containers/{id}/start", map[string]string{"id": "x"}},
		{"POST", "/containers/x/y/start", "", nil},
		{"POST", "/containers//start", "", nil},
		{"GET", "/containers/x/start", "", nil},
		{"GET", "", "", nil},
		{"GET", "/", "", nil},
	} {
		got, vars := idx.find(tc.method, tc.path)
		path := ""
		if got != nil {
			path = got.path
		}
		if path != tc.want {
			t.Errorf("%s %s: got %q, want %q", tc.method, tc.path, path, tc.want)
		}
		if diff := cmp.Diff(tc.vars, vars); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", tc.method, tc.path, diff)
		}
	}
}

func TestUnbuiltEndpointsSayWhatIsMissing(t *testing.T) {
	s := startServer(t)
	s.do(t, "POST", "/build", "").want(t, 501, "POST /build is not supported by this version of triton")
	s.do(t, "POST", "/session", "", "Upgrade", "h2c", "Connection", "Upgrade").want(t, 501, "POST /session is not supported by this version of triton")
	s.do(t, "POST", "/swarm/init", "{}").want(t, 501, "POST /swarm/init is not supported by this version of triton")
	s.do(t, "GET", "/v1.44/services", "").want(t, 503,
		`This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
	if got := s.do(t, "GET", "/plugins", ""); got.status != 200 || got.body != "[]\n" {
		t.Errorf("plugins: %+v", got)
	}
}

func TestUnknownPathAndWrongMethodAreNotFound(t *testing.T) {
	s := startServer(t)
	for _, at := range []string{"GET /nope", "DELETE /version", "GET /v1.43/nope", "GET /v9.9/nope", "GET /vx/version", "PATCH /_ping"} {
		method, path, _ := strings.Cut(at, " ")
		r := s.do(t, method, path, "")
		r.want(t, 404, "page not found")
		if r.header.Get("Api-Version") != MaxAPIVersion {
			t.Errorf("%s: no Api-Version header", at)
		}
	}
}

func TestPing(t *testing.T) {
	s := startServer(t)
	for _, at := range []string{"GET /_ping", "HEAD /_ping", "GET /v1.40/_ping", "HEAD /v1.51/_ping"} {
		method, path, _ := strings.Cut(at, " ")
		r := s.do(t, method, path, "")
		body := "OK"
		if method == http.MethodHead {
			body = ""
		}
		if r.status != 200 || r.body != body {
			t.Errorf("%s: got %d %q", at, r.status, r.body)
		}
		for name, want := range map[string]string{
			"Api-Version": "1.51", "Docker-Experimental": "false", "Ostype": "linux", "Server": "Triton/0.1 (linux)", "Swarm": "inactive",
			"Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache", "Content-Type": "text/plain; charset=utf-8",
		} {
			if got := r.header.Get(name); got != want {
				t.Errorf("%s: %s: got %q, want %q", at, name, got, want)
			}
		}
	}
}

func TestVersionPrefix(t *testing.T) {
	s := startServer(t)
	s.do(t, "GET", "/v1.99/version", "").want(t, 400, "client version 1.99 is too new. Maximum supported API version is 1.51")
	s.do(t, "GET", "/v2.1/version", "").want(t, 400, "client version 2.1 is too new. Maximum supported API version is 1.51")
	s.do(t, "GET", "/v1.39/version", "").want(t, 400,
		"client version 1.39 is too old. Minimum supported API version is 1.40, please upgrade your client to a newer version")
	r := s.do(t, "GET", "/v1.20/version", "")
	want := "client version 1.20 is too old. Minimum supported API version is 1.40, please upgrade your client to a newer version\n"
	if r.status != 400 || r.body != want || !strings.HasPrefix(r.header.Get("Content-Type"), "text/plain") {
		t.Errorf("1.20: got %+v", r)
	}
	for _, path := range []string{"/version", "/v1.40/version", "/v1.51/version"} {
		if r := s.do(t, "GET", path, ""); r.status != 200 || !strings.Contains(r.body, `"ApiVersion":"1.51","MinAPIVersion":"1.40"`) {
			t.Errorf("%s: %+v", path, r)
		}
	}
}
