package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tritond/triton/pkg/crashgroup"
	"github.com/tritond/triton/pkg/node"
)

// groupMetrics tells of deaths and crashes, and of the groups that crashes form. Of a container there are series only while
// it is there, and only for what happened to it.
type groupMetrics struct {
	groups *crashgroup.Store
	node   *node.Node
}

var (
	deathsDesc = prometheus.NewDesc("triton_deaths_total",
		"Abnormal ends of containers since the daemon started, by cause; removed containers too.", []string{"tenant", "cause"}, nil)
	deathsByContainerDesc = prometheus.NewDesc("triton_deaths_by_container_total",
		"Abnormal ends of a container that is there, by cause.", []string{"id", "name", "image", "cause"}, nil)
	crashesDesc = prometheus.NewDesc("triton_crashes_total",
		"Processes that left a dump since the daemon started, by the state of their group; none: its stacks could not be read.",
		[]string{"tenant", "state"}, nil)
	crashesByContainerDesc = prometheus.NewDesc("triton_crashes_by_container_total",
		"The same of a container that is there.", []string{"id", "name", "image", "state"}, nil)
	groupsDesc        = prometheus.NewDesc("triton_crash_groups", "Groups of like crashes, by state.", []string{"tenant", "state"}, nil)
	groupsDroppedDesc = prometheus.NewDesc("triton_crash_groups_dropped_total", "Groups that made room for newer ones.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m groupMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{deathsDesc, deathsByContainerDesc, crashesDesc, crashesByContainerDesc, groupsDesc, groupsDroppedDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m groupMetrics) Collect(ch chan<- prometheus.Metric) {
	counters := func(d *prometheus.Desc, counts map[string]uint64, labels ...string) {
		for label, n := range counts {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), append(labels[:len(labels):len(labels)], label)...)
		}
	}
	tenants, containers := m.node.Tolls()
	for tenant, t := range tenants {
		counters(deathsDesc, t.Deaths, string(tenant))
		counters(crashesDesc, t.Crashes, string(tenant))
	}
	for _, c := range containers {
		labels := []string{"/docker/" + c.Key.ID, c.Name, c.Image}
		counters(deathsByContainerDesc, c.Deaths, labels...)
		counters(crashesByContainerDesc, c.Crashes, labels...)
	}
	groups, dropped := m.groups.Counts()
	for tenant, states := range groups {
		for _, s := range crashgroup.States {
			ch <- prometheus.MustNewConstMetric(groupsDesc, prometheus.GaugeValue, float64(states[s]), string(tenant), string(s))
		}
	}
	ch <- prometheus.MustNewConstMetric(groupsDroppedDesc, prometheus.CounterValue, float64(dropped))
}
