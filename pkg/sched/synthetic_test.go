package sched

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// The case on which Joyent's default chain reached 1.10 in the median, round robin 0.78: 160 containers capped at 4 cores, a
// fifth of them hot, on 8 nodes of 32 cores. The figure is the demand of the hottest node over its cores.
const (
	bimodalNodes = 8
	bimodalCores = 32
	bimodalCap   = 4
	bimodalCount = 160
)

// bimodal draws demands: hot ones use 70 to 100 % of their cap, the others 0 to 10 %.
func bimodal(seed uint64) []float64 {
	rng := rand.New(rand.NewPCG(seed, 20))
	out := make([]float64, bimodalCount)
	for i := range out {
		out[i] = bimodalCap * 0.1 * rng.Float64()
		if rng.Float64() < 0.2 {
			out[i] = bimodalCap * (0.7 + 0.3*rng.Float64())
		}
	}
	return out
}

// hottest places one container a second; frames are delay seconds old, negative: none come.
func hottest(t *testing.T, seed uint64, demand []float64, delay int) float64 {
	// The case fixes what is admitted, all; so the admitted risk is put out of the way.
	s := New(Config{Risk: 0.5}, nil, seed)
	now := noon
	s.Advance(now)
	for n := range bimodalNodes {
		check(t, s.SetNode(Node{Name: fmt.Sprintf("n%d", n), CPU: bimodalCores, Memory: 256 << 30}))
	}
	var placed []int // node of each container
	for i := range demand {
		now = now.Add(time.Second)
		if delay >= 0 {
			bimodalFrames(t, s, now.Add(-time.Duration(delay)*time.Second), demand, placed[:max(0, len(placed)-delay)])
		}
		s.Advance(now)
		r := Request{Key: triton.ContainerKey{Tenant: "default", ID: fmt.Sprint(i)}, Image: fmt.Sprintf("image%d", i), CPU: bimodalCap, Memory: 1 << 30}
		if delay < 0 || delay > 3 {
			// Without telemetry a fleet is never promised twice: all can be placed only if they ask for a fair share.
			r.CPU = bimodalCap * float64(bimodalNodes*bimodalCores) / (bimodalCap * bimodalCount)
		}
		d, err := Place(s, r)
		check(t, err)
		_, err = s.Assign(d.Node, r)
		check(t, err)
		var n int
		fmt.Sscanf(d.Node, "n%d", &n)
		placed = append(placed, n)
	}
	return highest(demand, placed)
}

func bimodalFrames(t *testing.T, s *Snapshot, at time.Time, demand []float64, seen []int) {
	for n := range bimodalNodes {
		f := Frame{Node: fmt.Sprintf("n%d", n), Time: at, Over: time.Second, Acked: uint64(len(seen))}
		for i, on := range seen {
			if on == n {
				f.CPU += demand[i]
				f.Memory += 64 << 20
				f.Containers = append(f.Containers, ContainerUse{triton.ContainerKey{Tenant: "default", ID: fmt.Sprint(i)}, demand[i], 64 << 20})
			}
		}
		check(t, s.Report(f))
	}
}

func highest(demand []float64, placed []int) float64 {
	var sum [bimodalNodes]float64
	for i, n := range placed {
		sum[n] += demand[i]
	}
	return slices.Max(sum[:]) / bimodalCores
}

func roundRobin(demand []float64) float64 {
	placed := make([]int, len(demand))
	for i := range placed {
		placed[i] = i % bimodalNodes
	}
	return highest(demand, placed)
}

func TestBimodalLoadIsBalancedByUse(t *testing.T) {
	var fresh, robin []float64
	for seed := range uint64(20) {
		demand := bimodal(seed)
		fresh = append(fresh, hottest(t, seed, demand, 0))
		robin = append(robin, roundRobin(demand))
	}
	slices.Sort(fresh)
	slices.Sort(robin)
	t.Logf("hottest node, median and worst of 20: %.3f, %.3f; round robin %.3f, %.3f", fresh[10], fresh[19], robin[10], robin[19])
	if fresh[10] > 0.65 || fresh[19] > 0.9 {
		t.Errorf("median %.3f, want at most 0.65; worst %.3f, want at most 0.9", fresh[10], fresh[19])
	}
}

func TestBimodalLoadWithoutFreshTelemetryIsNeverWorseThanRoundRobin(t *testing.T) {
	for _, delay := range []int{10, -1} {
		for seed := range uint64(20) {
			demand := bimodal(seed)
			if got, want := hottest(t, seed, demand, delay), roundRobin(demand); got > want+1e-9 {
				t.Errorf("seed %d, telemetry delayed by %d s: hottest node %.3f, round robin %.3f", seed, delay, got, want)
			}
		}
	}
}
