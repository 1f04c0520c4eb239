package dashboard

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// filterRows are the containers of testdata/filter.json; the page's test has the same.
func filterRows() []row {
	return []row{
		{meta: RowMeta{ID: "aa11", Name: "web", Image: "registry/app:2", Status: "running", Labels: map[string]string{"team": "edge"}},
			vals: [tableCols]float32{colCPU: 0.75, colMemory: 32 << 20, colWait99: 0.004, colSyscalls: 5000}},
		{meta: RowMeta{ID: "bb22", Name: "db", Image: "pg:16", Status: "running", Labels: map[string]string{"team": "core-db", "note": "two words"}},
			vals: [tableCols]float32{colCPU: 0.25, colMemory: 128 << 20, colWait99: 0.001, colSyscalls: 900}},
		{meta: RowMeta{ID: "cc33", Name: "idle", Image: "busybox", Status: "exited", Restarts: 3},
			vals: [tableCols]float32{nan32, nan32, nan32, nan32, nan32, nan32, nan32, nan32}},
	}
}

// TestFilterVectors: the page parses the same queries by the same file.
func TestFilterVectors(t *testing.T) {
	var vectors []struct {
		Query     string   `json:"q"`
		Canonical string   `json:"canonical"`
		Match     []string `json:"match"`
		Error     bool     `json:"error"`
	}
	data, err := os.ReadFile("testdata/filter.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 20 {
		t.Fatalf("only %d vectors", len(vectors))
	}
	for _, v := range vectors {
		f, err := ParseFilter(v.Query)
		if (err != nil) != v.Error {
			t.Errorf("%q: error %v, want one: %v", v.Query, err, v.Error)
		}
		if err != nil {
			continue
		}
		if got := f.String(); got != v.Canonical {
			t.Errorf("%q: canonical form %q, want %q", v.Query, got, v.Canonical)
		}
		var match []string
		for _, r := range filterRows() {
			if f.Match(&r.meta, r.vals[:]) {
				match = append(match, r.meta.Name)
			}
		}
		if diff := cmp.Diff(v.Match, match); diff != "" {
			t.Errorf("%q matches (-want +got):\n%s", v.Query, diff)
		}
	}
}

func FuzzParseFilter(f *testing.F) {
	for _, q := range []string{"", "web -db", "cpu>0.5 mem<1G", `label:"a=b c"`, "name:*?*", `-"x y"`, "\x00:\xff"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, q string) {
		filter, err := ParseFilter(q)
		if err != nil {
			return
		}
		again, err := ParseFilter(filter.String())
		if err != nil || again.String() != filter.String() {
			t.Fatalf("%q: canonical %q parses to %q, %v", q, filter, again, err)
		}
		for _, r := range filterRows() {
			if filter.Match(&r.meta, r.vals[:]) != again.Match(&r.meta, r.vals[:]) {
				t.Fatalf("%q and %q differ on %s", q, filter, r.meta.Name)
			}
		}
	})
}
