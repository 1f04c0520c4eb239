package coredump

import (
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

func TestQueriesChooseDumps(t *testing.T) {
	r := &Record{
		ID: "0123456789ab", Container: triton.ContainerKey{ID: "cafe"}, Name: "shop-web", Image: "reg:5000/web:1.2", Signal: "SIGSEGV", Comm: "nginx",
		Body: BodyMini, At: testTime, Analysis: &Analysis{Group: "feed00000001"}, Modules: []Module{{BuildID: "aa11"}, {BuildID: "bb22"}},
	}
	now := testTime.Add(36 * time.Hour)
	for query, want := range map[string]bool{
		"":                                  true,
		"signal=SIGSEGV":                    true,
		"signal!=SIGSEGV":                   false,
		"signal=SIGABRT":                    false,
		"image=reg:5000/web":                true,
		"image=reg:5000/web:1.2 comm=nginx": true,
		"image~web":                         true,
		"image!~web":                        false,
		"container=shop-web":                true,
		"container=cafe":                    true,
		"mtime<2d":                          true,
		"mtime<35h":                         false,
		"mtime>35h":                         true,
		"buildid=bb22":                      true,
		"buildid!=bb22":                     false,
		"kind=crash body=mini":              true,
		"group=feed00000001":                true,
		"group!=feed00000001":               false,
		"frame~parse_":                      true,
		"frame~render":                      false,
		"signal=SIGSEGV image~web mtime<2d frame~parse_": true,
		"signal=SIGSEGV frame~render":                    false,
	} {
		q, err := ParseQuery(query)
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		if got := q.Holds(r, now, func() []string { return []string{"main", "parse_header"} }); got != want {
			t.Errorf("%q: %v, want %v", query, got, want)
		}
	}
	for _, query := range []string{"x", "=x", "colour=red", "signal=", "signal<3", "mtime=2d", "mtime<d", "mtime<2y", "signal!x", "mtime<99999999999d"} {
		if _, err := ParseQuery(query); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v, want that it is refused", query, err)
		}
	}
}

func FuzzParseQuery(f *testing.F) {
	f.Add("signal=SIGSEGV image=web mtime<2d frame~parse_")
	f.Fuzz(func(_ *testing.T, text string) {
		if q, err := ParseQuery(text); err == nil {
			q.Holds(&Record{}, testTime, func() []string { return nil })
		}
	})
}
