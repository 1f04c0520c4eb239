package main

import (
	"math"
	"math/rand/v2"
)

// The generated workload: small, for tests. Two thirds of the images idle, the rest follow the day or run in batches.
const (
	generatedImages = 60
	generatedDays   = 4
)

func generate(seed uint64) *set {
	rng := rand.New(rand.NewPCG(seed, 9))
	s := &set{name: "generated", images: generatedImages, steps: generatedDays * stepsPerDay}
	s.cpu, s.mem = make([]float32, s.images*s.steps), make([]float32, s.images*s.steps)
	for i := range s.images {
		req := float64(1 + rng.IntN(4))
		s.reqCPU, s.reqMem = append(s.reqCPU, float32(req)), append(s.reqMem, 4096)
		kind, busy, phase := rng.IntN(6), rng.Float64(), rng.IntN(stepsPerDay)
		on := false
		for t := range s.steps {
			use := 0.02 * busy
			switch kind {
			case 4: // the rhythm of the day
				use = busy * (0.5 + 0.4*math.Sin(2*math.Pi*float64(t+phase)/stepsPerDay))
			case 5: // batches of hours
				if rng.Float64() < 1.0/(6*stepsPerHour) {
					on = !on
				}
				if on {
					use = 0.9
				}
			}
			s.cpu[t*s.images+i] = float32(req * min(1, use*(0.8+0.4*rng.Float64())))
			s.mem[t*s.images+i] = float32(400 + 200*use)
		}
	}
	return s
}
