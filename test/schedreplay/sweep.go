package main

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/tritond/triton/pkg/sched"
)

// modes of arrival: mean replicas of a job.
var modes = []float64{1, 4, 8}

// entry is one policy with one value of its knob.
type entry struct {
	policy string
	knob   float64
	make   func(*world) policy
	main   bool // part of a quick run
}

// Names the summary looks for.
const (
	oursName   = "triton"
	packName   = "request bin-pack"
	ratioName  = "fixed ratio, spread"
	sigmaName  = "N-sigma"
	oracleName = "oracle"
)

// ourDefault is the knob of the one setting that is judged: the share of time in which predictions may be missed.
var ourDefault = sched.Defaults().MissRate

func policies() []entry {
	var out []entry
	add := func(name string, main bool, make func(k float64) policy, knobs ...float64) {
		for _, k := range knobs {
			out = append(out, entry{name, k, func(*world) policy { return make(k) }, main})
		}
	}
	scored := func(rank func(*world, int, int) float64, d int) func(float64) policy {
		return func(k float64) policy { return &request{k: k, rank: rank, d: d} }
	}
	for _, miss := range []float64{0.01, 0.02, ourDefault, 0.05} {
		out = append(out, entry{oursName, miss, func(w *world) policy { return newOurs(w, sched.Config{MissRate: miss}, 1) }, miss == ourDefault})
	}
	add(packName, true, scored(binPack, 0), 1)
	add(ratioName, true, scored(spread, 0), 1, 1.5, 2, 2.5, 2.75, 3, 3.25, 3.5, 4, 5, 6, 7, 7.25, 7.5, 8)
	add("random", false, scored(anyNode, 1), 1, 2.5)
	add("two choices", false, scored(leastMeasured, 2), 1, 2.5)
	add("LeastAllocated", false, scored(leastAllocated, 0), 1, 2.5)
	add("MostAllocated", false, scored(mostAllocated, 0), 1, 2.5)
	add("TLP", false, func(k float64) policy { return newTrimaran(k, true) }, 1, 2.5)
	add("LVRB", false, func(k float64) policy { return newTrimaran(k, false) }, 1, 2.5)
	add("threshold", false, func(k float64) policy { return &threshold{limit: k, fresh: make([]float64, fleetNodes)} }, 0.5, 0.6, 0.7)
	add(sigmaName, true, func(k float64) policy { return newNSigma(k) }, 0, 0.5, 1, 1.5, 2, 3, 4, 6, 8)
	out = append(out, entry{oracleName, 1, func(w *world) policy { return newOracle(w, 1) }, true})
	return out
}

func mainPolicies(all []entry) (out []entry) {
	for _, e := range all {
		if e.main {
			out = append(out, e)
		}
	}
	return out
}

// curve is what all policies showed on one set in one mode of arrival, means over the seeds.
type curve struct {
	set     *set
	job     float64
	entries []entry
	results []result
}

func (c *curve) name() string {
	if c.job == 1 {
		return c.set.name + " iid"
	}
	return fmt.Sprintf("%s jobs x%.0f", c.set.name, c.job)
}

// sweep replays everything on all processors.
func sweep(sets []*set, entries []entry, seeds int, calendar bool) []*curve {
	var curves []*curve
	var jobs []func()
	var mu sync.Mutex
	for _, s := range sets {
		for _, job := range modes {
			c := &curve{set: s, job: job, entries: entries, results: make([]result, len(entries))}
			curves = append(curves, c)
			for i, e := range entries {
				for seed := range seeds {
					jobs = append(jobs, func() {
						r := replay(s, job, calendar, seed+1, e.make)
						mu.Lock()
						defer mu.Unlock()
						c.results[i].add(r, 1/float64(seeds))
					})
				}
			}
		}
	}
	work := make(chan func())
	var done sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		done.Add(1)
		go func() {
			defer done.Done()
			for f := range work {
				f()
			}
		}()
	}
	for _, f := range jobs {
		work <- f
	}
	close(work)
	done.Wait()
	return curves
}

func (r *result) add(o result, share float64) {
	r.Admitted += share * o.Admitted
	r.Violation += share * o.Violation
	r.Unserved += share * o.Unserved
	r.MemBreach += share * o.MemBreach
	r.Util += share * o.Util
	r.UtilP95 += share * o.UtilP95
	r.Imbalance += share * o.Imbalance
	r.Containers += share * o.Containers
}

// find returns the result of a policy's knob.
func (c *curve) find(policy string, knob float64) (result, bool) {
	for i, e := range c.entries {
		if e.policy == policy && e.knob == knob {
			return c.results[i], true
		}
	}
	return result{}, false
}

// atEqual is the most a policy admits at a violation of at most v, interpolated linearly between its knobs.
func (c *curve) atEqual(policy string, v float64) float64 {
	best := 0.0
	for i, e := range c.entries {
		a := c.results[i]
		if e.policy != policy || a.Violation > v {
			continue
		}
		best = max(best, a.Admitted)
		for j, f := range c.entries {
			b := c.results[j]
			if f.policy == policy && b.Violation > v && b.Admitted > a.Admitted {
				best = max(best, a.Admitted+(b.Admitted-a.Admitted)*(v-a.Violation)/(b.Violation-a.Violation))
			}
		}
	}
	return best
}
