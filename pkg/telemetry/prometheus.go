package telemetry

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// Handler serves /metrics: the newest sample of each container, what observation lost, and the daemon's own cost.
// Names are cAdvisor's where the meaning is the same; what only Triton measures begins with triton_. Without
// Config.PerSyscall a container has at most 60 series in a text scrape.
func (s *Store) Handler() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		exporter{s},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

// scalarMetric is one number of a sample.
type scalarMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(Sample) float64
	more  []string // values of labels beyond the container's
}

// containerLabels are on every series of a container; id is the container's, as in docker.
var containerLabels = []string{"id", "name", "image"}

func counter(name, help string, value func(Sample) float64) scalarMetric {
	return scalarMetric{desc: prometheus.NewDesc(name, help, containerLabels, nil), kind: prometheus.CounterValue, value: value}
}

func gauge(name, help string, value func(Sample) float64) scalarMetric {
	m := counter(name, help, value)
	m.kind = prometheus.GaugeValue
	return m
}

// labelled is a family of counters that differ in one label.
func labelled(name, help, label string, values map[string]func(Sample) float64) []scalarMetric {
	desc := prometheus.NewDesc(name, help, append(slices.Clone(containerLabels), label), nil)
	var ms []scalarMetric
	for v, f := range values {
		ms = append(ms, scalarMetric{desc: desc, kind: prometheus.CounterValue, value: f, more: []string{v}})
	}
	return ms
}

func seconds(d time.Duration) float64 { return d.Seconds() }

// scalarMetrics lists the single numbers of a container.
func scalarMetrics() []scalarMetric {
	return slices.Concat(cpuMetrics(), memoryMetrics(), pressureMetrics(), probeMetrics())
}

func cpuMetrics() []scalarMetric {
	return []scalarMetric{
		counter("container_cpu_usage_seconds_total", "CPU time used.",
			func(s Sample) float64 { return seconds(s.Usage.CPUTotal) }),
		counter("container_cpu_user_seconds_total", "CPU time used in user mode.",
			func(s Sample) float64 { return seconds(s.Usage.CPUUser) }),
		counter("container_cpu_system_seconds_total", "CPU time used in kernel mode.",
			func(s Sample) float64 { return seconds(s.Usage.CPUSystem) }),
		counter("container_cpu_cfs_periods_total", "CPU quota periods that passed.",
			func(s Sample) float64 { return float64(s.Usage.CPUPeriods) }),
		counter("container_cpu_cfs_throttled_periods_total", "CPU quota periods in which the container was throttled.",
			func(s Sample) float64 { return float64(s.Usage.CPUThrottled) }),
		counter("container_cpu_cfs_throttled_seconds_total", "Time for which the container was throttled.",
			func(s Sample) float64 { return seconds(s.Usage.CPUThrottledTime) }),
		counter("container_cpu_schedstat_runqueue_seconds_total", "Time that tasks waited for a CPU.",
			func(s Sample) float64 { return float64(s.RunQueueNs) / 1e9 }),
		gauge("container_processes", "Tasks in the container.",
			func(s Sample) float64 { return float64(s.Usage.Pids) }),
	}
}

func memoryMetrics() []scalarMetric {
	return []scalarMetric{
		gauge("container_memory_usage_bytes", "Memory in use, caches included.",
			func(s Sample) float64 { return float64(s.Usage.MemoryUsage) }),
		gauge("container_memory_working_set_bytes", "Memory in use less inactive file pages.",
			func(s Sample) float64 { return float64(s.Usage.MemoryWorkingSet) }),
		gauge("container_memory_rss", "Anonymous memory in bytes.",
			func(s Sample) float64 { return float64(s.Usage.MemoryRSS) }),
		gauge("container_memory_cache", "Page cache in bytes.",
			func(s Sample) float64 { return float64(s.Usage.MemoryCache) }),
		gauge("container_memory_max_usage_bytes", "Highest memory in use.",
			func(s Sample) float64 { return float64(s.Usage.MemoryPeak) }),
		gauge("container_spec_memory_limit_bytes", "Memory limit; 0: none.",
			func(s Sample) float64 { return float64(s.Usage.MemoryLimit) }),
		counter("container_oom_events_total", "Processes that the OOM killer ended.",
			func(s Sample) float64 { return float64(max(s.Usage.OOMKills, s.OOMKills)) }),
	}
}

