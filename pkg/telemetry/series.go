package telemetry

import (
	"time"

	dto "github.com/prometheus/client_model/go"
)

// scalar is a family of single numbers of a container: one series, or one for each value of a label.
type scalar struct {
	name, help string
	kind       dto.MetricType
	label      string // beyond the container's; empty: none
	parts      []part
}

// part is one series of a family.
type part struct {
	label string
	value func(*Sample) float64
}

func counter(name, help string, value func(*Sample) float64) scalar {
	return scalar{name: name, help: help, kind: dto.MetricType_COUNTER, parts: []part{{value: value}}}
}

func gauge(name, help string, value func(*Sample) float64) scalar {
	return scalar{name: name, help: help, kind: dto.MetricType_GAUGE, parts: []part{{value: value}}}
}

func seconds(d time.Duration) float64 { return d.Seconds() }

// epoch is t in seconds since 1970; 0 for no time.
func epoch(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1e3
}

func cpuSeries() []scalar {
	return []scalar{
		counter("container_cpu_usage_seconds_total", "CPU time used.",
			func(s *Sample) float64 { return seconds(s.Usage.CPUTotal) }),
		counter("container_cpu_user_seconds_total", "CPU time used in user mode.",
			func(s *Sample) float64 { return seconds(s.Usage.CPUUser) }),
		counter("container_cpu_system_seconds_total", "CPU time used in kernel mode.",
			func(s *Sample) float64 { return seconds(s.Usage.CPUSystem) }),
		counter("container_cpu_cfs_periods_total", "CPU quota periods that passed.",
			func(s *Sample) float64 { return float64(s.Usage.CPUPeriods) }),
		counter("container_cpu_cfs_throttled_periods_total", "CPU quota periods in which the container was throttled.",
			func(s *Sample) float64 { return float64(s.Usage.CPUThrottled) }),
		counter("container_cpu_cfs_throttled_seconds_total", "Time for which the container was throttled.",
			func(s *Sample) float64 { return seconds(s.Usage.CPUThrottledTime) }),
		counter("container_cpu_schedstat_runqueue_seconds_total", "Time that tasks waited for a CPU.",
			func(s *Sample) float64 { return float64(s.RunQueueNs) / 1e9 }),
		gauge("container_spec_cpu_quota", "CPU time allowed per period in microseconds; 0: no limit.",
			func(s *Sample) float64 { return float64(s.Limits.CPUQuota) }),
		gauge("container_spec_cpu_period", "CPU quota period in microseconds.",
			func(s *Sample) float64 { return float64(s.Limits.CPUPeriod) }),
	}
}

func processSeries() []scalar {
	return []scalar{
		gauge("container_start_time_seconds", "When the container's program was started, in seconds since 1970.",
			func(s *Sample) float64 { return epoch(s.Started) }),
		gauge("container_last_seen", "When the container was last read, in seconds since 1970.",
			func(s *Sample) float64 { return epoch(s.Time) }),
		gauge("container_threads", "Threads in the container.",
			func(s *Sample) float64 { return float64(s.Usage.Pids) }),
		gauge("container_processes", "Processes in the container.",
			func(s *Sample) float64 { return float64(s.Detail.Processes) }),
	}
}

func memorySeries() []scalar {
	return []scalar{
		gauge("container_memory_usage_bytes", "Memory in use, caches included.",
			func(s *Sample) float64 { return float64(s.Usage.MemoryUsage) }),
		gauge("container_memory_working_set_bytes", "Memory in use less inactive file pages.",
			func(s *Sample) float64 { return float64(s.Usage.MemoryWorkingSet) }),
		gauge("container_memory_rss", "Anonymous memory in bytes.",
			func(s *Sample) float64 { return float64(s.Usage.MemoryRSS) }),
		gauge("container_memory_cache", "Page cache in bytes.",
			func(s *Sample) float64 { return float64(s.Usage.MemoryCache) }),
		gauge("container_spec_memory_limit_bytes", "Memory limit; 0: none.",
			func(s *Sample) float64 { return float64(s.Usage.MemoryLimit) }),
		counter("container_oom_events_total", "Processes that the OOM killer ended.",
			func(s *Sample) float64 { return float64(max(s.Usage.OOMKills, s.OOMKills)) }),
		{
			name: "container_memory_failures_total", help: "Page faults: all of them, and those that waited for a disk.",
			kind: dto.MetricType_COUNTER, label: "failure_type", parts: []part{
				{"pgfault", func(s *Sample) float64 { return float64(s.Detail.PageFaults) }},
				{"pgmajfault", func(s *Sample) float64 { return float64(s.Detail.MajorPageFaults) }},
			},
		},
	}
}

