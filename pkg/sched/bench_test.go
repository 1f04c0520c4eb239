package sched

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// churn is a fleet in motion: n nodes with perNode containers each.
type churn struct {
	s    *Snapshot
	rng  *rand.Rand
	live []triton.ContainerKey
	name []string
	id   int
	now  time.Time
}

func newChurn(b testing.TB, nodes, perNode int) *churn {
	rng := rand.New(rand.NewPCG(11, 11))
	c := &churn{rng: rng, s: sizedFleet(b, nodes, nil, imagesOf(rng), max(1, perNode/10)), now: noon}
	for n := range nodes {
		c.name = append(c.name, fmt.Sprintf("n%05d", n))
	}
	for n := range nodes * perNode {
		r := c.request()
		r.CPU, r.Memory = 0.1, 32<<20
		_, err := c.s.Assign(c.name[n%nodes], r)
		check(b, err)
		c.live = append(c.live, r.Key)
	}
	for range nodes {
		c.frame(b)
	}
	return c
}

func (c *churn) request() Request {
	c.id++
	return ask(c.rng, c.id)
}

// frame reports one node: what it is expected to use, and some noise.
func (c *churn) frame(b testing.TB) {
	c.now = c.now.Add(time.Microsecond)
	n := int32(c.rng.IntN(len(c.name)))
	cpu := float64(c.s.nodes.mean[int(n)*Slots+12]) * (0.8 + 0.4*c.rng.Float64())
	err := c.s.Report(Frame{Node: c.name[n], Time: c.now, Over: time.Second, CPU: cpu, Memory: int64(c.s.nodes.memMean[n]) * mib, Acked: 1 << 60})
	if err != nil {
		b.Fatal(err)
	}
}

// step is one placement with one telemetry update and one removal.
func (c *churn) step(b testing.TB) time.Duration {
	r := c.request()
	began := time.Now()
	d, err := Place(c.s, r)
	took := time.Since(began)
	if err == nil {
		if _, err = c.s.Assign(d.Node, r); err != nil {
			b.Fatal(err)
		}
		c.live = append(c.live, r.Key)
	}
	c.frame(b)
	i := c.rng.IntN(len(c.live))
	c.s.Release(c.live[i])
	c.live[i] = c.live[len(c.live)-1]
	c.live = c.live[:len(c.live)-1]
	return took
}

// cpuTime is what this process has used: on a shared machine the clock measures the neighbours too.
func cpuTime(b testing.TB) time.Duration {
	var u syscall.Rusage
	check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPlace counts a placement, an update and a removal as one operation, in CPU time of the whole process, garbage
// collection included; p50 and p99 are of the decision alone, by the clock.
func BenchmarkPlace(b *testing.B) {
	for _, size := range []struct{ nodes, perNode int }{{1000, 10}, {10_000, 10}, {100_000, 2}, {1000, 100}} {
		b.Run(fmt.Sprintf("nodes=%d/containers=%d", size.nodes, size.perNode), func(b *testing.B) {
			c := newChurn(b, size.nodes, size.perNode)
			var took []time.Duration
			b.ResetTimer()
			before := cpuTime(b)
			for b.Loop() {
				took = append(took, c.step(b))
			}
			b.StopTimer()
			spent := cpuTime(b) - before
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000, "p50-us")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1000, "p99-us")
			b.ReportMetric(float64(b.N)/spent.Seconds(), "decisions/cpu-s")
		})
	}
}

// The index may not cost quality: against scoring every node the loss is at most half a per cent of a node on average.
func TestIndexedChoiceIsNearlyTheBest(t *testing.T) {
	c := newChurn(t, 500, 4)
	full, regret, n := c.s.cfg.Candidates, 0.0, 200
	for range n {
		c.step(t)
		r := c.request()
		quick, err := Place(c.s, r)
		c.s.cfg.Candidates = 1 << 20
		best, _ := Place(c.s, r)
		c.s.cfg.Candidates = full
		check(t, err)
		loss := quick.Candidates[0].Cost - best.Candidates[0].Cost
		if loss < 0 {
			t.Fatalf("a full scan found cost %v, the index %v", best.Candidates[0].Cost, quick.Candidates[0].Cost)
		}
		regret += loss / float64(n)
	}
	t.Logf("mean regret %.5f of a node", regret)
	if regret > 0.005 {
		t.Errorf("mean regret %.4f, want at most 0.005", regret)
	}
}
