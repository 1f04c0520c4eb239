package node

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// agenda does things at their times, for all containers: one heap and one timer, so that waiting costs a container some
// hundred bytes and no goroutine.
type agenda struct {
	mu    sync.Mutex
	due   dueHeap
	wake  chan struct{} // one place: something became the first
	clock func() time.Time
}

// appointment is something to do at a time. It belongs to the agenda until it is cancelled or due.
type appointment struct {
	at    time.Time
	do    func(*appointment)
	index int // in the heap; -1: not there any more
}

func newAgenda(clock func() time.Time) *agenda {
	return &agenda{wake: make(chan struct{}, 1), clock: clock}
}

// at has do called once the time has come, with what at returned, by what run is given to spawn with. do may make further
// appointments.
func (a *agenda) at(t time.Time, do func(*appointment)) *appointment {
	p := &appointment{at: t, do: do}
	a.mu.Lock()
	heap.Push(&a.due, p)
	first := p.index == 0
	a.mu.Unlock()
	if first {
		select {
		case a.wake <- struct{}{}:
		default: // a wake-up is under way
		}
	}
	return p
}

// cancel takes back an appointment; nil, and one that was due, are none. What was spawned already is not stopped.
func (a *agenda) cancel(p *appointment) {
	if p == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.index >= 0 {
		heap.Remove(&a.due, p.index)
	}
}

// next takes what is due; nil and how long to wait for the first otherwise.
func (a *agenda) next() (*appointment, time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.due) == 0 {
		return nil, time.Hour // until a wake-up
	}
	if wait := a.due[0].at.Sub(a.clock()); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&a.due).(*appointment), 0
}

// run keeps the appointments until ctx is done; those that are left are forgotten.
func (a *agenda) run(ctx context.Context, spawn func(func())) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		p, wait := a.next()
		if p != nil {
			spawn(func() { p.do(p) })
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-a.wake:
		}
	}
}

// dueHeap is ordered by time.
type dueHeap []*appointment

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }

func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push is called by container/heap alone, as is Pop.
func (h *dueHeap) Push(x any) {
	p := x.(*appointment)
	p.index = len(*h)
	*h = append(*h, p)
}

// Pop takes the last.
func (h *dueHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	p.index = -1
	return p
}
