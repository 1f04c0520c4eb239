package tritonapi

import (
	"net/url"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

func TestParametersOfAProfile(t *testing.T) {
	for query, want := range map[string]profileAsked{
		"":                                    {during: 10 * time.Second},
		"kind=off-cpu&seconds=0.5&form=flame": {kind: triton.OffCPU, during: 500 * time.Millisecond, flame: true},
		"kind=cpu&seconds=300&form=pprof":     {during: 5 * time.Minute},
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := profileOptions(q); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", query, got, err, want)
		}
	}
	for _, query := range []string{"kind=x", "seconds=0", "seconds=-1", "seconds=301", "seconds=NaN", "seconds=1e99", "seconds=1&seconds=2", "form=x", "x=1", "kind="} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := profileOptions(q); err == nil {
			t.Errorf("%s was taken: %+v", query, got)
		}
	}
}
