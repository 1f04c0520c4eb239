package sched

import "github.com/tritond/triton/pkg/triton"

// load is what a container is expected to use: CPU per hour of the day in cores, memory in MiB.
type load struct {
	mean, vr [Slots]float32
	mem      float32
	memVar   float32
	// basis says where it comes from, for Explain.
	basis Basis
}

// Basis says what an expectation rests on.
type Basis uint8

// The bases, best first.
const (
	FromImage      Basis = iota // the image's history
	FromItself                  // the container's own samples
	FromPopulation              // what images in general use of their request
	FromRequest                 // nothing is known: the request in full
	FromNothing                 // nothing is known nor was asked for: the defaults
)

// String ends the sentence "expected to use so much, by ...".
func (b Basis) String() string {
	return [...]string{"history of the image", "its own samples", "what images use of their request", "its request",
		"the default: nothing is known of it"}[b]
}

// ownUse is what one container was seen to use, weighted by time.
type ownUse struct {
	hours    float32 // of samples
	mean, sq float32 // cores; mean of squares
	mem      float32 // MiB
	memPeak  float32
	samples  uint32
}

// coldSpread is the deviation of a container of which only moments are known, as a share of the request it may still rise to.
const coldSpread = 0.25

// memoryBelief is after how many hours an image's use of memory is believed in full; before, a part of what was promised
// counts in its place: a short run shows what a program computes with, but not what it grows to.
const memoryBelief = 24

// expect combines, in this order: the image's history; else what images in general use; else the request. The container's
// own samples then take over: hours/(hours+OwnHours) of the mean is theirs where there is a history, all of it where there is
// none (a sample is better than a promise), with a deviation that shrinks from coldSpread of the request as hours pass. Nothing
// is expected to use more than its limits.
func (s *Snapshot) expect(r *Request, own *ownUse, out *load) {
	s.expectUnbound(r, own, out)
	if most := float32(r.MaxCPU); most > 0 {
		for b := range Slots {
			out.mean[b], out.vr[b] = bound(out.mean[b], out.vr[b], most)
		}
	}
	if r.MaxMemory > 0 {
		out.mem, out.memVar = bound(out.mem, out.memVar, float32(r.MaxMemory)/mib)
	}
}

// bound gives the moments of a quantity that a limit cuts: what the mean leaves of it is the most it can deviate by.
func bound(mean, vr, most float32) (float32, float32) {
	left := max(0, most-mean)
	return min(mean, most), min(vr, left*min(mean, most)) // Bhatia and Davis (2000), of what lies in [0, most]
}

func (s *Snapshot) expectUnbound(r *Request, own *ownUse, out *load) {
	cpu, mem := s.asked(r)
	p := s.history.find(r.origin())
	switch {
	case p != nil:
		out.basis = FromImage
		out.mean, out.vr = p.Mean, p.Var
		out.doubt(p.Peak, float32(s.cfg.Doubt))
		out.mem, out.memVar = p.Mem.Mean, p.Mem.spread()
		if young := max(0, 1-float32(p.Hours)/memoryBelief); young > 0 && r.Memory > 0 {
			out.mem += young * max(0, mem-out.mem)
		}
	case s.hasPop:
		out.basis = FromPopulation
		out.flat(float32(s.prior.mean)*cpu, float32(s.prior.vr)*cpu*cpu)
		out.mem, out.memVar = mem, 0
	default:
		out.basis = FromRequest
		if r.CPU == 0 && r.Memory == 0 {
			out.basis = FromNothing
		}
		out.flat(cpu, 0)
		out.mem, out.memVar = mem, 0
	}
	if own == nil || own.samples == 0 {
		return
	}
	variance := max(0, own.sq-own.mean*own.mean)
	if p == nil {
		out.basis = FromItself
		young := 1 / (1 + own.hours/minHours)
		rise := coldSpread * young * max(0, cpu-own.mean)
		out.flat(own.mean, variance+rise*rise)
		// Memory is not believed so soon: it grows with the first requests served. Who was promised nothing is taken at its word.
		if out.mem = own.memPeak; r.Memory > 0 {
			out.mem = young*mem + (1-young)*own.memPeak
		}
		return
	}
	w := own.hours / (own.hours + float32(s.cfg.OwnHours))
	for b := range Slots {
		d := own.mean - out.mean[b]
		out.mean[b] += w * d
		out.vr[b] = (1-w)*out.vr[b] + w*variance + w*(1-w)*d*d
	}
	out.mem = max(out.mem, w*own.memPeak+(1-w)*out.mem)
}

// doubt mixes the busiest hour ever seen into each hour of the day, with probability share: what an image once did for an
// hour it may do for days, although it hardly did so in the week that the profile remembers.
func (l *load) doubt(peak, share float32) {
	for b := range Slots {
		if d := peak - l.mean[b]; d > 0 {
			l.mean[b] += share * d
			l.vr[b] = (1-share)*l.vr[b] + share*(1-share)*d*d
		}
	}
}

func (l *load) flat(mean, vr float32) {
	for b := range Slots {
		l.mean[b], l.vr[b] = mean, vr
	}
}

// asked is the request in cores and MiB, defaults in place of nothing.
func (s *Snapshot) asked(r *Request) (cpu, mem float32) {
	cpu, mem = float32(r.CPU), float32(r.Memory)/mib
	if cpu == 0 {
		cpu = float32(s.cfg.DefaultCPU)
	}
	if mem == 0 {
		mem = float32(s.cfg.DefaultMemory) / mib
	}
	return cpu, mem
}

func (o *ownUse) observe(hours float32, cpu, sq, mem, memPeak float32) {
	o.hours += hours
	// The weight of a sample never falls below hours/memHours: old days fade.
	share := hours / min(o.hours, memHours)
	o.mean += share * (cpu - o.mean)
	o.sq += share * (sq - o.sq)
	o.mem += share * (mem - o.mem)
	o.memPeak = max(memPeak, o.memPeak-share*(o.memPeak-memPeak))
	o.samples++
}

// ObserveHour tells what a container used in an hour, at the end of it. Its expected use follows at the next Refresh.
func (s *Snapshot) ObserveHour(key triton.ContainerKey, use HourUse) {
	if c := s.containers[key]; c != nil {
		c.own.observe(1, float32(use.CPUMean), float32(use.CPUVar+use.CPUMean*use.CPUMean), float32(use.MemMean/mib), float32(use.MemPeak/mib))
	}
}
