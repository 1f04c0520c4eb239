package sched

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// An hour told in parts is the same hour.
func TestPartsOfAnHourAddUpToTheHour(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 11))
	var whole, parts Profile
	for hour := range int64(72) {
		var sum, sumsq, mem, peak float64
		for range 4 {
			u := HourUse{Share: 0.25, CPUMean: rng.Float64(), MemMean: 1 << 28, MemPeak: float64(1<<28 + rng.IntN(1<<26))}
			parts.Observe(hour, u)
			sum += u.CPUMean / 4
			sumsq += u.CPUMean * u.CPUMean / 4
			mem += u.MemMean / 4
			peak = max(peak, u.MemPeak)
		}
		whole.Observe(hour, HourUse{CPUMean: sum, CPUVar: sumsq - sum*sum, MemMean: mem, MemPeak: peak})
	}
	if math.Abs(parts.Hours-whole.Hours) > 1e-6 {
		t.Errorf("hours: %v in parts, %v as a whole", parts.Hours, whole.Hours)
	}
	for b := range Slots {
		if d := parts.Mean[b] - whole.Mean[b]; d > 1e-5 || d < -1e-5 {
			t.Errorf("hour %d: mean %v in parts, %v as a whole", b, parts.Mean[b], whole.Mean[b])
		}
		if d := parts.Var[b] - whole.Var[b]; d > 1e-5 || d < -1e-5 {
			t.Errorf("hour %d: variance %v in parts, %v as a whole", b, parts.Var[b], whole.Var[b])
		}
	}
}

// One run of seconds says what its image computes with, but not what it grows to.
func TestOneShortRunMakesAnImageKnown(t *testing.T) {
	h := NewHistory()
	s := fleet(t, 1, nil, h)
	r := Request{Key: triton.ContainerKey{Tenant: "default", ID: "x"}, Image: "burner", CPU: 0.5, Memory: 2 << 30}
	d, err := Place(s, r)
	check(t, err)
	if d.Basis != FromRequest.String() || d.Expected != 0.5 {
		t.Fatalf("before: expected %v by %s", d.Expected, d.Basis)
	}
	h.Observe(r.origin(), 12, 0, HourUse{Share: 5.0 / 3600, CPUMean: 1, MemMean: 1 << 20, MemPeak: 1 << 20})
	if d, err = Place(s, r); err != nil || d.Basis != FromRequest.String() {
		t.Errorf("five seconds of a run that goes on: %v by %s", err, d.Basis)
	}
	h.RunEnded(r.origin())
	d, err = Place(s, r)
	check(t, err)
	if d.Basis != FromImage.String() || math.Abs(d.Expected-1) > 0.01 {
		t.Errorf("after: expected %v by %s", d.Expected, d.Basis)
	}
	var l load
	s.expect(&r, nil, &l)
	if l.mem < 2000 || l.mem > 2048 {
		t.Errorf("after a run of seconds %v MiB are expected, want nearly the limit of 2048", l.mem)
	}
}

// Whoever asks for no promise is refused none, however busy the node, unless it was told to keep out.
func TestBestEffortWithoutLimitIsNeverRefused(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 12))
		h := imagesOf(rng)
		for range rng.IntN(6) {
			h.Crashed(Origin{Tenant: "default", Image: "image1"}, "n00000")
		}
		s := fleet(t, 1+rng.IntN(3), nil, h)
		for i := range 200 {
			if rng.IntN(4) == 0 {
				s.Advance(noon.Add(time.Duration(i) * time.Minute))
			}
			if rng.IntN(4) == 0 {
				check(t, s.Report(Frame{Node: "n00000", Time: noon.Add(time.Duration(i)*time.Minute + time.Second), Over: time.Second,
					CPU: 8 * rng.Float64(), Memory: rng.Int64N(16 << 30)}))
			}
			r := ask(rng, i)
			r.CPU, r.Memory, r.BestEffort = 0, 0, true
			d, err := Place(s, r)
			if err != nil {
				t.Fatalf("seed %d, request %d: %v", seed, i, err)
			}
			// What it was placed in spite of is what refuses it without best effort.
			r.BestEffort = false
			if _, err := Place(s, r); (err != nil) != (len(d.Despite) > 0) {
				t.Fatalf("seed %d, request %d: placed despite %v, and without best effort: %v", seed, i, d.Despite, err)
			}
			_, err = s.Assign(d.Node, r)
			check(t, err)
		}
	}
}

// A container that a frame measured counts at once with what it uses, and not as slowly as the present is smoothed.
func TestMeasuredContainerCountsAtOnce(t *testing.T) {
	s := fleet(t, 1, nil, nil)
	at := noon
	second := func(cpu float64, use ...ContainerUse) {
		at = at.Add(time.Second)
		check(t, s.Report(Frame{Node: "n00000", Time: at, Over: time.Second, CPU: cpu, Memory: 1 << 28, Containers: use}))
	}
	for range 5 {
		second(0)
	}
	key := triton.ContainerKey{Tenant: "default", ID: "x"}
	_, err := s.Assign("n00000", Request{Key: key, Image: "i", CPU: 2})
	check(t, err)
	second(0) // does not hold it yet
	if w := s.nodes.waiting[0]; w != 2 {
		t.Fatalf("before it is measured it counts with %v cores, want 2", w)
	}
	second(3, ContainerUse{Key: key, CPU: 3, Memory: 1 << 20})
	if w, now := s.nodes.waiting[0], s.nodes.now[0]; w != 0 || now < 2.9 {
		t.Errorf("measured at 3 cores: %v waiting, %v now", w, now)
	}
}

func TestParkUndoesAssignButKeepsTheName(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 13))
	s := fleet(t, 3, nil, imagesOf(rng))
	want := append([]float32(nil), s.nodes.level...)
	for i := range 30 {
		_, err := s.Assign(fmt.Sprintf("n%05d", i%3), ask(rng, i))
		check(t, err)
	}
	for key := range s.containers {
		s.Park(key)
	}
	for n, level := range s.nodes.level {
		if d := level - want[n]; d > 1e-4 || d < -1e-4 {
			t.Errorf("node %d: level %v, want %v", n, level, want[n])
		}
	}
	if len(s.containers) != 30 || len(s.byContainer) != 30 || len(s.used) != 0 || len(s.replicas) != 0 {
		t.Errorf("%d containers, %d names, %d tenants with promises, %d images that run", len(s.containers), len(s.byContainer), len(s.used), len(s.replicas))
	}
	back, err := FromRecord(s.Record())
	check(t, err)
	if len(back.containers) != 30 || len(back.used) != 0 {
		t.Errorf("recorded: %d containers, %d tenants with promises", len(back.containers), len(back.used))
	}
	s.DropNode("n00000")
	if len(s.containers) != 20 {
		t.Errorf("%d containers after one node of three went, want 20", len(s.containers))
	}
}
