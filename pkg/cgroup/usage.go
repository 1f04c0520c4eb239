package cgroup

import (
	"fmt"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// Usage reads what path has used. It is called each second for every container: ten small files, no allocation. Files
// that this layout or kernel lacks leave their fields zero; the error is ErrNotFound when the group itself is gone.
func (f *FS) Usage(path string) (triton.Usage, error) {
	u, _, err := f.DetailedUsage(path)
	return u, err
}

// DetailedUsage is Usage with what only exporters want; it reads one file more.
func (f *FS) DetailedUsage(path string) (triton.Usage, triton.UsageDetail, error) {
	path, err := validate(path)
	if err != nil {
		return triton.Usage{}, triton.UsageDetail{}, err
	}
	r := readers.Get().(*reader)
	defer readers.Put(r)
	r.err, r.found = nil, false
	u := triton.Usage{Time: time.Now()}
	var more triton.UsageDetail
	if f.mode == V2 {
		f.usageV2(r, path, &u, &more)
	} else {
		f.usageV1(r, path, &u, &more)
	}
	if f.v2 != "" {
		r.cd(f.v2, path)
		u.Pressure.CPUSome, u.Pressure.CPUFull = pressure(r.file("cpu.pressure"))
		u.Pressure.MemorySome, u.Pressure.MemoryFull = pressure(r.file("memory.pressure"))
		u.Pressure.IOSome, u.Pressure.IOFull = pressure(r.file("io.pressure"))
	}
	if r.err != nil {
		return triton.Usage{}, triton.UsageDetail{}, fmt.Errorf("read use of control group %s: %w", path, r.err)
	}
	if !r.found {
		_, err := f.IDs(path)
		return triton.Usage{}, triton.UsageDetail{}, err
	}
	return u, more, nil
}

// usageV2 reads cgroup2's files (Documentation/admin-guide/cgroup-v2.rst).
func (f *FS) usageV2(r *reader, path string, u *triton.Usage, more *triton.UsageDetail) {
	r.cd(f.v2, path)
	cpuStat(r.file("cpu.stat"), u)
	u.MemoryUsage = number(r.file("memory.current"))
	memoryStatV2(r.file("memory.stat"), u, more)
	more.MemorySwap = number(r.file("memory.swap.current"))
	u.MemoryPeak = number(r.file("memory.peak"))
	u.MemoryLimit = number(r.file("memory.max"))
	u.OOMKills = field(r.file("memory.events"), "oom_kill")
	u.Pids = number(r.file("pids.current"))
	u.PidsLimit = number(r.file("pids.max"))
	more.Processes = r.lines("cgroup.procs")
}

// usageV1 reads v1's controllers, and the processor time from a cgroup2 beside them, which counts it without a controller
// and in one file.
func (f *FS) usageV1(r *reader, path string, u *triton.Usage, more *triton.UsageDetail) {
	if f.v2 != "" {
		r.cd(f.v2, path)
		cpuStat(r.file("cpu.stat"), u)
	} else if r.cd(f.v1Mount("cpuacct"), path) {
		u.CPUTotal = time.Duration(number(r.file("cpuacct.usage")))
		u.CPUUser = time.Duration(number(r.file("cpuacct.usage_user")))
		u.CPUSystem = time.Duration(number(r.file("cpuacct.usage_sys")))
	}
	if r.cd(f.v1Mount("cpu"), path) {
		throttlingV1(r.file("cpu.stat"), u)
	}
	if r.cd(f.v1Mount("memory"), path) {
		u.MemoryUsage = number(r.file("memory.usage_in_bytes"))
		memoryStatV1(r.file("memory.stat"), u, more)
		u.MemoryPeak = number(r.file("memory.max_usage_in_bytes"))
		u.OOMKills = field(r.file("memory.oom_control"), "oom_kill")
	}
	if r.cd(f.v1Mount("pids"), path) {
		u.Pids = number(r.file("pids.current"))
		u.PidsLimit = number(r.file("pids.max"))
		more.Processes = r.lines("cgroup.procs")
	}
}

// cpuStat reads cgroup2's cpu.stat; the throttling keys exist only where the cpu controller is on cgroup2.
func cpuStat(b []byte, u *triton.Usage) {
	for line := (lines{rest: b}); line.next(); {
		switch string(line.key) {
		case "usage_usec":
			u.CPUTotal = micros(line.value)
		case "user_usec":
			u.CPUUser = micros(line.value)
		case "system_usec":
			u.CPUSystem = micros(line.value)
		case "nr_periods":
			u.CPUPeriods = line.value
		case "nr_throttled":
			u.CPUThrottled = line.value
		case "throttled_usec":
			u.CPUThrottledTime = micros(line.value)
		}
	}
}

// throttlingV1 reads cpu.stat of the v1 cpu controller, whose time is in nanoseconds.
func throttlingV1(b []byte, u *triton.Usage) {
	for line := (lines{rest: b}); line.next(); {
		switch string(line.key) {
		case "nr_periods":
			u.CPUPeriods = line.value
		case "nr_throttled":
			u.CPUThrottled = line.value
		case "throttled_time":
			u.CPUThrottledTime = time.Duration(line.value)
		}
	}
}

// noLimitV1 bounds what v1 reports for "no limit": LONG_MAX rounded down to a page.
const noLimitV1 = 1 << 62

// memoryStatV1 reads the total_ keys of v1's memory.stat, which include the groups below. It needs MemoryUsage.
func memoryStatV1(b []byte, u *triton.Usage, more *triton.UsageDetail) {
	var inactive uint64
	for line := (lines{rest: b}); line.next(); {
		switch string(line.key) {
		case "total_rss":
			u.MemoryRSS = line.value
		case "total_cache":
			u.MemoryCache = line.value
		case "total_swap":
			more.MemorySwap = line.value
		case "total_pgfault":
			more.PageFaults = line.value
		case "total_pgmajfault":
			more.MajorPageFaults = line.value
		case "total_inactive_file":
			inactive = line.value
		case "hierarchical_memory_limit":
			if line.value < noLimitV1 {
				u.MemoryLimit = line.value
			}
		}
	}
	u.MemoryWorkingSet = less(u.MemoryUsage, inactive)
}

// memoryStatV2 reads cgroup2's memory.stat. It needs MemoryUsage.
func memoryStatV2(b []byte, u *triton.Usage, more *triton.UsageDetail) {
	var inactive uint64
	for line := (lines{rest: b}); line.next(); {
		switch string(line.key) {
		case "anon":
			u.MemoryRSS = line.value
		case "file":
			u.MemoryCache = line.value
		case "pgfault":
			more.PageFaults = line.value
		case "pgmajfault":
			more.MajorPageFaults = line.value
		case "inactive_file":
			inactive = line.value
		}
	}
	u.MemoryWorkingSet = less(u.MemoryUsage, inactive)
}

// less is a-b, or 0: the files are read one after the other, so b may be newer and larger.
func less(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}

func micros(v uint64) time.Duration { return time.Duration(v) * time.Microsecond }
