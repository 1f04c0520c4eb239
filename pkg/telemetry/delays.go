package telemetry

import (
	"cmp"
	"slices"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"github.com/tritond/triton/pkg/triton"
)

// culpritsShown bounds the culprits of a container that have series of their own; the others are added up as
// culprit="other".
const culpritsShown = 5

// culpritBook remembers which culprits have series, and which are among the others: none changes sides, so that no counter
// falls.
type culpritBook struct {
	mu    sync.Mutex
	shown map[triton.ContainerKey]map[triton.ContainerKey]bool
}

// pick tells which culprits of a victim have series; delays come longest first.
func (b *culpritBook) pick(victim triton.ContainerKey, delays []triton.Delay) map[triton.ContainerKey]bool {
	before, now, room := b.shown[victim], map[triton.ContainerKey]bool{}, culpritsShown
	for _, d := range delays {
		if shown, known := before[d.Container]; known && d.Culprit == triton.CulpritContainer {
			now[d.Container] = shown
			if shown {
				room--
			}
		}
	}
	for _, d := range delays {
		if _, known := now[d.Container]; known || d.Culprit != triton.CulpritContainer || d.Container == victim {
			continue
		}
		now[d.Container] = room > 0
		if room > 0 {
			room--
		}
	}
	return now
}

// perCulprit gives the series of who had the CPU while containers waited for it.
func (s *Store) perCulprit(rows []row) []*dto.MetricFamily {
	all, err := s.cfg.Delays()
	if err != nil {
		s.sourceErrors.Add(1)
		s.log.Error("delays are not served", "err", err)
		return nil
	}
	f := newFamily("triton_container_cpu_delay_seconds_total", "Time that tasks waited for a CPU, by what had it.", dto.MetricType_COUNTER, 0)
	names := make(map[triton.ContainerKey]string, len(rows))
	for i := range rows {
		names[rows[i].key] = rows[i].name
	}
	s.culprits.mu.Lock()
	defer s.culprits.mu.Unlock()
	kept := map[triton.ContainerKey]map[triton.ContainerKey]bool{}
	for i := range rows {
		r := &rows[i]
		shown := s.culprits.pick(r.key, all[r.key])
		kept[r.key] = shown
		for _, c := range culpritSums(r.key, all[r.key], shown) {
			labels := append(slices.Clone(r.labels), pair("culprit", c.kind), pair("culprit_id", c.id.ID), pair("culprit_name", names[c.id]))
			f.Metric = append(f.Metric, &dto.Metric{Label: sorted(labels), Counter: &dto.Counter{Value: proto.Float64(c.wait.Seconds())}})
		}
	}
	s.culprits.shown = kept // those of ended containers go
	return []*dto.MetricFamily{f}
}

// culpritSum is one series: a container, or a kind of culprits.
type culpritSum struct {
	kind string
	id   triton.ContainerKey
	wait time.Duration
}

// culpritSums adds up what has no series of its own.
func culpritSums(victim triton.ContainerKey, delays []triton.Delay, shown map[triton.ContainerKey]bool) []culpritSum {
	var out []culpritSum
	kinds := map[string]time.Duration{}
	for _, d := range delays {
		switch {
		case d.Culprit == triton.CulpritContainer && d.Container == victim:
			kinds["self"] += d.Wait
		case d.Culprit == triton.CulpritContainer && shown[d.Container]:
			out = append(out, culpritSum{"container", d.Container, d.Wait})
		case d.Culprit == triton.CulpritContainer, d.Culprit == triton.CulpritEnded:
			kinds["other"] += d.Wait
		default:
			kinds[string(d.Culprit)] += d.Wait
		}
	}
	for kind, wait := range kinds {
		out = append(out, culpritSum{kind: kind, wait: wait})
	}
	slices.SortFunc(out, func(a, b culpritSum) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.id.ID, b.id.ID)) })
	return out
}
