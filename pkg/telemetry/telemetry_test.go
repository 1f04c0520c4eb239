package telemetry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/tritond/triton/pkg/triton"
)

var start = time.Unix(1_700_000_000, 0)

func newKey() triton.ContainerKey {
	return triton.ContainerKey{Tenant: triton.DefaultTenant, ID: triton.NewID()}
}

// sampleAt is a sample i seconds after the start whose counters are i, with i durations of 1 ms.
func sampleAt(i int) Sample {
	h := triton.Histogram{Schema: 2, First: -96, Counts: make([]uint64, 145), SumNs: uint64(i) * 1e6}
	h.Counts[96-39] = uint64(i) // 2^(-40/4) s < 1 ms <= 2^(-39/4) s
	return Sample{
		Time: start.Add(time.Duration(i) * time.Second), Counters: Counters{Syscalls: uint64(i)}, Durations: h,
		RunQueue: triton.Histogram{Schema: 2, First: -96, Counts: make([]uint64, 145)},
	}
}

func TestWindowKeepsAMinuteOfSecondsAndTenMinutesOfTens(t *testing.T) {
	w := newWindow()
	const n = 1000
	for i := range n {
		w.add(sampleAt(i))
	}
	got := w.samples()
	if last := got[len(got)-1]; last.Syscalls != n-1 {
		t.Errorf("newest sample is %d, want %d", last.Syscalls, n-1)
	}
	seconds := got[len(got)-secondsKept:]
	for i, s := range seconds {
		if want := uint64(n - secondsKept + i); s.Syscalls != want || s.Durations.Count() != 1 {
			t.Errorf("second %d: counter %d, %d durations, want %d and 1", i, s.Syscalls, s.Durations.Count(), want)
		}
	}
	tens := got[:len(got)-secondsKept]
	for i := 1; i < len(tens); i++ {
		if d := tens[i].Time.Sub(tens[i-1].Time); d != tensApart {
			t.Errorf("ten %d came %s after the one before", i, d)
		}
		if len(tens[i].Durations.Counts) != 0 {
			t.Errorf("ten %d has a histogram", i)
		}
	}
	if span := got[len(got)-1].Time.Sub(got[0].Time); span < 9*time.Minute+30*time.Second || span > 10*time.Minute {
		t.Errorf("window spans %s, want about ten minutes", span)
	}
}

func TestWindowHeatIsExactAtSchema0(t *testing.T) {
	w := newWindow()
	w.add(sampleAt(1))
	w.add(sampleAt(8))
	got := w.samples()[1].Durations
	want := triton.Histogram{Schema: 0, First: heatFirst, Counts: make([]uint64, heatBuckets)}
	want.Counts[-9-heatFirst] = 7 // 2^-10 s < 1 ms <= 2^-9 s
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// scripted is a source that counts its calls.
func scripted() Source {
	i := 0
	return func() (Sample, error) {
		i++
		return sampleAt(i), nil
	}
}

func TestSubscribersGetSamplesAndCountWhatTheyMiss(t *testing.T) {
	s := New(Config{})
	a, b := newKey(), newKey()
	s.Add(a, "a", "img", scripted())
	s.Add(b, "b", "img", scripted())
	only, err := s.Subscribe(2, a)
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.Subscribe(100)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		s.pass(t.Context())
	}
	if len(all.C) != 10 || all.Dropped() != 0 {
		t.Errorf("subscriber to all has %d updates, dropped %d; want 10 and 0", len(all.C), all.Dropped())
	}
	if len(only.C) != 2 || only.Dropped() != 3 {
		t.Errorf("slow subscriber has %d updates, dropped %d; want 2 and 3", len(only.C), only.Dropped())
	}
	if u := <-only.C; u.Key != a || u.Name != "a" || u.Sample.Syscalls != 1 {
		t.Errorf("first update is %+v", u)
	}
	only.Close()
	only.Close()
	s.pass(t.Context())
	if len(only.C) != 1 {
		t.Error("a closed subscription got an update")
	}
	if _, err := s.Subscribe(0); !errdefs.IsInvalidArgument(err) {
		t.Errorf("queue of none: %v", err)
	}
}

func TestRemovedContainersLeaveNothing(t *testing.T) {
	s := New(Config{})
	key := newKey()
	s.Add(key, "a", "img", func() (Sample, error) {
		s.Remove(key) // while it is being sampled
		return sampleAt(1), nil
	})
	s.pass(t.Context())
	if w := s.Window(key); w != nil {
		t.Errorf("window of %d samples left", len(w))
	}
	if _, ok := s.Last(key); ok {
		t.Error("a last sample left")
	}
}

