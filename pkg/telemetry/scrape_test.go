package telemetry

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/tritond/triton/pkg/triton"
)

// crowd is a store of n containers, each with a name and an image of twelve characters (one more costs a text scrape of
// 1,000 about 57 kB) and histograms with thirty buckets.
func crowd(t testing.TB, n int) *Store {
	t.Helper()
	s := New(Config{Node: "node-17"})
	for i := range n {
		sample := sampleAt(i + 1)
		sample.Started = start
		for b := range 30 {
			sample.Durations.Counts[40+b] = uint64(1000*i + b)
			sample.RunQueue.Counts[30+b] = uint64(1000*i + b)
		}
		sample.Usage.CPUTotal = time.Duration(i) * 1234567891
		sample.Usage.MemoryUsage, sample.Usage.MemoryWorkingSet = uint64(i)*4096000, uint64(i)*2048000
		sample.Network = triton.NetworkUsage{RxBytes: uint64(i) * 123456789, TxBytes: uint64(i) * 987654321}
		s.Add(newKey(), fmt.Sprintf("checkout-%03d", i), "shop/web:1.27", func() (Sample, error) { return sample, nil })
	}
	s.pass(t.Context())
	return s
}

// meter counts what is written to it.
type meter struct {
	header http.Header
	status int
	bytes  int
}

func (m *meter) Header() http.Header         { return m.header }
func (m *meter) WriteHeader(status int)      { m.status = status }
func (m *meter) Write(b []byte) (int, error) { m.bytes += len(b); return len(b), nil }

func get(h http.Handler, accept string) *meter {
	m := &meter{header: http.Header{}, status: http.StatusOK}
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", accept)
	h.ServeHTTP(m, r)
	return m
}

// cpuTime is what this process used: the time on the clock is other processes' as well.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// scrapeMemory bounds what a scrape of 1,000 containers allocates, all of it garbage afterwards.
const scrapeMemory = 64 << 20

func TestAScrapeOf1000ContainersTakesASecondAnd10MB(t *testing.T) {
	h := crowd(t, 1000).Handler()
	for name, accept := range map[string]string{"text": "text/plain", "protobuf": protobuf} {
		t.Run(name, func(t *testing.T) {
			best, allocated := time.Hour, uint64(0)
			for range 3 {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				began := cpuTime(t)
				m := get(h, accept)
				took := cpuTime(t) - began
				best = min(best, took)
				runtime.ReadMemStats(&after)
				allocated = after.TotalAlloc - before.TotalAlloc
				t.Logf("%d bytes, %v of a processor, %d bytes allocated", m.bytes, took, allocated)
				if m.status != http.StatusOK || m.bytes > 10_000_000 || m.bytes < 1_000_000 {
					t.Fatalf("status %d, %d bytes", m.status, m.bytes)
				}
			}
			if best > time.Second && !raceDetector {
				t.Errorf("took %v", best)
			}
			if allocated > scrapeMemory && !raceDetector {
				t.Errorf("allocated %d bytes", allocated)
			}
		})
	}
}

func BenchmarkScrapeOf1000Containers(b *testing.B) {
	h := crowd(b, 1000).Handler()
	for name, accept := range map[string]string{"text": "text/plain", "protobuf": protobuf} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			size := 0
			for b.Loop() {
				size = get(h, accept).bytes
			}
			b.ReportMetric(float64(size), "bytes/scrape")
		})
	}
}

// What a registry would check of a collector's metrics holds for those that the gatherer makes by itself.
func TestSeriesAreConsistent(t *testing.T) {
	s := full(t, Config{PerSyscall: true})
	families, err := joined{s.registry, gatherer{s}}.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	before := ""
	for _, f := range families {
		if f.GetName() <= before {
			t.Errorf("family %s comes after %s", f.GetName(), before)
		}
		before = f.GetName()
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", f.GetName())
		}
		if isCounter := f.GetType().String() == "COUNTER"; strings.HasPrefix(f.GetName(), "triton_") && isCounter != strings.HasSuffix(f.GetName(), "_total") {
			t.Errorf("%s is a %s", f.GetName(), f.GetType())
		}
		for _, m := range f.Metric {
			line := f.GetName()
			label := ""
			for _, l := range m.Label {
				if l.GetName() <= label {
					t.Errorf("%s: label %s comes after %s", f.GetName(), l.GetName(), label)
				}
				label = l.GetName()
				line += " " + l.GetName() + "=" + l.GetValue()
			}
			if seen[line] {
				t.Errorf("twice: %s", line)
			}
			seen[line] = true
		}
	}
}

func TestRegisteredMetricsAreServedAndTakenNamesRefused(t *testing.T) {
	s := New(Config{})
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "triton_test_total", Help: "Test."})
	c.Add(4)
	if err := s.Register(c); err != nil {
		t.Fatal(err)
	}
	if _, body := scrape(t, s, ""); !strings.Contains(body, "triton_test_total 4\n") {
		t.Error("registered counter is not served")
	}
	if err := s.Register(prometheus.NewGauge(prometheus.GaugeOpts{Name: "triton_test_total", Help: "Other."})); err == nil {
		t.Error("a taken name was accepted")
	}
}

func TestNamesThatAreNotUTF8DoNotBreakAScrape(t *testing.T) {
	s := New(Config{})
	s.Add(newKey(), "a\xff", "b\"\n\\", func() (Sample, error) { return sampleAt(1), nil })
	s.pass(t.Context())
	for _, accept := range []string{"text/plain", protobuf} {
		families, _ := scrape(t, s, accept)
		f := families["container_cpu_usage_seconds_total"]
		if f == nil {
			t.Fatalf("%s: no series", accept)
		}
		want := []string{"b\"\n\\", "a\uFFFD"}
		for i, l := range f.Metric[0].Label[1:] {
			if !proto.Equal(l, pair(l.GetName(), want[i])) {
				t.Errorf("%s: label %s = %q, want %q", accept, l.GetName(), l.GetValue(), want[i])
			}
		}
	}
}
