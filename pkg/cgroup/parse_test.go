package cgroup

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

func TestReadingV1Files(t *testing.T) {
	u := triton.Usage{MemoryUsage: 1000}
	var more triton.UsageDetail
	throttlingV1([]byte("nr_periods 12\nnr_throttled 3\nthrottled_time 4000000\nnr_bursts 0\n"), &u)
	memoryStatV1([]byte("cache 1\nrss 2\ninactive_file 9\nhierarchical_memory_limit 4096\nhierarchical_memsw_limit 9\n"+
		"total_cache 300\ntotal_rss 500\ntotal_inactive_file 100\ntotal_swap 8\ntotal_pgfault 70\ntotal_pgmajfault 2\n"), &u, &more)
	if want := (triton.UsageDetail{MemorySwap: 8, PageFaults: 70, MajorPageFaults: 2}); more != want {
		t.Errorf("detail = %+v, want %+v", more, want)
	}
	want := triton.Usage{
		CPUPeriods: 12, CPUThrottled: 3, CPUThrottledTime: 4 * time.Millisecond,
		MemoryUsage: 1000, MemoryWorkingSet: 900, MemoryRSS: 500, MemoryCache: 300, MemoryLimit: 4096,
	}
	if d := cmp.Diff(want, u); d != "" {
		t.Errorf("use (-want +got):\n%s", d)
	}
}

func TestReadingV1WithoutLimit(t *testing.T) {
	u := triton.Usage{}
	memoryStatV1([]byte("hierarchical_memory_limit 9223372036854771712\n"), &u, &triton.UsageDetail{})
	if u.MemoryLimit != 0 {
		t.Errorf("limit = %d, want 0 for none", u.MemoryLimit)
	}
}

func TestReadingV2Files(t *testing.T) {
	u := triton.Usage{MemoryUsage: 50}
	var more triton.UsageDetail
	cpuStat([]byte("usage_usec 30\nuser_usec 20\nsystem_usec 10\ncore_sched.force_idle_usec 0\nnr_periods 5\n"+
		"nr_throttled 2\nthrottled_usec 700\nnr_bursts 0\nburst_usec 0\n"), &u)
	memoryStatV2([]byte("anon 11\nfile 22\nkernel 5\ninactive_anon 1\ninactive_file 60\npgfault 9\npgmajfault 1\n"), &u, &more)
	if want := (triton.UsageDetail{PageFaults: 9, MajorPageFaults: 1}); more != want {
		t.Errorf("detail = %+v, want %+v", more, want)
	}
	want := triton.Usage{
		CPUTotal: 30 * time.Microsecond, CPUUser: 20 * time.Microsecond, CPUSystem: 10 * time.Microsecond,
		CPUPeriods: 5, CPUThrottled: 2, CPUThrottledTime: 700 * time.Microsecond,
		MemoryUsage: 50, MemoryWorkingSet: 0, MemoryRSS: 11, MemoryCache: 22,
	}
	if d := cmp.Diff(want, u); d != "" {
		t.Errorf("use (-want +got):\n%s", d)
	}
	if got := field([]byte("low 0\noom 7\noom_kill 3\noom_group_kill 0\n"), "oom_kill"); got != 3 {
		t.Errorf("oom_kill = %d, want 3", got)
	}
}

func TestReadingPressure(t *testing.T) {
	some, full := pressure([]byte("some avg10=0.00 avg60=0.12 avg300=0.00 total=1500\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=20\n"))
	if some != 1500*time.Microsecond || full != 20*time.Microsecond {
		t.Errorf("pressure = %v, %v, want 1.5ms, 20µs", some, full)
	}
}

func TestReadingNumbers(t *testing.T) {
	got := map[string]uint64{}
	for _, s := range []string{"12\n", "max\n", "", "-1", "99999999999999999999999"} {
		got[s] = number([]byte(s))
	}
	want := map[string]uint64{"12\n": 12, "max\n": 0, "": 0, "-1": 0, "99999999999999999999999": math.MaxUint64}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("numbers (-want +got):\n%s", d)
	}
}

func FuzzReadings(f *testing.F) {
	f.Add([]byte("usage_usec 30\nuser_usec 20\n"))
	f.Add([]byte("some avg10=0.00 total=1500\nfull total="))
	f.Add([]byte("total_rss 18446744073709551616\n\n 5\nx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var u triton.Usage
		cpuStat(b, &u)
		throttlingV1(b, &u)
		memoryStatV1(b, &u, &triton.UsageDetail{})
		memoryStatV2(b, &u, &triton.UsageDetail{})
		pressure(b)
		if u.MemoryWorkingSet > u.MemoryUsage {
			t.Errorf("working set %d above use %d", u.MemoryWorkingSet, u.MemoryUsage)
		}
	})
}
