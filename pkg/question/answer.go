package question

import (
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// Answer is what was counted since the one before.
type Answer struct {
	At      time.Time `json:"at"`
	Seconds float64   `json:"seconds"` // that it is of
	Rows    []Row     `json:"rows"`    // the most first
	// Rest is what found no room of its own: each of its events is under none of Rows. nil: nothing.
	Rest *Counted `json:"rest,omitempty"`
	// Lost is how many events were not counted at all.
	Lost       uint64 `json:"lost,omitempty"`
	Containers int    `json:"containers"` // of which something could be counted
	Price      Price  `json:"price"`
	// Ended is why there is no other; nothing comes after it, and the rest is empty. Failed says that it is an error.
	Ended  string `json:"ended,omitempty"`
	Failed bool   `json:"failed,omitempty"`
}

// Price is what the question's own programs cost, when they were last timed; 0: not yet.
type Price struct {
	Runs float64 `json:"runs"` // a second
	CPU  float64 `json:"cpu"`  // of one CPU
}

// Row is what was counted of events that are alike.
type Row struct {
	Key map[string]string `json:"key"` // by Dimension.String
	Counted
}

// Counted are events.
type Counted struct {
	Count uint64 `json:"count"`
	Timed uint64 `json:"timed"` // those that have a latency
	Ns    uint64 `json:"ns"`    // the sum of them
	Bytes uint64 `json:"bytes,omitempty"`
	// Latency is of those that have one, if it was asked for; empty buckets at both ends are left out.
	Latency *triton.Histogram `json:"latency,omitempty"`
}

// Add adds what another row counted; histograms must have the same schema.
func (c *Counted) Add(o Counted) {
	c.Count += o.Count
	c.Timed += o.Timed
	c.Ns += o.Ns
	c.Bytes += o.Bytes
	switch {
	case o.Latency == nil:
	case c.Latency == nil:
		h := *o.Latency
		c.Latency = &h
	default:
		c.Latency = sum(c.Latency, o.Latency)
	}
}

// sum adds histograms whose spans differ.
func sum(a, b *triton.Histogram) *triton.Histogram {
	if len(a.Counts) == 0 {
		return b
	}
	if len(b.Counts) == 0 {
		return a
	}
	first := min(a.First, b.First)
	end := max(int(a.First)+len(a.Counts), int(b.First)+len(b.Counts))
	h := &triton.Histogram{Schema: a.Schema, First: first, SumNs: a.SumNs + b.SumNs, Counts: make([]uint64, end-int(first))}
	for _, o := range []*triton.Histogram{a, b} {
		for i, n := range o.Counts {
			h.Counts[int(o.First-first)+i] += n
		}
	}
	return h
}
