package tritonapi

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

func TestTraceStreamsLinesAndRefusesWhatItDoesNotKnow(t *testing.T) {
	owner := &auth.Caller{Name: "a", Tenant: "acme"}
	path := wire.TracePath(acmesName, wire.TraceQuery{Patterns: []string{"open*"}, TraceFilter: triton.TraceFilter{Errors: true, Slower: 5, Comm: "x y", Memory: true}})
	status, body := ask(newAPI(), "GET "+path, acmesName, owner)
	lines := strings.Split(strings.TrimSpace(body), "\n")
	if status != http.StatusOK || len(lines) != 3 || !strings.Contains(lines[0], `"error":"ENOENT"`) || !strings.Contains(lines[0], `"args":[5,`) ||
		lines[1] != `{"lost":3}` || !strings.Contains(lines[2], `"ended":`) {
		t.Errorf("%d: %s", status, body)
	}
	for query, want := range map[string]string{
		"syscall=opne": "no system call is named", "errors=perhaps": "errors", "slower=5": "slower", "slower=-5s": "less than nothing", "speed=1": "unknown parameter",
	} {
		path := wire.Prefix + "containers/" + acmesName + "/trace?" + query
		if status, body := ask(newAPI(), "GET "+path, acmesName, owner); status != http.StatusBadRequest || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s, want 400 with %s", query, status, body, want)
		}
	}
}
