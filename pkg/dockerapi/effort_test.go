package dockerapi

import (
	"net/http/httptest"
	"testing"

	"github.com/tritond/triton/pkg/throttle"
)

// An endpoint that is renamed, or misspelt, would silently take what others take.
func TestEffortsAreOfEndpoints(t *testing.T) {
	known := map[string]bool{}
	for _, r := range routeTable() {
		known[r.method+" "+r.path] = true
	}
	for endpoint, e := range efforts {
		if !known[endpoint] {
			t.Errorf("%s has no row", endpoint)
		}
		if e.Measured && e.Waits {
			t.Errorf("%s is measured, so it must not wait: a thread is its own meanwhile", endpoint)
		}
	}
}

func TestEffortIsOfTheEndpoint(t *testing.T) {
	s := startServer(t)
	for _, tc := range []struct {
		method, path string
		want         throttle.Effort
	}{
		{"GET", "/v1.51/containers/json?all=1", throttle.Effort{Measured: true}},
		{"GET", "/containers/json", throttle.Effort{Measured: true}},
		{"POST", "/v1.51/containers/x/wait", throttle.Effort{Waits: true}},
		{"GET", "/events", throttle.Effort{Waits: true}},
		{"POST", "/v1.51/containers/x/exec", throttle.Effort{CPU: changing}},
		{"GET", "/_ping", throttle.Effort{}},
		{"GET", "/nothing", throttle.Effort{}},
	} {
		if got := s.Effort(httptest.NewRequest(tc.method, tc.path, nil)); got != tc.want {
			t.Errorf("%s %s: got %+v, want %+v", tc.method, tc.path, got, tc.want)
		}
	}
}
