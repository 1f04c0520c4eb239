package telemetry

import (
	"cmp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tritond/triton/pkg/triton"
)

// gatherer makes the families of all containers straight from the newest samples. A prometheus.Collector would do the
// same with a handful of allocations and a consistency check per series, which at a thousand containers is most of the
// cost of a scrape; what it would have checked, a test checks.
type gatherer struct{ store *Store }

// row is a container and its newest sample.
type row struct {
	*container
	sample Sample
	labels []*dto.LabelPair // containerLabels; shared by its series, never written
}

// Gather implements prometheus.Gatherer: families in order of name, and in each the containers in order of id.
func (g gatherer) Gather() ([]*dto.MetricFamily, error) {
	all := g.rows()
	calls := slices.DeleteFunc(slices.Clone(all), func(r row) bool { return r.sample.NoCalls })
	waits := slices.DeleteFunc(slices.Clone(all), func(r row) bool { return r.sample.NoWaits })
	var out []*dto.MetricFamily
	for _, s := range slices.Concat(cpuSeries(), processSeries(), memorySeries(), pressureSeries(), trafficSeries(), probeSeries()) {
		rows := all
		switch {
		case s.name == varianceName:
			rows = slices.DeleteFunc(slices.Clone(calls), func(r row) bool { return r.sample.CallsGuessed == 0 })
		case ofProgram(s.name, "sys_exit"):
			rows = calls
		case ofProgram(s.name, "sched_switch"):
			rows = waits
		}
		out = append(out, s.family(rows))
	}
	out = append(out,
		histogramFamily("triton_container_syscall_duration_seconds", "Durations of system calls.", calls,
			func(r *row) triton.Histogram { return r.sample.Durations }),
		histogramFamily("triton_container_runqueue_latency_seconds", "Waits of tasks for a CPU.", waits,
			func(r *row) triton.Histogram { return r.sample.RunQueue }),
		perWait(waits), g.info(all),
	)
	if g.store.cfg.PerSyscall {
		out = append(out, perSyscall(calls)...)
	}
	if g.store.cfg.Peers != nil {
		out = append(out, g.store.perPeer(all)...)
	}
	if g.store.cfg.Delays != nil {
		out = append(out, g.store.perCulprit(waits)...)
	}
	if g.store.cfg.NameService != nil {
		out = append(out, g.store.perNameService(all)...)
	}
	if g.store.cfg.Disks != nil {
		out = append(out, g.store.perDisk(all)...)
	}
	if g.store.cfg.Network != nil {
		out = append(out, g.store.perNetwork(all)...)
	}
	absent := g.store.unmeasured()
	out = slices.DeleteFunc(out, func(f *dto.MetricFamily) bool { return len(f.Metric) == 0 || absent(f.GetName()) })
	slices.SortFunc(out, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return out, nil
}

// unmeasured tells whose numbers would be zero because their program does not run: these are left out, since a zero says
// that nothing happened.
func (s *Store) unmeasured() func(name string) bool {
	missing := s.missing()
	return func(name string) bool {
		return slices.ContainsFunc(missing, func(program string) bool { return ofProgram(name, program) })
	}
}

// ofProgram tells whether the program measures the series.
func ofProgram(name, program string) bool {
	return slices.ContainsFunc(seriesOf[program], func(p string) bool { return strings.HasPrefix(name, p) })
}

// seriesOf has, by program, the beginnings of the names of what it measures.
var seriesOf = map[string][]string{
	"sys_enter":    {"triton_container_syscall"},
	"sys_exit":     {"triton_container_syscall", "triton_container_tcp_accept"},
	"sched_switch": {"triton_container_runqueue", "triton_container_cpu_delay", "triton_container_off_cpu", "container_cpu_schedstat_runqueue"},
	"block_ios":    {"triton_container_block_io", "container_fs"},
	"peer_states":  {"triton_container_peer"},

	"network_states":          {"triton_container_tcp", "triton_container_packet"},
	"network_rtt":             {"triton_container_tcp_rtt"},
	"network_resets_sent":     {"triton_container_tcp_resets"},
	"network_resets_received": {"triton_container_tcp_resets"},
	"network_drops":           {"triton_container_packet_drops"},
}

func (s *Store) missing() []string {
	if s.cfg.Missing == nil {
		return nil
	}
	return s.cfg.Missing()
}

func (g gatherer) rows() []row {
	s := g.store
	s.mu.RLock()
	defer s.mu.RUnlock()
	rows := make([]row, 0, len(s.containers))
	for _, c := range s.containers {
		if c.window.seen {
			rows = append(rows, row{container: c, sample: c.window.last, labels: c.labels})
		}
	}
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(strings.Compare(a.key.ID, b.key.ID), strings.Compare(string(a.key.Tenant), string(b.key.Tenant)))
	})
	return rows
}

