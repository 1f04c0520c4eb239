package sched

// Slots is the number of time slots of a profile: the hours of the day, which load follows more than anything else.
const Slots = 24

// profileDays is the memory of a profile: once so many days were seen, a new day counts 1/profileDays. A week covers working
// days and weekends.
const profileDays = 7

// peakFade is the hourly fading of a profile's peak: half is forgotten in four weeks.
const peakFade = 0.99897

// minHours is how many hours of use make a profile or a container's own samples believable: what the N-sigma predictor of
// "Take it to the limit" (Bashir et al., EuroSys 2021) waits before it trusts a task's samples.
const minHours = 2

// HourUse is what a container, or the mean container of an image, used in one hour, or in a part of one.
type HourUse struct {
	// Share of the hour that was observed; 0 stands for all of it.
	Share float64 `json:"share,omitempty"`

	CPUMean float64 `json:"cpuMean"` // cores
	CPUVar  float64 `json:"cpuVar"`  // cores², of the samples within the hour
	MemMean float64 `json:"memMean"` // bytes of working set
	MemPeak float64 `json:"memPeak"` // bytes
}

// Profile is what one container of an image uses at each hour of the day. The zero Profile knows nothing.
type Profile struct {
	Mean [Slots]float32 `json:"mean"` // cores
	Var  [Slots]float32 `json:"var"`  // cores², between days and within the hour
	Days [Slots]float32 `json:"days"` // observed days per slot, at most profileDays
	// Hours that were observed. Below minHours the profile is not believed unless Runs says that whole runs were seen.
	Hours float64 `json:"hours"`
	// Runs counts ended containers, however short they lived.
	Runs int `json:"runs,omitempty"`
	// Peak is the busiest hour seen, cores, fading slowly.
	Peak float32   `json:"peak"`
	Mem  MemoryUse `json:"mem"`
}

// MemoryUse is a working set: mean, variance and a slowly fading peak, MiB.
type MemoryUse struct {
	Mean   float32 `json:"mean"`
	Var    float32 `json:"var"`
	Peak   float32 `json:"peak"`
	Weight float32 `json:"weight"` // hours seen, at most memHours
}

// memHours is the memory of MemoryUse.
const memHours = profileDays * Slots

// Known reports whether the profile has seen enough to be believed.
func (p *Profile) Known() bool { return p != nil && (p.Hours >= minHours || p.Runs > 0 && p.Hours > 0) }

// Observe adds one hour; hour counts hours since the Unix epoch.
func (p *Profile) Observe(hour int64, use HourUse) {
	b := slot(hour)
	part := float32(use.share())
	p.Days[b] = min(p.Days[b]+part, profileDays)
	share := part / p.Days[b]
	d := float32(use.CPUMean) - p.Mean[b]
	p.Mean[b] += share * d
	p.Var[b] += share * (float32(use.CPUVar) + d*d*(1-share) - p.Var[b])
	p.Hours += float64(part)
	p.Peak = max(float32(use.CPUMean), p.Peak*(1-part*(1-peakFade)))
	p.Mem.observe(use, part)
	if p.Hours < Slots {
		p.fill()
	}
}

// fill gives hours of the day not observed yet the mean of the observed ones, and their spread as variance.
func (p *Profile) fill() {
	var n, sum, sumsq float32
	for b, days := range p.Days {
		if days > 0 {
			n += days
			sum += days * p.Mean[b]
			sumsq += days * (p.Var[b] + p.Mean[b]*p.Mean[b])
		}
	}
	for b, days := range p.Days {
		if days == 0 {
			p.Mean[b], p.Var[b] = sum/n, max(0, sumsq/n-sum/n*sum/n)
		}
	}
}

func (m *MemoryUse) observe(use HourUse, part float32) {
	mean, peak := float32(use.MemMean/mib), float32(use.MemPeak/mib)
	m.Weight = min(m.Weight+part, memHours)
	share := part / m.Weight
	d := mean - m.Mean
	m.Mean += share * d
	m.Var += share * (d*d*(1-share) - m.Var)
	m.Peak = max(peak, m.Peak-part*(m.Peak-peak)/memHours)
}

// shortest is the least share of an hour: what is shorter weighs as much, so that no weight is zero.
const shortest = 1.0 / (3600 * 1000)

func (u HourUse) share() float64 {
	if u.Share == 0 {
		return 1
	}
	return min(1, max(shortest, u.Share))
}

// spread is the variance memory is planned with: the observed one, or what makes the peak seen a three-sigma event.
func (m *MemoryUse) spread() float32 {
	const sigmas = 3
	d := (m.Peak - m.Mean) / sigmas
	return max(m.Var, d*d)
}

func slot(hour int64) int { return int((hour%Slots + Slots) % Slots) }

const mib = 1 << 20