func pressureMetrics() []scalarMetric {
	return []scalarMetric{
		counter("container_pressure_cpu_waiting_seconds_total", "Time in which some task waited for a CPU.",
			func(s Sample) float64 { return seconds(s.Usage.Pressure.CPUSome) }),
		counter("container_pressure_cpu_stalled_seconds_total", "Time in which all tasks waited for a CPU.",
			func(s Sample) float64 { return seconds(s.Usage.Pressure.CPUFull) }),
		counter("container_pressure_memory_waiting_seconds_total", "Time in which some task waited for memory.",
			func(s Sample) float64 { return seconds(s.Usage.Pressure.MemorySome) }),
		counter("container_pressure_memory_stalled_seconds_total", "Time in which all tasks waited for memory.",
			func(s Sample) float64 { return seconds(s.Usage.Pressure.MemoryFull) }),
		counter("container_pressure_io_waiting_seconds_total", "Time in which some task waited for I/O.",
			func(s Sample) float64 { return seconds(s.Usage.Pressure.IOSome) }),
		counter("container_pressure_io_stalled_seconds_total", "Time in which all tasks waited for I/O.",
			func(s Sample) float64 { return seconds(s.Usage.Pressure.IOFull) }),
	}
}

func probeMetrics() []scalarMetric {
	ms := []scalarMetric{
		counter("triton_container_syscalls_total", "System calls, the runtime's own before the program included.",
			func(s Sample) float64 { return float64(s.Syscalls) }),
		counter("triton_container_syscall_errors_total", "System calls that returned an error.",
			func(s Sample) float64 { return float64(s.SyscallErrors) }),
	}
	ms = append(ms, labelled("triton_container_process_events_total", "Turns in the life of the container's processes.", "event",
		map[string]func(Sample) float64{
			"exec":         func(s Sample) float64 { return float64(s.Execs) },
			"exit":         func(s Sample) float64 { return float64(s.Exits) },
			"fork":         func(s Sample) float64 { return float64(s.Forks) },
			"fatal_signal": func(s Sample) float64 { return float64(s.FatalSignals) },
		})...)
	return append(ms, labelled("triton_container_dropped_total", "What observation lost, by reason.", "reason",
		map[string]func(Sample) float64{
			"ring":    func(s Sample) float64 { return float64(s.Dropped.Ring) },
			"cells":   func(s Sample) float64 { return float64(s.Dropped.Cells) },
			"storage": func(s Sample) float64 { return float64(s.Dropped.Storage) },
		})...)
}

// exporter collects from the newest samples; it asks no source, so a scrape costs the same however slow they are.
type exporter struct{ store *Store }

// Describe sends nothing: the set of series follows the containers.
func (e exporter) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (e exporter) Collect(out chan<- prometheus.Metric) {
	scalars := scalarMetrics()
	info := prometheus.NewDesc("triton_container_info", "What a container is; always 1.",
		[]string{"container_id", "name", "image", "tenant", "node"}, nil)
	durations := prometheus.NewDesc("triton_container_syscall_duration_seconds", "Durations of system calls.", containerLabels, nil)
	waits := prometheus.NewDesc("triton_container_runqueue_latency_seconds", "Waits of tasks for a CPU.", containerLabels, nil)
	perCall := newPerCallDescs()
	for _, c := range e.store.list() {
		id := c.key.ID
		out <- prometheus.MustNewConstMetric(info, prometheus.GaugeValue, 1, id, c.name, c.image, string(c.key.Tenant), e.store.cfg.Node)
		sample, ok := e.store.Last(c.key)
		if !ok {
			continue
		}
		labels := []string{id, c.name, c.image}
		for _, m := range scalars {
			out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(sample), append(slices.Clone(labels), m.more...)...)
		}
		pairs := labelPairs(containerLabels, labels)
		out <- histogramMetric{desc: durations, labels: pairs, hist: sample.Durations}
		out <- histogramMetric{desc: waits, labels: pairs, hist: sample.RunQueue}
		if e.store.cfg.PerSyscall {
			perCall.collect(out, sample, labels)
		}
	}
	e.collectOwn(out)
}

