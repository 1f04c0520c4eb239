package profile

import (
	"context"
	"sync"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// fair is a bounded queue from which tenants are served in turns, one thing of each at a time: one whose things take long,
// or fail, has itself to wait for them. Its methods may be called from any goroutine.
type fair[T any] struct {
	most int
	now  func() time.Time

	mu      sync.Mutex
	waiting int
	tenants map[triton.Tenant]*line[T]
	order   []triton.Tenant // of those that wait, the next first; each is there once
	changed chan struct{}   // closed and made anew when there may be something to take
}

// line is what waits of one tenant, the oldest first. It is there while something waits or is being served.
type line[T any] struct {
	things []T
	served bool
	rests  time.Time // until then nothing is served
}

func newFair[T any](most int, now func() time.Time) *fair[T] {
	return &fair[T]{most: most, now: now, tenants: map[triton.Tenant]*line[T]{}, changed: make(chan struct{})}
}

// put adds a thing. What finds no room is returned: the newest of the tenant that has most waiting, which may be t.
func (f *fair[T]) put(t triton.Tenant, thing T) (lost T, any bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.line(t).things = append(f.line(t).things, thing)
	f.waiting++
	f.wake()
	if f.waiting <= f.most {
		return lost, false
	}
	longest := t
	for other, l := range f.tenants {
		if len(l.things) > len(f.tenants[longest].things) {
			longest = other
		}
	}
	l := f.tenants[longest]
	last := len(l.things) - 1
	lost, l.things = l.things[last], l.things[:last]
	f.waiting--
	f.forget(longest)
	return lost, true
}

// take waits for a thing of the next tenant that has one and is not being served. False: ctx is done.
func (f *fair[T]) take(ctx context.Context) (t triton.Tenant, thing T, ok bool) {
	for {
		f.mu.Lock()
		t, thing, soonest, ok := f.next()
		changed := f.changed
		f.mu.Unlock()
		if ok {
			return t, thing, true
		}
		var rested <-chan time.Time
		if !soonest.IsZero() {
			timer := time.NewTimer(soonest.Sub(f.now()))
			defer timer.Stop()
			rested = timer.C
		}
		select {
		case <-ctx.Done():
			return t, thing, false
		case <-changed:
		case <-rested:
		}
	}
}

// next finds what take returns; if there is nothing, soonest is when a tenant that rests may be served, zero for never. The
// caller holds mu.
func (f *fair[T]) next() (t triton.Tenant, thing T, soonest time.Time, ok bool) {
	now := f.now()
	for i, t := range f.order {
		l := f.tenants[t]
		switch {
		case l.served || len(l.things) == 0:
		case l.rests.After(now):
			if soonest.IsZero() || l.rests.Before(soonest) {
				soonest = l.rests
			}
		default:
			thing, l.things, l.served = l.things[0], l.things[1:], true
			f.waiting--
			f.order = append(append(f.order[:i:i], f.order[i+1:]...), t)
			return t, thing, soonest, true
		}
	}
	return t, thing, soonest, false
}

// done ends what take began: t may be served again.
func (f *fair[T]) done(t triton.Tenant) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.line(t).served = false
	f.forget(t)
	f.wake()
}

// again ends what take began, and puts the thing back before all others of t, which rests for a while.
func (f *fair[T]) again(t triton.Tenant, thing T, pause time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.line(t)
	l.things = append([]T{thing}, l.things...)
	l.served, l.rests = false, f.now().Add(pause)
	f.waiting++
	f.wake()
}

// line is t's, made if it is not there. The caller holds mu.
func (f *fair[T]) line(t triton.Tenant) *line[T] {
	l := f.tenants[t]
	if l == nil {
		l = &line[T]{}
		f.tenants[t] = l
		f.order = append(f.order, t)
	}
	return l
}

// forget gives up the line of a tenant of which nothing waits. The caller holds mu.
func (f *fair[T]) forget(t triton.Tenant) {
	if l := f.tenants[t]; len(l.things) > 0 || l.served {
		return
	}
	delete(f.tenants, t)
	for i, other := range f.order {
		if other == t {
			f.order = append(f.order[:i:i], f.order[i+1:]...)
			return
		}
	}
}

// wake has those that wait look again. The caller holds mu.
func (f *fair[T]) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// rest takes all that waits.
func (f *fair[T]) rest() (all []T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.tenants {
		all = append(all, l.things...)
		l.things = nil
	}
	f.waiting = 0
	return all
}
