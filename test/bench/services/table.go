package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// print writes the table in Markdown.
func (m *measurement) print(w io.Writer) error {
	var out strings.Builder
	out.WriteString("Medians. Requests per second, and microseconds of a processor per request, server and client together; " +
		"in brackets the part of the host's own speed that is reached.\n\n| load | client | host alone |")
	for _, l := range levels {
		fmt.Fprintf(&out, " probes %s |", l)
	}
	out.WriteString("\n|" + strings.Repeat("---|", 3+len(levels)) + "\n")
	for _, s := range m.all {
		host := m.seen[key(s, "", "")]
		for i, p := range places {
			alone := ""
			if i == 0 {
				alone = cell(host)
			}
			fmt.Fprintf(&out, "| %s | %s | %s |", s.name, p.name, alone)
			for _, l := range levels {
				in := m.seen[key(s, p.name, l)]
				fmt.Fprintf(&out, " %s (%.3f; CPU %.3f) |", cell(in), median(in, rate)/median(host, rate), median(host, cpu)/median(in, cpu))
			}
			out.WriteString("\n")
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func cell(all []sample) string {
	return fmt.Sprintf("%.0f/s, %.2f us", median(all, rate), median(all, cpu)*1e6)
}

func rate(s sample) float64 { return s.rate }
func cpu(s sample) float64  { return s.cpu.Seconds() }

func median(all []sample, of func(sample) float64) float64 {
	v := make([]float64, len(all))
	for i, s := range all {
		v[i] = of(s)
	}
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
