package telemetry

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

// fill gives every number of a value another one, from n on.
func fill(v reflect.Value, n *uint64) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case v.CanInt():
		v.SetInt(int64(*n))
		*n++
	case v.CanUint():
		v.SetUint(*n)
		*n++
	}
}

// busy is a sample i seconds after the start of which every number that windows keep is at least base, and grows; half of the
// buckets of its histograms do.
func busy(i int, base uint64) Sample {
	s := sampleAt(i)
	n := base + uint64(i)<<20
	for _, part := range []any{&s.Usage, &s.Counters, &s.Network, &s.Block} {
		fill(reflect.ValueOf(part).Elem(), &n)
	}
	s.Usage.Time = s.Time.Add(3 * time.Millisecond)
	for k := range s.Durations.Counts[:len(s.Durations.Counts)/2] {
		s.Durations.Counts[k] = uint64(i) * 20
		s.RunQueue.Counts[k] = uint64(i) * 5
	}
	return s
}

// A number that is new in a sample and that packed does not know fails here.
func TestWindowsKeepEveryNumber(t *testing.T) {
	for _, base := range []uint64{0, 1, 127, 1 << 62} {
		want := busy(7, base)
		want.NoCalls, want.CallsEstimated = base == 1, base == 127
		if base == 0 {
			want.Usage.Time = time.Time{}
		}
		got, rest := pack(&want).unpack()
		if len(rest) != 0 {
			t.Errorf("%d bytes left", len(rest))
		}
		want.Durations, want.RunQueue = triton.Histogram{}, triton.Histogram{}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("from %d on (-want +got):\n%s", base, d)
		}
		cpu := pack(&want).cpu()
		if cpu.Used != want.Usage.CPUTotal || !cpu.At.Equal(want.Usage.Time) || !cpu.Time.Equal(want.Time) {
			t.Errorf("reading of the CPU: %+v", cpu)
		}
	}
}

func TestHeatsKeepEveryBucket(t *testing.T) {
	h := triton.Histogram{Schema: 0, First: heatFirst, Counts: make([]uint64, heatBuckets)}
	for i := range h.Counts {
		h.Counts[i] = uint64(1) << i // the last ones are more than is believed of a second
	}
	got, rest := packed{}.packHeat(h).packHeat(triton.Histogram{}).unpackHeat()
	for i := 32; i < heatBuckets; i++ {
		h.Counts[i] = 1<<32 - 1
	}
	if d := cmp.Diff(h, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if none, rest := rest.unpackHeat(); none.Count() != 0 || len(rest) != 0 {
		t.Errorf("after it: %v, %d bytes", none, len(rest))
	}
	out := triton.Histogram{Schema: 0, First: heatFirst - 2, Counts: make([]uint64, heatBuckets+4)}
	out.Counts[0], out.Counts[len(out.Counts)-1] = 3, 4
	if got, _ := (packed{}).packHeat(out).unpackHeat(); got.Counts[0] != 3 || got.Counts[heatBuckets-1] != 4 {
		t.Errorf("what is beyond the buckets: %v", got.Counts)
	}
}

// Though every number is larger than 2^48 (three days of a CPU in nanoseconds, 256 TiB), and a million durations come to each
// bucket of both histograms from one sample to the next.
func TestWindowTakesAtMost60KiB(t *testing.T) {
	w := newWindow()
	for i := range 2 * (secondsKept + tensKept) {
		s := busy(10*i, 1<<48)
		for k := range s.Durations.Counts {
			s.Durations.Counts[k], s.RunQueue.Counts[k] = uint64(i)<<18, uint64(i)<<18 // four of them are one of schema 0
		}
		w.add(s)
	}
	size := 0
	for _, r := range []*ring[packed]{&w.seconds, &w.tens} {
		if cap(r.vals) != r.max {
			t.Errorf("room for %d of %d", cap(r.vals), r.max)
		}
		for _, b := range r.vals {
			size += cap(b) + int(reflect.TypeFor[packed]().Size())
		}
	}
	if size > 60<<10 {
		t.Errorf("a full window has %d bytes", size)
	}
}

func TestCallsAreKeptWithoutEmptyBuckets(t *testing.T) {
	s := New(Config{})
	key := newKey()
	given := sampleAt(1)
	given.PerSyscall = []SyscallSample{
		{Nr: 1, Count: 2, Durations: triton.Histogram{First: -3, Counts: []uint64{0, 1, 0, 1, 0}}},
		{Nr: 2, Count: 1, Errors: 1},
		{Nr: 3, Count: 4, Durations: triton.Histogram{First: -3, Counts: []uint64{4, 0, 0, 0, 0}}},
	}
	s.Add(key, "web", "nginx", func() (Sample, error) { return given, nil })
	s.pass(t.Context())
	got, _ := s.Last(key)
	want := []SyscallSample{
		{Nr: 1, Count: 2, Durations: triton.Histogram{First: -2, Counts: []uint64{1, 0, 1}}},
		{Nr: 2, Count: 1, Errors: 1},
		{Nr: 3, Count: 4, Durations: triton.Histogram{First: -3, Counts: []uint64{4}}},
	}
	if d := cmp.Diff(want, got.PerSyscall, cmp.Transformer("nil", func(c []uint64) []uint64 { return append([]uint64{}, c...) })); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if len(given.PerSyscall[0].Durations.Counts) != 5 {
		t.Error("the source's own was changed")
	}
}
