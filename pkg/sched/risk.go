package sched

import "math"

// tailTable holds the upper tail of the normal distribution at z = i/tailSteps, as sums of many containers' use follow it but
// for the margin that is learnt (see Margin).
var tailTable = func() (t [tailMax*tailSteps + 1]float32) {
	for i := range t {
		t[i] = float32(0.5 * math.Erfc(float64(i)/tailSteps/math.Sqrt2))
	}
	return t
}()

const (
	tailMax   = 8
	tailSteps = 64
)

// tail is the probability that a normal variable exceeds its mean by more than z deviations.
func tail(z float32) float32 {
	switch {
	case z >= tailMax:
		return 0
	case z <= -tailMax:
		return 1
	case z < 0:
		return 1 - tailTable[int(-z*tailSteps)]
	}
	return tailTable[int(z*tailSteps)]
}

func sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }

// tiny variance, cores², keeps divisions finite on an idle node.
const tiny = 1e-6

// brim, cores, lets a node be filled to the brim where what is expected has no deviation.
const brim = 0.01

const (
	// peakSigmas of the predicted deviation above the mean make the peak nodes are ranked by. It decides the order only, so it
	// is fixed; what is admitted depends on Risk and the learnt margin.
	peakSigmas = 2
	// nowSigmas stretches the deviation of the present: what is measured over minutes hides the drift over the hours that
	// the present stands for.
	nowSigmas = 2
)

// outlook is what is expected of a node with a request added.
type outlook struct {
	risk     float32 // probability that demand exceeds capacity
	soon     float32 // likewise, by the present alone
	peak     float32 // highest over the day of mean + peakSigmas deviations, cores
	now      float32 // the present, likewise, cores
	mem      float32 // MiB at MemoryRisk
	worst    int     // hour of the peak
	replicas int32   // containers of the image there
}

// look predicts node n with a container of the given load and image added (nil: as it is), reserve of its cores left free.
//
// CPU: for each hour b of the day the demand is taken as normal with the summed means and variances of the containers;
// containers of one image are taken as fully correlated, because replicas share their load. The risk is
//
//	(1-NowShare) * mean over b of tail((capacity - mean_b) / (margin * deviation_b)) + NowShare * tail((capacity - now) / deviation)
func (s *Snapshot) look(n int32, l *load, image int32, reserve float32) (o outlook) {
	ns := &s.nodes
	mean, vr := ns.mean[int(n)*Slots:][:Slots], ns.vr[int(n)*Slots:][:Slots]
	room, margin := ns.cap[n]*(1-reserve)+brim, float32(s.margin.N)
	var zero load
	repeat := float32(1)
	if l == nil {
		l = &zero
	} else {
		o.replicas = ns.groups[n][image]
		repeat = 2*float32(o.replicas) + 1
	}
	sum := float32(0)
	for b := range Slots {
		m := mean[b] + l.mean[b]
		d := sqrt(vr[b] + repeat*l.vr[b] + tiny)
		sum += tail((room - m) / (margin * d))
		if p := m + peakSigmas*d; p > o.peak {
			o.peak, o.worst = p, b
		}
	}
	o.risk = sum / Slots
	b := slot(s.hour)
	if ns.fresh[n] {
		share := float32(s.cfg.NowShare)
		m := ns.now[n] + ns.waiting[n] + l.mean[b]
		d := nowSigmas * sqrt(ns.nowVar[n]+l.vr[b]+tiny)
		o.soon = tail((room - m) / d)
		o.risk = (1-share)*o.risk + share*o.soon
		o.now = m + peakSigmas*d
	}
	o.mem = s.memoryPeak(n, l)
	return o
}

// memoryPeak is the memory, MiB, that the node's containers and one more exceed with probability MemoryRisk at most. What is
// measured now is a lower bound: sums of profiles may miss what is not a container.
func (s *Snapshot) memoryPeak(n int32, l *load) float32 {
	ns := &s.nodes
	predicted := max(ns.memMean[n]+l.mem, ns.nowMem[n]+ns.waitMem[n]+l.mem)
	return predicted + s.memZ*sqrt(ns.memVar[n]+l.memVar)
}
