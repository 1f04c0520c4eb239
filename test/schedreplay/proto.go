package main

import "math"

const B = 24

type protoCfg struct {
	eps                 float64
	N                   float64
	n0                  float64 // hours of own weight; 0: no own learning
	ownBins             bool
	alpha               float64 // weight of now risk
	rank                string
	group               bool
	fleet               float64 // fleet bias learning time (hours), 0: none
	peakN               float64
	level, gamma        float64
	rho, gv, nowW, nowS float64
	muPrior             float64
}

type inst struct {
	n        float64
	m1, m2   float64 // own sums over hours: mean, mean of squares
	bm       [B]float64
	bn       [B]float64
	pm, pv   [B]float64
	acc, acq float64
}

type proto struct {
	cfg           protoCfg
	m, v          [][B]float64
	memM, memV    []float64
	nm, nv        [][B]float64
	nMemM, nMemV  []float64
	count         []map[int]int
	ins           map[int]*inst
	N, scale      float64
	fresh         []float64
	obsD, predD   float64
	nowEw, nowVar []float64
	nowN          float64
	vN            float64
}

var tailTab [1025]float64

func init() {
	for i := range tailTab {
		tailTab[i] = 0.5 * math.Erfc(float64(i)/128/math.Sqrt2)
	}
}
func tail(z float64) float64 {
	switch {
	case z >= 8:
		return 0
	case z <= -8:
		return 1
	case z < 0:
		return 1 - tailTab[int(-z*128)]
	}
	return tailTab[int(z*128)]
}

func newProto(w *world, c protoCfg) *proto {
	p := &proto{cfg: c, N: c.N, scale: 1, ins: map[int]*inst{}}
	I := w.images
	p.m, p.v, p.nm, p.nv = make([][B]float64, I), make([][B]float64, I), make([][B]float64, fleetNodes), make([][B]float64, fleetNodes)
	p.memM, p.memV = make([]float64, I), make([]float64, I)
	p.nMemM, p.nMemV, p.fresh = make([]float64, fleetNodes), make([]float64, fleetNodes), make([]float64, fleetNodes)
	p.nowEw, p.nowVar = make([]float64, fleetNodes), make([]float64, fleetNodes)
	p.count = make([]map[int]int, fleetNodes)
	for n := range p.count {
		p.count[n] = map[int]int{}
	}
	days := float64(w.start) / stepsPerDay
	for i := range I {
		peak := hourPeak(w, i)
		s, q := 0.0, 0.0
		for t := range w.start {
			x := float64(w.set.cpu[t*I+i])
			p.m[i][t/12%24] += x / 12 / days
			p.v[i][t/12%24] += x * x / 12 / days
			s += x
			q += x * x
			if w.set.mem != nil {
				x := float64(w.set.mem[t*I+i])
				p.memM[i] += x / float64(w.start)
				p.memV[i] += x * x / float64(w.start)
			}
		}
		mm := s / float64(w.start)
		vv := q/float64(w.start) - mm*mm
		for b := range B {
			p.v[i][b] = max(0, p.v[i][b]-p.m[i][b]*p.m[i][b])
			p.v[i][b] = (1-c.gv)*p.v[i][b] + c.gv*vv
			p.m[i][b] = (1-c.gv)*p.m[i][b] + c.gv*mm
		}
		for b := range B {
			d := max(0, peak-p.m[i][b])
			p.m[i][b] += c.rho * d
			p.v[i][b] = (1-c.rho)*p.v[i][b] + c.rho*(1-c.rho)*d*d
		}
		p.memV[i] = max(0, p.memV[i]-p.memM[i]*p.memM[i])
	}
	return p
}

func (p *proto) predict(w *world, image int, o *inst) {
	for b := range B {
		m, v := p.m[image][b]*p.scale, p.v[image][b]
		if o.n > 0 && p.cfg.n0 > 0 {
			wt := o.n / (o.n + p.cfg.n0)
			om := o.m1 / o.n
			ov := max(0, o.m2/o.n-om*om)
			d := om - m
			if p.cfg.ownBins && o.bn[b] > 0 {
				om = 0.5*om + 0.5*o.bm[b]
			}
			m2 := m + wt*(om-m)
			v = (1-wt)*v + wt*ov + wt*(1-wt)*d*d
			m = m2
		}
		o.pm[b], o.pv[b] = m, v
	}
}

func (p *proto) refresh(w *world) {
	for n, list := range w.nodes {
		p.nm[n], p.nv[n] = [B]float64{}, [B]float64{}
		p.nMemM[n], p.nMemV[n] = 0, 0
		sd := map[int]*[B]float64{}
		for _, in := range list {
			o := p.ins[in.id]
			p.predict(w, in.image, o)
			for b := range B {
				p.nm[n][b] += o.pm[b]
				if !p.cfg.group || p.count[n][in.image] == 1 {
					p.nv[n][b] += o.pv[b]
				}
			}
			if p.cfg.group && p.count[n][in.image] > 1 {
				g := sd[in.image]
				if g == nil {
					g = &[B]float64{}
					sd[in.image] = g
				}
				for b := range B {
					g[b] += math.Sqrt(o.pv[b])
				}
			}
			p.nMemM[n] += p.memM[in.image]
			p.nMemV[n] += p.memV[in.image]
		}
		for _, g := range sd {
			for b := range B {
				p.nv[n][b] += g[b] * g[b]
			}
		}
	}
}

