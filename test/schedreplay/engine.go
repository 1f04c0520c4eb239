package main

import (
	"math"
	"math/rand/v2"
)

// The fleet every trace is replayed on, and the rules of the replay.
const (
	fleetNodes   = 40
	nodeCores    = 48
	nodeMemMiB   = 48 * 8 * 1024 // 8 GiB a core, a common shape
	maxPerStep   = 0.03          // of the fleet's cores may be promised in 5 minutes: about 20 containers of Bitbrains
	meanLifetime = 48 * stepsPerHour
	maxPlayDays  = 7
	// The window that is played follows a history of historyShare of the series, at most historyDays.
	historyShare = 0.3
	historyDays  = 7
)

// instance is one running container: image i, from step born to step dies.
type instance struct {
	id         int
	shift      int // steps by which its series is moved, whole days
	image      int
	born, dies int
	node       int
	at         int // place in the node's list
}

// world is the truth the policies are judged by. A policy may read what a scheduler would know: requests, where instances
// run, and use of steps before now.
type world struct {
	*set
	now       int
	start     int // first step played
	end       int
	windowEnd int // end of the series
	nodes     [][]*instance
	reqC      []float64 // promised cores per node
	reqM      []float64
	cpu       []float64 // measured in the step before now
	mem       []float64
	rng       *rand.Rand
	counter   int
}

// policy places instances. pick answers -1 where no node may take next now; of next it may
// read the image only (the oracle reads all).
type policy interface {
	pick(w *world, next *instance) int
	placed(w *world, in *instance)
	removed(w *world, in *instance)
	// measured is called after each step: w.cpu and w.mem hold the use of step w.now.
	measured(w *world)
}

// arrival draws the images of the queue: jobs of size replicas on average (geometric), 1 for independent ones.
type arrival struct {
	rng       *rand.Rand
	size      float64
	shiftDays int      // instances move their series by 0 to shiftDays-1 days
	next      instance // image and shift
	left      int
}

func (a *arrival) peek(images int) instance {
	if a.left == 0 {
		a.next, a.left = instance{image: a.rng.IntN(images), shift: stepsPerDay * a.rng.IntN(a.shiftDays)}, 1
		for a.size > 1 && a.rng.Float64() > 1/a.size {
			a.left++
		}
	}
	return a.next
}

// result is what one replay showed. Times exclude the first quarter, in which the fleet fills.
type result struct {
	Admitted   float64 // promised cores / capacity, time mean
	Violation  float64 // share of container time on a node whose demand exceeds its cores
	Unserved   float64 // CPU demand not served / demand
	MemBreach  float64 // share of container time on a node whose memory use exceeds its memory
	Util       float64 // mean demand / capacity, capped per node at 1
	UtilP95    float64 // of node demand / capacity
	Imbalance  float64 // standard deviation of node demand / capacity, time mean
	Containers float64
}

// window divides the series: history is all before start, played is what follows. The two are disjoint, and profiles of
// images may be learnt from history only: instances of one image play the window moved by different numbers of days, so
// what one instance did yesterday can be what another will do tomorrow.
func (s *set) window() (start, end int) {
	days := s.steps / stepsPerDay
	history := min(historyDays, int(historyShare*float64(days)))
	if history < 1 {
		return s.steps / 2, s.steps // a series of hours: half and half
	}
	return history * stepsPerDay, days * stepsPerDay
}

// cpuAt is the use of an instance in step t, cores. The run is never longer than the window, so no instance repeats itself.
func (w *world) cpuAt(in *instance, t int) float32 {
	return w.set.cpu[w.index(in.shift, t)*w.images+in.image]
}

// memAt is the memory of an instance in step t, MiB.
func (w *world) memAt(in *instance, t int) float32 {
	if w.set.mem == nil {
		return 0
	}
	return w.set.mem[w.index(in.shift, t)*w.images+in.image]
}

func (w *world) index(shift, t int) int {
	at := t + shift
	if at >= w.windowEnd {
		at -= w.windowEnd - w.start
	}
	return at
}

