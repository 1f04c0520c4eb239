package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tritond/triton/pkg/node"
)

// relayMetrics tells what became of clients of published ports that are served in user space. Of a container there are series
// once somebody came that way.
type relayMetrics struct{ node *node.Node }

var relayLabels = []string{"id", "name", "image"}

func relayDesc(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc("triton_container_relay_"+name, help, append(relayLabels[:len(relayLabels):len(relayLabels)], more...), nil)
}

var (
	relayOpenDesc  = relayDesc("open", "Clients of ports served in user space: connections of TCP, and senders of UDP in the last 90 s.", "protocol")
	relayCameDesc  = relayDesc("clients_total", "Clients that came, by protocol.", "protocol")
	relayLimitDesc = relayDesc("limited_total",
		"Clients that met the bound of 1,024 at once: of TCP they waited, of UDP the one that was silent longest was forgotten.", "protocol")
	relayUnreachedDesc = relayDesc("unreached_total", "Connections that were reset because the container did not take them.")
	relayBytesDesc     = relayDesc("bytes_total", "Data passed on, by direction as the container sees it.", "protocol", "direction")
	relayDroppedDesc   = relayDesc("dropped_datagrams_total", "Datagrams for which the kernel had no room, or that led nowhere.")
)

// Describe implements prometheus.Collector.
func (m relayMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{relayOpenDesc, relayCameDesc, relayLimitDesc, relayUnreachedDesc, relayBytesDesc, relayDroppedDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m relayMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, r := range m.node.Relays() {
		of := []string{"/docker/" + r.Key.ID, r.Name, r.Image}
		labels := func(more ...string) []string { return append(of[:len(of):len(of)], more...) }
		counter := func(d *prometheus.Desc, n uint64, more ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels(more...)...)
		}
		gauge := func(d *prometheus.Desc, n int, more ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels(more...)...)
		}
		if r.Accepted > 0 {
			gauge(relayOpenDesc, r.Connections, "tcp")
			counter(relayCameDesc, r.Accepted, "tcp")
			counter(relayLimitDesc, r.Waited, "tcp")
			counter(relayUnreachedDesc, r.Unreached)
			counter(relayBytesDesc, r.TCPIn, "tcp", "in")
			counter(relayBytesDesc, r.TCPOut, "tcp", "out")
		}
		if r.Begun+r.Dropped > 0 {
			gauge(relayOpenDesc, r.Flows, "udp")
			counter(relayCameDesc, r.Begun, "udp")
			counter(relayLimitDesc, r.Evicted, "udp")
			counter(relayDroppedDesc, r.Dropped)
			counter(relayBytesDesc, r.UDPIn, "udp", "in")
			counter(relayBytesDesc, r.UDPOut, "udp", "out")
		}
	}
}
