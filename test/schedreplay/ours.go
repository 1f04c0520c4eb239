package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tritond/triton/pkg/sched"
	"github.com/tritond/triton/pkg/triton"
)

// ours drives pkg/sched as a daemon would: history of images from before the window, a frame of each node every step, each
// container's own hours. It never asks the trace for more than that.
type ours struct {
	s    *sched.Snapshot
	own  map[*instance]*hourly
	last []*hourly // of all instances, in order of arrival
	seq  uint64
	next sched.Request
	at   string
}

// hourly adds up an instance's steps of the current hour.
type hourly struct {
	in                        *instance
	n, sum, sumsq, mem, peakM float64
	gone                      bool
}

const (
	stepTime  = 5 * time.Minute
	ourTenant = triton.DefaultTenant
)

// epoch is when step 0 is: any midnight.
var epoch = time.Unix(0, 0).UTC()

func newOurs(w *world, cfg sched.Config, seed uint64) *ours {
	cfg.StaleAfter = 2*stepTime + time.Second // frames come each step here
	h := sched.NewHistory()
	learnHistory(w, h)
	p := &ours{s: sched.New(cfg, h, seed), own: map[*instance]*hourly{}}
	p.s.Advance(epoch.Add(time.Duration(w.start) * stepTime))
	for n := range fleetNodes {
		if err := p.s.SetNode(sched.Node{Name: nodeName(n), CPU: nodeCores, Memory: nodeMemMiB << 20}); err != nil {
			panic(err) // constants of this program
		}
	}
	p.report(w, w.start-1)
	return p
}

// learnHistory feeds the hours before the window, the only ones images are known by.
func learnHistory(w *world, h *sched.History) {
	for t := 0; t+stepsPerHour <= w.start; t += stepsPerHour {
		for i := range w.images {
			x := hourly{}
			for k := t; k < t+stepsPerHour; k++ {
				mem := 0.0
				if w.set.mem != nil {
					mem = float64(w.set.mem[k*w.images+i])
				}
				x.add(float64(w.set.cpu[k*w.images+i]), mem)
			}
			h.Observe(sched.Origin{Tenant: ourTenant, Image: imageName(i)}, int64(t/stepsPerHour), float64(w.reqCPU[i]), x.use())
		}
	}
}

func (h *hourly) add(cpu, mem float64) {
	h.n++
	h.sum += cpu
	h.sumsq += cpu * cpu
	h.mem += mem
	h.peakM = max(h.peakM, mem)
}

func (h *hourly) use() sched.HourUse {
	mean := h.sum / h.n
	return sched.HourUse{CPUMean: mean, CPUVar: max(0, h.sumsq/h.n-mean*mean), MemMean: h.mem / h.n * (1 << 20), MemPeak: h.peakM * (1 << 20)}
}

func imageName(i int) string { return fmt.Sprintf("image-%d", i) }
func nodeName(n int) string  { return fmt.Sprintf("node-%02d", n) }
func key(id int) triton.ContainerKey {
	return triton.ContainerKey{Tenant: ourTenant, ID: fmt.Sprintf("%064x", id)}
}

func (p *ours) pick(w *world, next *instance) int {
	p.next = sched.Request{Key: key(w.counter), Image: imageName(next.image), CPU: float64(w.reqCPU[next.image]),
		Memory: int64(max(1, w.reqMem[next.image])) << 20}
	d, err := sched.Place(p.s, p.next)
	if err != nil {
		return -1
	}
	p.at = d.Node
	n, err := strconv.Atoi(strings.TrimPrefix(d.Node, "node-"))
	if err != nil {
		return -1 // no name that this replay gave
	}
	return n
}

func (p *ours) placed(_ *world, in *instance) {
	seq, err := p.s.Assign(p.at, p.next)
	if err != nil {
		panic(err) // Place just named the node
	}
	p.seq = seq
	h := &hourly{in: in}
	p.own[in] = h
	p.last = append(p.last, h)
}

func (p *ours) removed(_ *world, in *instance) {
	p.s.Release(key(in.id))
	p.own[in].gone = true
	delete(p.own, in)
}

func (p *ours) measured(w *world) {
	p.report(w, w.now)
	hourEnds := (w.now+1)%stepsPerHour == 0
	kept := p.last[:0]
	for _, h := range p.last {
		if h.gone {
			continue
		}
		kept = append(kept, h)
		h.add(float64(w.cpuAt(h.in, w.now)), float64(w.memAt(h.in, w.now)))
		if hourEnds {
			p.s.ObserveHour(key(h.in.id), h.use())
			*h = hourly{in: h.in}
		}
	}
	p.last = kept
	p.s.Advance(epoch.Add(time.Duration(w.now+1) * stepTime))
	if hourEnds {
		p.s.Refresh()
	}
}

func (p *ours) report(w *world, step int) {
	for n := range fleetNodes {
		err := p.s.Report(sched.Frame{Node: nodeName(n), Time: epoch.Add(time.Duration(step+1) * stepTime), Over: stepTime, CPU: w.cpu[n],
			Memory: int64(w.mem[n]) << 20, Acked: p.seq})
		if err != nil {
			panic(err) // the node was set, and time grows
		}
	}
}
