package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tritond/triton/pkg/journal"
)

// journalMetrics tell what the journal holds and what it lost.
func journalMetrics(j *journal.Journal) []prometheus.Collector {
	counter := func(name, help string, value func(journal.Stats) float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return value(j.Stats()) })
	}
	return []prometheus.Collector{
		counter("triton_journal_events_total", "Events ever journalled.", func(s journal.Stats) float64 { return float64(s.Last) }),
		counter("triton_journal_refused_total", "Events that could not be written.", func(s journal.Stats) float64 { return float64(s.Refused) }),
		counter("triton_journal_corrupt_lines_total", "Lines found unreadable at start.", func(s journal.Stats) float64 { return float64(s.Corrupt) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "triton_journal_bytes", Help: "Size of the journal."},
			func() float64 { return float64(j.Stats().Bytes) }),
	}
}
