package sched

import (
	"fmt"
	"sort"

	"github.com/containerd/errdefs"
)

// Place picks a node for a request, or says why none can take it: the error is then a *Refusal of the kind
// errdefs.ErrResourceExhausted and the decision holds its reasons too. A request that is wrong in itself gives
// errdefs.ErrInvalidArgument. Place changes nothing: call Assign when the choice is bound.
//
// The nodes are walked from the least loaded on (for Pack: from the fullest); the first Config.Candidates that fit are scored
// exactly and the cheapest is taken. A request that names a node, an exact label, a volume or a container is looked for among
// those nodes only.
func Place(s *Snapshot, r Request) (Decision, error) {
	if err := r.Validate(); err != nil {
		return Decision{}, fmt.Errorf("place %s: %w: %w", r.Key, err, errdefs.ErrInvalidArgument)
	}
	q := s.query(&r)
	d := Decision{Key: r.Key, Image: r.Image, CPU: r.CPU, Memory: r.Memory, MaxCPU: r.MaxCPU, MaxMemory: r.MaxMemory,
		Basis: q.load.basis.String(), Expected: float64(q.load.mean[slot(s.hour)]), ExpectedMemory: int64(q.load.mem) * mib,
		Margin: s.margin.N, Ease: s.margin.Ease, Nodes: s.Len(), Seed: s.seed, At: s.now}
	if short := s.overQuota(q); short != "" {
		d.Refused = []Reason{{Text: short, Nodes: s.Len()}}
		return d, d.refusal()
	}
	found := s.gather(q, &d, shown)
	if o := s.overlooks(&r); len(found) == 0 && o != 0 {
		d.Looked, q.overlook = 0, o
		if found = s.gather(q, &d, shown); len(found) > 0 {
			d.Despite = s.despite(found[0].n, q)
		}
	}
	if len(found) == 0 {
		d.Refused = s.refusals(q) // without what was overlooked: that refused nothing
		return d, d.refusal()
	}
	q.overlook = 0
	d.Candidates = make([]Candidate, len(found))
	for i := range found {
		d.Candidates[i] = found[i].candidate(s, q)
	}
	d.Node = d.Candidates[0].Node
	return d, nil
}

// shown is how many candidates a decision keeps for Explain.
const shown = 3

// query is a request made ready for many nodes.
type query struct {
	r        *Request
	cpu, mem float32 // cores, MiB
	load     load
	image    int32
	overlook overlooked
	keys     [2]string // of the image's history
	held     bool      // some node has the image
	pack     bool
	risk     float32
	reserve  float32
	with     []map[int32]bool // per constraint on containers: the nodes that have one
	spread   map[string]int32 // value of SpreadBy -> replicas
	replicas int32
}

// eagerRisk multiplies the risk that requests of positive priority may take.
const eagerRisk = 2

func (s *Snapshot) query(r *Request) *query {
	q := &query{r: r, image: s.intern(r.Image, false), pack: r.Strategy == Pack, risk: float32(s.cfg.Risk * s.margin.Ease)}
	q.cpu, q.mem = s.asked(r)
	q.keys = r.origin().keys()
	q.held = len(s.posting[imageKey(r.Image)]) > 0
	s.expect(r, nil, &q.load)
	switch {
	case r.Priority < 0:
		q.reserve = float32(s.cfg.LowReserve)
	case r.Priority > 0:
		q.risk *= eagerRisk
	}
	for i := range r.Constraints {
		if k := r.Constraints[i].Kind; k == WithContainer || k == WithLabel {
			if q.with == nil {
				q.with = make([]map[int32]bool, len(r.Constraints))
			}
			q.with[i] = s.having(&r.Constraints[i], r)
		}
	}
	if r.SpreadBy != "" && q.image >= 0 {
		q.spread = map[string]int32{}
		for n, count := range s.replicas[q.image] {
			q.spread[s.nodes.fixed[n].Labels[r.SpreadBy]] += count
			q.replicas += count
		}
	}
	return q
}

// having finds the nodes with a container of the same tenant that the constraint names. An exact name costs nothing; a
// pattern or a label looks at all containers.
func (s *Snapshot) having(c *Constraint, r *Request) map[int32]bool {
	on := map[int32]bool{}
	if c.Kind == WithContainer && c.re == nil && !c.glob {
		for _, o := range s.byContainer[containerKey(r.Key.Tenant, c.Value)] {
			on[o.node] = true
		}
		if len(on) > 0 {
			return on
		}
	}
	for key, o := range s.containers {
		if key.Tenant != r.Key.Tenant {
			continue
		}
		label, has := o.req.Labels[c.Key]
		if c.Kind == WithLabel && has && c.matches(label) || c.Kind == WithContainer && (c.matches(o.req.Name) || c.matches(key.ID)) {
			on[o.node] = true
		}
	}
	return on
}

