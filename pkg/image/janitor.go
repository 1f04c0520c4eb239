package image

import (
	"context"
	"sync"

	"github.com/tritond/triton/pkg/triton"
)

// janitor does the removing that nobody waits for. Its goroutine lives only while there is work; close ends it.
type janitor struct {
	store *Store

	mu      sync.Mutex
	closed  bool
	running bool
	cancel  context.CancelFunc       // ends the goroutine that runs
	garbage bool                     // images or leases went: collect
	loose   map[tenantChain]struct{} // chains that a discarded container was on
	trashed bool
	wg      sync.WaitGroup
}

func newJanitor(s *Store) *janitor {
	return &janitor{store: s, loose: map[tenantChain]struct{}{}}
}

// collect asks for a garbage collection.
func (j *janitor) collect() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.garbage, j.trashed = true, true
	j.start()
}

// discarded says that a container's layer is in the trash, and what it was on.
func (j *janitor) discarded(tenant triton.Tenant, chain string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.trashed = true
	if chain != "" {
		j.loose[tenantChain{tenant, chain}] = struct{}{}
	}
	j.start()
}

// close stops the goroutine and waits for it. Work that is left is found again by the next Open.
func (j *janitor) close() {
	j.mu.Lock()
	j.closed = true
	if j.running {
		j.cancel()
	}
	j.mu.Unlock()
	j.wg.Wait()
}

// start starts the goroutine unless it runs. j.mu is held.
func (j *janitor) start() {
	if j.running || j.closed {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	j.running, j.cancel = true, cancel
	j.wg.Go(func() {
		defer cancel()
		for j.sweep(ctx) {
		}
	})
}

// sweep does what was asked for so far; false: there was nothing, and the goroutine must end.
func (j *janitor) sweep(ctx context.Context) bool {
	j.mu.Lock()
	garbage, trashed, loose := j.garbage, j.trashed, j.loose
	if j.closed || !garbage && !trashed && len(loose) == 0 {
		j.running = false
		j.mu.Unlock()
		return false
	}
	j.garbage, j.trashed, j.loose = false, false, map[tenantChain]struct{}{}
	j.mu.Unlock()

	if trashed {
		if err := j.store.rw.emptyTrash(ctx); err != nil && ctx.Err() == nil {
			j.store.log.Error("discarded container layers stay on disk", "err", err)
		}
	}
	if garbage || j.store.anyOrphan(ctx, loose) {
		if err := j.store.collectGarbage(ctx); err != nil && ctx.Err() == nil {
			j.store.log.Error("collecting unused image data", "err", err)
		}
	}
	return true
}

// anyOrphan says whether one of the chains belongs to no image any more. Without it every `docker run --rm` would end in a
// collection, which looks at all objects of all tenants and writes to the disk.
func (s *Store) anyOrphan(ctx context.Context, chains map[tenantChain]struct{}) bool {
	for c := range chains {
		ctx, err := inTenant(ctx, c.tenant)
		if err != nil {
			continue
		}
		ix, err := s.images(ctx)
		if err != nil {
			return true
		}
		owned := false
		for _, f := range ix.byID {
			owned = owned || f.anchor.Labels[labelChain] == c.chain
		}
		if !owned {
			return true
		}
	}
	return false
}
