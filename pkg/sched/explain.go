package sched

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// Decision is a choice with its reasons. It marshals to JSON as it is.
type Decision struct {
	Key      triton.ContainerKey `json:"key"`
	Image    string              `json:"image"`
	Node     string              `json:"node,omitempty"` // "": refused
	At       time.Time           `json:"at,omitzero"`    // the snapshot's time
	CPU      float64             `json:"cpu"`            // cores promised; 0: none
	Memory   int64               `json:"memory"`         // bytes promised; 0: none
	Expected float64             `json:"expected"`       // cores it is expected to use now
	Basis    string              `json:"basis"`          // of the expectation
	Margin   float64             `json:"margin"`         // by which deviations were stretched
	Ease     float64             `json:"ease"`           // by which the admitted risk was multiplied
	Nodes    int                 `json:"nodes"`          // in the fleet
	Looked   int                 `json:"looked"`         // nodes looked at
	Seed     uint64              `json:"seed"`           // of ties

	MaxCPU         float64 `json:"maxCPU,omitempty"`    // cores, limit; 0: none
	MaxMemory      int64   `json:"maxMemory,omitempty"` // bytes, limit; 0: none
	ExpectedMemory int64   `json:"expectedMemory"`      // bytes
	// Candidates are the best nodes, the chosen one first.
	Candidates []Candidate `json:"candidates,omitempty"`
	// Refused are the reasons of a refusal, the most frequent first.
	Refused []Reason `json:"refused,omitempty"`
	// Despite is what the request was placed in spite of.
	Despite []Reason `json:"despite,omitempty"`
}

// Candidate is a node that could take the request.
type Candidate struct {
	Node string  `json:"node"`
	Cost float64 `json:"cost"` // lower is better
	Risk float64 `json:"risk"` // probability of CPU overload with the container
	Peak float64 `json:"peak"` // cores, at hour Hour UTC
	Hour int     `json:"hour"`
	// Crashes of the image there of late; they fade.
	Crashes float64 `json:"crashes,omitempty"`
	// By holds the cost of each scorer that had one, the largest first.
	By Parts `json:"by"`

	// Stale: there was no fresh telemetry, and requests were counted.
	Stale bool `json:"stale,omitempty"`
}

// Parts are kept as numbers: text costs time that only a reader needs. In JSON they are a list of Part.
type Parts struct {
	costs costs
	read  []Part // of a decision that was read from JSON
}

// MarshalJSON writes the list.
func (p Parts) MarshalJSON() ([]byte, error) { return json.Marshal(p.List()) }

// UnmarshalJSON is the inverse of MarshalJSON.
func (p *Parts) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &p.read) }

// Part is one scorer's cost.
type Part struct {
	Scorer string  `json:"scorer"`
	Cost   float64 `json:"cost"`
	Reason string  `json:"reason"`
}

// Reason is why nodes refused.
type Reason struct {
	Filter string   `json:"filter,omitempty"` // "" for a quota
	Text   string   `json:"text"`
	Nodes  int      `json:"nodes"`
	Names  []string `json:"names,omitempty"`
}

// Refusal is the error of a request that no node can take. Its text is the decision's Why.
type Refusal struct{ why string }

// Error is the decision's Why after what was asked.
func (r *Refusal) Error() string { return r.why }

// Unwrap makes a Refusal an errdefs.ErrResourceExhausted.
func (r *Refusal) Unwrap() error { return errdefs.ErrResourceExhausted }

func (d *Decision) refusal() *Refusal {
	return &Refusal{why: "no suitable node (" + d.Why() + ")"}
}

// Why is the reasons of a refusal in one line: "12 nodes: memory 3.1 GiB short; 3: label gpu=yes".
func (d *Decision) Why() string {
	if d.Nodes == 0 {
		return "there are no nodes"
	}
	var b strings.Builder
	for i, r := range d.Refused {
		switch {
		case r.Filter == "":
			b.WriteString(r.Text)
			continue
		case i > 0:
			fmt.Fprintf(&b, "; %d: %s", r.Nodes, r.Text)
			continue
		case r.Nodes == 1:
			fmt.Fprintf(&b, "1 node: %s", r.Text)
			continue
		}
		fmt.Fprintf(&b, "%d nodes: %s", r.Nodes, r.Text)
	}
	return b.String()
}

func (f *found) candidate(s *Snapshot, q *query) Candidate {
	return Candidate{Crashes: s.crashes(f.n, q), Node: s.nodes.fixed[f.n].Name, Cost: float64(f.cost.total), Risk: float64(f.look.risk),
		Peak: float64(f.look.peak), Hour: f.look.worst, By: Parts{costs: f.cost}, Stale: !s.nodes.fresh[f.n]}
}

// List gives the scorers that had a cost, the largest first.
func (p Parts) List() []Part {
	if p.read != nil {
		return p.read
	}
	out := []Part{}
	for x, cost := range p.costs.part {
		if cost != 0 {
			out = append(out, Part{Scorer: scorer(x).String(), Cost: float64(cost), Reason: scorer(x).reason(p.costs.seen[x])})
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Cost > out[j].Cost })
	return out
}

// amounts renders cores and bytes; 0 is none of them.
func amounts(cpu float64, memory int64) string {
	switch {
	case cpu == 0 && memory == 0:
		return "nothing"
	case memory == 0:
		return fmt.Sprintf("%.2f cores", cpu)
	case cpu == 0:
		return amount(float32(memory / mib))
	}
	return fmt.Sprintf("%.2f cores and %s", cpu, amount(float32(memory/mib)))
}

// Explain renders the decision for people.
func (d *Decision) Explain() string {
	var b strings.Builder
	verb := "is promised"
	if d.Node == "" {
		verb = "wants a promise of"
	}
	fmt.Fprintf(&b, "container %s of image %s %s %s", triton.ShortID(d.Key.ID), d.Image, verb, amounts(d.CPU, d.Memory))
	if d.MaxCPU > 0 || d.MaxMemory > 0 {
		fmt.Fprintf(&b, ", limited to %s", amounts(d.MaxCPU, d.MaxMemory))
	}
	fmt.Fprintf(&b, "\nexpected to use %.2f cores now and %s, by %s\n", d.Expected, amount(float32(d.ExpectedMemory/mib)), d.Basis)
	if d.Node == "" {
		fmt.Fprintf(&b, "refused: %s\n", d.Why())
		return b.String()
	}
	fmt.Fprintf(&b, "placed on %s, best of %d nodes looked at in a fleet of %d (margin %.2f, ease %.2f)\n", d.Node, d.Looked, d.Nodes, d.Margin, d.Ease)
	for _, r := range d.Despite {
		fmt.Fprintf(&b, "in spite of: %s (nothing is promised of that)\n", r.Text)
	}
	for i := range d.Candidates {
		c := &d.Candidates[i]
		fmt.Fprintf(&b, "%s  cost %.3f", c.Node, c.Cost)
		if !c.Stale {
			fmt.Fprintf(&b, "  peak %.2f cores at %02d:00 UTC, risk of overload %.2g %%\n", c.Peak, c.Hour, 100*c.Risk)
		} else {
			b.WriteString("  by requests: no fresh telemetry\n")
		}
		if c.Crashes > 0 {
			fmt.Fprintf(&b, "  the image crashed there %s of late\n", times(c.Crashes))
		}
		for _, p := range c.By.List() {
			fmt.Fprintf(&b, "  %+.3f %s: %s\n", p.Cost, p.Scorer, p.Reason)
		}
	}
	return b.String()
}
