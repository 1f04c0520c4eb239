package main

// oracle knows the future of every series, not who arrives: it admits where the summed use of the instances running on a
// node stays within limit x capacity for as long as the new one lives, as the others leave one by one, and takes the fullest
// such node (best fit).
type oracle struct {
	limit    float64
	cpu, mem [][]float32 // future use per node and step of the window
}

// oracleHorizon bounds how far ahead the oracle looks, in steps.
const oracleHorizon = 2 * stepsPerDay

func newOracle(w *world, limit float64) *oracle {
	p := &oracle{limit: limit, cpu: make([][]float32, fleetNodes), mem: make([][]float32, fleetNodes)}
	for n := range p.cpu {
		p.cpu[n], p.mem[n] = make([]float32, w.end), make([]float32, w.end)
	}
	return p
}

func (p *oracle) pick(w *world, next *instance) int {
	end := min(w.end, w.now+oracleHorizon)
	return best(w, 0, func(n int) bool { return p.fits(w, n, next, end) }, func(n int) float64 { return -float64(p.cpu[n][w.now]) })
}

func (p *oracle) fits(w *world, n int, next *instance, end int) bool {
	room := float32(p.limit * nodeCores)
	for t := w.now; t < end; t++ {
		if p.cpu[n][t]+w.cpuAt(next, t) > room {
			return false
		}
		if w.set.mem != nil && p.mem[n][t]+w.memAt(next, t) > nodeMemMiB {
			return false
		}
	}
	return true
}

func (p *oracle) placed(w *world, in *instance) {
	for t := in.born; t < min(in.dies, w.end); t++ {
		p.cpu[in.node][t] += w.cpuAt(in, t)
		if w.set.mem != nil {
			p.mem[in.node][t] += w.memAt(in, t)
		}
	}
}

func (p *oracle) removed(*world, *instance) {}
func (p *oracle) measured(*world)           {}
