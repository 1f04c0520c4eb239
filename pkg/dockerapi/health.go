package dockerapi

import (
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/tritond/triton/pkg/triton"
)

// healthcheckOf reads a health check, with docker's conditions. An unknown kind of test is refused, where docker runs
// nothing and says so in its log.
func healthcheckOf(h *container.HealthConfig) (*triton.Healthcheck, error) {
	if h == nil {
		return nil, nil
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if d.value != 0 && d.value < container.MinimumDuration {
			return nil, invalid("%s in Healthcheck cannot be less than %s", d.name, container.MinimumDuration)
		}
	}
	if h.Retries < 0 {
		return nil, invalid("Retries in Healthcheck cannot be negative")
	}
	if len(h.Test) > 0 {
		switch kind := h.Test[0]; {
		case kind == "NONE":
		case kind != "CMD" && kind != "CMD-SHELL":
			return nil, invalid("Healthcheck.Test: unknown type %q: want NONE, CMD or CMD-SHELL", kind)
		case len(h.Test) < 2:
			return nil, invalid("Healthcheck.Test: %s without a command", kind)
		}
	}
	return &triton.Healthcheck{
		Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
	}, nil
}

func healthConfigOf(h *triton.Healthcheck) *container.HealthConfig {
	if h == nil {
		return nil
	}
	return &container.HealthConfig{
		Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
	}
}

func healthOf(h *triton.Health) *container.Health {
	if h == nil {
		return nil
	}
	out := &container.Health{Status: container.HealthStatus(h.Status), FailingStreak: h.FailingStreak, Log: []*container.HealthcheckResult{}}
	for _, p := range h.Log {
		out.Log = append(out.Log, &container.HealthcheckResult{Start: p.Start, End: p.End, ExitCode: p.ExitCode, Output: p.Output})
	}
	return out
}

// healthStatus is what the filter health compares with.
func healthStatus(c *triton.Container) string {
	if c.Health == nil {
		return triton.HealthNone
	}
	return c.Health.Status
}

// healthText is the end of "Up 3 seconds (healthy)".
func healthText(h *triton.Health) string {
	switch {
	case h == nil:
		return ""
	case h.Status == triton.HealthStarting:
		return " (health: starting)"
	}
	return " (" + h.Status + ")"
}
