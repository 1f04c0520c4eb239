package placement

import (
	"errors"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tritond/triton/pkg/sched"
)

// metrics are what /metrics tells of decisions.
type metrics struct {
	decisions  *prometheus.CounterVec // by outcome
	refusals   *prometheus.CounterVec // by reason
	saveErrors prometheus.Counter
	gauges     []prometheus.Collector
}

// Outcomes of decisions.
const (
	placed  = "placed"
	despite = "despite" // in spite of a shortage of what is not promised
	refused = "refused"
)

func newMetrics(p *Placement) *metrics {
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "triton_placement_decisions_total",
			Help: "Decisions about containers; despite: placed though something that was not promised is short."}, []string{"outcome"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "triton_placement_refusals_total",
			Help: "Reasons of refused containers."}, []string{"reason"}),
		saveErrors: prometheus.NewCounter(prometheus.CounterOpts{Name: "triton_placement_save_errors_total",
			Help: "Failed attempts to write the history of images."}),
	}
	for _, outcome := range []string{placed, despite, refused} {
		m.decisions.WithLabelValues(outcome)
	}
	for _, reason := range sched.Filters() {
		m.refusals.WithLabelValues(reason)
	}
	locked := func(read func() float64) func() float64 {
		return func() float64 {
			p.mu.Lock()
			defer p.mu.Unlock()
			return read()
		}
	}
	gauge := func(name, help string, read func() float64) {
		m.gauges = append(m.gauges, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, locked(read)))
	}
	counter := func(name, help string, read func() float64) {
		m.gauges = append(m.gauges, prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, locked(read)))
	}
	counter("triton_placement_missed_container_hours_total", "Container hours in which the machine used more than was predicted.",
		func() float64 { return p.snapshot.Margin().Misses })
	counter("triton_placement_observed_container_hours_total", "Container hours that predictions were compared with.",
		func() float64 { return p.snapshot.Margin().Hours })
	gauge("triton_placement_margin", "How far predicted deviations are stretched.", func() float64 { return p.snapshot.Margin().N })
	gauge("triton_placement_ease", "By how much the admitted risk is multiplied.", func() float64 { return p.snapshot.Margin().Ease })
	gauge("triton_placement_history_entries", "Images whose history is known, by name and tenant and by content.",
		func() float64 { return float64(len(p.history.Images)) })
	gauge("triton_placement_history_saved_timestamp_seconds", "When the history of images was last written; 0: never.",
		func() float64 {
			if p.written.IsZero() {
				return 0
			}
			return float64(p.written.UnixMilli()) / 1000
		})
	return m
}

// decided counts a decision. A wrong request is none.
func (m *metrics) decided(d *sched.Decision, err error) {
	switch {
	case err == nil && len(d.Despite) > 0:
		m.decisions.WithLabelValues(despite).Inc()
	case err == nil:
		m.decisions.WithLabelValues(placed).Inc()
	case errors.Is(err, errdefs.ErrResourceExhausted):
		m.decisions.WithLabelValues(refused).Inc()
		for _, r := range d.Refused {
			m.refusals.WithLabelValues(r.Filter).Inc()
		}
	}
}

// Collectors are to be registered where metrics are served.
func (p *Placement) Collectors() []prometheus.Collector {
	return append(p.metrics.gauges, p.metrics.decisions, p.metrics.refusals, p.metrics.saveErrors)
}
