package sched

import "math"

// Margin is the closed loop: predicted deviations are multiplied by N, and N follows how often the predictions were missed.
// It is adaptive conformal inference (Gibbs and Candès, NeurIPS 2021) on a logarithmic scale: with each frame
//
//	N *= exp(Adapt * hours * weight * (missed - MissRate))
//
// where a miss is a demand that the node's prediction gave less than MissRate probability to be exceeded, and weight is the
// node's share of all containers. Misses are seen long before a node is full, so that the margin is learnt before it is needed.
type Margin struct {
	N float64 `json:"n"`
	// Ease multiplies the admitted risk: it grows while less than Config.Overload of container time is spent on overloaded
	// nodes and shrinks when more is, for a tail of a sum is never known as well as its middle.
	Ease   float64 `json:"ease"`
	Misses float64 `json:"misses"` // container hours in which the prediction was missed
	Hours  float64 `json:"hours"`  // container hours observed
}

// The margin stays in these bounds, lest a broken sensor opens or closes the fleet.
const (
	minMargin = 0.8
	maxMargin = 6
	maxEase   = 6
)

// easeRate is how fast Ease follows, per hour without any overload: it doubles in about three days.
const easeRate = 0.01

func (m Margin) bounded(c Config) Margin {
	if !(m.N > 0) || math.IsInf(m.N, 0) {
		m.N = c.Margin
	}
	m.N = min(maxMargin, max(minMargin, m.N))
	if !(m.Ease >= 1) {
		m.Ease = 1
	}
	m.Ease = min(maxEase, m.Ease)
	return m
}

// learn looks at what node n used in a frame.
func (s *Snapshot) learn(n int32, used float32, hours float64) {
	here, all := float64(len(s.nodes.run[n])), float64(len(s.containers))
	if here == 0 || hours <= 0 {
		return
	}
	missed := 0.0
	if s.chance(n, used) < float32(s.cfg.MissRate) {
		missed = 1
	}
	m := &s.margin
	m.Hours += here * hours
	m.Misses += here * hours * missed
	m.N *= math.Exp(s.cfg.Adapt * hours * here / all * (missed - s.cfg.MissRate))
	over := 0.0
	if used > s.nodes.cap[n] {
		over = 1
	}
	m.Ease *= math.Exp(easeRate * hours * here / all * (1 - over/s.cfg.Overload))
	*m = m.bounded(s.cfg)
}

// chance is the probability, by the node's prediction, that its demand exceeds used at a random hour of the day.
func (s *Snapshot) chance(n int32, used float32) float32 {
	mean, vr := s.nodes.mean[int(n)*Slots:][:Slots], s.nodes.vr[int(n)*Slots:][:Slots]
	sum := float32(0)
	for b := range Slots {
		sum += tail((used - mean[b]) / (float32(s.margin.N) * sqrt(vr[b]+tiny)))
	}
	return sum / Slots
}
