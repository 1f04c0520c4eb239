package sched

import (
	"fmt"
	"math"
	"slices"
)

// A filter says whether a node can take a request at all, and by how much it falls short. Filters are asked in this order,
// the first that refuses names the reason; those up to filterVolume are cheap, the others need an outlook.
type filter uint8

const (
	filterDraining filter = iota
	filterTaint
	filterConstraint
	filterPort
	filterVolume
	filterSize
	filterDisk
	filterCrash
	filterMemory
	filterCPU
	filters
)

func (f filter) String() string {
	return [...]string{"draining", "taint", "constraint", "port", "volume", "size", "disk", "crashes", "memory", "cpu"}[f]
}

// Filters are the names that Reason.Filter can have; "" stands for a quota.
func Filters() []string {
	names := make([]string, filters)
	for f := range filters {
		names[f] = f.String()
	}
	return names
}

// no is a filter's answer: the zero no lets the node pass.
type no struct {
	refused bool
	filter  filter
	stale   bool    // the node was planned by requests
	detail  int16   // number of the constraint, port or volume
	short   float32 // by how much: MiB, cores, bytes, crashes or probability
}

// overlooked is a set of filters that are not asked.
type overlooked uint16

func (o overlooked) has(f filter) bool { return o&(1<<f) != 0 }

// overlooks are the filters that refuse nothing once no node passes all: that an image crashed is a reason to try another node,
// not to try none, and what nobody promised is shared out.
func (s *Snapshot) overlooks(r *Request) (o overlooked) {
	if s.crashed {
		o |= 1 << filterCrash
	}
	if r.BestEffort && r.CPU == 0 {
		o |= 1<<filterCPU | 1<<filterSize
	}
	if r.BestEffort && r.Memory == 0 {
		o |= 1 << filterMemory
	}
	return o
}

// rule asks the filters that need no outlook.
func (s *Snapshot) rule(n int32, q *query) no {
	ns := &s.nodes
	f := &ns.fixed[n]
	if f.Draining {
		return no{refused: true, filter: filterDraining}
	}
	for i, t := range f.Taints {
		if !slices.Contains(q.r.Tolerates, t) {
			return no{refused: true, filter: filterTaint, detail: int16(i)}
		}
	}
	for i := range q.r.Constraints {
		if c := &q.r.Constraints[i]; !c.Soft && !s.holds(n, q, i) {
			return no{refused: true, filter: filterConstraint, detail: int16(i)}
		}
	}
	for i, p := range q.r.Ports {
		if ns.ports[n][p] > 0 {
			return no{refused: true, filter: filterPort, detail: int16(i)}
		}
	}
	for i, v := range q.r.Volumes {
		if len(s.posting[volumeKey(v)]) > 0 && !slices.Contains(f.Volumes, v) {
			return no{refused: true, filter: filterVolume, detail: int16(i)}
		}
	}
	if q.cpu > ns.cap[n] && !q.overlook.has(filterSize) {
		return no{refused: true, filter: filterSize, short: q.cpu - ns.cap[n]}
	}
	if f.Disk > 0 && q.r.Disk > 0 {
		if left := f.Disk - max(ns.disk[n], ns.frame[n].Disk); left < q.r.Disk {
			return no{refused: true, filter: filterDisk, short: float32(q.r.Disk-left) / mib}
		}
	}
	if c := s.crashes(n, q); c >= s.cfg.CrashLimit && !q.overlook.has(filterCrash) {
		return no{refused: true, filter: filterCrash, short: float32(c)}
	}
	return no{}
}

// fits asks the filters that need the outlook. A node without fresh telemetry is planned by requests, which are never
// promised twice.
func (s *Snapshot) fits(n int32, q *query, o *outlook) no {
	ns := &s.nodes
	room := 1 - q.reserve
	if !ns.fresh[n] {
		if d := ns.promisedMem[n] + float64(q.mem) - float64(ns.mem[n]*room); d > 0 && !q.overlook.has(filterMemory) {
			return no{refused: true, filter: filterMemory, stale: true, short: float32(d)}
		}
		if d := ns.promised[n] + float64(q.cpu) - float64(ns.cap[n]*room); d > slack && !q.overlook.has(filterCPU) {
			return no{refused: true, filter: filterCPU, stale: true, short: float32(d)}
		}
		return no{}
	}
	need := o.mem
	if q.r.Memory > 0 {
		need = max(need, q.mem) // no history makes a promise smaller than the node
	}
	if d := need - ns.mem[n]*room; d > 0 && !q.overlook.has(filterMemory) {
		return no{refused: true, filter: filterMemory, short: d}
	}
	// What fits by requests fits, whatever is unknown of the containers, unless the node is measured to run hot.
	promised := ns.promised[n]+float64(q.cpu) <= float64(ns.cap[n]*room)+slack
	if o.risk > q.risk && !(promised && o.soon <= q.risk) && !q.overlook.has(filterCPU) {
		return no{refused: true, filter: filterCPU, short: o.risk}
	}
	return no{}
}

