package telemetry

import (
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"github.com/tritond/triton/pkg/triton"
)

// perWait gives the series of what tasks waited for: those reasons for which one ever did.
func perWait(rows []row) *dto.MetricFamily {
	f := newFamily("triton_container_off_cpu_seconds_total", "Time that tasks waited for anything but a CPU, by what for.",
		dto.MetricType_COUNTER, 0)
	for i := range rows {
		for reason, wait := range rows[i].sample.Waits {
			if wait > 0 {
				labels := withLabel(rows[i].labels, "reason", triton.WaitReason(reason).String())
				f.Metric = append(f.Metric, &dto.Metric{Label: labels, Counter: &dto.Counter{Value: proto.Float64(wait.Seconds())}})
			}
		}
	}
	return f
}
