package sched

import (
	"fmt"
	"sort"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// Record is a snapshot as JSON: what a daemon writes and a replay reads. Format 1: nodes with their last frame, containers
// in the order they were assigned, the whole history. Unknown fields are an error of the reader's decoder, not of this format.
type Record struct {
	Format     int               `json:"format"`
	Now        time.Time         `json:"now"`
	Seed       uint64            `json:"seed"`
	Margin     Margin            `json:"margin"`
	Config     Config            `json:"config"`
	Nodes      []NodeRecord      `json:"nodes"`
	Containers []ContainerRecord `json:"containers"`
	Delays     []DelayRecord     `json:"delays,omitempty"`
	Quotas     []QuotaRecord     `json:"quotas,omitempty"`
	History    *History          `json:"history,omitempty"`
}

// RecordFormat is the format written.
const RecordFormat = 1

// NodeRecord is a node, its last frame and the smoothed present.
type NodeRecord struct {
	Node  Node    `json:"node"`
	Frame *Frame  `json:"frame,omitempty"` // nil: none yet
	CPU   float64 `json:"cpu,omitempty"`   // smoothed, cores
	Var   float64 `json:"var,omitempty"`   // of the smoothed, cores²
}

// ContainerRecord is a placed request and its own samples.
type ContainerRecord struct {
	Node    string  `json:"node"`
	Request Request `json:"request"`
	Own     Own     `json:"own,omitzero"`
	Waiting bool    `json:"waiting,omitempty"` // no frame has acknowledged it
	Idle    bool    `json:"idle,omitempty"`    // it does not run
}

// Own is what a container was seen to use.
type Own struct {
	Hours   float64 `json:"hours"`
	Samples uint32  `json:"samples"`
	Mean    float64 `json:"mean"`    // cores
	Square  float64 `json:"square"`  // mean of squares
	Memory  float64 `json:"memory"`  // MiB
	MemPeak float64 `json:"memPeak"` // MiB
}

func (o *ownUse) record() Own {
	return Own{float64(o.hours), o.samples, float64(o.mean), float64(o.sq), float64(o.mem), float64(o.memPeak)}
}

// DelayRecord is one argument list of SetDelay.
type DelayRecord struct {
	Culprit string  `json:"culprit"`
	Victim  string  `json:"victim"`
	Share   float64 `json:"share"`
}

// QuotaRecord is one tenant's quota.
type QuotaRecord struct {
	Tenant triton.Tenant `json:"tenant"`
	Quota  Quota         `json:"quota"`
}

// Record copies the snapshot. Replaying it gives the same decisions but for the rounding of sums: the record is taken as
// after a Refresh.
func (s *Snapshot) Record() Record {
	r := Record{Format: RecordFormat, Now: s.now, Seed: s.seed, Margin: s.margin, Config: s.given, History: s.history}
	ns := &s.nodes
	for n, alive := range ns.alive {
		if !alive {
			continue
		}
		rec := NodeRecord{Node: ns.fixed[n], CPU: float64(ns.now[n]), Var: float64(ns.nowVar[n])}
		if f := ns.frame[n]; !f.Time.IsZero() {
			f.Memory = int64(ns.nowMem[n]) * mib
			rec.Frame = &f
		}
		r.Nodes = append(r.Nodes, rec)
	}
	sort.Slice(r.Nodes, func(i, j int) bool { return r.Nodes[i].Node.Name < r.Nodes[j].Node.Name })
	all := make([]*container, 0, len(s.containers))
	for _, c := range s.containers {
		all = append(all, c)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].seq < all[j].seq })
	for _, c := range all {
		r.Containers = append(r.Containers, ContainerRecord{Node: ns.fixed[c.node].Name, Request: c.req, Waiting: c.waiting, Idle: c.idle,
			Own: c.own.record()})
	}
	for victim, list := range s.culprits {
		for _, d := range list {
			r.Delays = append(r.Delays, DelayRecord{s.imageNames[d.image], s.imageNames[victim], float64(d.share)})
		}
	}
	sort.Slice(r.Delays, func(i, j int) bool {
		a, b := r.Delays[i], r.Delays[j]
		return a.Victim < b.Victim || a.Victim == b.Victim && a.Culprit < b.Culprit
	})
	for t, q := range s.quotas {
		r.Quotas = append(r.Quotas, QuotaRecord{t, q})
	}
	sort.Slice(r.Quotas, func(i, j int) bool { return r.Quotas[i].Tenant < r.Quotas[j].Tenant })
	return r
}

// FromRecord builds the snapshot that was recorded.
func FromRecord(r Record) (*Snapshot, error) {
	if r.Format != RecordFormat {
		return nil, fmt.Errorf("snapshot record of format %d, want %d", r.Format, RecordFormat)
	}
	if err := r.Config.Validate(); err != nil {
		return nil, fmt.Errorf("snapshot record: %w", err)
	}
	s := New(r.Config, r.History, r.Seed)
	s.now, s.hour = r.Now, r.Now.Unix()/3600
	s.SetMargin(r.Margin)
	for _, n := range r.Nodes {
		if err := s.SetNode(n.Node); err != nil {
			return nil, fmt.Errorf("snapshot record: %w", err)
		}
	}
	for _, c := range r.Containers {
		if _, err := s.Assign(c.Node, c.Request); err != nil {
			return nil, fmt.Errorf("snapshot record: %w", err)
		}
		own := s.containers[c.Request.Key]
		own.own = ownUse{float32(c.Own.Hours), float32(c.Own.Mean), float32(c.Own.Square), float32(c.Own.Memory), float32(c.Own.MemPeak), c.Own.Samples}
		if own.waiting = c.Waiting; c.Idle {
			s.Park(c.Request.Key)
		}
	}
	for _, n := range r.Nodes {
		if n.Frame == nil {
			continue
		}
		at := s.byName[n.Node.Name]
		ns := &s.nodes
		ns.frame[at], ns.now[at], ns.nowVar[at] = *n.Frame, float32(n.CPU), float32(n.Var)
		ns.nowMem[at] = float32(n.Frame.Memory) / mib
		ns.fresh[at] = r.Now.Sub(n.Frame.Time) <= s.cfg.StaleAfter
	}
	for _, d := range r.Delays {
		s.SetDelay(d.Culprit, d.Victim, d.Share)
	}
	for _, q := range r.Quotas {
		s.SetQuota(q.Tenant, q.Quota)
	}
	s.Refresh()
	return s, nil
}
