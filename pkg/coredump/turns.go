package coredump

import (
	"context"
	"slices"
	"sync"

	"github.com/tritond/triton/pkg/triton"
)

// turns shares a few places among tenants: who waits is let in by tenant in turn, so that one with many waiting does not
// keep another out. Safe for use by several goroutines.
type turns struct {
	mu      sync.Mutex
	free    int
	waiting map[triton.Tenant][]chan struct{}
	order   []triton.Tenant // those of waiting, who is next first
}

func newTurns(places int) *turns {
	return &turns{free: places, waiting: map[triton.Tenant][]chan struct{}{}}
}

// enter waits for a place and returns what gives it back, to be called once; an error is ctx's.
func (q *turns) enter(ctx context.Context, tenant triton.Tenant) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	q.mu.Lock()
	if q.free > 0 {
		q.free--
		q.mu.Unlock()
		return q.leave, nil
	}
	mine := make(chan struct{})
	if len(q.waiting[tenant]) == 0 {
		q.order = append(q.order, tenant)
	}
	q.waiting[tenant] = append(q.waiting[tenant], mine)
	q.mu.Unlock()
	select {
	case <-mine:
		return q.leave, nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	i := slices.Index(q.waiting[tenant], mine)
	if i >= 0 {
		q.take(tenant, i)
	}
	q.mu.Unlock()
	if i < 0 { // the place came meanwhile
		q.leave()
	}
	return nil, ctx.Err()
}

// take removes the i-th that waits of a tenant, and the tenant with its last. The caller holds mu.
func (q *turns) take(tenant triton.Tenant, i int) chan struct{} {
	w := q.waiting[tenant]
	c := w[i]
	if len(w) > 1 {
		q.waiting[tenant] = slices.Delete(w, i, i+1)
		return c
	}
	delete(q.waiting, tenant)
	q.order = slices.DeleteFunc(q.order, func(t triton.Tenant) bool { return t == tenant })
	return c
}

// leave hands a place to the tenant whose turn it is.
func (q *turns) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.order) == 0 {
		q.free++
		return
	}
	next := q.order[0]
	c := q.take(next, 0)
	if len(q.waiting[next]) > 0 { // to the end of the row
		q.order = append(q.order[1:], next)
	}
	close(c)
}

// backlog is the dumps that wait for their analysis: each tenant's are done one after the other, several tenants' beside
// each other, and turns shares the places. Safe for use by several goroutines.
type backlog struct {
	wake chan struct{} // of one place: something came

	mu   sync.Mutex
	ids  map[triton.Tenant][]string // oldest first
	busy map[triton.Tenant]bool     // a goroutine works on the tenant's
}

func newBacklog() *backlog {
	return &backlog{wake: make(chan struct{}, 1), ids: map[triton.Tenant][]string{}, busy: map[triton.Tenant]bool{}}
}

// add queues a dump; false: too many of the tenant's wait.
func (b *backlog) add(w waiting) bool {
	b.mu.Lock()
	if len(b.ids[w.tenant]) >= maxWaiting {
		b.mu.Unlock()
		return false
	}
	b.ids[w.tenant] = append(b.ids[w.tenant], w.id)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return true
}

// run calls do for each dump until ctx is done, and waits for the calls.
func (b *backlog) run(ctx context.Context, do func(context.Context, waiting)) {
	var work sync.WaitGroup
	defer work.Wait()
	for {
		for _, t := range b.idle() {
			work.Go(func() {
				for id, ok := b.next(ctx, t); ok; id, ok = b.next(ctx, t) {
					do(ctx, waiting{t, id})
				}
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-b.wake:
		}
	}
}

// idle marks as busy, and returns, the tenants that have dumps waiting and nobody who works on them.
func (b *backlog) idle() []triton.Tenant {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []triton.Tenant
	for t := range b.ids {
		if !b.busy[t] {
			b.busy[t] = true
			out = append(out, t)
		}
	}
	return out
}

// next takes a tenant's oldest; false: there is none any more, or ctx is done, and the tenant is idle.
func (b *backlog) next(ctx context.Context, t triton.Tenant) (id string, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.ids[t]
	if len(w) == 0 || ctx.Err() != nil {
		delete(b.ids, t)
		delete(b.busy, t)
		return "", false
	}
	b.ids[t] = w[1:]
	return w[0], true
}
