package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
)

func (c *curve) table(out io.Writer) {
	fmt.Fprintf(out, "### %s\n\n| policy | knob | A | V %% | unserved %% | memory V %% | mean util %% | p95 util %% | imbalance |\n|---|---|---|---|---|---|---|---|---|\n", c.name())
	for i, e := range c.entries {
		r := c.results[i]
		fmt.Fprintf(out, "| %s | %g | %.2f | %.3f | %.3f | %.4f | %.0f | %.0f | %.3f |\n", e.policy, e.knob, r.Admitted, 100*r.Violation,
			100*r.Unserved, 100*r.MemBreach, 100*r.Util, 100*r.UtilP95, r.Imbalance)
	}
	fmt.Fprintln(out)
}

// summary judges the one setting on every set and mode.
func summary(out io.Writer, curves []*curve) {
	fmt.Fprintf(out, "### one setting (miss rate %g) against the others\n\n", ourDefault)
	fmt.Fprintln(out, "| set | A | V % | unserved % | memory V % | x bin-pack | x N-sigma at equal V | x best ratio at equal V | of oracle |\n|---|---|---|---|---|---|---|---|---|")
	var sigma, ratio, oracle, n float64
	for _, c := range curves {
		r, _ := c.find(oursName, ourDefault)
		pack, _ := c.find(packName, 1)
		best, _ := c.find(oracleName, 1)
		v := max(r.Violation, 1e-9)
		a, b, d := r.Admitted/c.atEqual(sigmaName, v), r.Admitted/c.atEqual(ratioName, v), r.Admitted/best.Admitted
		fmt.Fprintf(out, "| %s | %.2f | %.3f | %.3f | %.4f | %.2f | %s | %.2f | %.2f |\n", c.name(), r.Admitted, 100*r.Violation, 100*r.Unserved,
			100*r.MemBreach, r.Admitted/pack.Admitted, finite(a), b, d)
		if math.IsInf(a, 0) {
			// No knob of N-sigma keeps to this V: its most careful one stands for it, which flatters it.
			a = r.Admitted / c.least(sigmaName)
		}
		sigma, ratio, oracle, n = sigma+a, ratio+b, oracle+d, n+1
	}
	fmt.Fprintf(out, "| mean | | | | | | %.2f | %.2f | %.2f |\n\n", sigma/n, ratio/n, oracle/n)
}

// finite renders a ratio; where the other has no knob that keeps to the same V there is none.
func finite(v float64) string {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return "no knob keeps V"
	}
	return fmt.Sprintf("%.2f", v)
}

// least is what the knob with the fewest violations admits.
func (c *curve) least(policy string) float64 {
	v, a := math.Inf(1), 0.0
	for i, e := range c.entries {
		if r := c.results[i]; e.policy == policy && r.Violation < v {
			v, a = r.Violation, r.Admitted
		}
	}
	return a
}

// The plot: admitted load over violations, the latter on a logarithmic axis.
const (
	plotW, plotH = 640, 400
	plotPad      = 50
	plotMinV     = 0.0001 // share; fewer violations are drawn here
	plotMaxV     = 0.2
)

var plotColours = []string{"#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf", "#000000", "#aa8800"}

func (c *curve) plot() []byte {
	var b bytes.Buffer
	top := 1.0
	for _, r := range c.results {
		top = max(top, r.Admitted)
	}
	x := func(v float64) float64 {
		v = min(plotMaxV, max(plotMinV, v))
		return plotPad + (plotW-2*plotPad)*math.Log(v/plotMinV)/math.Log(plotMaxV/plotMinV)
	}
	y := func(a float64) float64 { return plotH - plotPad - (plotH-2*plotPad)*a/top }
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">`+"\n", plotW+150, plotH)
	fmt.Fprintf(&b, `<text x="%d" y="20" font-size="14">%s: requests admitted / capacity over violations</text>`+"\n", plotPad, c.name())
	for _, v := range []float64{0.0001, 0.001, 0.005, 0.01, 0.1} {
		fmt.Fprintf(&b, `<path d="M%.0f %d V%d" stroke="#ddd"/><text x="%.0f" y="%d">%g %%</text>`+"\n", x(v), plotPad, plotH-plotPad, x(v)-12, plotH-plotPad+15, 100*v)
	}
	for a := 0.0; a <= top; a++ {
		fmt.Fprintf(&b, `<path d="M%d %.0f H%d" stroke="#ddd"/><text x="%d" y="%.0f">%g</text>`+"\n", plotPad, y(a), plotW-plotPad, plotPad-20, y(a)+4, a)
	}
	line, colour, policy := "", 0, ""
	flush := func() {
		if line != "" {
			fmt.Fprintf(&b, `<path d="M%s" fill="none" stroke="%s"/>`+"\n", line[1:], plotColours[colour%len(plotColours)])
		}
		line = ""
	}
	for i, e := range c.entries {
		if e.policy != policy {
			flush()
			if policy != "" {
				colour++
			}
			policy = e.policy
			fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s</text>`+"\n", plotW-plotPad+15, plotPad+15*colour, plotColours[colour%len(plotColours)], policy)
		}
		px, py := x(c.results[i].Violation), y(c.results[i].Admitted)
		line += fmt.Sprintf("L%.1f %.1f", px, py)
		fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%s %g</title></circle>`+"\n", px, py, plotColours[colour%len(plotColours)], policy, e.knob)
	}
	flush()
	b.WriteString("</svg>\n")
	return b.Bytes()
}
