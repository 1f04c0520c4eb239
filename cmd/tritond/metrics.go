package main

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tritond/triton/pkg/coredump"
	"github.com/tritond/triton/pkg/dashboard"
	"github.com/tritond/triton/pkg/journal"
	"github.com/tritond/triton/pkg/probes"
	"github.com/tritond/triton/pkg/triton"
)

// requestMetrics count what the listeners answer, and what is under way: attached terminals and followers too.
type requestMetrics struct {
	total    *prometheus.CounterVec
	inFlight *prometheus.GaugeVec
}

func newRequestMetrics() requestMetrics {
	return requestMetrics{
		prometheus.NewCounterVec(prometheus.CounterOpts{Name: "triton_http_requests_total", Help: "Requests answered."}, []string{"api", "code", "method"}),
		prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "triton_http_requests_in_flight", Help: "Requests under way, streams too."}, []string{"api"}),
	}
}

// counted wraps a handler; api is docker or page.
func (m requestMetrics) counted(api string, next http.Handler) http.Handler {
	next = promhttp.InstrumentHandlerCounter(m.total.MustCurryWith(prometheus.Labels{"api": api}), next)
	return promhttp.InstrumentHandlerInFlight(m.inFlight.WithLabelValues(api), next)
}

// pageMetrics tell of the page's sockets.
func pageMetrics(h *dashboard.Hub) []prometheus.Collector {
	gauge := func(name, help string, value func(dashboard.Stats) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(h.Stats()) })
	}
	return []prometheus.Collector{
		gauge("triton_page_clients", "Pages that are open.", func(s dashboard.Stats) float64 { return float64(s.Clients) }),
		gauge("triton_page_topics", "Topics, filters and resolutions that somebody looks at.", func(s dashboard.Stats) float64 { return float64(s.Groups) }),
		gauge("triton_page_oldest_unsent_seconds", "Age of the oldest frame that waits for a client.",
			func(s dashboard.Stats) float64 { return s.OldestUnsent.Seconds() }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "triton_page_dropped_total", Help: "Frames that slow clients lost; they were told."},
			func() float64 { return float64(h.Stats().Dropped) }),
	}
}

// tenantSeries are one series of each tenant.
type tenantSeries[S any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(S) float64
}

// byTenant are the series of all tenants of which stats tells something.
type byTenant[S any] struct {
	stats  func() map[triton.Tenant]S
	series []tenantSeries[S]
}

// Describe implements prometheus.Collector.
func (m byTenant[S]) Describe(ch chan<- *prometheus.Desc) {
	for _, s := range m.series {
		ch <- s.desc
	}
}

// Collect implements prometheus.Collector.
func (m byTenant[S]) Collect(ch chan<- prometheus.Metric) {
	for tenant, stats := range m.stats() {
		for _, s := range m.series {
			ch <- prometheus.MustNewConstMetric(s.desc, s.kind, s.value(stats), string(tenant))
		}
	}
}

func tenantDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, []string{"tenant"}, nil)
}

// journalMetrics tell what the journals hold and what they lost.
func journalMetrics(journals *journal.Set) prometheus.Collector {
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	return byTenant[journal.Stats]{journals.Stats, []tenantSeries[journal.Stats]{
		{tenantDesc("triton_journal_events_total", "Events ever journalled."), counter, func(s journal.Stats) float64 { return float64(s.Last) }},
		{tenantDesc("triton_journal_refused_total", "Events that could not be written."), counter,
			func(s journal.Stats) float64 { return float64(s.Refused) }},
		{tenantDesc("triton_journal_corrupt_lines_total", "Lines found unreadable when the journal was opened."), counter,
			func(s journal.Stats) float64 { return float64(s.Corrupt) }},
		{tenantDesc("triton_journal_kept_events", "Events that docker events --since can show."), gauge,
			func(s journal.Stats) float64 { return float64(s.Last - s.First + 1) }},
		{tenantDesc("triton_journal_bytes", "Size of the journal."), gauge, func(s journal.Stats) float64 { return float64(s.Bytes) }},
	}}
}

// probeMetrics tells what the programs cost.
type probeMetrics struct{ probes *probes.Probes }