func (p *proto) eval(w *world, n int, image int, o *inst) (risk, rank float64) {
	k := float64(0)
	if p.cfg.group {
		k = float64(p.count[n][image])
	}
	hot := 0.0
	mean := 0.0
	for b := range B {
		m := p.nm[n][b] + o.pm[b]
		v := p.nv[n][b] + (2*k+1)*o.pv[b]
		s := math.Sqrt(v + 1e-6)
		risk += tail((nodeCores-m)/(s*p.N)) / B
		hot = max(hot, m+p.cfg.peakN*s)
		mean += (m + p.cfg.peakN*s) / B
	}
	if p.cfg.alpha > 0 {
		b := w.now / 12 % 24
		m := p.nowEw[n] + p.fresh[n] + o.pm[b]
		v := p.nowVar[n] + o.pv[b]
		sn := math.Sqrt(v+1e-6) * (1 + p.cfg.nowS)
		risk = (1-p.cfg.alpha)*risk + p.cfg.alpha*tail((nodeCores-m)/sn)
		hot += p.cfg.nowW * (m + p.cfg.peakN*sn)
	}
	switch p.cfg.rank {
	case "risk":
		return risk, risk
	case "fit":
		return risk, -risk
	case "mean":
		return risk, mean
	}
	return risk, hot
}

func (p *proto) pick(w *world, next *instance) int {
	var o inst
	p.predict(w, next.image, &o)
	risks, ranks := make([]float64, fleetNodes), make([]float64, fleetNodes)
	for n := range fleetNodes {
		risks[n], ranks[n] = p.eval(w, n, next.image, &o)
		if w.set.mem != nil && p.nMemM[n]+p.memM[next.image]+4*math.Sqrt(p.nMemV[n]+p.memV[next.image]) > nodeMemMiB {
			risks[n] = 1
		}
	}
	return best(w, 0, func(n int) bool { return risks[n] <= p.cfg.eps }, func(n int) float64 { return ranks[n] })
}

func (p *proto) placed(w *world, in *instance) {
	o := &inst{}
	p.predict(w, in.image, o)
	p.ins[in.id] = o
	k := 0.0
	if p.cfg.group {
		k = float64(p.count[in.node][in.image])
	}
	p.count[in.node][in.image]++
	for b := range B {
		p.nm[in.node][b] += o.pm[b]
		p.nv[in.node][b] += (2*k + 1) * o.pv[b]
	}
	p.fresh[in.node] += o.pm[w.now/12%24]
}
func (p *proto) removed(w *world, in *instance) {
	o := p.ins[in.id]
	delete(p.ins, in.id)
	p.count[in.node][in.image]--
	for b := range B {
		p.nm[in.node][b] -= o.pm[b]
		p.nv[in.node][b] = max(0, p.nv[in.node][b]-o.pv[b])
	}
}
func (p *proto) measured(w *world) {
	hourEnd := (w.now+1)%12 == 0
	b := w.now / 12 % 24
	miss, all := 0.0, 0.0
	for n, list := range w.nodes {
		for _, in := range list {
			o := p.ins[in.id]
			x := float64(w.cpuAt(in, w.now))
			o.acc += x
			o.acq += x * x
			if hourEnd {
				o.n++
				o.m1 += o.acc / 12
				o.m2 += o.acq / 12
				o.bn[b]++
				o.bm[b] += (o.acc/12 - o.bm[b]) / o.bn[b]
				o.acc, o.acq = 0, 0
			}
		}
		p.nowEw[n] += 0.3 * (w.cpu[n] - p.nowEw[n])
		d := w.cpu[n] - p.nowEw[n]
		p.nowVar[n] += 0.1 * (d*d - p.nowVar[n])
		p.obsD += w.cpu[n]
		p.predD += p.nm[n][b]
		pv := 0.0
		for b := range B {
			pv += tail((w.cpu[n]-p.nm[n][b])/(p.N*math.Sqrt(p.nv[n][b]+1e-6))) / B
		}
		if pv < p.cfg.level {
			miss += float64(len(list))
		}
		all += float64(len(list))
	}
	if all > 0 && p.cfg.gamma > 0 {
		p.N = min(6, max(0.7, p.N*math.Exp(p.cfg.gamma*(miss/all-p.cfg.level))))
	}
	clear(p.fresh)
	if hourEnd {
		if p.cfg.fleet > 0 {
			f := math.Exp(-1 / p.cfg.fleet)
			// prior pseudo
			r := (p.obsD/p.scale*p.scale + 1) / (p.predD + 1)
			_ = r
			p.scale = min(3, max(0.5, p.scale*math.Pow((p.obsD+100)/(p.predD+100), 1/p.cfg.fleet)))
			p.obsD *= f
			p.predD *= f
		}
		p.refresh(w)
	}
}

func hourPeak(w *world, i int) float64 {
	pk := 0.0
	for t := 0; t+12 <= w.start; t += 12 {
		s := 0.0
		for k := range 12 {
			s += float64(w.set.cpu[(t+k)*w.images+i]) / 12
		}
		pk = max(pk, s)
	}
	return pk
}