// replay runs one policy over one set.
func replay(s *set, job float64, calendar bool, seed int, make func(*world) policy) result {
	w := newWorld(s, seed)
	p := make(w)
	queue := &arrival{rng: rand.New(rand.NewPCG(uint64(seed), 1)), size: job, shiftDays: max(1, (w.windowEnd-w.start)/stepsPerDay)}
	if calendar {
		queue.shiftDays = 1
	}
	life := rand.New(rand.NewPCG(uint64(seed), 2))
	leaving := map[int][]*instance{}
	var acc account
	for w.now = w.start; w.now < w.end; w.now++ {
		for _, in := range leaving[w.now] {
			w.remove(in)
			p.removed(w, in)
		}
		delete(leaving, w.now)
		for room := maxPerStep * fleetNodes * nodeCores; room > 0; {
			next := queue.peek(s.images)
			n := p.pick(w, &next)
			if n < 0 {
				break
			}
			queue.left--
			room -= float64(s.reqCPU[next.image])
			in := &instance{id: w.counter, image: next.image, shift: next.shift, born: w.now, node: n, dies: w.now + 1 + int(life.ExpFloat64()*meanLifetime)}
			w.counter++
			w.add(in)
			leaving[in.dies] = append(leaving[in.dies], in)
			p.placed(w, in)
		}
		w.measure()
		p.measured(w)
		if w.now >= w.start+(w.end-w.start)/4 {
			acc.add(w)
		}
	}
	return acc.result()
}

func newWorld(s *set, seed int) *world {
	w := &world{set: s, nodes: make([][]*instance, fleetNodes), reqC: make([]float64, fleetNodes), reqM: make([]float64, fleetNodes),
		cpu: make([]float64, fleetNodes), mem: make([]float64, fleetNodes), rng: rand.New(rand.NewPCG(uint64(seed), 3))}
	w.start, w.windowEnd = s.window()
	w.end = min(w.windowEnd, w.start+maxPlayDays*stepsPerDay)
	return w
}

func (w *world) add(in *instance) {
	in.at = len(w.nodes[in.node])
	w.nodes[in.node] = append(w.nodes[in.node], in)
	w.reqC[in.node] += float64(w.reqCPU[in.image])
	w.reqM[in.node] += float64(w.reqMem[in.image])
}

func (w *world) remove(in *instance) {
	list := w.nodes[in.node]
	last := list[len(list)-1]
	list[in.at], last.at = last, in.at
	w.nodes[in.node] = list[:len(list)-1]
	w.reqC[in.node] -= float64(w.reqCPU[in.image])
	w.reqM[in.node] -= float64(w.reqMem[in.image])
}

func (w *world) measure() {
	for n, list := range w.nodes {
		c, m := 0.0, 0.0
		for _, in := range list {
			c += float64(w.cpuAt(in, w.now))
			m += float64(w.memAt(in, w.now))
		}
		w.cpu[n], w.mem[n] = c, m
	}
}

type account struct {
	steps                                               float64
	admitted, containers, hit, memHit, demand, unserved float64
	util, imbalance                                     float64
	hist                                                [201]int // of node demand / capacity, in per cent
}

func (a *account) add(w *world) {
	a.steps++
	sum, sumsq := 0.0, 0.0
	for n, list := range w.nodes {
		u := w.cpu[n] / nodeCores
		k := float64(len(list))
		a.admitted += w.reqC[n]
		a.containers += k
		if u > 1 {
			a.hit += k
			a.unserved += w.cpu[n] - nodeCores
		}
		if w.mem[n] > nodeMemMiB {
			a.memHit += k
		}
		a.demand += w.cpu[n]
		a.util += min(1, u) / fleetNodes
		a.hist[min(200, int(100*u))]++
		sum += u
		sumsq += u * u
	}
	a.imbalance += math.Sqrt(max(0, sumsq/fleetNodes-sum*sum/fleetNodes/fleetNodes))
}

func (a *account) result() result {
	r := result{Admitted: a.admitted / a.steps / (fleetNodes * nodeCores), Util: a.util / a.steps, Imbalance: a.imbalance / a.steps,
		Containers: a.containers / a.steps}
	if a.containers > 0 && a.demand > 0 {
		r.Violation, r.MemBreach, r.Unserved = a.hit/a.containers, a.memHit/a.containers, a.unserved/a.demand
	}
	total, below := 0, 0
	for _, k := range a.hist {
		total += k
	}
	for u, k := range a.hist {
		if below += k; float64(below) >= 0.95*float64(total) {
			r.UtilP95 = float64(u) / 100
			break
		}
	}
	return r
}
