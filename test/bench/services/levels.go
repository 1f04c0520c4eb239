package main

import (
	"context"
	"fmt"
	"io"
	"math"
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
	kept   keeper
	random *rand.Rand
}

// series is what was seen of a level.
type series struct {
	level  string
	auto   bool
	hooked float64 // share of the time for which the level has hooks of system calls attached, where nobody switches it
	blocks []block
}

// guard passes after each switch, so that what attaching itself does to the machine is not in a slice: nobody switches each few seconds.
const guard = 30 * time.Millisecond

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
	return fmt.Sprintf("\n%s\nSlices of %v at a level and at off take turns, in blocks of four (ABBA). "+
		"Medians of the blocks' ratios, and their 95 %% intervals; beside the budget at auto.\n\n"+
		"| load | level | blocks | requests per second lost | per processor second | hooks of system calls attached |\n|---|---|---|---|---|---|\n%s",
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
	if err := t.pin(ctx, s.endless("")[0]); err != nil {
		return err
	}
	work := counter{service: s, address: address + ":" + s.port, account: t.account, api: t.api}
	var settled settled
	if slices.Contains(t.levels, levelAuto) {
		if settled, err = t.settle(ctx); err != nil {
			return err
		}
		fmt.Fprintf(notes, "%s: %s\n\n", s.name, settled)
	}
	all, err := t.series(s, settled)
	if err != nil {
		return err
	}
	for i := range t.rounds {
		fmt.Fprintf(os.Stderr, "services: %s, round %d of %d\n", s.name, i+1, t.rounds)
		for _, one := range all {
			b, err := t.turn(ctx, work, one.level, i%2 == 1)
			if err == nil {
				err = t.kept.add(s.name, one.level, b)
			}
			if err != nil {
				return err
			}
			one.blocks = append(one.blocks, b)
		}
	}
	for _, one := range all {
		one.print(rows, s.name, settled.budget, t.random)
	}
	t.printMix(rows, s.name, all, settled.budget)
	_, err = t.docker(ctx, "rm", "-f", "server")
	return err
}

// series are what is compared, off with itself first: what the method sees where there is nothing.
func (t *levelTurns) series(of service, settled settled) ([]*series, error) {
	var all []*series
	for _, level := range append([]string{levelOff}, t.levels...) {
		one := &series{level: level, auto: level == levelAuto}
		if one.auto {
			one.level = settled.level
		}
		switch one.level {
		case "detail":
			one.hooked = 1
		case "sampled":
			one.hooked = sampledShare
		}
		var err error
		if one.blocks, err = t.kept.read(of.name, one.level); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// order is that of the levels of a block's slices; inside: with off in the middle.
func order(level string, inside bool) [4]string {
	if inside {
		return [4]string{level, levelOff, levelOff, level}
	}
	return [4]string{levelOff, level, level, levelOff}
}

// turn takes a block.
func (t *levelTurns) turn(ctx context.Context, work counter, level string, inside bool) (block, error) {
	var four []seen
	for _, l := range order(level, inside) {
		s, err := t.sliceAt(ctx, work, l)
		if err != nil {
			return block{}, err
		}
		four = append(four, s)
	}
	return blockOf(four, inside), nil
}

// blockOf compares the outer two of four slices with the inner two.
func blockOf(four []seen, inside bool) block {
	off, level := [2]seen{four[0], four[3]}, [2]seen{four[1], four[2]}
	if inside {
		off, level = level, off
	}
	return block{
		Rate:   math.Sqrt(level[0].rate * level[1].rate / (off[0].rate * off[1].rate)),
		CPU:    math.Sqrt(level[0].cpu * level[1].cpu / (off[0].cpu * off[1].cpu)),
		Hooked: (level[0].hooked + level[1].hooked) / 2,
	}
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
	name := s.level
	switch {
	case s.auto:
		name = "auto (" + s.level + ")"
	case s.level == levelOff:
		name = "off, against itself"
	}
	hooked := fmt.Sprintf("%.0f %%", 100*meanHooked(s.blocks))
	if s.hooked > 0 && s.hooked < 1 {
		hooked = fmt.Sprintf("%.0f %% of the time; in these blocks %s", 100*s.hooked, hooked)
	}
	row(w, load, name, len(s.blocks), hooked, func(of func(block) float64) string {
		lost := estimateOf(s.blocks, of, s.hooked, random).loss()
		if s.auto {
			return lost.percent() + ", " + lost.beside(budget)
		}
		return lost.percent()
	})
}

// printMix writes what auto costs a second time where it came to level sampled, by the levels between which that goes to and fro: their
// blocks are all alike, which those with a part of a window are not, so that it is known better.
func (t *levelTurns) printMix(w io.Writer, load string, all []*series, budget float64) {
	of := map[string][]block{}
	auto := ""
	for _, s := range all {
		of[s.level] = s.blocks
		if s.auto {
			auto = s.level
		}
	}
	counters, detail := of["counters"], of["detail"]
	if auto != "sampled" || len(counters) == 0 || len(detail) == 0 {
		return
	}
	hooked := fmt.Sprintf("%.0f %% of the time", 100*sampledShare)
	row(w, load, "auto (sampled), of counters and detail", len(counters)+len(detail), hooked, func(of func(block) float64) string {
		lost := mixOf(counters, detail, of, sampledShare, t.random).loss()
		return lost.percent() + ", " + lost.beside(budget)
	})
}

// row writes one, with what cell tells of requests per second and per processor second.
func row(w io.Writer, load, name string, blocks int, hooked string, cell func(func(block) float64) string) {
	fmt.Fprintf(w, "| %s | %s | %d | %s | %s | %s |\n", load, name, blocks, cell(rateOf), cell(perCPU), hooked)
}
