package main

import (
	"fmt"
	"time"
)

type named struct {
	n  string
	f  func(w *world, k float64) policy
	ks []float64
}

func explore(sets []*set, args []string) {
	base := protoCfg{eps: 0.005, rank: "peak", peakN: 1.5, group: true}
	var ps []named
	add := func(n string, c protoCfg, ks ...float64) {
		if len(ks) == 0 {
			ks = []float64{1, 1.25, 1.6, 2}
		}
		ps = append(ps, named{n, func(w *world, k float64) policy { c.N = k; return newProto(w, c) }, ks})
	}
	switch args[0] {
	case "base":
		ps = append(ps, named{"static", func(w *world, k float64) policy { return &request{k: k, rank: spread} }, []float64{1, 2, 2.5, 3, 3.5}})
		add("base", base)
		c := base
		c.group = false
		add("nogroup", c)
		c = base
		c.n0 = 24
		add("own24", c)
		c = base
		c.n0 = 72
		add("own72", c)
		c = base
		c.n0 = 72
		c.alpha = 0.3
		add("own72 alpha.3", c)
		c = base
		c.n0 = 72
		c.rank = "risk"
		add("own72 risk", c)
		c = base
		c.n0 = 72
		c.rank = "fit"
		add("own72 fit", c)
	case "ns":
		ps = append(ps, named{"nsigma", func(w *world, k float64) policy { return newNSigma(k) }, []float64{1.5, 2, 3}})
		ps = append(ps, named{"oracle", func(w *world, k float64) policy { return newOracle(w, k) }, []float64{1}})
	}
	for _, p := range ps {
		run(sets, p)
	}
}

// at interpolates A at V.
func at(rs []result, v float64) float64 {
	best := 0.0
	for i, r := range rs {
		if r.Violation <= v {
			best = max(best, r.Admitted)
		}
		for j, q := range rs {
			if i != j && r.Violation <= v && q.Violation > v && q.Admitted > r.Admitted {
				best = max(best, r.Admitted+(q.Admitted-r.Admitted)*(v-r.Violation)/(q.Violation-r.Violation))
			}
		}
	}
	return best
}

var seeds = 1

func run(sets []*set, p named) {
	fmt.Printf("%-20s", p.n)
	t := time.Now()
	for _, s := range sets[:1] {
		for _, j := range []float64{1, 4, 8} {
			var rs []result
			for _, k := range p.ks {
				var m result
				for sd := 1; sd <= seeds; sd++ {
					r := replay(s, j, false, sd, func(w *world) policy { return p.f(w, k) })
					m.Admitted += r.Admitted / float64(seeds)
					m.Violation += r.Violation / float64(seeds)
					m.Util += r.Util / float64(seeds)
					m.Unserved += r.Unserved / float64(seeds)
				}
				rs = append(rs, m)
			}
			fmt.Printf(" | %.2f (", at(rs, 0.005))
			for _, r := range rs {
				fmt.Printf("%.2f@%.2f,%.2f ", r.Admitted, 100*r.Violation, r.Util)
			}
			fmt.Print(")")
		}
	}
	fmt.Println("  ", time.Since(t).Round(time.Millisecond*100))
}
