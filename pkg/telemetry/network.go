package telemetry

import (
	"maps"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"github.com/tritond/triton/pkg/triton"
)

// perNetwork gives the series of how containers' networks fare.
func (s *Store) perNetwork(rows []row) []*dto.MetricFamily {
	all := s.cfg.Network()
	rows = slices.DeleteFunc(slices.Clone(rows), func(r row) bool { _, known := all[r.key]; return !known })
	failures := newFamily("triton_container_tcp_connect_failures_total", "Attempts to open a TCP connection that failed, by reason.", dto.MetricType_COUNTER, 0)
	resets := newFamily("triton_container_tcp_resets_total", "TCP resets, by direction.", dto.MetricType_COUNTER, 0)
	drops := newFamily("triton_container_packet_drops_total", "Packets that the kernel dropped, by its reason.", dto.MetricType_COUNTER, 0)
	count := func(f *dto.MetricFamily, r row, label, value string, n uint64) {
		f.Metric = append(f.Metric, &dto.Metric{Label: withLabel(r.labels, label, value), Counter: &dto.Counter{Value: proto.Float64(float64(n))}})
	}
	for _, r := range rows {
		h := all[r.key]
		for _, reason := range slices.Sorted(maps.Keys(h.ConnectFailures)) {
			count(failures, r, "reason", reason, h.ConnectFailures[reason])
		}
		count(resets, r, "direction", "received", h.ResetsReceived)
		count(resets, r, "direction", "sent", h.ResetsSent)
		for _, reason := range slices.Sorted(maps.Keys(h.Drops)) {
			count(drops, r, "reason", reason, h.Drops[reason])
		}
	}
	return []*dto.MetricFamily{
		histogramFamily("triton_container_tcp_connect_duration_seconds", "Time from the first SYN to the answer, of connections opened.", rows,
			func(r *row) triton.Histogram { return all[r.key].Connect }),
		histogramFamily("triton_container_tcp_rtt_seconds", "Smoothed round trip times of TCP, once a second while segments come and when data ends.", rows,
			func(r *row) triton.Histogram { return all[r.key].RTT }),
		histogramFamily("triton_container_tcp_accept_delay_seconds", "Time that open connections waited until they were accepted.", rows,
			func(r *row) triton.Histogram { return all[r.key].Accept }),
		failures, resets, drops,
	}
}
