package main

import "math"

// request admits by promised cores and memory up to k times the capacity, and picks by rank (lower is better).
type request struct {
	k    float64
	rank func(w *world, n, image int) float64
	d    int // candidates drawn at random; 0: all
}

func (p *request) fits(w *world, n, image int) bool {
	return w.reqC[n]+float64(w.reqCPU[image]) <= p.k*nodeCores+1e-6 && w.reqM[n]+float64(w.reqMem[image]) <= p.k*nodeMemMiB+1e-6
}

func (p *request) pick(w *world, next *instance) int {
	image := next.image
	return best(w, p.d, func(n int) bool { return p.fits(w, n, image) }, func(n int) float64 { return p.rank(w, n, image) })
}

func (p *request) placed(*world, *instance)  {}
func (p *request) removed(*world, *instance) {}
func (p *request) measured(*world)           {}

// best returns the node of the lowest rank among d random ones that fit (0: among all), -1 for none.
func best(w *world, d int, fits func(int) bool, rank func(int) float64) int {
	at, low, seen := -1, math.Inf(1), 0
	first := w.rng.IntN(fleetNodes)
	step := 1
	if d > 0 {
		step = []int{1, 3, 7, 9, 11, 13, 17, 19}[w.rng.IntN(8)] // coprime to the fleet: visits every node once
	}
	for i := range fleetNodes {
		n := (first + i*step) % fleetNodes
		if !fits(n) {
			continue
		}
		if r := rank(n); r < low {
			at, low = n, r
		}
		if seen++; d > 0 && seen == d {
			break
		}
	}
	return at
}

func leastAllocated(w *world, n, _ int) float64 {
	return w.reqC[n]/nodeCores + w.reqM[n]/nodeMemMiB
}
func mostAllocated(w *world, n, image int) float64 { return -leastAllocated(w, n, image) }
func binPack(w *world, n, _ int) float64           { return -w.reqC[n] }
func spread(w *world, n, _ int) float64            { return w.reqC[n] }
func leastMeasured(w *world, n, _ int) float64     { return w.cpu[n] }
func anyNode(*world, int, int) float64             { return 0 }

// trimaran keeps what the Trimaran plugins read of each node: mean and deviation of its use over the last 15 minutes, and the
// requests of instances younger than a minute (here: a step). Scores as in kubernetes-sigs/scheduler-plugins, re-implemented.
type trimaran struct {
	request
	window [][3]float64
	fresh  []float64
	target bool // TargetLoadPacking, else LoadVariationRiskBalancing
}

func newTrimaran(k float64, target bool) *trimaran {
	p := &trimaran{request: request{k: k}, window: make([][3]float64, fleetNodes), fresh: make([]float64, fleetNodes), target: target}
	p.rank = p.cost
	return p
}

// The defaults of the two plugins: target utilisation 40 %, requests multiplied by 1.5; margin 1, sensitivity 1.
const (
	tlpTarget     = 0.40
	tlpMultiplier = 1.5
)

func (p *trimaran) cost(w *world, n, image int) float64 {
	x := p.window[n]
	mean := (x[0] + x[1] + x[2]) / 3
	if p.target {
		u := (mean + p.fresh[n] + tlpMultiplier*float64(w.reqCPU[image])) / nodeCores
		if u <= tlpTarget {
			return -((1-tlpTarget)*u/tlpTarget + tlpTarget)
		}
		return -tlpTarget * (1 - u) / (1 - tlpTarget)
	}
	dev := math.Sqrt(((x[0]-mean)*(x[0]-mean) + (x[1]-mean)*(x[1]-mean) + (x[2]-mean)*(x[2]-mean)) / 3)
	return ((mean+float64(w.reqCPU[image]))/nodeCores + dev/nodeCores) / 2
}

func (p *trimaran) placed(w *world, in *instance) {
	p.fresh[in.node] += tlpMultiplier * float64(w.reqCPU[in.image])
}

func (p *trimaran) measured(w *world) {
	for n := range p.window {
		p.window[n][w.now%3] = w.cpu[n]
		p.fresh[n] = 0
	}
}

// threshold is Koordinator-like: nodes above the threshold of measured use are filtered, the least used one is taken.
// Instances placed since the last measurement count with their request.
type threshold struct {
	limit float64
	fresh []float64
}

