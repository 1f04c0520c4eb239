package main

import (
	"context"
	"slices"
	"time"
)

// sample is one timed operation.
type sample struct {
	wall time.Duration
	cpu  time.Duration // client, engine and containers; -1: not known
}

// series is what the rounds of one measurement gave for one subject.
type series struct {
	subject *subject
	samples []sample
	err     error // the operation failed; samples before it are dropped
}

// row is one line of the table.
type row struct {
	name   string
	target string // of the project, in words
	series []series
	// figure is set for rows that are no times: a value per subject with its unit, and whether more is better.
	figure *figure
}

type figure struct {
	values []float64 // in the order of bench.subjects; NaN: not known
	unit   string
	more   bool
}

// operation is timed; it returns the CPU time of the clients it ran.
type operation func(context.Context, *subject) (cpu time.Duration, err error)

// measurement is one row that is timed. before and after, where they are not nil, prepare each round and put things back;
// they are not timed.
type measurement struct {
	name, target string
	n            int // rounds that count
	before       func(context.Context, *subject) error
	op           operation
	after        func(context.Context, *subject) error
}

// timed runs m on each subject, taking turns: what disturbs the machine disturbs all of them.
func (b *bench) timed(ctx context.Context, m measurement) error {
	if !b.cfg.only.MatchString(m.name) {
		return nil
	}
	b.progress(m.name)
	r := row{name: m.name, target: m.target}
	for _, s := range b.subjects {
		r.series = append(r.series, series{subject: s})
	}
	for round := range m.n + 1 { // the first warms up and is not counted
		order := indexes(len(r.series))
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, i := range order {
			se := &r.series[i]
			if se.err != nil {
				continue
			}
			one, err := m.round(ctx, se.subject)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				se.err, se.samples = err, nil
				b.progress(m.name + ": " + err.Error())
				continue
			}
			if round > 0 {
				se.samples = append(se.samples, one)
			}
		}
	}
	b.rows = append(b.rows, r)
	return nil
}

// round times one operation between its preparation and what puts things back.
func (m measurement) round(ctx context.Context, s *subject) (sample, error) {
	if m.before != nil {
		if err := m.before(ctx, s); err != nil {
			return sample{}, err
		}
	}
	one, err := timeOne(ctx, s, m.op)
	if err == nil && m.after != nil {
		err = m.after(ctx, s)
	}
	return one, err
}

func timeOne(ctx context.Context, s *subject, op operation) (sample, error) {
	var before, after time.Duration
	var err error
	if s.cpu != nil {
		if before, err = s.cpu(); err != nil {
			return sample{}, err
		}
	}
	start := time.Now()
	client, err := op(ctx, s)
	one := sample{wall: time.Since(start), cpu: -1}
	if err == nil && s.cpu != nil {
		after, err = s.cpu()
		one.cpu = client + after - before
	}
	return one, err
}

func indexes(n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	return order
}

// median and least summarize the samples by f; they must not be empty.
func median(samples []sample, f func(sample) time.Duration) time.Duration {
	d := sorted(samples, f)
	if n := len(d); n%2 == 0 {
		return (d[n/2-1] + d[n/2]) / 2
	}
	return d[len(d)/2]
}

func least(samples []sample, f func(sample) time.Duration) time.Duration {
	return sorted(samples, f)[0]
}

func sorted(samples []sample, f func(sample) time.Duration) []time.Duration {
	d := make([]time.Duration, len(samples))
	for i, s := range samples {
		d[i] = f(s)
	}
	slices.Sort(d)
	return d
}

func wall(s sample) time.Duration { return s.wall }
func cpu(s sample) time.Duration  { return s.cpu }
