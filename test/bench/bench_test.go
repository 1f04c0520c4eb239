package main

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTableComparesSubjects(t *testing.T) {
	a, p := &subject{name: "tritond"}, &subject{name: "dockerd"}
	times := func(cpu time.Duration, ms ...int) []sample {
		var s []sample
		for _, m := range ms {
			s = append(s, sample{wall: time.Duration(m) * time.Millisecond, cpu: cpu})
		}
		return s
	}
	b := bench{subjects: []*subject{a, p}, rows: []row{
		{name: "run", target: "1/4", series: []series{
			{subject: a, samples: times(10*time.Millisecond, 60, 50, 70)},
			{subject: p, samples: times(-1, 300, 240, 400)},
		}},
		{name: "restart", series: []series{{subject: a, samples: times(-1, 1, 3)}}},
		{name: "rate", figure: &figure{unit: "requests/s", more: true, values: []float64{2000, 10}}},
		{name: "memory", figure: &figure{unit: "MiB", values: []float64{2.5, math.NaN()}}},
	}}
	var out strings.Builder
	b.table(&out)
	want := `| operation | n | tritond | tritond CPU | dockerd | dockerd CPU | ratio dockerd / tritond | target |
|---|---|---|---|---|---|---|---|
| run | 3 | 60 (50) ms | 10 ms | 300 (240) ms |  | 5.00 | 1/4 |
| restart | 2 | 2 (1) ms |  |  |  |  |  |
| rate |  | 2000 requests/s |  | 10 requests/s |  | 1 / 200.00 |  |
| memory |  | 2.5 MiB |  |  |  |  |  |
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}
