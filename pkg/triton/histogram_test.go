package triton

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// example counts 2 durations of up to 1/2 s, 3 of up to 2^(-1/4) s and 5 of up to 1 s.
func example() Histogram {
	return Histogram{Schema: 2, First: -4, Counts: []uint64{2, 0, 0, 3, 5}, SumNs: 7e9}
}

func TestHistogramBoundsArePowersOfTwo(t *testing.T) {
	h := example()
	if h.Bound(0) != 0.5 || h.Bound(4) != 1 {
		t.Errorf("bounds %g and %g, want 0.5 and 1", h.Bound(0), h.Bound(4))
	}
}

func TestHistogramQuantileIsTheBucketsUpperBound(t *testing.T) {
	h := example()
	for q, want := range map[float64]time.Duration{0: 500 * time.Millisecond, 0.2: 500 * time.Millisecond, 0.51: time.Second, 1: time.Second} {
		if got := h.Quantile(q); got != want {
			t.Errorf("quantile %g is %s, want %s", q, got, want)
		}
	}
	if got := (Histogram{}).Quantile(0.5); got != 0 {
		t.Errorf("quantile of nothing is %s", got)
	}
}

func TestHistogramCoarsenJoinsBucketsExactly(t *testing.T) {
	got := example().Coarsen(0)
	want := Histogram{Schema: 0, First: -1, Counts: []uint64{2, 8}, SumNs: 7e9}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if d := cmp.Diff(example(), example().Coarsen(2)); d != "" {
		t.Errorf("to its own schema (-want +got):\n%s", d)
	}
}

func TestHistogramSubIsWhatCameSince(t *testing.T) {
	before, after := example(), example()
	after.Counts[0] += 4
	after.SumNs += 100
	got := after.Sub(before)
	want := Histogram{Schema: 2, First: -4, Counts: []uint64{4, 0, 0, 0, 0}, SumNs: 100}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if d := cmp.Diff(before, before.Sub(after)); d != "" {
		t.Errorf("after a restart (-want +got):\n%s", d)
	}
	if d := cmp.Diff(after, after.Sub(Histogram{})); d != "" {
		t.Errorf("before nothing (-want +got):\n%s", d)
	}
}

func TestHistogramSubTakesSpansThatDiffer(t *testing.T) {
	for name, c := range map[string]struct{ before, want Histogram }{
		"within":    {Histogram{Schema: 2, First: -1, Counts: []uint64{1, 5}, SumNs: 1e9}, Histogram{Schema: 2, First: -4, Counts: []uint64{2, 0, 0, 2, 0}, SumNs: 6e9}},
		"wider":     {Histogram{Schema: 2, First: -9, Counts: []uint64{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0}, SumNs: 1e9}, Histogram{Schema: 2, First: -4, Counts: []uint64{1, 0, 0, 3, 5}, SumNs: 6e9}},
		"fell low":  {Histogram{Schema: 2, First: -5, Counts: []uint64{1, 1}}, example()},
		"fell high": {Histogram{Schema: 2, First: 0, Counts: []uint64{5, 1}}, example()},
		"other":     {Histogram{Schema: 0, First: -4, Counts: []uint64{1, 0, 0, 0, 0}}, example()},
	} {
		if d := cmp.Diff(c.want, example().Sub(c.before)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestHistogramTrimLeavesOutEmptyEnds(t *testing.T) {
	h := Histogram{Schema: 2, First: -6, Counts: []uint64{0, 0, 2, 0, 0, 3, 5, 0}, SumNs: 7e9}
	if d := cmp.Diff(example(), h.Trim()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if got := (Histogram{First: 3, Counts: []uint64{0, 0}}).Trim(); len(got.Counts) != 0 {
		t.Errorf("of nothing: %v", got)
	}
}
