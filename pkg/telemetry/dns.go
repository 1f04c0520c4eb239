package telemetry

import (
	"maps"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"github.com/tritond/triton/pkg/triton"
)

// perNameService gives the series of what containers ask name servers. None has a name.
func (s *Store) perNameService(rows []row) []*dto.MetricFamily {
	all := s.cfg.NameService()
	rows = slices.DeleteFunc(slices.Clone(rows), func(r row) bool { _, known := all[r.key]; return !known })
	asked := newFamily("triton_container_dns_questions_total", "Questions sent to name servers, by protocol.", dto.MetricType_COUNTER, 0)
	answers := newFamily("triton_container_dns_answers_total", "Answers of name servers, by code.", dto.MetricType_COUNTER, 0)
	unanswered := newFamily("triton_container_dns_unanswered_total", "Questions asked again before an answer came, or not answered in 5 s.",
		dto.MetricType_COUNTER, 0)
	lost := newFamily("triton_container_dns_unmatched_total", "What could not be told apart of questions and answers, by reason.",
		dto.MetricType_COUNTER, 0)
	count := func(f *dto.MetricFamily, labels []*dto.LabelPair, n uint64) {
		f.Metric = append(f.Metric, &dto.Metric{Label: labels, Counter: &dto.Counter{Value: proto.Float64(float64(n))}})
	}
	for _, r := range rows {
		n := all[r.key]
		count(asked, withLabel(r.labels, "protocol", triton.ProtoUDP), n.Asked-min(n.Asked, n.AskedTCP))
		if n.AskedTCP > 0 {
			count(asked, withLabel(r.labels, "protocol", triton.ProtoTCP), n.AskedTCP)
		}
		count(unanswered, r.labels, n.Unanswered)
		for _, code := range slices.Sorted(maps.Keys(n.Answers)) {
			count(answers, withLabel(r.labels, "code", code), n.Answers[code])
		}
		for _, l := range []struct {
			reason string
			n      uint64
		}{{"malformed", n.Malformed}, {"unasked", n.Unasked}, {"unfollowed", n.Unfollowed}, {"unnamed", n.Unnamed}, {"untimed", n.Untimed}} {
			if l.n > 0 {
				count(lost, withLabel(r.labels, "reason", l.reason), l.n)
			}
		}
	}
	return []*dto.MetricFamily{
		histogramFamily("triton_container_dns_duration_seconds", "Time from a question to its answer.", rows,
			func(r *row) triton.Histogram { return all[r.key].RoundTrip }),
		asked, answers, unanswered, lost,
	}
}
