package telemetry

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler serves /metrics: the newest sample of each container, what observation lost, the daemon's own cost, and what
// others gave to Register. Names are cAdvisor's where the meaning is the same; what only Triton measures begins with
// triton_. Without Config.PerSyscall a container has at most 73 series in a text scrape.
func (s *Store) Handler() http.Handler {
	return promhttp.HandlerFor(joined{s.registry, gatherer{s}}, promhttp.HandlerOpts{MaxRequestsInFlight: scrapesAtOnce})
}

// scrapesAtOnce bounds the memory of scrapes: others are answered 503, which Prometheus shows as a failed scrape.
const scrapesAtOnce = 4

// Register adds a part's own metrics to /metrics; their names begin with triton_ and the part's name, never with
// triton_container_. The error tells of names that are taken.
func (s *Store) Register(cs ...prometheus.Collector) error {
	for _, c := range cs {
		if err := s.registry.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// newRegistry makes the registry of everything that is not a container's.
func newRegistry(s *Store) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		own{s},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return reg
}

// own collects what observation costs and lost on this machine.
type own struct{ store *Store }

// Describe sends nothing: reasons and programs are known when they are collected.
func (o own) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (o own) Collect(out chan<- prometheus.Metric) {
	s := o.store
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
	build := prometheus.NewDesc("triton_build_info", "Which program this is; always 1.", []string{"version", "revision", "goversion", "node"}, nil)
	out <- prometheus.MustNewConstMetric(build, prometheus.GaugeValue, 1, s.cfg.Build.Version, s.cfg.Build.Revision, s.cfg.Build.Go, s.cfg.Node)
	missing := prometheus.NewDesc("triton_program_missing", "Programs that do not run: refused by this kernel or left out.", []string{"program"}, nil)
	for _, program := range s.missing() {
		out <- prometheus.MustNewConstMetric(missing, prometheus.GaugeValue, 1, program)
	}
}
