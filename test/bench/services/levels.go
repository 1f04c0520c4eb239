package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tritond/triton/test/engine"
)

const (
	levelOff  = "off"
	levelAuto = "auto"
)

// levelTurns compare levels while one server works on under one load: slices of time at a level take turns with slices at off.
type levelTurns struct {
	*bed
	api    *engine.API // of the daemon
	levels []string    // auto: that which the daemon settles at
	rounds int
	slice  time.Duration
	random *rand.Rand
}

// series is what was seen of a level.
type series struct {
	level  string
	auto   bool
	hooked float64 // share of the time for which the level has hooks of system calls attached, where nobody switches it
	rate   []pair  // requests per second
	cpu    []pair  // processor time per request
}

// guard passes after each switch, so that what attaching itself does to the machine is not in a slice: nobody switches each few seconds.
const guard = 150 * time.Millisecond

// run makes a table of all services, in Markdown.
func (t *levelTurns) run(ctx context.Context) (string, error) {
	t.daemon.Extra = []string{"--probes", levelAuto}
	if err := t.daemon.Start(ctx); err != nil {
		return "", err
	}
	t.api = engine.NewAPI(t.daemon.Host, 1)
	defer t.api.Close()
	var notes, rows strings.Builder
	for _, s := range t.all {
		if err := t.service(ctx, s, &notes, &rows); err != nil {
			return "", fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return fmt.Sprintf("\n%s\nSlices of %v at a level and at off take turns (ABBA). Medians of the ratios, and their 95 %% intervals.\n\n"+
		"| load | level | pairs | throughput lost | processor time more per request | hooks of system calls attached |\n|---|---|---|---|---|---|\n%s",
		notes.String(), t.slice, rows.String()), nil
}

// service puts one service under load, in one container, and takes all turns.
func (t *levelTurns) service(ctx context.Context, s service, notes, rows io.Writer) error {
	address, err := t.startServer(ctx, s, "bridge")
	if err != nil {
		return err
	}
	if _, err := t.docker(ctx, append([]string{"exec", "-d", "server"}, s.endless("127.0.0.1")...)...); err != nil {
		return err
	}
	work := counter{service: s, address: address + ":" + s.port, account: t.account, api: t.api}
	settled, err := t.settle(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(notes, "%s: %s\n\n", s.name, settled)
	all := t.series(settled)
	for i := range t.rounds {
		fmt.Fprintf(os.Stderr, "services: %s, round %d of %d\n", s.name, i+1, t.rounds)
		for _, one := range all {
			if err := t.turn(ctx, work, one, i%2 == 1); err != nil {
				return err
			}
		}
	}
	for _, one := range all {
		one.print(rows, s.name, settled.budget, t.random)
	}
	_, err = t.docker(ctx, "rm", "-f", "server")
	return err
}

// series are what is compared, off with itself first: what the method sees where there is nothing.
func (t *levelTurns) series(settled settled) []*series {
	all := []*series{{level: levelOff}}
	for _, l := range t.levels {
		one := &series{level: l, auto: l == levelAuto}
		if one.auto {
			one.level = settled.level
		}
		switch one.level {
		case "detail":
			one.hooked = 1
		case "sampled":
			one.hooked = sampledShare
		}
		all = append(all, one)
	}
	return all
}

// turn takes two pairs of slices: off, level, level, off; or the other way round.
func (t *levelTurns) turn(ctx context.Context, work counter, one *series, inside bool) error {
	order := []string{levelOff, one.level, one.level, levelOff}
	if inside {
		order = []string{one.level, levelOff, levelOff, one.level}
	}
	seen := make([]seen, len(order))
	for i, level := range order {
		var err error
		if seen[i], err = t.sliceAt(ctx, work, level); err != nil {
			return err
		}
	}
	if inside {
		slices.Reverse(seen[:2])
		slices.Reverse(seen[2:])
	}
	// Now seen is off, level, level, off by what they are compared with.
	for _, p := range [][2]int{{0, 1}, {3, 2}} {
		off, at := seen[p[0]], seen[p[1]]
		one.rate = append(one.rate, pair{at.rate / off.rate, at.hooked})
		one.cpu = append(one.cpu, pair{at.cpu / off.cpu, at.hooked})
	}
	return nil
}

// seen is what a slice showed.
type seen struct {
	rate   float64 // requests per second
	cpu    float64 // seconds of a processor per request: of server, client, daemon and shims
	hooked float64 // share of the slice
}

func (t *levelTurns) sliceAt(ctx context.Context, work counter, level string) (seen, error) {
	if err := t.api.JSON(ctx, http.MethodPost, "/triton/v1/containers/server/watch?level="+url.QueryEscape(level), nil, nil); err != nil {
		return seen{}, err
	}
	if err := pass(ctx, guard); err != nil {
		return seen{}, err
	}
	from, err := work.read(ctx)
	if err != nil {
		return seen{}, err
	}
	if err := pass(ctx, t.slice); err != nil {
		return seen{}, err
	}
	until, err := work.read(ctx)
	if err != nil {
		return seen{}, err
	}
	requests, took := float64(until.requests-from.requests), until.at.Sub(from.at).Seconds()
	if until.requests <= from.requests || until.cpu <= from.cpu {
		return seen{}, fmt.Errorf("from %+v to %+v the server did nothing", from, until)
	}
	return seen{rate: requests / took, cpu: (until.cpu - from.cpu).Seconds() / requests, hooked: (until.hooked - from.hooked) / took}, nil
}

// pass returns after a time.
func pass(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// print writes the level's row.
func (s *series) print(w io.Writer, load string, budget float64, random *rand.Rand) {
	name, hooked := s.level, ""
	switch {
	case s.auto:
		name = "auto (" + s.level + ")"
	case s.level == levelOff:
		name = "off, against itself"
	}
	if mean := meanHooked(s.rate); s.hooked > 0 && s.hooked < 1 {
		hooked = fmt.Sprintf("%.0f %% of the time; seen in %.0f %%", 100*s.hooked, 100*mean)
	} else {
		hooked = fmt.Sprintf("%.0f %%", 100*mean)
	}
	lost := estimateOf(s.rate, s.hooked, random).loss()
	verdict := ""
	if s.auto {
		verdict = map[int]string{1: ": within the budget", -1: ": **over the budget**", 0: ": undecided"}[lost.within(100*budget)]
	}
	more := estimateOf(s.cpu, s.hooked, random).loss()
	fmt.Fprintf(w, "| %s | %s | %d | %.2f %% (%.2f to %.2f)%s | %.2f %% (%.2f to %.2f) | %s |\n",
		load, name, len(s.rate), lost.ratio, lost.low, lost.high, verdict, -more.ratio, -more.high, -more.low, hooked)
}