// family makes a family of s for all rows. Its numbers lie in one piece of memory.
func (s scalar) family(rows []row) *dto.MetricFamily {
	n := len(rows) * len(s.parts)
	metrics, values := make([]dto.Metric, n), make([]float64, n)
	f := newFamily(s.name, s.help, s.kind, n)
	var counters []dto.Counter
	var gauges []dto.Gauge
	if s.kind == dto.MetricType_COUNTER {
		counters = make([]dto.Counter, n)
	} else {
		gauges = make([]dto.Gauge, n)
	}
	i := 0
	for r := range rows {
		for _, p := range s.parts {
			m := &metrics[i]
			m.Label = rows[r].labels
			if s.label != "" {
				m.Label = withLabel(m.Label, s.label, p.label)
			}
			values[i] = p.value(&rows[r].sample)
			if counters != nil {
				counters[i].Value = &values[i]
				m.Counter = &counters[i]
			} else {
				gauges[i].Value = &values[i]
				m.Gauge = &gauges[i]
			}
			f.Metric = append(f.Metric, m)
			i++
		}
	}
	return f
}

func newFamily(name, help string, kind dto.MetricType, room int) *dto.MetricFamily {
	return &dto.MetricFamily{Name: proto.String(name), Help: proto.String(help), Type: kind.Enum(), Metric: make([]*dto.Metric, 0, room)}
}

func histogramFamily(name, help string, rows []row, of func(*row) triton.Histogram) *dto.MetricFamily {
	f := newFamily(name, help, dto.MetricType_HISTOGRAM, len(rows))
	for i := range rows {
		f.Metric = append(f.Metric, &dto.Metric{Label: rows[i].labels, Histogram: histogram(of(&rows[i]), rows[i].sample)})
	}
	return f
}

// histogram is h on the wire, in both forms. created is when its counting began, which tells a reader of a reset.
func histogram(h triton.Histogram, s Sample) *dto.Histogram {
	out := encodeHistogram(h)
	if !s.Started.IsZero() {
		out.CreatedTimestamp = timestamppb.New(s.Started)
	}
	return out
}

// info joins the container's labels with what else is known of it.
func (g gatherer) info(rows []row) *dto.MetricFamily {
	f := newFamily("triton_container_info", "What a container is; always 1.", dto.MetricType_GAUGE, len(rows))
	for i := range rows {
		r := &rows[i]
		f.Metric = append(f.Metric, &dto.Metric{Gauge: &dto.Gauge{Value: proto.Float64(1)}, Label: sorted(append(slices.Clone(r.labels),
			pair("container_id", r.key.ID), pair("tenant", string(r.key.Tenant)), pair("node", g.store.cfg.Node)))})
	}
	return f
}

// perSyscall gives the series of single system calls.
func perSyscall(rows []row) []*dto.MetricFamily {
	calls := newFamily("triton_container_syscall_calls_total", "System calls, by call.", dto.MetricType_COUNTER, 0)
	errs := newFamily("triton_container_syscall_call_errors_total", "System calls that returned an error, by call.", dto.MetricType_COUNTER, 0)
	durations := newFamily("triton_container_syscall_call_duration_seconds", "Durations of system calls, by call.", dto.MetricType_HISTOGRAM, 0)
	for i := range rows {
		for _, c := range rows[i].sample.PerSyscall {
			labels := withLabel(rows[i].labels, "syscall", SyscallName(c.Nr))
			count := func(n uint64) *dto.Metric {
				return &dto.Metric{Label: labels, Counter: &dto.Counter{Value: proto.Float64(float64(n))}}
			}
			calls.Metric = append(calls.Metric, count(c.Count))
			errs.Metric = append(errs.Metric, count(c.Errors))
			durations.Metric = append(durations.Metric, &dto.Metric{Label: labels, Histogram: histogram(c.Durations, rows[i].sample)})
		}
	}
	return []*dto.MetricFamily{calls, errs, durations}
}

// containerLabelPairs are the labels on every series of a container, named and spelled as cAdvisor does for docker: id is
// the path that docker's cgroup driver would give, so that queries that match it work unchanged.
func containerLabelPairs(key triton.ContainerKey, name, image string) []*dto.LabelPair {
	return []*dto.LabelPair{pair("id", "/docker/"+key.ID), pair("image", image), pair("name", name)}
}

func pair(name, value string) *dto.LabelPair {
	return &dto.LabelPair{Name: proto.String(name), Value: proto.String(strings.ToValidUTF8(value, "\uFFFD"))}
}

func withLabel(labels []*dto.LabelPair, name, value string) []*dto.LabelPair {
	return sorted(append(slices.Clone(labels), pair(name, value)))
}

// sorted orders labels by name, as the formats demand.
func sorted(labels []*dto.LabelPair) []*dto.LabelPair {
	slices.SortFunc(labels, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
	return labels
}

// joined gathers from parts whose names do not overlap: each prefix belongs to one.
type joined []prometheus.Gatherer

// Gather implements prometheus.Gatherer.
func (j joined) Gather() ([]*dto.MetricFamily, error) {
	var out []*dto.MetricFamily
	for _, g := range j {
		families, err := g.Gather()
		if err != nil {
			return nil, err
		}
		out = append(out, families...)
	}
	slices.SortFunc(out, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return out, nil
}