// overQuota says what of the tenant's quota a request exceeds.
func (s *Snapshot) overQuota(q *query) string {
	limit, ok := s.quotas[q.r.Key.Tenant]
	if !ok {
		return ""
	}
	var used Quota
	if u := s.used[q.r.Key.Tenant]; u != nil {
		used = *u
	}
	t := q.r.Key.Tenant
	switch {
	case limit.Containers > 0 && used.Containers+1 > limit.Containers:
		return fmt.Sprintf("quota of %s: %d of %d containers", t, used.Containers, limit.Containers)
	case limit.CPU > 0 && used.CPU+float64(q.cpu) > limit.CPU+slack:
		return fmt.Sprintf("quota of %s: %.1f of %.1f cores promised, %.1f wanted", t, used.CPU, limit.CPU, q.cpu)
	case limit.Memory > 0 && used.Memory+int64(q.mem)*mib > limit.Memory:
		return fmt.Sprintf("quota of %s: %s of %s promised, %s wanted", t, amount(float32(used.Memory/mib)),
			amount(float32(limit.Memory/mib)), amount(q.mem))
	}
	return ""
}

// found is a node that fits.
type found struct {
	n    int32
	look outlook
	cost costs
}

// better orders nodes that fit: by cost; equals by who was assigned to longest ago, then by hash.
func (s *Snapshot) better(a, b *found) bool {
	ra := rank{level: a.cost.total, n: a.n, placed: s.nodes.placed[a.n], hash: s.nodes.hash[a.n]}
	rb := rank{level: b.cost.total, n: b.n, placed: s.nodes.placed[b.n], hash: s.nodes.hash[b.n]}
	return ra.less(rb)
}

// gather scores the nodes worth looking at and returns the best keep of them, best first.
func (s *Snapshot) gather(q *query, d *Decision, keep int) []found {
	best := make([]found, 0, keep)
	fit := 0
	visit := func(n int32) bool {
		d.Looked++
		if s.rule(n, q).refused {
			return true
		}
		o := s.look(n, &q.load, q.image, q.reserve)
		if s.fits(n, q, &o).refused {
			return true
		}
		best = s.insert(best, found{n: n, look: o, cost: s.score(n, q, &o)})
		fit++
		return fit < s.cfg.Candidates
	}
	if nodes, ok := s.named(q); ok {
		for _, n := range nodes {
			visit(n) // all of them
		}
		return best
	}
	s.index.walk(q.pack, visit)
	return best
}

// insert puts f in its place and drops what exceeds the capacity of best.
func (s *Snapshot) insert(best []found, f found) []found {
	at := len(best)
	for at > 0 && s.better(&f, &best[at-1]) {
		at--
	}
	switch {
	case len(best) < cap(best):
		best = append(best, f)
	case at == len(best):
		return best
	}
	copy(best[at+1:], best[at:len(best)-1])
	best[at] = f
	return best
}

// maxNamed is how many named nodes are all looked at; for more the index is walked.
const maxNamed = 256

// named is the shortest list of nodes that an exact constraint or a volume leaves.
func (s *Snapshot) named(q *query) (nodes []int32, ok bool) {
	take := func(list []int32) {
		if !ok || len(list) < len(nodes) {
			nodes, ok = list, true
		}
	}
	for i := range q.r.Constraints {
		c := &q.r.Constraints[i]
		switch {
		case !c.exact():
		case c.Kind == OnNode:
			take(s.posting[nodeKey(c.Value)])
		case c.Kind == OnNodeLabel:
			take(s.posting[labelKey(c.Key, c.Value)])
		case c.Kind == WithContainer:
			list := make([]int32, 0, len(q.with[i]))
			for n := range q.with[i] {
				list = append(list, n)
			}
			take(list)
		}
	}
	for _, v := range q.r.Volumes {
		if list := s.posting[volumeKey(v)]; len(list) > 0 {
			take(list)
		}
	}
	return nodes, ok && len(nodes) <= maxNamed
}

// refusals asks every node why not, and counts equal answers. The amount named is the smallest.
func (s *Snapshot) refusals(q *query) []Reason {
	type kind struct {
		filter filter
		detail string // of what is not a number
		stale  bool
	}
	type group struct {
		no
		n     int32
		nodes []int32
	}
	groups := map[kind]*group{}
	for n, alive := range s.nodes.alive {
		if !alive {
			continue
		}
		a := s.check(int32(n), q)
		k := kind{filter: a.filter, stale: a.stale}
		if a.filter <= filterVolume {
			k.detail = a.reason(s, q.r, int32(n))
		}
		g := groups[k]
		if g == nil {
			g = &group{no: a, n: int32(n)}
			groups[k] = g
		}
		if a.short < g.short {
			g.no, g.n = a, int32(n)
		}
		g.nodes = append(g.nodes, int32(n))
	}
	out := make([]Reason, 0, len(groups))
	for k, g := range groups {
		r := Reason{Filter: k.filter.String(), Text: g.reason(s, q.r, g.n), Nodes: len(g.nodes)}
		for _, n := range g.nodes {
			r.Names = append(r.Names, s.nodes.fixed[n].Name)
		}
		sort.Strings(r.Names)
		out = append(out, r)
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].Nodes > out[j].Nodes || out[i].Nodes == out[j].Nodes && out[i].Text < out[j].Text
	})
	return out
}
