package placement

import (
	"time"

	"github.com/tritond/triton/pkg/cgroup"
	"github.com/tritond/triton/pkg/sched"
	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
)

// meter turns a container's growing counters into what it used. The zero meter takes its first reading as where it begins.
type meter struct {
	at    time.Time     // of the last reading; zero: none
	cpu   time.Duration // processor time up to then
	waits triton.Histogram

	// Since the last part went into the history:
	span      float64 // seconds
	sum, sq   float64 // core seconds; cores² times seconds
	mem, peak float64 // byte seconds; bytes
	memSpan   float64 // seconds of mem
}

// read takes in a sample and returns the mean cores since the reading before, at most most: clocks are read a moment apart.
// False: there is none, or no time has passed.
func (m *meter) read(s *telemetry.Sample, most float64) (cores float64, ok bool) {
	if cores, ok = m.add(s.Usage.Time, s.Usage.CPUTotal, most); ok {
		m.memory(float64(s.Usage.MemoryWorkingSet))
	}
	return cores, ok
}

// last takes in the end of a run. Where no sample saw its memory, the kernel's peak stands for it, caches included.
func (m *meter) last(e End, most float64) {
	if _, ok := m.add(e.At, e.Usage.CPUTotal, most); !ok {
		return
	}
	if m.memSpan == 0 {
		m.memory(float64(e.Usage.MemoryPeak))
	} else { // the rest of the run used as much as before
		m.memory(m.mem / m.memSpan)
	}
}

// add takes in processor time used up to a moment.
func (m *meter) add(at time.Time, cpu time.Duration, most float64) (cores float64, ok bool) {
	if m.at.IsZero() {
		m.at, m.cpu = at, cpu
		return 0, false
	}
	span := at.Sub(m.at).Seconds()
	if span <= 0 || cpu < m.cpu {
		return 0, false
	}
	cores = min(most, (cpu-m.cpu).Seconds()/span)
	m.at, m.cpu = at, cpu
	m.span += span
	m.sum += cores * span
	m.sq += cores * cores * span
	return cores, true
}

// memory takes in a working set that stands for the time that add counted last.
func (m *meter) memory(bytes float64) {
	m.mem += bytes * (m.span - m.memSpan)
	m.memSpan, m.peak = m.span, max(m.peak, bytes)
}

// part is what was used since the last one, and begins the next. False: nothing was seen.
func (m *meter) part() (sched.HourUse, bool) {
	if m.span <= 0 {
		return sched.HourUse{}, false
	}
	mean := m.sum / m.span
	u := sched.HourUse{
		Share: m.span / time.Hour.Seconds(), CPUMean: mean, CPUVar: max(0, m.sq/m.span-mean*mean), MemPeak: m.peak,
	}
	if m.memSpan > 0 {
		u.MemMean = m.mem / m.memSpan
	}
	*m = meter{at: m.at, cpu: m.cpu, waits: m.waits}
	return u, true
}

// measure reads the newest samples of what runs: each container's use, and all waits for a processor that are new.
func (p *Placement) measure() (use []sched.ContainerUse, waits triton.Histogram) {
	for key, c := range p.containers {
		if c.phase != running {
			continue
		}
		s, ok := p.cfg.Samples.Last(key)
		if !ok {
			continue
		}
		cores, ok := c.meter.read(&s, p.node.CPU)
		if !ok {
			continue
		}
		use = append(use, sched.ContainerUse{Key: key, CPU: cores, Memory: int64(s.Usage.MemoryWorkingSet)})
		addNew(&waits, s.RunQueue, c.meter.waits)
		c.meter.waits = s.RunQueue
	}
	return use, waits
}

// addNew adds to sum what h counted after before was read. All have the same layout, but for those that are empty.
func addNew(sum *triton.Histogram, h, before triton.Histogram) {
	if len(sum.Counts) == 0 {
		*sum = triton.Histogram{Schema: h.Schema, First: h.First, Counts: make([]uint64, len(h.Counts))}
	}
	if len(h.Counts) != len(sum.Counts) || h.Schema != sum.Schema || h.First != sum.First {
		return
	}
	for i, n := range h.Sub(before).Counts {
		sum.Counts[i] += n
	}
}

// frame says what the machine used since its last reading. False: no time has passed.
func (p *Placement) frame(m cgroup.Machine, now time.Time) (sched.Frame, bool) {
	over := m.Time.Sub(p.machine.Time)
	if over <= 0 {
		return sched.Frame{}, false
	}
	f := sched.Frame{
		Node: p.cfg.Node, Time: now, Over: over,
		CPU:    (m.Busy - p.machine.Busy).Seconds() / over.Seconds(),
		Memory: int64(m.MemoryTotal - min(m.MemoryTotal, m.MemoryAvailable)),
	}
	if a, b := p.machine.Pressure, m.Pressure; a != nil && b != nil {
		share := func(before, after time.Duration) float64 { return (after - before).Seconds() / over.Seconds() }
		f.CPUPSI, f.MemPSI, f.IOPSI = share(a.CPUSome, b.CPUSome), share(a.MemorySome, b.MemorySome), share(a.IOSome, b.IOSome)
	}
	return f, true
}

// remember puts what running containers used since the last time into the history.
func (p *Placement) remember(now time.Time) {
	for _, c := range p.containers {
		p.observe(c, now)
	}
	p.parted = now
}

// observe puts what one container used into the history. False: nothing was seen of it.
func (p *Placement) observe(c *container, now time.Time) bool {
	use, ok := c.meter.part()
	if !ok {
		return false
	}
	of := sched.Origin{Tenant: c.req.Key.Tenant, Image: c.req.Image, ImageID: c.req.ImageID}
	p.history.Observe(of, now.Unix()/3600, c.req.CPU, use)
	p.changed = true
	return true
}
