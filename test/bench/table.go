package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tritond/triton/test/bench/machine"
)

// print writes the conditions and the table in Markdown.
func (b *bench) print(w io.Writer, before []machine.Condition) error {
	if err := machine.Print(w, before); err != nil {
		return err
	}
	var out strings.Builder
	for _, s := range b.subjects {
		fmt.Fprintf(&out, "| %s | %s |\n", s.name, s.version())
	}
	out.WriteString("\n### Results\n\nMedian (minimum) of wall time per operation; the engines take turns in every round. " +
		"CPU is the median of client, engine and container together.\n\n")
	b.table(&out)
	_, err := io.WriteString(w, out.String())
	return err
}

func (b *bench) table(out *strings.Builder) {
	head := []string{"operation", "n"}
	for _, s := range b.subjects {
		head = append(head, s.name, s.name+" CPU")
	}
	if len(b.subjects) == 2 {
		head = append(head, "ratio "+b.subjects[1].name+" / "+b.subjects[0].name)
	}
	head = append(head, "target")
	fmt.Fprintf(out, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat("---|", len(head)))
	for _, r := range b.rows {
		cells := append([]string{r.name}, b.cells(r)...)
		fmt.Fprintf(out, "| %s |\n", strings.Join(append(cells, r.target), " | "))
	}
}

// cells gives n, two cells per subject and, with two subjects, the ratio.
func (b *bench) cells(r row) []string {
	if r.figure != nil {
		return b.figureCells(*r.figure)
	}
	n, values := 0, make([]float64, len(b.subjects))
	cells := []string{""}
	for i, s := range b.subjects {
		values[i] = math.NaN()
		j := slices.IndexFunc(r.series, func(se series) bool { return se.subject == s })
		switch {
		case j < 0:
			cells = append(cells, "", "")
		case r.series[j].err != nil:
			cells = append(cells, "failed: "+strings.ReplaceAll(r.series[j].err.Error(), "\n", " "), "")
		default:
			se := r.series[j]
			n = len(se.samples)
			values[i] = median(se.samples, wall).Seconds()
			cells = append(cells, fmt.Sprintf("%s (%s) ms", ms(median(se.samples, wall)), ms(least(se.samples, wall))), cpuCell(se))
		}
	}
	cells[0] = fmt.Sprint(n)
	if len(b.subjects) == 2 {
		cells = append(cells, ratio(values[1], values[0]))
	}
	return cells
}

func (b *bench) figureCells(f figure) []string {
	cells := []string{""}
	for i := range b.subjects {
		if i >= len(f.values) || math.IsNaN(f.values[i]) {
			cells = append(cells, "", "")
			continue
		}
		cells = append(cells, fmt.Sprintf("%.4g %s", f.values[i], f.unit), "")
	}
	if len(b.subjects) == 2 {
		r := ""
		if len(f.values) == 2 {
			r = ratio(f.values[1], f.values[0])
			if f.more {
				r = "1 / " + ratio(f.values[0], f.values[1])
			}
		}
		cells = append(cells, r)
	}
	return cells
}

func cpuCell(se series) string {
	if se.samples[0].cpu < 0 {
		return ""
	}
	return ms(median(se.samples, cpu)) + " ms"
}

// ms gives milliseconds with three digits, more only where the whole number has more.
func ms(d time.Duration) string {
	v := float64(d) / float64(time.Millisecond)
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

func ratio(a, b float64) string {
	if math.IsNaN(a) || math.IsNaN(b) || b == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", a/b)
}

func medianOf(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
