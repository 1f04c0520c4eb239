package triton

import (
	"math"
	"slices"
	"time"
)

// Histogram counts durations in the buckets of a Prometheus native histogram: at schema s, native bucket i holds
// values in (2^((i-1)/2^s), 2^(i/2^s)] seconds. Counters only grow. The zero Histogram is empty.
type Histogram struct {
	Schema int32 `json:"schema"`
	// First is the native index of Counts[0]; the others follow without gaps.
	First int32 `json:"first"`
	// Counts hold per bucket (not cumulative) how many durations fell into it. The first bucket also holds all that
	// is shorter, the last all that is longer.
	Counts []uint64 `json:"counts,omitempty"`
	// Sum of all durations in nanoseconds.
	SumNs uint64 `json:"sumNs"`
}

// Count returns the number of durations counted.
func (h Histogram) Count() uint64 {
	var n uint64
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// Bound returns the upper bound of Counts[i] in seconds; the bound itself belongs to the bucket.
func (h Histogram) Bound(i int) float64 {
	return math.Exp2(float64(int(h.First)+i) / float64(int(1)<<h.Schema))
}

// Quantile returns a duration that at least the share q (0 to 1) of all durations do not exceed: the upper bound of
// the bucket in which that share is reached. 0: nothing was counted.
func (h Histogram) Quantile(q float64) time.Duration {
	total := h.Count()
	if total == 0 {
		return 0
	}
	rank := uint64(math.Ceil(q * float64(total)))
	var seen uint64
	for i, c := range h.Counts {
		seen += c
		if c > 0 && seen >= rank {
			return time.Duration(h.Bound(i) * float64(time.Second))
		}
	}
	return 0
}

// Sub returns what was counted after before was read, in h's layout. Both must have the same schema, or before be empty;
// otherwise, or where a counter fell (a restart), h itself is what is new.
func (h Histogram) Sub(before Histogram) Histogram {
	if len(before.Counts) == 0 || before.Schema != h.Schema {
		return h
	}
	d := Histogram{Schema: h.Schema, First: h.First, SumNs: h.SumNs - before.SumNs, Counts: slices.Clone(h.Counts)}
	for i, c := range before.Counts {
		at := int(before.First) + i - int(h.First)
		if c == 0 {
			continue
		}
		if at < 0 || at >= len(d.Counts) || d.Counts[at] < c {
			return h
		}
		d.Counts[at] -= c
	}
	return d
}

// Trim leaves out the buckets that are empty at both ends. The others stay where they are in memory.
func (h Histogram) Trim() Histogram {
	for len(h.Counts) > 0 && h.Counts[len(h.Counts)-1] == 0 {
		h.Counts = h.Counts[:len(h.Counts)-1]
	}
	for len(h.Counts) > 0 && h.Counts[0] == 0 {
		h.Counts, h.First = h.Counts[1:], h.First+1
	}
	return h
}

// Coarsen returns h at a lower schema; each step joins pairs of buckets exactly. A schema not below h's returns h.
func (h Histogram) Coarsen(schema int32) Histogram {
	if schema >= h.Schema || len(h.Counts) == 0 {
		return h
	}
	shift := h.Schema - schema
	up := func(i int32) int32 { return (i-1)>>shift + 1 }
	c := Histogram{Schema: schema, First: up(h.First), SumNs: h.SumNs}
	c.Counts = make([]uint64, up(h.First+int32(len(h.Counts))-1)-c.First+1)
	for i, n := range h.Counts {
		c.Counts[up(h.First+int32(i))-c.First] += n
	}
	return c
}