func pressureSeries() []scalar {
	return []scalar{
		counter("container_pressure_cpu_waiting_seconds_total", "Time in which some task waited for a CPU.",
			func(s *Sample) float64 { return seconds(s.Usage.Pressure.CPUSome) }),
		counter("container_pressure_cpu_stalled_seconds_total", "Time in which all tasks waited for a CPU.",
			func(s *Sample) float64 { return seconds(s.Usage.Pressure.CPUFull) }),
		counter("container_pressure_memory_waiting_seconds_total", "Time in which some task waited for memory.",
			func(s *Sample) float64 { return seconds(s.Usage.Pressure.MemorySome) }),
		counter("container_pressure_memory_stalled_seconds_total", "Time in which all tasks waited for memory.",
			func(s *Sample) float64 { return seconds(s.Usage.Pressure.MemoryFull) }),
		counter("container_pressure_io_waiting_seconds_total", "Time in which some task waited for I/O.",
			func(s *Sample) float64 { return seconds(s.Usage.Pressure.IOSome) }),
		counter("container_pressure_io_stalled_seconds_total", "Time in which all tasks waited for I/O.",
			func(s *Sample) float64 { return seconds(s.Usage.Pressure.IOFull) }),
	}
}

func trafficSeries() []scalar {
	return []scalar{
		counter("container_network_receive_bytes_total", "Bytes received by the container's own interfaces.",
			func(s *Sample) float64 { return float64(s.Network.RxBytes) }),
		counter("container_network_receive_packets_total", "Packets received by the container's own interfaces.",
			func(s *Sample) float64 { return float64(s.Network.RxPackets) }),
		counter("container_network_transmit_bytes_total", "Bytes sent by the container's own interfaces.",
			func(s *Sample) float64 { return float64(s.Network.TxBytes) }),
		counter("container_network_transmit_packets_total", "Packets sent by the container's own interfaces.",
			func(s *Sample) float64 { return float64(s.Network.TxPackets) }),
		counter("container_fs_reads_total", "Read requests that devices completed.",
			func(s *Sample) float64 { return float64(s.Block.Reads) }),
		counter("container_fs_reads_bytes_total", "Bytes that devices read.",
			func(s *Sample) float64 { return float64(s.Block.ReadBytes) }),
		counter("container_fs_writes_total", "Write requests that devices completed.",
			func(s *Sample) float64 { return float64(s.Block.Writes) }),
		counter("container_fs_writes_bytes_total", "Bytes that devices wrote.",
			func(s *Sample) float64 { return float64(s.Block.WriteBytes) }),
	}
}

// varianceName is of a family that only those containers have of which something was estimated.
const varianceName = "triton_container_syscalls_variance_total"

func probeSeries() []scalar {
	return []scalar{
		counter("triton_container_syscalls_total", "System calls of the container.",
			func(s *Sample) float64 { return float64(s.Syscalls) }),
		counter("triton_container_syscall_errors_total", "System calls that returned an error.",
			func(s *Sample) float64 { return float64(s.SyscallErrors) }),
		gauge("triton_container_syscall_sampled_ratio",
			"Share of the time in which the container's system calls were counted; below 1 their numbers are estimates for all of it.",
			func(s *Sample) float64 { return 1 - s.CallsGuessed }),
		counter(varianceName,
			"Variance of what triton_container_syscalls_total has of estimates: the root of an increase is the standard error of that one's.",
			func(s *Sample) float64 { return s.CallsVariance }),
		{
			name: "triton_container_process_events_total", help: "Turns in the life of the container's processes.",
			kind: dto.MetricType_COUNTER, label: "event", parts: []part{
				{"exec", func(s *Sample) float64 { return float64(s.Execs) }},
				{"fatal_signal", func(s *Sample) float64 { return float64(s.FatalSignals) }},
			},
		},
		counter("triton_container_dropped_total", "What observation lost of the container; triton_dropped_total has reasons.",
			func(s *Sample) float64 { return float64(s.Dropped.Total()) }),
	}
}
