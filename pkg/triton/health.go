package triton

import (
	"cmp"
	"slices"
	"time"
)

// Healthcheck says how to find out whether a container does its work. Zero values mean docker's default.
type Healthcheck struct {
	// Test is NONE; or CMD and the words of a command; or CMD-SHELL and a line for the shell. Empty: the image's.
	Test          []string      `json:"test,omitempty"`
	Interval      time.Duration `json:"interval,omitempty"`      // between probes, from end to start; 0: 30 s
	Timeout       time.Duration `json:"timeout,omitempty"`       // of one probe; 0: 30 s
	StartPeriod   time.Duration `json:"startPeriod,omitempty"`   // in which failures do not count; 0: none
	StartInterval time.Duration `json:"startInterval,omitempty"` // in place of Interval in the start period; 0: 5 s
	Retries       int           `json:"retries,omitempty"`       // failures in a row that make unhealthy; 0: 3
}

// Over fills in, field by field, what h leaves to another check; both may be nil.
func (h *Healthcheck) Over(below *Healthcheck) *Healthcheck {
	if h == nil || below == nil {
		return cmp.Or(h, below)
	}
	out := Healthcheck{
		Test: h.Test, Interval: cmp.Or(h.Interval, below.Interval), Timeout: cmp.Or(h.Timeout, below.Timeout),
		StartPeriod: cmp.Or(h.StartPeriod, below.StartPeriod), StartInterval: cmp.Or(h.StartInterval, below.StartInterval),
		Retries: cmp.Or(h.Retries, below.Retries),
	}
	if len(h.Test) == 0 {
		out.Test = below.Test
	}
	return &out
}

// Docker's defaults.
const (
	defaultHealthInterval      = 30 * time.Second
	defaultHealthTimeout       = 30 * time.Second
	defaultHealthStartInterval = 5 * time.Second
	defaultHealthRetries       = 3
)

// Health is what the probes of a container found.
type Health struct {
	Status        string  `json:"status"` // starting, healthy, unhealthy
	FailingStreak int     `json:"failingStreak"`
	Log           []Probe `json:"log,omitempty"` // the last five, oldest first
}

// Probe is one run of a health check.
type Probe struct {
	Start    time.Time `json:"start"`
	End      time.Time `json:"end"`
	ExitCode int       `json:"exitCode"` // -1: it could not be run, or took too long
	Output   string    `json:"output,omitempty"`
}

// The states of Health, and docker's word for none.
const (
	HealthNone      = "none"
	HealthStarting  = "starting"
	HealthHealthy   = "healthy"
	HealthUnhealthy = "unhealthy"
)

// keptProbes is how many probes Health remembers, as in docker.
const keptProbes = 5

// Command is what a probe executes, with the shell for CMD-SHELL; nil: there is nothing to probe.
func (h *Healthcheck) Command(shell []string) []string {
	if h == nil || len(h.Test) < 2 {
		return nil
	}
	switch h.Test[0] {
	case "CMD":
		return h.Test[1:]
	case "CMD-SHELL":
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return slices.Concat(shell, h.Test[1:])
	}
	return nil
}

// ProbeTimeout is how long one probe may take.
func (h *Healthcheck) ProbeTimeout() time.Duration {
	return orDuration(h.Timeout, defaultHealthTimeout)
}

// Wait is how long to wait for the next probe of a container that has run for some time and is in the given state.
func (h *Healthcheck) Wait(status string, ran time.Duration) time.Duration {
	if status != HealthStarting || ran >= h.StartPeriod {
		return orDuration(h.Interval, defaultHealthInterval)
	}
	return min(orDuration(h.StartInterval, defaultHealthStartInterval), h.StartPeriod-ran)
}

// After returns the health once a probe has ended; ran is how long the container had run at its start. h is left as it is.
func (h *Health) After(check *Healthcheck, p Probe, ran time.Duration) *Health {
	next := &Health{Status: h.Status, FailingStreak: h.FailingStreak, Log: append(slices.Clone(h.Log), p)}
	if extra := len(next.Log) - keptProbes; extra > 0 {
		next.Log = next.Log[extra:]
	}
	retries := check.Retries
	if retries <= 0 {
		retries = defaultHealthRetries
	}
	switch {
	case p.ExitCode == 0:
		next.Status, next.FailingStreak = HealthHealthy, 0
	case h.Status == HealthStarting && ran < check.StartPeriod: // does not count yet
	default:
		if next.FailingStreak++; next.FailingStreak >= retries {
			next.Status = HealthUnhealthy
		}
	}
	return next
}

func orDuration(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}
