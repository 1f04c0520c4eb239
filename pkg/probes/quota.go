package probes

import (
	"fmt"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// quota bounds what runs at a time for those who look, of the machine and of each tenant.
type quota struct {
	what      string // "traces"
	all, each int

	mu      sync.Mutex
	running map[triton.Tenant]int
}

// take counts one more, until give; too many are errdefs.ErrResourceExhausted.
func (q *quota) take(tenant triton.Tenant) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n, own := q.sum(), q.running[tenant]; n >= q.all || own >= q.each {
		return fmt.Errorf("%d %s run, %d of them of tenant %s; at most %d and %d may: %w", n, q.what, own, tenant, q.all, q.each, errdefs.ErrResourceExhausted)
	}
	if q.running == nil {
		q.running = map[triton.Tenant]int{}
	}
	q.running[tenant]++
	return nil
}

func (q *quota) give(tenant triton.Tenant) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running[tenant]--; q.running[tenant] == 0 {
		delete(q.running, tenant)
	}
}

// count is how many run.
func (q *quota) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.sum()
}

func (q *quota) sum() (n int) {
	for _, own := range q.running {
		n += own
	}
	return n
}
