package telemetry

import (
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"github.com/tritond/triton/pkg/triton"
)

// perDisk gives the series of what block devices did for containers: of each device and direction that one used.
func (s *Store) perDisk(rows []row) []*dto.MetricFamily {
	all, err := s.cfg.Disks()
	if err != nil {
		s.sourceErrors.Add(1)
		s.log.Error("disks are not served", "err", err)
		return nil
	}
	took := newFamily("triton_container_block_io_duration_seconds",
		"Time of requests to a block device, from their making to the end of their last part.", dto.MetricType_HISTOGRAM, 0)
	bytes := newFamily("triton_container_block_io_bytes_total", "Bytes that a block device read or wrote.", dto.MetricType_COUNTER, 0)
	untimed := newFamily("triton_container_block_io_untimed_total",
		"Requests whose time is not known, since the device keeps no statistics.", dto.MetricType_COUNTER, 0)
	count := func(f *dto.MetricFamily, labels []*dto.LabelPair, n uint64) {
		f.Metric = append(f.Metric, &dto.Metric{Label: labels, Counter: &dto.Counter{Value: proto.Float64(float64(n))}})
	}
	for i := range rows {
		for _, d := range all[rows[i].key] {
			labels := diskLabels(rows[i].labels, d)
			took.Metric = append(took.Metric, &dto.Metric{Label: labels, Histogram: histogram(d.Durations, rows[i].sample)})
			count(bytes, labels, d.Bytes)
			count(untimed, labels, d.Untimed)
		}
	}
	return []*dto.MetricFamily{took, bytes, untimed}
}

func diskLabels(labels []*dto.LabelPair, d triton.Disk) []*dto.LabelPair {
	return sorted(append(append([]*dto.LabelPair{}, labels...), pair("device", d.Name), pair("operation", d.Operation())))
}
