package dockerapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

//go:generate go test -count=1 -run ^TestPageOfTheAPIIsUpToDate$ -update .

const apiPage = "../../docs/docker-api.md"

// TestPageOfTheAPIIsUpToDate asks every endpoint that has no handler, or one that only refuses, what it answers, and
// compares the table with the page that users read.
func TestPageOfTheAPIIsUpToDate(t *testing.T) {
	s := startServer(t)
	var page strings.Builder
	fmt.Fprintf(&page, `# The Docker Engine API on tritond

Generated from the router by %[1]sgo generate ./pkg/dockerapi%[1]s. tritond speaks versions %[2]s to %[3]s of the API, and has a row
for every endpoint of the definition of 1.56 and for the few that are in none. An endpoint that is not built says so by name,
with status 501; one of swarm mode answers as a docker does that is in no swarm. A field, flag or filter of a served endpoint
works or is refused by name: [what create refuses](#what-create-refuses). A field of create's body that the definition does not
know is refused too, where docker ignores it: who misspells one is told. How commands differ from docker's is in
[docker-differences.md](docker-differences.md).

`, "`", MinAPIVersion, MaxAPIVersion)
	served, rows := 0, strings.Builder{}
	for _, r := range routeTable() {
		answer := "served"
		if reach := routeReach[r.method+" "+r.path].reach; reach == "" || reach == reachUnbuilt {
			answer = refusal(t, s, r)
		} else {
			served++
		}
		fmt.Fprintf(&rows, "| `%s %s` | %s |\n", r.method, strings.ReplaceAll(r.path, "...", ""), answer)
	}
	fmt.Fprintf(&page, "%d of %d are served.\n\n| endpoint | answer |\n|---|---|\n%s", served, len(routeTable()), rows.String())
	page.WriteString(refusedFields())
	if *update {
		if err := os.WriteFile(apiPage, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	raw, err := os.ReadFile(apiPage)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(page.String(), string(raw)); diff != "" {
		t.Errorf("%s is out of date, `go generate ./pkg/dockerapi` writes it (-router +page):\n%s", apiPage, diff)
	}
}

// refusedFields is the page's part about the fields that create does not take.
func refusedFields() string {
	rows := strings.Builder{}
	rows.WriteString("\n## What create refuses\n\nFields of `POST /containers/create` that must be left out, or be zero, or one of the values named.\n\n" +
		"| field | taken | why refused |\n|---|---|---|\n")
	rules := createRules()
	for _, path := range sortedKeys(rules) {
		if r := rules[path]; r.kind == refused || r.kind == answered {
			taken := strings.Join(r.also, ", ")
			if taken != "" {
				taken = "`" + taken + "`"
			}
			fmt.Fprintf(&rows, "| `%s` | %s | %s |\n", path, taken, or(r.why, "not built"))
		}
	}
	return rows.String()
}

// refusal is what an endpoint without a handler answers.
func refusal(t *testing.T, s *testServer, r route) string {
	t.Helper()
	got := s.do(t, r.method, strings.NewReplacer("{", "", "}", "", "...", "").Replace(r.path), "")
	var body struct{ Message string }
	if err := json.Unmarshal([]byte(got.body), &body); err != nil && r.method != http.MethodHead {
		t.Errorf("%s %s: %q: %v", r.method, r.path, got.body, err)
	}
	switch got.status {
	case http.StatusServiceUnavailable:
		return "503: not in a swarm"
	case http.StatusNotImplemented:
		// The usual text names the endpoint, which is in the row already.
		_, why, _ := strings.Cut(body.Message, r.method+" "+strings.ReplaceAll(r.path, "...", "")+": ")
		if why != "" {
			return "refused, 501: " + why
		}
		return "refused, 501"
	}
	t.Errorf("%s %s is no refusal: %d %s", r.method, r.path, got.status, got.body)
	return ""
}
