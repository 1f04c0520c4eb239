package coredump

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// queued waits until n wait for a place.
func (q *turns) queued(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		q.mu.Lock()
		got := 0
		for _, w := range q.waiting {
			got += len(w)
		}
		q.mu.Unlock()
		if got == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d wait, want %d", got, n)
		}
	}
}

// TestPlacesGoRound: a tenant with many that wait is no more than every second.
func TestPlacesGoRound(t *testing.T) {
	q := newTurns(1)
	leave, err := q.enter(t.Context(), "many")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var order []string
	var work sync.WaitGroup
	begin := func(tenant triton.Tenant, n int) {
		work.Go(func() {
			out, err := q.enter(t.Context(), tenant)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, fmt.Sprint(tenant, n))
			mu.Unlock()
			out()
		})
	}
	for i := range 5 {
		begin("many", i)
		q.queued(t, i+1)
	}
	begin("few", 0)
	q.queued(t, 6)
	begin("few", 1)
	q.queued(t, 7)
	leave()
	work.Wait()
	if want := []string{"many0", "few0", "many1", "few1", "many2", "many3", "many4"}; !slices.Equal(order, want) {
		t.Errorf("order %q, want %q", order, want)
	}
}

// TestPlaceOfOneThatGaveUpGoesOn: neither a place nor another's turn is lost with it.
func TestPlaceOfOneThatGaveUpGoesOn(t *testing.T) {
	q := newTurns(1)
	leave, err := q.enter(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() {
		_, err := q.enter(ctx, "a")
		gaveUp <- err
	}()
	q.queued(t, 1)
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := q.enter(ctx, "b"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	leave()
	for range 3 {
		leave, err := q.enter(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		leave()
	}
	if len(q.waiting) > 0 || len(q.order) > 0 || q.free != 1 {
		t.Errorf("left %v %v, %d free", q.waiting, q.order, q.free)
	}
}

// TestNoTenantsDumpsWaitForAnothers: one that crashed two hundred times does not keep the one dump of another from its
// analysis, of which one runs at a time.
func TestNoTenantsDumpsWaitForAnothers(t *testing.T) {
	b, q := newBacklog(), newTurns(1)
	for i := range maxWaiting {
		if !b.add(waiting{"many", fmt.Sprint(i)}) {
			t.Fatalf("%d: too many", i)
		}
	}
	if b.add(waiting{"many", "more"}) {
		t.Errorf("more than %d of a tenant wait", maxWaiting)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began, proceed, few := make(chan struct{}), make(chan struct{}), make(chan int, 1)
	done, once := 0, sync.Once{}
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		b.run(ctx, func(ctx context.Context, w waiting) {
			leave, err := q.enter(ctx, w.tenant)
			if err != nil {
				return
			}
			defer leave()
			once.Do(func() { close(began); <-proceed })
			if done++; w.tenant == "few" {
				few <- done
			}
		})
	}()
	<-began // the first of many
	if !b.add(waiting{"few", "1"}) {
		t.Fatal("another tenant's dump is one too many")
	}
	q.queued(t, 1)
	close(proceed)
	if n := <-few; n > 2 {
		t.Errorf("the other tenant's dump was number %d", n)
	}
	cancel()
	<-ran
	if b.add(waiting{"few", "2"}); len(b.idle()) == 0 {
		t.Error("nobody would work on what comes now")
	}
}