// collectOwn exports what observation costs and lost on this machine.
func (e exporter) collectOwn(out chan<- prometheus.Metric) {
	s := e.store
	one := func(kind prometheus.ValueType, name, help string, value float64) {
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, nil, nil), kind, value)
	}
	one(prometheus.GaugeValue, "triton_telemetry_containers", "Containers being sampled.", float64(len(s.list())))
	one(prometheus.CounterValue, "triton_telemetry_passes_total", "Passes over all containers.", float64(s.passes.Load()))
	one(prometheus.CounterValue, "triton_telemetry_pass_seconds_total", "Time spent in these passes.", float64(s.passNs.Load())/1e9)
	one(prometheus.CounterValue, "triton_telemetry_source_errors_total", "Samples that could not be taken.", float64(s.sourceErrors.Load()))

	drops := map[string]uint64{}
	if s.cfg.Drops != nil {
		for reason, n := range s.cfg.Drops() {
			drops[reason] = n
		}
	}
	drops["subscriber"] = s.droppedUpdates.Load()
	desc := prometheus.NewDesc("triton_dropped_total", "What observation lost on this machine, by reason.", []string{"reason"}, nil)
	for reason, n := range drops {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), reason)
	}
	if s.cfg.Missing == nil {
		return
	}
	missing := prometheus.NewDesc("triton_program_missing", "Programs that this kernel refused; always 1.", []string{"program"}, nil)
	for _, program := range s.cfg.Missing() {
		out <- prometheus.MustNewConstMetric(missing, prometheus.GaugeValue, 1, program)
	}
}

// perCallDescs describe the series of single system calls, exported when Config.PerSyscall is set.
type perCallDescs struct {
	labels                   []string
	calls, errors, durations *prometheus.Desc
}

func newPerCallDescs() perCallDescs {
	labels := append(slices.Clone(containerLabels), "syscall")
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, labels, nil) }
	return perCallDescs{
		labels:    labels,
		calls:     desc("triton_container_syscall_calls_total", "System calls, by call."),
		errors:    desc("triton_container_syscall_call_errors_total", "System calls that returned an error, by call."),
		durations: desc("triton_container_syscall_call_duration_seconds", "Durations of system calls, by call."),
	}
}

func (d perCallDescs) collect(out chan<- prometheus.Metric, sample Sample, labels []string) {
	for _, c := range sample.PerSyscall {
		values := append(slices.Clone(labels), SyscallName(c.Nr))
		out <- prometheus.MustNewConstMetric(d.calls, prometheus.CounterValue, float64(c.Count), values...)
		out <- prometheus.MustNewConstMetric(d.errors, prometheus.CounterValue, float64(c.Errors), values...)
		out <- histogramMetric{desc: d.durations, labels: labelPairs(d.labels, values), hist: c.Durations}
	}
}

// labelPairs gives labels in the order that the registry demands.
func labelPairs(names, values []string) []*dto.LabelPair {
	pairs := make([]*dto.LabelPair, len(names))
	for i, n := range names {
		pairs[i] = &dto.LabelPair{Name: proto.String(n), Value: proto.String(values[i])}
	}
	slices.SortFunc(pairs, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
	return pairs
}
