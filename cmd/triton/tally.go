package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tritond/triton/pkg/question"
	"github.com/tritond/triton/pkg/triton"
)

const (
	// tallyRows bounds the rows that are remembered; what comes after is the rest.
	tallyRows = 10_000
	// heatSeconds is how long the map of a terminal is.
	heatSeconds = 60
	// tableRows is how many rows are shown where nothing else says it.
	tableRows = 50
)

// tally adds answers up.
type tally struct {
	question   question.Text
	by         []string // without latency
	latency    bool
	rows       map[string]*question.Row
	rest       question.Counted
	lost       uint64
	seconds    float64
	containers int
	price      question.Price
	heat       []triton.Histogram // of each second, schema 0; the last heatSeconds
}

func newTally(t question.Text) *tally {
	all := &tally{question: t, rows: map[string]*question.Row{}}
	for name := range strings.SplitSeq(cmp.Or(t.By, string(question.Container)), ",") {
		if name = strings.TrimSpace(name); name == string(question.Latency) {
			all.latency = true
		} else {
			all.by = append(all.by, name)
		}
	}
	return all
}

func (t *tally) add(a question.Answer) {
	var second question.Counted
	for _, r := range a.Rows {
		second.Add(r.Counted)
		var key strings.Builder
		for _, name := range t.by {
			key.WriteString(r.Key[name] + "\x00")
		}
		switch row := t.rows[key.String()]; {
		case row != nil:
			row.Add(r.Counted)
		case len(t.rows) == tallyRows:
			t.rest.Add(r.Counted)
		default:
			t.rows[key.String()] = &r
		}
	}
	if a.Rest != nil {
		second.Add(*a.Rest)
		t.rest.Add(*a.Rest)
	}
	t.lost += a.Lost
	t.seconds += a.Seconds
	t.containers, t.price = a.Containers, a.Price
	var h triton.Histogram
	if second.Latency != nil {
		h = second.Latency.Coarsen(0)
	}
	t.heat = append(t.heat, h)
	t.heat = t.heat[max(0, len(t.heat)-heatSeconds):]
}

// print shows the tally in so many lines; 0: as many as it needs.
func (t *tally) print(out io.Writer, lines int) error {
	most := tableRows
	if lines > 0 {
		most = lines - 4
		if t.latency {
			most -= t.printHeat(out) + 1
		}
	}
	rows := make([]*question.Row, 0, len(t.rows))
	for _, r := range t.rows {
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b *question.Row) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(fmt.Sprint(a.Key), fmt.Sprint(b.Key)))
	})
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, name := range t.by {
		fmt.Fprint(w, strings.ToUpper(oneLine(name)), "\t")
	}
	fmt.Fprint(w, "COUNT\tPER SECOND\tMEAN")
	if t.latency {
		fmt.Fprint(w, "\tP50\tP99\tMAX")
	}
	bytes := slices.ContainsFunc(rows, func(r *question.Row) bool { return r.Bytes > 0 })
	if bytes {
		fmt.Fprint(w, "\tBYTES")
	}
	fmt.Fprintln(w)
	var more question.Counted
	for i, r := range rows {
		if i >= max(1, most) {
			more.Add(r.Counted)
			continue
		}
		for _, name := range t.by {
			fmt.Fprint(w, cmp.Or(oneLine(r.Key[name]), "-"), "\t")
		}
		t.printCounted(w, r.Counted, bytes)
	}
	for name, c := range map[string]question.Counted{fmt.Sprintf("(%d more)", len(rows)-max(1, most)): more, "(rest)": t.rest} {
		if c.Count > 0 {
			fmt.Fprint(w, name, strings.Repeat("\t", max(1, len(t.by))))
			t.printCounted(w, c, bytes)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "%.0f s of %s; the question's programs: %.0f runs a second, %.2f%% of one CPU%s\n",
		t.seconds, plural(t.containers, "container"), t.price.Runs, 100*t.price.CPU, lostText(t.lost))
	return err
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func lostText(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; %d events lost", n)
}

// printCounted ends a row.
func (t *tally) printCounted(w io.Writer, c question.Counted, bytes bool) {
	mean := "-"
	if c.Timed > 0 {
		mean = shortTime(time.Duration(c.Ns / c.Timed))
	}
	fmt.Fprintf(w, "%d\t%.1f\t%s", c.Count, float64(c.Count)/max(t.seconds, 1e-3), mean)
	if t.latency {
		for _, q := range []float64{0.5, 0.99, 1} {
			if c.Latency == nil || c.Timed == 0 {
				fmt.Fprint(w, "\t-")
			} else {
				fmt.Fprint(w, "\t", shortTime(c.Latency.Quantile(q)))
			}
		}
	}
	if bytes {
		fmt.Fprintf(w, "\t%d", c.Bytes)
	}
	fmt.Fprintln(w)
}

// shortTime has three digits.
func shortTime(d time.Duration) string {
	if d <= 0 {
		return d.String()
	}
	unit := time.Duration(math.Pow10(max(0, int(math.Log10(float64(d)))-2)))
	return d.Round(unit).String()
}

// shades are from none to the most.
var shades = []rune(" ·░▒▓█")

// printHeat draws a column for each second and a row for each power of two of seconds; it returns how many lines it took.
func (t *tally) printHeat(out io.Writer) int {
	low, high, most := int32(math.MaxInt32), int32(math.MinInt32), uint64(0)
	for _, h := range t.heat {
		for i, n := range h.Counts {
			if n > 0 {
				low, high, most = min(low, h.First+int32(i)), max(high, h.First+int32(i)), max(most, n)
			}
		}
	}
	if most == 0 {
		return 0
	}
	for row := high; row >= low; row-- {
		var line strings.Builder
		for _, h := range t.heat {
			n := uint64(0)
			if i := int(row - h.First); i >= 0 && i < len(h.Counts) {
				n = h.Counts[i]
			}
			shade := 0
			if n > 0 {
				shade = 1 + int(float64(len(shades)-2)*math.Log1p(float64(n))/math.Log1p(float64(most)))
			}
			line.WriteRune(shades[shade])
		}
		fmt.Fprintf(out, "%8s │%s\n", shortTime(time.Duration(math.Exp2(float64(row))*1e9)), strings.TrimRight(line.String(), " "))
	}
	return int(high-low) + 1
}
