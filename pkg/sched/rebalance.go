package sched

import (
	"fmt"
	"sort"

	"github.com/tritond/triton/pkg/triton"
)

// Move is advice to move one container off a hot node.
type Move struct {
	Key  triton.ContainerKey `json:"key"`
	From string              `json:"from"`
	To   string              `json:"to"`
	// The expected effect: risk of CPU overload and predicted peak as a share of cores, before and after, on both nodes.
	FromRisk [2]float64 `json:"fromRisk"`
	ToRisk   [2]float64 `json:"toRisk"`
	FromPeak [2]float64 `json:"fromPeak"`
	ToPeak   [2]float64 `json:"toPeak"`
	Reason   string     `json:"reason"`
}

// Hysteresis: a node is hot when its risk exceeds hotFactor times the admitted one, far above what any placement may cause;
// a move must bring it below coolFactor of that and leave the target below the admitted risk, with a peak that is lower than the
// source's by minGain. So a move is never answered by a move back.
const (
	hotFactor  = 4
	coolFactor = 0.5
	minGain    = 0.05
)

// Rebalance advises at most limit moves, the hottest node first, at most one per node: after a move its effect must be seen
// before the next is advised. It changes nothing. Containers that arrived since the node's last frame are left alone.
func Rebalance(s *Snapshot, limit int) []Move {
	type hot struct {
		n int32
		o outlook
	}
	var nodes []hot
	for n, alive := range s.nodes.alive {
		if alive && s.nodes.fresh[n] {
			if o := s.look(int32(n), nil, -1, 0); o.risk > hotFactor*float32(s.cfg.Risk) {
				nodes = append(nodes, hot{int32(n), o})
			}
		}
	}
	sort.Slice(nodes, func(i, j int) bool {
		a, b := &nodes[i], &nodes[j]
		return a.o.risk > b.o.risk || a.o.risk == b.o.risk && s.nodes.hash[a.n] < s.nodes.hash[b.n]
	})
	var moves []Move
	taken := map[string]bool{}
	for _, h := range nodes {
		if len(moves) == limit {
			break
		}
		if m, ok := s.relieve(h.n, h.o, taken); ok {
			taken[m.To] = true
			moves = append(moves, m)
		}
	}
	return moves
}

// relieve finds the smallest container whose move cools node n, else the one that helps most.
func (s *Snapshot) relieve(n int32, before outlook, taken map[string]bool) (best Move, ok bool) {
	candidates := append([]*container(nil), s.nodes.run[n]...)
	b := slot(s.hour)
	sort.Slice(candidates, func(i, j int) bool {
		x, y := candidates[i], candidates[j]
		return x.load.mean[b] < y.load.mean[b] || x.load.mean[b] == y.load.mean[b] && x.req.Key.ID < y.req.Key.ID
	})
	bestRisk := before.risk
	for _, c := range candidates {
		if c.waiting {
			continue
		}
		after := s.without(n, c)
		if after.risk >= bestRisk {
			continue
		}
		m, fits := s.target(n, c, before, after, taken)
		if !fits {
			continue
		}
		best, ok, bestRisk = m, true, after.risk
		if after.risk <= coolFactor*hotFactor*float32(s.cfg.Risk) {
			break
		}
	}
	return best, ok
}

// without is the outlook of node n once c has left.
func (s *Snapshot) without(n int32, c *container) outlook {
	var gone load
	b := slot(s.hour)
	repeat := 2*float32(s.nodes.groups[n][c.image]) - 1
	for i := range Slots {
		gone.mean[i], gone.vr[i] = -c.load.mean[i], -min(repeat*c.load.vr[i], s.nodes.vr[int(n)*Slots+i])
	}
	gone.mem, gone.memVar = -c.load.mem, -min(repeat*c.load.memVar, s.nodes.memVar[n])
	// The present variance stays: it is the node's.
	gone.vr[b] = max(gone.vr[b], -s.nodes.nowVar[n])
	return s.look(n, &gone, -1, 0)
}

func (s *Snapshot) target(n int32, c *container, before, after outlook, taken map[string]bool) (Move, bool) {
	r := c.req
	q := s.query(&r)
	q.load = c.load
	var d Decision
	for _, f := range s.gather(q, &d, s.cfg.Candidates) {
		to := s.nodes.fixed[f.n].Name
		if f.n == n || taken[to] || !s.nodes.fresh[f.n] {
			continue
		}
		was := s.look(f.n, nil, -1, 0)
		gain := before.peak/s.nodes.cap[n] - f.look.peak/s.nodes.cap[f.n]
		if gain < minGain {
			continue
		}
		m := Move{Key: c.req.Key, From: s.nodes.fixed[n].Name, To: to,
			FromRisk: [2]float64{float64(before.risk), float64(after.risk)}, ToRisk: [2]float64{float64(was.risk), float64(f.look.risk)},
			FromPeak: [2]float64{float64(before.peak / s.nodes.cap[n]), float64(after.peak / s.nodes.cap[n])},
			ToPeak:   [2]float64{float64(was.peak / s.nodes.cap[f.n]), float64(f.look.peak / s.nodes.cap[f.n])}}
		m.Reason = fmt.Sprintf("risk of overload on %s falls from %.2g %% to %.2g %%, on %s it becomes %.2g %%",
			m.From, 100*m.FromRisk[0], 100*m.FromRisk[1], m.To, 100*m.ToRisk[1])
		return m, true
	}
	return Move{}, false
}