func TestSourceErrorsAreCountedAndKeepTheLastSample(t *testing.T) {
	s := New(Config{})
	key := newKey()
	answers := []error{nil, errors.New("boom"), fmt.Errorf("ending: %w", errdefs.ErrNotFound)}
	i := 0
	s.Add(key, "a", "img", func() (Sample, error) {
		i++
		return sampleAt(i), answers[i-1]
	})
	for range answers {
		s.pass(t.Context())
	}
	if n := s.sourceErrors.Load(); n != 1 {
		t.Errorf("%d errors counted, want 1", n)
	}
	if last, ok := s.Last(key); !ok || last.Syscalls != 1 {
		t.Errorf("last sample %v, %t", last.Syscalls, ok)
	}
}

func TestRunSamplesUntilItsContextEnds(t *testing.T) {
	s := New(Config{Interval: time.Millisecond})
	s.Add(newKey(), "a", "img", scripted())
	sub, err := s.Subscribe(1000)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for range 3 {
		<-sub.C
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// scrape gets the families of a store in the given exposition format.
func scrape(t *testing.T, s *Store, accept string) (map[string]*dto.MetricFamily, string) {
	t.Helper()
	req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	rec := httptest.NewRecorder()
	s.Handler().ServeHTTP(rec, req)
	if rec.Code != http.StatusOK {
		t.Fatalf("status %d: %s", rec.Code, rec.Body)
	}
	body := rec.Body.String()
	families := map[string]*dto.MetricFamily{}
	dec := expfmt.NewDecoder(strings.NewReader(body), expfmt.ResponseFormat(rec.Header()))
	for {
		var f dto.MetricFamily
		if err := dec.Decode(&f); err != nil {
			break
		}
		families[f.GetName()] = &f
	}
	return families, body
}

const protobuf = `application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited`

// full is a store with one container whose sample has no zero.
func full(t *testing.T, cfg Config) *Store {
	t.Helper()
	s := New(cfg)
	sample := sampleAt(3)
	sample.Durations.Counts[0] = 5           // the shortest
	sample.Durations.Counts[96+17] = 2       // 16 s < d: beyond the last classic bound
	sample.RunQueue.Counts[96] = 4           // 1 s exactly
	sample.Usage.CPUTotal = 90 * time.Second // 90
	sample.Usage.MemoryWorkingSet = 4096
	sample.Usage.Pressure.IOFull = time.Second
	for nr := range 40 {
		sample.PerSyscall = append(sample.PerSyscall, SyscallSample{Nr: nr, Count: 2, Errors: 1, Durations: sample.Durations.Coarsen(0)})
	}
	s.Add(newKey(), "web", "nginx", func() (Sample, error) { return sample, nil })
	s.pass(t.Context())
	return s
}

func TestMetricsHaveBothFormsOfHistogram(t *testing.T) {
	s := full(t, Config{Node: "n1"})
	families, _ := scrape(t, s, protobuf)
	h := families["triton_container_syscall_duration_seconds"].GetMetric()[0].GetHistogram()
	if h.GetSampleCount() != 10 || h.GetSchema() != 2 {
		t.Errorf("count %d, schema %d", h.GetSampleCount(), h.GetSchema())
	}
	native := map[int]int64{}
	index, at, count := 0, 0, int64(0)
	for _, span := range h.GetPositiveSpan() {
		index += int(span.GetOffset())
		for range span.GetLength() {
			count += h.GetPositiveDelta()[at]
			native[index] = count
			at++
			index++
		}
	}
	if d := cmp.Diff(map[int]int64{-96: 5, -39: 3, 17: 2}, native); d != "" {
		t.Errorf("native buckets (-want +got):\n%s", d)
	}
	for _, b := range h.GetBucket() {
		var want uint64
		for i, n := range native {
			if math.Exp2(float64(i)/4) <= b.GetUpperBound() {
				want += uint64(n)
			}
		}
		if b.GetCumulativeCount() != want && !math.IsInf(b.GetUpperBound(), 1) {
			t.Errorf("classic bucket up to %g holds %d, native ones hold %d", b.GetUpperBound(), b.GetCumulativeCount(), want)
		}
	}
	waits := families["triton_container_runqueue_latency_seconds"].GetMetric()[0].GetHistogram()
	for _, b := range waits.GetBucket() { // 1 s belongs to the buckets that end at 1 s or later
		want := uint64(0)
		if b.GetUpperBound() >= 1 {
			want = 4
		}
		if b.GetCumulativeCount() != want {
			t.Errorf("bucket up to %g holds %d, want %d", b.GetUpperBound(), b.GetCumulativeCount(), want)
		}
	}
}

func TestTextMetricsAreValidAndNamedAsCAdvisorDoes(t *testing.T) {
	s := full(t, Config{
		Node: "n1", Drops: func() map[string]uint64 { return map[string]uint64{"ring": 7} },
		Missing: func() []string { return []string{"oom_kills"} },
	})
	_, body := scrape(t, s, "")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{
		"container_cpu_usage_seconds_total":           90,
		"container_memory_working_set_bytes":          4096,
		"container_pressure_io_stalled_seconds_total": 1,
		"triton_container_syscalls_total":             3,
		"triton_container_info":                       1,
		"triton_program_missing":                      1,
	} {
		f := families[name]
		if f == nil {
			t.Errorf("%s is missing", name)
			continue
		}
		m := f.GetMetric()[0]
		if got := m.GetCounter().GetValue() + m.GetGauge().GetValue(); got != want {
			t.Errorf("%s is %g, want %g", name, got, want)
		}
	}
	for _, want := range []string{
		`triton_dropped_total{reason="ring"} 7`, `triton_dropped_total{reason="subscriber"} 0`,
		`triton_container_syscall_duration_seconds_bucket{`, `tenant="default"`, `node="n1"`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%s is missing", want)
		}
	}
}

// A zero says that nothing happened; of what is not measured there is no series.
func TestWhatIsNotMeasuredHasNoSeries(t *testing.T) {
	for program, gone := range map[string]string{"sys_enter": "triton_container_syscall", "sched_switch": "triton_container_runqueue", "oom_kills": ""} {
		_, all := scrape(t, full(t, Config{PerSyscall: true}), "")
		_, body := scrape(t, full(t, Config{PerSyscall: true, Missing: func() []string { return []string{program} }}), "")
		for line := range strings.Lines(all) {
			if !strings.HasPrefix(line, "triton_container_") || strings.Contains(line, "_created") {
				continue
			}
			name, _, _ := strings.Cut(line, "{")
			if want := gone == "" || !strings.HasPrefix(name, gone); strings.Contains(body, "\n"+name+"{") != want {
				t.Errorf("without %s: %s is served: %t, want %t", program, name, !want, want)
			}
		}
	}
}

// The same holds of one container of which less is measured than of others, and estimates are told from counts.
func TestContainersHaveSeriesOfWhatIsMeasuredOfThemAlone(t *testing.T) {
	s := New(Config{PerSyscall: true})
	for name, change := range map[string]func(*Sample){
		"full": func(*Sample) {}, "quiet": func(s *Sample) { s.NoCalls = true }, "off": func(s *Sample) { s.NoCalls, s.NoWaits = true, true },
		"guessed": func(s *Sample) { s.CallsGuessed = 0.75 },
	} {
		sample := sampleAt(1)
		change(&sample)
		s.Add(newKey(), name, "image", func() (Sample, error) { return sample, nil })
	}
	s.pass(t.Context())
	_, body := scrape(t, s, "")
	for metric, want := range map[string][]string{
		"triton_container_syscalls_total{":                 {"full", "guessed"},
		"triton_container_syscall_duration_seconds_count{": {"full", "guessed"},
		"triton_container_runqueue_latency_seconds_count{": {"full", "guessed", "quiet"},
		"container_cpu_schedstat_runqueue_seconds_total{":  {"full", "guessed", "quiet"},
		"container_cpu_usage_seconds_total{":               {"full", "guessed", "off", "quiet"},
		"triton_container_syscall_sampled_ratio{":          {"full", "guessed"},
		"triton_container_syscalls_variance_total{":        {"guessed"},
	} {
		var got []string
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, metric) {
				_, rest, _ := strings.Cut(line, `name="`)
				name, value, _ := strings.Cut(rest, `"`)
				got = append(got, name)
				if strings.HasPrefix(metric, "triton_container_syscall_sampled") && strings.HasSuffix(value, " 0.25\n") != (name == "guessed") {
					t.Errorf("sampled ratio: %s", line)
				}
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s is there for %v, want %v", metric, got, want)
		}
	}
}

