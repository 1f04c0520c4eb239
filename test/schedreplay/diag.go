package main

import (
	"fmt"
	"sort"
)

type diag struct {
	*proto2
	byImg  map[int]float64
	steps  int
	demand float64
	pred   float64
	ctr    map[int]int
	dem    map[int]float64
	bigs   map[int]int
}

func (d *diag) measured(w *world) {
	d.proto2.measured(w)
	for _, list := range w.nodes {
		for _, in := range list {
			d.dem[in.image] += float64(w.cpuAt(in, w.now))
		}
	}
	if w.now < w.start+(w.end-w.start)/4 {
		return
	}
	for n, list := range w.nodes {
		if w.cpu[n] <= nodeCores {
			continue
		}
		d.steps += len(list)
		big := 0
		for _, in := range list {
			x := float64(w.cpuAt(in, w.now))
			d.byImg[in.image] += (x - d.mean[in.image][w.now/12%24*S2/24])
			d.demand += x
			if x > 6 {
				big++
			}
			d.pred += d.mean[in.image][w.now/12%24*S2/24]
		}
		d.bigs[big] += len(list)
	}
}
func (d *diag) show(w *world) {
	var ids []int
	for i := range d.byImg {
		ids = append(ids, i)
	}
	sort.Slice(ids, func(a, b int) bool { return d.byImg[ids[a]] > d.byImg[ids[b]] })
	fmt.Println("viol container-steps", d.steps, "demand", d.demand, "pred", d.pred, "bigs", d.bigs)
	for _, i := range ids[:25] {
		hm, pm, hx := 0.0, 0.0, 0.0
		for t := range w.start {
			x := float64(w.set.cpu[t*w.images+i])
			hm += x / float64(w.start)
			hx = max(hx, x)
		}
		for t := w.start; t < w.windowEnd; t++ {
			pm += float64(w.set.cpu[t*w.images+i]) / float64(w.windowEnd-w.start)
		}
		fmt.Printf("img %d req %.0f hist mean %.2f max %.2f play mean %.2f excess %.0f\n", i, w.reqCPU[i], hm, hx, pm, d.byImg[i])
	}
}