var (
	programCPUDesc = prometheus.NewDesc("triton_program_cpu_ratio",
		"What a program cost in the last window in which the kernel timed it, of one CPU.", []string{"program"}, nil)
	programRunsDesc = prometheus.NewDesc("triton_program_runs_per_second", "Runs of a program in that window.", []string{"program"}, nil)
	probeTaxDesc    = prometheus.NewDesc("triton_probes_syscall_tax_ratio",
		"What the hooks of system calls cost every process beside that, of one CPU: calls times triton_probes_syscall_tax_seconds.", nil, nil)
	probePairDesc = prometheus.NewDesc("triton_probes_syscall_tax_seconds",
		"What an empty pair of hooks adds to a system call of any process, as measured at the start.", nil, nil)
	probeHookedDesc = prometheus.NewDesc("triton_probes_syscall_hooks_seconds_total",
		"For how long the hooks of system calls were attached since the daemon started.", nil, nil)
	probeLevelDesc = prometheus.NewDesc("triton_probes_level",
		"How much is measured of containers of which nothing else is wanted; always 1.", []string{"level"}, nil)
	probeShareDesc = prometheus.NewDesc("triton_probes_sampled_ratio",
		"Share of the time in which system calls are counted at that level: 1 all, 0 none; between, their numbers are estimates.", nil, nil)
	probePriceDesc = prometheus.NewDesc("triton_probes_price_ratio", "What all programs cost, the tax included, of the machine.", nil, nil)
	probeBusyDesc  = prometheus.NewDesc("triton_probes_busy_price_ratio",
		"The same of the time in which CPUs were busy, of one CPU at least: what the budget bounds.", nil, nil)
	probeBudgetDesc = prometheus.NewDesc("triton_probes_budget_ratio",
		"What that may be before the level steps down by itself; no series where the level is fixed.", nil, nil)
	probeEstimateDesc = prometheus.NewDesc("triton_probes_estimated_price_ratio",
		"What a level would cost now, as the budget has it: an estimate from the system calls that were seen.", []string{"level"}, nil)
	probeStepsDesc  = prometheus.NewDesc("triton_probes_steps_total", "How often the level changed by itself.", nil, nil)
	probeUnseenDesc = prometheus.NewDesc("triton_probes_unseen_switches_total",
		"Switches between tasks that show that the kernel has kept others from the programs.", nil, nil)
	probeLastStepDesc = prometheus.NewDesc("triton_probes_last_step_timestamp_seconds", "When it did so last, in seconds since 1970; 0: never.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m probeMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		programCPUDesc, programRunsDesc, probeTaxDesc, probePairDesc, probeHookedDesc, probePriceDesc, probeLevelDesc, probeShareDesc, probeBusyDesc, probeBudgetDesc,
		probeEstimateDesc, probeStepsDesc, probeUnseenDesc, probeLastStepDesc,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Before the first window there is the level alone, for how long hooks were attached, what was
// not seen, and the budget.
func (m probeMetrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	level := m.probes.Level()
	gauge(probeLevelDesc, 1, string(level))
	gauge(probeShareDesc, m.probes.CountedShare(level))
	ch <- prometheus.MustNewConstMetric(probeHookedDesc, prometheus.CounterValue, m.probes.PairAttached().Seconds())
	ch <- prometheus.MustNewConstMetric(probeUnseenDesc, prometheus.CounterValue, float64(m.probes.UnseenSwitches()))
	if s, ok := m.probes.Stepping(); ok {
		gauge(probeBudgetDesc, s.Share)
		ch <- prometheus.MustNewConstMetric(probeStepsDesc, prometheus.CounterValue, float64(s.Steps))
		var last float64
		if !s.Last.At.IsZero() {
			last = float64(s.Last.At.UnixMilli()) / 1e3
		}
		gauge(probeLastStepDesc, last)
		for l, price := range s.Estimates {
			gauge(probeEstimateDesc, price, string(l))
		}
	}
	c := m.probes.Cost()
	if c.At.IsZero() {
		return
	}
	for _, p := range c.Programs {
		gauge(programCPUDesc, p.CPU, p.Program)
		gauge(programRunsDesc, p.Runs, p.Program)
	}
	gauge(probeTaxDesc, c.Tax)
	gauge(probePairDesc, c.PairTax.Seconds())
	gauge(probePriceDesc, c.Price)
	gauge(probeBusyDesc, c.Burden)
}

// watchingMetrics tells what observing each container costs. Before the first window there is nothing.
type watchingMetrics struct{ watchings func() []watching }

var (
	watchingCPUDesc = prometheus.NewDesc("triton_probes_container_cpu_ratio",
		"What observing a container costs, of one CPU: an estimate, by what a run of a program costs on average.", []string{"id", "image", "name"}, nil)
	watchingEventsDesc = prometheus.NewDesc("triton_probes_container_events_per_second",
		"Runs of programs for system calls of a container, and for its tasks' being given a CPU.", []string{"id", "image", "name"}, nil)
)

// Describe implements prometheus.Collector.
func (watchingMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- watchingCPUDesc
	ch <- watchingEventsDesc
}

// Collect implements prometheus.Collector.
func (m watchingMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, w := range m.watchings() {
		labels := []string{"/docker/" + w.Key.ID, w.Image, w.Name}
		ch <- prometheus.MustNewConstMetric(watchingCPUDesc, prometheus.GaugeValue, w.cpu, labels...)
		ch <- prometheus.MustNewConstMetric(watchingEventsDesc, prometheus.GaugeValue, w.events, labels...)
	}
}

// coreMetrics tells what became of crashes.
type coreMetrics struct{ cores *coredump.Service }

var (
	coresDesc = prometheus.NewDesc("triton_core_dumps_total",
		"Crashes that the kernel handed over, by what is kept: full, truncated, mini or none of the memory; lost: no record; "+
			"refused: by the container's label; foreign: of no container; counted: their container had used up its --core-cpu.",
		[]string{"result"}, nil)
	coresCPUDesc = prometheus.NewDesc("triton_core_cpu_seconds_total",
		"Processor time that crashes of containers took outside of those: to save them, to read their stacks, to compress memory anew.", nil, nil)
	coresCutDesc = prometheus.NewDesc("triton_core_dumps_cut_total", "Dumps whose memory is not all there, by why.", []string{"reason"}, nil)
)

func (m coreMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- coresDesc
	ch <- coresCutDesc
	ch <- coresCPUDesc
}

func (m coreMetrics) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n uint64, label string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), label)
	}
	c := m.cores.Counts()
	for body, n := range c.Saved {
		counter(coresDesc, n, body)
	}
	for reason, n := range c.Cut {
		counter(coresCutDesc, n, reason)
	}
	counter(coresDesc, c.Lost, "lost")
	counter(coresDesc, c.Refused, "refused")
	counter(coresDesc, c.Foreign, "foreign")
	counter(coresDesc, c.Counted, "counted")
	ch <- prometheus.MustNewConstMetric(coresCPUDesc, prometheus.CounterValue, c.Spent.Seconds())
}
