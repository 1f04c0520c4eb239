package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/tritonapi/wire"
)

func TestLevelIsPrintedWithItsReason(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		p    wire.Probes
		want string
	}{
		{wire.Probes{Level: "detail", Share: 1, Price: 0.01}, "level detail, price 1.00% of the machine (system calls slowed: 0.00% of one CPU)\n"},
		{wire.Probes{Level: "counters"}, `level counters, price 0.00% of the machine (system calls slowed: 0.00% of one CPU)
system calls are not counted; the flight recorder is empty
`},
		{wire.Probes{
			Level: "sampled", Share: 0.1, Price: 0.012, Tax: 0.008, Burden: 0.015,
			Stepping: &wire.Stepping{
				Budget: 0.03, Steps: 3, Estimates: map[string]float64{"detail": 0.102, "sampled": 0.015, "counters": 0.001},
				Last: &wire.Step{At: now.Add(-12400 * time.Millisecond), From: "detail", To: "sampled", Why: "detail costs 10 %, more than the budget of 3 %"},
			},
		}, `level sampled, price 1.20% of the machine (system calls slowed: 0.80% of one CPU)
system calls are counted in 10% of the time: ~ their numbers are estimates; the flight recorder is empty
budget 3% of the time in which processors are busy, of which it takes 1.50% now
at level detail it would take ~10.20%
at level counters it would take ~0.10%
stepped from detail to sampled 12s ago, 3 steps in all: detail costs 10 %, more than the budget of 3 %
`},
	} {
		var out strings.Builder
		printLevel(&out, &c.p, now)
		if diff := cmp.Diff(c.want, out.String()); diff != "" {
			t.Error(diff)
		}
	}
}
