package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

// floods are what the program flood of the images can do, and what a client can.
var floods = []string{"forks", "execs", "cores", "log", "disk", "events"}

// limits are what a careful operator gives a container that is not trusted.
var limits = []string{"--cpus", "1", "--memory", "256m", "--pids-limit", "64", "--log-opt", "max-size=10m", "--log-opt", "max-file=2"}

type bench struct {
	rounds int
	window time.Duration
	only   *regexp.Regexp
	daemon *engine.Tritond
	cli    engine.CLI
	tenant engine.CLI // of the client that floods
	api    *engine.API
	seen   string // folder of what the neighbour writes

	group    *group // of the floods that are no containers
	programs string // folder of their programs
}

// row is what one flood did.
type row struct {
	flood         string
	without, with []time.Duration // the neighbour's requests
	bare          []time.Duration // the same beside a flood without the daemon
	pings, lists  []time.Duration // the daemon's answers during the flood
	daemonCPU     float64         // of one CPU, during the flood
	shimCPU       float64         // the same of all shims and the keeper
	dropped       map[string]float64
	waits         [3]waited // the neighbour's: without, with, with one that is no container
}

// span is a time in which the neighbour is looked at.
type span struct{ from, until time.Time }

// flood takes turns: without one, with one, and with one that is no container.
func (b *bench) flood(ctx context.Context, name string) (r row, err error) {
	r.flood = name
	var without, with, bare []span
	dropped, err := b.dropped(ctx)
	if err != nil {
		return r, err
	}
	for i := range b.rounds {
		fmt.Fprintf(os.Stderr, "floods: %s, turn %d of %d\n", name, i+1, b.rounds)
		turns := []struct {
			spans *[]span
			run   func() (span, error)
		}{
			{&without, func() (span, error) { return b.watch(ctx, nil) }},
			{&with, func() (span, error) { return b.contained(ctx, &r) }},
			{&bare, func() (span, error) { return b.bare(ctx, name) }},
		}
		for n, turn := range turns {
			s, err := b.turn(ctx, turn.run, &r.waits[n])
			if err != nil {
				return r, err
			}
			*turn.spans = append(*turn.spans, s)
		}
	}
	for spans, into := range map[*[]span]*[]time.Duration{&without: &r.without, &with: &r.with, &bare: &r.bare} {
		if *into, err = b.requests(*spans); err != nil {
			return r, err
		}
	}
	r.dropped, err = b.dropped(ctx)
	for reason, n := range r.dropped {
		if r.dropped[reason] = n - dropped[reason]; r.dropped[reason] == 0 {
			delete(r.dropped, reason)
		}
	}
	return r, err
}

// turn runs one and adds up what the neighbour waited for meanwhile.
func (b *bench) turn(ctx context.Context, run func() (span, error), into *waited) (span, error) {
	before, err := b.waits(ctx)
	if err != nil {
		return span{}, err
	}
	began := time.Now()
	s, err := run()
	if err != nil {
		return s, err
	}
	after, err := b.waits(ctx)
	if *into == nil {
		*into = waited{}
	}
	into.add(before, after, time.Since(began), b.rounds)
	return s, err
}

// contained is the flood as a container, or as a client of the daemon.
func (b *bench) contained(ctx context.Context, r *row) (span, error) {
	if r.flood == "events" {
		return b.events(ctx, r)
	}
	args := slices.Concat([]string{"run", "-d", "--name", "flood"}, limits, []string{images.Programs, "flood", r.flood})
	if _, err := b.docker(ctx, args...); err != nil {
		return span{}, err
	}
	s, err := b.watch(ctx, r)
	state, ierr := b.docker(ctx, "inspect", "-f", "{{.State.Running}}", "flood")
	if ierr == nil && state != "true" {
		ierr = errors.New("the flood ended by itself")
	}
	_, rm := b.docker(ctx, "rm", "-f", "flood")
	return s, errors.Join(err, ierr, rm)
}