// check asks all filters.
func (s *Snapshot) check(n int32, q *query) no {
	if a := s.rule(n, q); a.refused {
		return a
	}
	o := s.look(n, &q.load, q.image, q.reserve)
	return s.fits(n, q, &o)
}

// despite lists what a best-effort request was placed on node n in spite of.
func (s *Snapshot) despite(n int32, q *query) (out []Reason) {
	q.overlook = 0
	for {
		a := s.check(n, q)
		if !a.refused {
			return out
		}
		q.overlook |= 1 << a.filter
		out = append(out, Reason{Filter: a.filter.String(), Text: a.reason(s, q.r, n), Nodes: 1, Names: []string{s.nodes.fixed[n].Name}})
	}
}

// crashes is how often the image crashed on node n of late: in the tenant's hands, if it ever did in these, else in anyone's.
func (s *Snapshot) crashes(n int32, q *query) float64 {
	if own, ok := s.nodes.crash[n][q.keys[0]]; ok {
		return own
	}
	return s.nodes.crash[n][q.keys[1]]
}

// slack forgives the rounding of a sum of requests, cores.
const slack = 1e-6

// holds reports whether constraint i of the request is true of node n.
func (s *Snapshot) holds(n int32, q *query, i int) bool {
	c := &q.r.Constraints[i]
	f := &s.nodes.fixed[n]
	ok := false
	switch c.Kind {
	case OnNode:
		ok = c.matches(f.Name)
	case OnNodeLabel:
		v, has := f.Labels[c.Key]
		ok = has && c.matches(v)
	case WithImage:
		for _, image := range f.Images {
			if ok = c.matches(image); ok {
				break
			}
		}
	case WithContainer, WithLabel:
		ok = q.with[i][n]
	}
	return ok != c.Not
}

// reason is the text of an answer. Amounts are those of the node that falls short least.
func (a no) reason(s *Snapshot, r *Request, n int32) string {
	switch a.filter {
	case filterDraining:
		return "draining"
	case filterTaint:
		return "taint " + s.nodes.fixed[n].Taints[a.detail]
	case filterConstraint:
		c := r.Constraints[a.detail]
		if c.Kind == OnNodeLabel {
			op := "="
			if c.Not {
				op = "!="
			}
			return "label " + c.Key + op + c.Value
		}
		return c.String()
	case filterPort:
		return "port " + r.Ports[a.detail].String() + " taken"
	case filterVolume:
		return "volume " + r.Volumes[a.detail] + " is elsewhere"
	case filterSize:
		return fmt.Sprintf("cpu %.1f cores more than the node has", a.short)
	case filterDisk:
		return "disk " + amount(a.short) + " short"
	case filterCrash:
		return fmt.Sprintf("image crashed there %s of late", times(float64(a.short)))
	case filterMemory:
		return "memory " + amount(a.short) + " short" + a.basis()
	}
	if a.stale {
		return fmt.Sprintf("cpu %.1f cores short", a.short) + a.basis()
	}
	return fmt.Sprintf("cpu: risk of overload %.2g %% is too high", 100*a.short)
}

func (a no) basis() string {
	if a.stale {
		return " by requests (no fresh telemetry)"
	}
	return ""
}

// amount renders MiB.
func amount(m float32) string {
	switch {
	case m >= 1024*1024:
		return fmt.Sprintf("%.1f TiB", m/1024/1024)
	case m >= 1024:
		return fmt.Sprintf("%.1f GiB", m/1024)
	}
	return fmt.Sprintf("%.0f MiB", max(1, m))
}

// times renders a fading count.
func times(n float64) string {
	if n := math.Round(max(1, n)); n > 1 {
		return fmt.Sprintf("%.0f times", n)
	}
	return "once"
}
