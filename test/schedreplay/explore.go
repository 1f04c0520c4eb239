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
			ks = []float64{1.2, 1.5, 1.8}
		}
		ps = append(ps, named{n, func(w *world, k float64) policy { c.N = k; return newProto(w, c) }, ks})
	}
	switch args[0] {
	case "now":
		base.nowS = 1
		base.nowW = .5
		base.n0 = 200
		base.alpha = .7
		c := base
		add("A a.7 s2 w.5 n200", c)
		c = base
		c.n0 = 0
		add("B no own", c)
		c = base
		c.alpha = .85
		add("C a.85", c)
		c = base
		c.alpha = .85
		c.nowS = 2
		add("C2 a.85 s3", c)
		c = base
		c.nowW = 1
		c.peakN = 1
		add("E w1 peakN1", c)
		c = base
		c.rank = "mean"
		add("F mean", c)
		c = base
		c.gv = .5
		add("G gv.5", c)
		c = base
		c.gamma = .005
		c.level = .02
		add("D loop", c, 1.6)
		c = base
		c.gamma = .005
		c.level = .01
		add("D loop.01", c, 1.6)
	case "rho":
		base.nowS = 1
		base.nowW = .5
		base.n0 = 0
		base.alpha = .5
		for _, rho := range []float64{.05, .1, .2} {
			c := base
			c.rho = rho
			add(fmt.Sprint("gauss", rho), c, 1, 1.3, 1.6)
		}
		c := base
		c.rho = .1
		c.n0 = 72
		add(fmt.Sprint("gauss.1 n72"), c, 1, 1.3, 1.6)
		c = base
		c.rho = .1
		c.alpha = .7
		add(fmt.Sprint("gauss.1 a.7"), c, 1, 1.3, 1.6)
	case "mgf":
		b2 := mgfCfg{eps: 0.01, alpha: .5, nowS: 2, nowW: .5}
		a2 := func(n string, c mgfCfg, ks ...float64) {
			if len(ks) == 0 {
				ks = []float64{.7, .85, 1}
			}
			ps = append(ps, named{n, func(w *world, k float64) policy { c.stretch = k; return newProto2(w, c) }, ks})
		}
		for _, rho := range []float64{.05, .1, .2} {
			c := b2
			c.prior = rho
			a2(fmt.Sprint("mgf", rho), c)
		}
	case "diag":
		for _, j := range []float64{1, 4} {
			d := &diag{byImg: map[int]float64{}, dem: map[int]float64{}, bigs: map[int]int{}}
			var ww *world
			r := replay(sets[0], j, false, 1, func(w *world) policy {
				ww = w
				d.proto2 = newProto2(w, mgfCfg{eps: .01, alpha: .7, nowS: 2, nowW: .5, stretch: 1.2})
				return d
			})
			fmt.Println(r)
			d.show(ww)
		}
	case "pack1":
		ps = append(ps, named{"pack1", func(w *world, k float64) policy { return &request{k: k, rank: binPack} }, []float64{1}})
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

var seeds = 3

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