func (p *threshold) pick(w *world, next *instance) int {
	image := next.image
	use := func(n int) float64 { return w.cpu[n] + p.fresh[n] }
	return best(w, 0, func(n int) bool {
		return use(n)+float64(w.reqCPU[image]) <= p.limit*nodeCores && w.mem[n]+float64(w.reqMem[image]) <= nodeMemMiB
	}, use)
}

func (p *threshold) placed(w *world, in *instance) { p.fresh[in.node] += float64(w.reqCPU[in.image]) }
func (p *threshold) removed(*world, *instance)     {}
func (p *threshold) measured(*world)               { clear(p.fresh) }

// nSigma is the predictor of "Take it to the limit" (Bashir et al., EuroSys 2021): a node's peak is the mean of the summed
// use of its tasks over the last 24 hours plus N deviations; tasks younger than two hours count with their limit.
// The least predicted peak is taken. Memory likewise.
type nSigma struct {
	n        float64
	cpu, mem []series
	cold     []float64 // requests of the young, per node
	coldM    []float64
	young    []*instance
}

const (
	sigmaWindow = stepsPerDay
	sigmaWarm   = 2 * stepsPerHour
)

// series is the summed use over the last day of the tasks that run on a node now.
type series struct {
	v [sigmaWindow]float64
}

func newNSigma(n float64) *nSigma {
	return &nSigma{n: n, cpu: make([]series, fleetNodes), mem: make([]series, fleetNodes),
		cold: make([]float64, fleetNodes), coldM: make([]float64, fleetNodes)}
}

func (s *series) peak(w *world, n float64) float64 {
	seen := min(sigmaWindow, w.now-w.start)
	if seen == 0 {
		return 0
	}
	sum, sumsq := 0.0, 0.0
	for i := range seen {
		x := s.v[(w.now-1-i)%sigmaWindow]
		sum += x
		sumsq += x * x
	}
	mean := sum / float64(seen)
	return mean + n*math.Sqrt(max(0, sumsq/float64(seen)-mean*mean))
}

func (p *nSigma) pick(w *world, next *instance) int {
	image := next.image
	peak := make([]float64, fleetNodes)
	for n := range peak {
		peak[n] = p.cpu[n].peak(w, p.n) + p.cold[n]
	}
	return best(w, 0, func(n int) bool {
		return peak[n]+float64(w.reqCPU[image]) <= nodeCores &&
			(w.set.mem == nil || p.mem[n].peak(w, p.n)+p.coldM[n]+float64(w.reqMem[image]) <= nodeMemMiB)
	}, func(n int) float64 { return peak[n] })
}

func (p *nSigma) placed(w *world, in *instance) {
	p.cold[in.node] += float64(w.reqCPU[in.image])
	p.coldM[in.node] += float64(w.reqMem[in.image])
	p.young = append(p.young, in)
}

func (p *nSigma) removed(w *world, in *instance) {
	for i, y := range p.young {
		if y == in {
			p.young = append(p.young[:i], p.young[i+1:]...)
			p.warm(w, in)
			return
		}
	}
	p.history(w, in, -1)
}

// history adds (or takes away) the use of one instance over the last day of its life.
func (p *nSigma) history(w *world, in *instance, sign float64) {
	for t := max(in.born, w.now-sigmaWindow); t < w.now; t++ {
		p.cpu[in.node].v[t%sigmaWindow] += sign * float64(w.cpuAt(in, t))
		if w.set.mem != nil {
			p.mem[in.node].v[t%sigmaWindow] += sign * float64(w.memAt(in, t))
		}
	}
}

// warm ends the youth of an instance: it no longer counts with its request.
func (p *nSigma) warm(w *world, in *instance) {
	p.cold[in.node] -= float64(w.reqCPU[in.image])
	p.coldM[in.node] -= float64(w.reqMem[in.image])
}

func (p *nSigma) measured(w *world) {
	kept := p.young[:0]
	w.now++ // the step just measured counts as past
	for _, in := range p.young {
		if w.now-in.born >= sigmaWarm {
			p.warm(w, in)
			p.history(w, in, 1)
		} else {
			kept = append(kept, in)
		}
	}
	w.now--
	p.young = kept
	at := w.now % sigmaWindow
	for n := range p.cpu {
		p.cpu[n].v[at], p.mem[n].v[at] = w.cpu[n], w.mem[n]
	}
	for _, in := range p.young {
		p.cpu[in.node].v[at] -= float64(w.cpuAt(in, w.now))
		if w.set.mem != nil {
			p.mem[in.node].v[at] -= float64(w.memAt(in, w.now))
		}
	}
}
