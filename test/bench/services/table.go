package main

import (
	"fmt"
	"io"
	"strings"
)

// print writes the table in Markdown.
func (m *placeTurns) print(w io.Writer) error {
	var out strings.Builder
	out.WriteString("Medians. Requests per second, and microseconds of a processor per request, server and client together. In brackets " +
		"the part of another's speed that is reached: of a host process without tritond, of one beside it at the same level, and of the same at the first level.\n\n" +
		"| load | client | host, no tritond |")
	for _, l := range m.levels {
		fmt.Fprintf(&out, " probes %s |", l)
	}
	out.WriteString("\n|" + strings.Repeat("---|", 3+len(m.levels)) + "\n")
	for _, s := range m.all {
		alone := m.seen[key(s, "", "")]
		for i, p := range places {
			if !m.places.MatchString(p.name) {
				continue
			}
			fmt.Fprintf(&out, "| %s | %s | ", s.name, p.name)
			if i == 0 {
				out.WriteString(cell(alone))
			}
			out.WriteString(" |")
			first := m.seen[key(s, p.name, m.levels[0])]
			for _, l := range m.levels {
				in, beside := m.seen[key(s, p.name, l)], m.seen[key(s, places[0].name, l)]
				var parts []string
				if len(alone) > 0 {
					parts = append(parts, "alone "+part(in, alone))
				}
				if i > 0 && len(beside) > 0 {
					parts = append(parts, "beside "+part(in, beside))
				}
				if l != m.levels[0] {
					parts = append(parts, m.levels[0]+" "+part(in, first))
				}
				out.WriteString(" " + cell(in))
				if len(parts) > 0 {
					fmt.Fprintf(&out, " (%s)", strings.Join(parts, "; "))
				}
				out.WriteString(" |")
			}
			out.WriteString("\n")
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// part is how much of a speed is reached, in requests per second and per processor time.
func part(in, of []sample) string {
	return fmt.Sprintf("%.3f, CPU %.3f", medianOf(in, rate)/medianOf(of, rate), medianOf(of, cpu)/medianOf(in, cpu))
}

func cell(all []sample) string {
	return fmt.Sprintf("%.0f/s, %.2f us", medianOf(all, rate), medianOf(all, cpu)*1e6)
}

func rate(s sample) float64 { return s.rate }
func cpu(s sample) float64  { return s.cpu.Seconds() }

func medianOf(all []sample, of func(sample) float64) float64 {
	v := make([]float64, len(all))
	for i, s := range all {
		v[i] = of(s)
	}
	return median(v)
}