// series counts the lines about the container.
func series(body string) int {
	n := 0
	for _, line := range strings.Split(body, "\n") {
		if strings.Contains(line, `name="web"`) {
			n++
		}
	}
	return n
}

func TestAContainerHasAtMost60Series(t *testing.T) {
	_, body := scrape(t, full(t, Config{}), "")
	if n := series(body); n > 60 || n < 40 {
		t.Errorf("%d series", n)
	}
	_, body = scrape(t, full(t, Config{PerSyscall: true}), "")
	if n := series(body); n < 60+40*3 {
		t.Errorf("with each call: %d series", n)
	}
	if !strings.Contains(body, `syscall="openat"`) && !strings.Contains(body, `syscall="open"`) {
		t.Error("calls have no names")
	}
}

func TestEmptyHistogramsAreNativeToo(t *testing.T) {
	s := New(Config{})
	s.Add(newKey(), "web", "nginx", func() (Sample, error) { return Sample{Time: start}, nil })
	s.pass(t.Context())
	families, _ := scrape(t, s, protobuf)
	h := families["triton_container_runqueue_latency_seconds"].GetMetric()[0].GetHistogram()
	if h.GetSampleCount() != 0 || len(h.GetPositiveSpan()) != 1 {
		t.Errorf("got %v", h)
	}
}

func TestSyscallNames(t *testing.T) {
	for nr, want := range map[int]string{0: "read", 231: "exit_group", 511: "other", -1: "-1", 9999: "9999"} {
		if got := SyscallName(nr); got != want {
			t.Errorf("%d is %q, want %q", nr, got, want)
		}
	}
}
