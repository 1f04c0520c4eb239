package profile

import (
	"encoding/json"
	"testing"

	"github.com/google/pprof/profile"
)

// The tree has each stack from its outermost function, functions that were put into others below those, the largest first,
// and nothing that is too small to be seen.
func TestFlameIsTheTreeOfCalls(t *testing.T) {
	fn := func(name string) profile.Line { return profile.Line{Function: &profile.Function{Name: name}} }
	at := func(lines ...profile.Line) *profile.Location { return &profile.Location{Line: lines} }
	stack := func(v int64, l ...*profile.Location) *profile.Sample {
		return &profile.Sample{Value: []int64{1, v}, Location: l}
	}
	p := &Profile{Pprof: &profile.Profile{Sample: []*profile.Sample{
		stack(3000, at(fn("leaf")), at(fn("put into"), fn("outer")), at(fn("main"))),
		stack(5000, at(fn("other")), at(fn("main"))),
		stack(1000, at(fn("leaf")), at(fn("main"))),
		stack(1, at(fn("dust")), at(fn("main"))),
	}}}
	got, err := json.Marshal(p.Flame())
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"name":"all","value":9001,"calls":[{"name":"main","value":9001,"calls":[{"name":"other","value":5000},` +
		`{"name":"outer","value":3000,"calls":[{"name":"put into","value":3000,"calls":[{"name":"leaf","value":3000}]}]},{"name":"leaf","value":1000}]}]}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