// watch lets a window pass, during a flood (r is not nil) asking the daemon all the time.
func (b *bench) watch(ctx context.Context, r *row) (span, error) {
	from := time.Now()
	before, err := engine.CPUTime(b.daemon.Pid())
	if err != nil {
		return span{}, err
	}
	shims := b.shims()
	every := time.NewTicker(50 * time.Millisecond)
	defer every.Stop()
	for n := 0; time.Since(from) < b.window; n++ {
		select {
		case <-ctx.Done():
			return span{}, ctx.Err()
		case <-every.C:
		}
		if r == nil {
			continue
		}
		began := time.Now()
		reply, err := b.api.Do(ctx, http.MethodGet, "/_ping", "", nil)
		if err != nil || reply.Status != http.StatusOK {
			return span{}, fmt.Errorf("ping: %d %w", reply.Status, err)
		}
		r.pings = append(r.pings, time.Since(began))
		if n%20 == 0 {
			began := time.Now()
			if _, err := b.docker(ctx, "ps"); err != nil {
				return span{}, err
			}
			r.lists = append(r.lists, time.Since(began))
		}
	}
	after, err := engine.CPUTime(b.daemon.Pid())
	if r != nil {
		passed := time.Since(from).Seconds() * float64(b.rounds)
		r.daemonCPU += (after - before).Seconds() / passed
		for pid, used := range b.shims() {
			r.shimCPU += (used - shims[pid]).Seconds() / passed
		}
	}
	return span{from, time.Now()}, err
}

// shims has the CPU time of each shim that there is, the keeper's too.
func (b *bench) shims() map[int]time.Duration {
	used := map[int]time.Duration{}
	for _, pid := range b.daemon.Shims() {
		if d, err := engine.CPUTime(pid); err == nil { // one that ended meanwhile has no more to tell
			used[pid] = d
		}
	}
	return used
}

// requests reads the neighbour's requests of those seconds that lie within spans.
func (b *bench) requests(spans []span) ([]time.Duration, error) {
	text, err := os.ReadFile(filepath.Join(b.seen, "all"))
	if err != nil {
		return nil, err
	}
	var all []time.Duration
	for line := range strings.Lines(string(text)) {
		if !strings.HasSuffix(line, "\n") {
			continue // not whole yet
		}
		f := strings.Fields(line)
		began, err := strconv.ParseInt(f[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("the neighbour wrote %q", line)
		}
		from := time.Unix(0, began)
		if !slices.ContainsFunc(spans, func(s span) bool { return !from.Before(s.from) && !from.Add(time.Second).After(s.until) }) {
			continue
		}
		for _, n := range f[1:] {
			ns, err := strconv.ParseInt(n, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("the neighbour wrote %q", n)
			}
			all = append(all, time.Duration(ns))
		}
	}
	if len(all) == 0 {
		return nil, errors.New("the neighbour made no requests")
	}
	slices.Sort(all)
	return all, nil
}

var droppedLine = regexp.MustCompile(`(?m)^triton_dropped_total\{reason="(\w+)"\} (\S+)$`)

// dropped are the daemon's counters of what was.
func (b *bench) dropped(ctx context.Context) (map[string]float64, error) {
	text, err := b.metrics(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]float64{}
	for _, m := range droppedLine.FindAllStringSubmatch(text, -1) {
		if all[m[1]], err = strconv.ParseFloat(m[2], 64); err != nil {
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no counters of what was dropped")
	}
	return all, nil
}

// quantile is of times in order.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// printRows writes the table in Markdown.
func printRows(w io.Writer, rows []row) error {
	var out strings.Builder
	out.WriteString("\n### Results\n\n| flood | neighbour's p50, p99 without | with | ratio of p99 (at most 1.2) | no container: with | its ratio | " +
		"/_ping p50, most | docker ps p50, most | the daemon's CPU, its shims' | dropped |\n|" + strings.Repeat("---|", 10) + "\n")
	for _, r := range rows {
		slices.Sort(r.pings)
		slices.Sort(r.lists)
		var dropped []string
		for _, reason := range slices.Sorted(maps.Keys(r.dropped)) {
			dropped = append(dropped, fmt.Sprintf("%s %.0f", reason, r.dropped[reason]))
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %s | %s | %s | %s | %s | %.2f, %.2f | %s |\n", r.flood, two(r.without, 0.5, 0.99), two(r.with, 0.5, 0.99),
			p99s(r.with, r.without), two(r.bare, 0.5, 0.99), p99s(r.bare, r.without), two(r.pings, 0.5, 1), two(r.lists, 0.5, 1), r.daemonCPU, r.shimCPU, strings.Join(dropped, ", "))
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// two prints two quantiles of times in order.
func two(sorted []time.Duration, a, b float64) string {
	return ms(quantile(sorted, a)) + ", " + ms(quantile(sorted, b))
}

func p99s(with, without []time.Duration) string {
	return fmt.Sprintf("%.2f", float64(quantile(with, 0.99))/float64(quantile(without, 0.99)))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond)) }
