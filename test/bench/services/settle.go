package main

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// sampledShare is the share of the time in which a container at level sampled has its calls counted: a second of ten.
const sampledShare = 0.1

// probesNow is of GET /triton/v1/probes.
type probesNow struct {
	Level    string
	Hooked   float64 // seconds for which hooks of system calls were attached
	Burden   float64 // what observation costs, as a share of the time in which processors are busy
	Stepping struct {
		Budget    float64
		Steps     uint64
		Estimates map[string]float64 // shares as Burden, by level
	}
}

func (t *levelTurns) probes(ctx context.Context) (p probesNow, err error) {
	err = t.api.JSON(ctx, http.MethodGet, "/triton/v1/probes", nil, &p)
	return p, err
}

const (
	// settleTime is what a level that steps by itself needs to follow a load: two measurements of every five seconds, and again for
	// the level that it steps to, which is measured each ten.
	settleTime = 25 * time.Second
	// stayTime is for how long it is watched after that.
	stayTime = 30 * time.Second
)

// settled is what the daemon's own level did under a load.
type settled struct {
	level            string  // that it had for the most of stayTime
	for_             float64 // of stayTime
	before, since    uint64  // steps to begin with, and in stayTime
	burden, estimate float64 // what the daemon takes the level for, and level detail: medians
	budget           float64
}

func (s settled) String() string {
	return fmt.Sprintf("under `auto` the daemon came to level %s in %d steps, and had it for %.0f %% of the following %v with %d more; it takes it for %.2f %% of the "+
		"time in which processors are busy, detail for %.2f %%, and has a budget of %.3g %%.",
		s.level, s.before, 100*s.for_, stayTime, s.since, 100*s.burden, 100*s.estimate, 100*s.budget)
}

// settle lets the daemon's own level follow the load.
func (t *levelTurns) settle(ctx context.Context) (settled, error) {
	if err := pass(ctx, settleTime); err != nil {
		return settled{}, err
	}
	first, err := t.probes(ctx)
	if err != nil {
		return settled{}, err
	}
	now := first
	had := map[string]int{}
	var burdens, details []float64
	n := int(stayTime / time.Second)
	for range n {
		if err := pass(ctx, time.Second); err != nil {
			return settled{}, err
		}
		if now, err = t.probes(ctx); err != nil {
			return settled{}, err
		}
		had[now.Level]++
		burdens, details = append(burdens, now.Burden), append(details, now.Stepping.Estimates["detail"])
	}
	s := settled{level: now.Level, before: first.Stepping.Steps, since: now.Stepping.Steps - first.Stepping.Steps, budget: now.Stepping.Budget}
	for level, times := range had {
		if times > had[s.level] {
			s.level = level
		}
	}
	s.for_ = float64(had[s.level]) / float64(n)
	s.burden, s.estimate = median(burdens), median(details)
	return s, nil
}
