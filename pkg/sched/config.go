package sched

import (
	"errors"
	"fmt"
	"time"
)

// Config holds the settings. A zero field takes its default; the defaults were chosen once for all traces of docs/scheduler.md.
type Config struct {
	// Risk is the highest admitted probability that a node's CPU demand exceeds its cores, averaged over the next day.
	Risk float64
	// MemoryRisk likewise for memory, which cannot be shared out when it runs short.
	MemoryRisk float64
	// NowShare is the weight of the present in Risk, the rest is that of the profile of the day: what runs hot keeps
	// running hot for hours.
	NowShare float64
	// Margin is the first stretch of predicted deviations; the closed loop changes it.
	Margin float64
	// MissRate is the share of time in which demand may exceed the level predicted for that share; Adapt is how fast the
	// margin follows the observed one, per hour.
	MissRate, Adapt float64
	// Doubt is the probability with which an image is taken to run as in its busiest hour at any time.
	Doubt float64
	// Overload is the share of container time on overloaded nodes that is aimed at; Risk is the least that is admitted on
	// the way there.
	Overload float64
	// OwnHours is after how many hours a container's own samples weigh as much as its image's history.
	OwnHours float64
	// StaleAfter is the age at which telemetry of a node is no longer believed: three frames of a second.
	StaleAfter time.Duration
	// DefaultCPU (cores) and DefaultMemory (bytes) stand for a request that names none.
	DefaultCPU    float64
	DefaultMemory int64
	// LowReserve is the share of a node that requests of negative priority leave free.
	LowReserve float64
	// CrashLimit is the crashes of an image on a node within days that keep it from there.
	CrashLimit float64
	// Candidates is how many nodes are scored exactly.
	Candidates int
	// Scores weigh the costs of nodes.
	Scores Weights
}

// Weights of the scorers; the unit is a node's capacity: a cost of 0.1 stands for a tenth of a node used more.
// A negative weight switches a scorer off.
type Weights struct {
	Peak, Now, Memory, Pressure, RunQueue, Interference, Crash, Locality, Replicas, Spread, Affinity, Network, Disk float64
}

// Defaults returns the settings used where a field is zero.
func Defaults() Config {
	return Config{
		Risk: 0.005, MemoryRisk: 1e-5, NowShare: 0.3, Margin: 1.4, Doubt: 0.1, Overload: 0.003, MissRate: 0.03, Adapt: 0.05, OwnHours: 200,
		StaleAfter: 3 * time.Second, DefaultCPU: 0.25, DefaultMemory: 256 * mib, LowReserve: 0.1, CrashLimit: 3, Candidates: 16,
		Scores: Weights{Peak: 1, Now: 0.5, Memory: 0.2, Pressure: 0.5, RunQueue: 0.2, Interference: 0.5, Crash: 0.3, Locality: 0.02,
			Replicas: 0.01, Spread: 0.2, Affinity: 0.3, Network: 0.1, Disk: 0.1},
	}
}

// Validate lists all that is wrong with the settings.
func (c Config) Validate() error {
	var errs []error
	share := func(name string, v float64) {
		if v < 0 || v >= 1 {
			errs = append(errs, fmt.Errorf("%s %v: must be in [0, 1)", name, v))
		}
	}
	share("risk", c.Risk)
	share("memory risk", c.MemoryRisk)
	share("now share", c.NowShare)
	share("miss rate", c.MissRate)
	share("low reserve", c.LowReserve)
	share("doubt", c.Doubt)
	share("overload", c.Overload)
	for _, v := range []struct {
		name string
		v    float64
	}{{"margin", c.Margin}, {"adapt", c.Adapt}, {"own hours", c.OwnHours}, {"default cpu", c.DefaultCPU},
		{"default memory", float64(c.DefaultMemory)}, {"candidates", float64(c.Candidates)}, {"stale after", float64(c.StaleAfter)}} {
		if v.v < 0 {
			errs = append(errs, fmt.Errorf("%s %v: must not be negative", v.name, v.v))
		}
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	d := Defaults()
	for _, f := range []struct{ v, d *float64 }{
		{&c.Risk, &d.Risk}, {&c.MemoryRisk, &d.MemoryRisk}, {&c.NowShare, &d.NowShare}, {&c.Margin, &d.Margin},
		{&c.MissRate, &d.MissRate}, {&c.Adapt, &d.Adapt}, {&c.OwnHours, &d.OwnHours}, {&c.DefaultCPU, &d.DefaultCPU},
		{&c.LowReserve, &d.LowReserve}, {&c.Doubt, &d.Doubt}, {&c.Overload, &d.Overload}, {&c.CrashLimit, &d.CrashLimit},
	} {
		if *f.v == 0 {
			*f.v = *f.d
		}
	}
	if c.StaleAfter == 0 {
		c.StaleAfter = d.StaleAfter
	}
	if c.DefaultMemory == 0 {
		c.DefaultMemory = d.DefaultMemory
	}
	if c.Candidates == 0 {
		c.Candidates = d.Candidates
	}
	c.Scores = c.Scores.withDefaults(d.Scores)
	return c
}

func (w Weights) withDefaults(d Weights) Weights {
	for _, f := range []struct{ v, d *float64 }{
		{&w.Peak, &d.Peak}, {&w.Now, &d.Now}, {&w.Memory, &d.Memory}, {&w.Pressure, &d.Pressure}, {&w.RunQueue, &d.RunQueue},
		{&w.Interference, &d.Interference}, {&w.Crash, &d.Crash}, {&w.Locality, &d.Locality}, {&w.Replicas, &d.Replicas},
		{&w.Spread, &d.Spread}, {&w.Affinity, &d.Affinity}, {&w.Network, &d.Network}, {&w.Disk, &d.Disk},
	} {
		switch {
		case *f.v == 0:
			*f.v = *f.d
		case *f.v < 0:
			*f.v = 0
		}
	}
	return w
}
