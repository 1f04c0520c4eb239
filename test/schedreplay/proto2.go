package main

import "math"

const (
	S2 = 6
	J2 = 10
)

var thetas = [J2]float64{.04, .08, .13, .2, .3, .42, .6, .9, 1.4, 2.2}

type mgfCfg struct {
	eps, stretch, alpha, nowS, nowW float64
	rank                            string
	gamma, level                    float64
	prior                           float64
}
type lm = [S2][J2]float64
type atoms struct{ w, x []float64 }
type proto2 struct {
	cfg        mgfCfg
	im         [][S2]atoms
	mean       [][S2]float64
	cache      map[[2]int]*lm
	node       []lm
	nmean      [][S2]float64
	count      []map[int]int
	fresh      []float64
	nowEw      []float64
	nowVar     []float64
	memM, memV []float64
	nMemM      []float64
	nMemV      []float64
	st         float64
	vr         []float64
}

func newProto2(w *world, c mgfCfg) *proto2 {
	p := &proto2{cfg: c, st: c.stretch, cache: map[[2]int]*lm{}}
	I := w.images
	p.im, p.mean = make([][S2]atoms, I), make([][S2]float64, I)
	p.node, p.nmean = make([]lm, fleetNodes), make([][S2]float64, fleetNodes)
	p.fresh, p.nowEw, p.nowVar = make([]float64, fleetNodes), make([]float64, fleetNodes), make([]float64, fleetNodes)
	p.memM, p.memV = make([]float64, I), make([]float64, I)
	p.vr = make([]float64, I)
	p.nMemM, p.nMemV = make([]float64, fleetNodes), make([]float64, fleetNodes)
	for range fleetNodes {
		p.count = append(p.count, map[int]int{})
	}
	const H = 16
	for i := range I {
		req := float64(w.reqCPU[i])
		peak := hourPeak(w, i)
		var cnt, sum [S2][H]float64
		for t := range w.start {
			x := float64(w.set.cpu[t*I+i])
			s := t / 12 % 24 * S2 / 24
			h := min(H-1, int(math.Sqrt(x/req/1.1)*H))
			cnt[s][h]++
			sum[s][h] += x
			p.vr[i] += x * x / float64(w.start)
			if w.set.mem != nil {
				x := float64(w.set.mem[t*I+i])
				p.memM[i] += x / float64(w.start)
				p.memV[i] += x * x / float64(w.start)
			}
		}
		p.memV[i] = max(0, p.memV[i]-p.memM[i]*p.memM[i])
		var ac, as [H]float64
		for s := range S2 {
			for h := range H {
				ac[h] += cnt[s][h] / S2
				as[h] += sum[s][h] / S2
			}
		}
		for s := range S2 {
			n := 0.0
			var a atoms
			for h := range H {
				// half of the slot's own, half of the whole day
				cc := .5*cnt[s][h] + .5*ac[h]
				ss := .5*sum[s][h] + .5*as[h]
				if cc > 0 {
					a.w = append(a.w, cc)
					a.x = append(a.x, ss/cc)
					n += cc
				}
			}
			for k := range a.w {
				a.w[k] /= n
				a.w[k] *= 1 - c.prior
			}
			a.w = append(a.w, c.prior)
			a.x = append(a.x, peak)
			for k := range a.w {
				p.mean[i][s] += a.w[k] * a.x[k]
			}
			p.im[i][s] = a
		}
		mm := 0.0
		for s := range S2 {
			mm += p.mean[i][s] / S2
		}
		p.vr[i] = max(0, p.vr[i]-mm*mm)
	}
	return p
}

func (p *proto2) lm(i, k int) *lm {
	if k == 0 {
		return &lm{}
	}
	key := [2]int{i, k}
	if l := p.cache[key]; l != nil {
		return l
	}
	l := &lm{}
	for s := range S2 {
		a := p.im[i][s]
		for j, th := range thetas {
			e := 0.0
			for h := range a.w {
				e += a.w[h] * math.Exp(min(600, th*float64(k)*a.x[h]))
			}
			l[s][j] = math.Log(e)
		}
	}
	p.cache[key] = l
	return l
}

// prob of node+delta exceeding c, slot average; and level at eps
func (p *proto2) eval(n int, a, b *lm, c float64) (risk, level float64) {
	for s := range S2 {
		best, lv := 0.0, math.Inf(1)
		for j, th := range thetas {
			L := p.node[n][s][j] + a[s][j] - b[s][j]
			best = min(best, L-th*c)
			lv = min(lv, (L+5.3)/th)
		}
		risk += math.Exp(best) / S2
		level = max(level, lv)
	}
	return
}

func (p *proto2) pick(w *world, next *instance) int {
	i := next.image
	risks, ranks := make([]float64, fleetNodes), make([]float64, fleetNodes)
	s := w.now / 12 % 24 * S2 / 24
	for n := range fleetNodes {
		k := p.count[n][i]
		r, lv := p.eval(n, p.lm(i, k+1), p.lm(i, k), nodeCores/p.st)
		m := p.nowEw[n] + p.fresh[n] + p.mean[i][s]
		sn := p.cfg.nowS * math.Sqrt(p.nowVar[n]+p.vr[i]+1e-6)
		risks[n] = (1-p.cfg.alpha)*r + p.cfg.alpha*tail((nodeCores-m)/sn)
		ranks[n] = lv + p.cfg.nowW*(m+1.5*sn)
		if w.set.mem != nil && p.nMemM[n]+p.memM[i]+4*math.Sqrt(p.nMemV[n]+p.memV[i]) > nodeMemMiB {
			risks[n] = 1
		}
	}
	return best(w, 0, func(n int) bool { return risks[n] <= p.cfg.eps }, func(n int) float64 {
		if p.cfg.rank == "fit" {
			return -ranks[n]
		}
		return ranks[n]
	})
}
func (p *proto2) change(in *instance, d int) {
	n, i := in.node, in.image
	k := p.count[n][i]
	a, b := p.lm(i, k+d), p.lm(i, k)
	for s := range S2 {
		for j := range J2 {
			p.node[n][s][j] += a[s][j] - b[s][j]
		}
		p.nmean[n][s] += float64(d) * p.mean[i][s]
	}
	p.count[n][i] += d
	p.nMemM[n] += float64(d) * p.memM[i]
	p.nMemV[n] += float64(d) * p.memV[i]
}
func (p *proto2) placed(w *world, in *instance) {
	p.change(in, 1)
	p.fresh[in.node] += p.mean[in.image][w.now/12%24*S2/24]
}
func (p *proto2) removed(w *world, in *instance) { p.change(in, -1) }
func (p *proto2) measured(w *world) {
	var zero lm
	miss, all := 0.0, 0.0
	for n, list := range w.nodes {
		p.nowEw[n] += 0.3 * (w.cpu[n] - p.nowEw[n])
		d := w.cpu[n] - p.nowEw[n]
		p.nowVar[n] += 0.1 * (d*d - p.nowVar[n])
		r, _ := p.eval(n, &zero, &zero, w.cpu[n]/p.st)
		if r < p.cfg.level {
			miss += float64(len(list))
		}
		all += float64(len(list))
	}
	if all > 0 && p.cfg.gamma > 0 {
		p.st = min(2.5, max(0.7, p.st*math.Exp(p.cfg.gamma*(miss/all-p.cfg.level))))
	}
	clear(p.fresh)
}
