package throttle

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

// enter gets a turn and gives it back.
func enter(t *testing.T, th *Throttle, tenant triton.Tenant, e Effort) {
	t.Helper()
	turn, err := th.Enter(t.Context(), tenant, e)
	if err != nil {
		t.Error(err)
		return
	}
	turn.Leave()
}

// effort is one that is charged with so much in all.
func effort(of time.Duration) Effort { return Effort{CPU: of - Least} }

func TestAReserveIsThereAtOnceAndTheShareAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := New(Config{Share: 0.1, Waiting: 10})
		began := time.Now()
		for range 4 {
			enter(t, th, "acme", effort(Reserve/4))
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the reserve is there after %v", took)
		}
		enter(t, th, "acme", effort(Reserve/4))
		if took := time.Since(began).Round(time.Millisecond); took != Reserve/4*10 {
			t.Errorf("a quarter of the reserve at a tenth of a processor is there after %v", took)
		}
		want := Stats{Requests: 5, Waited: 1, Wait: Reserve / 4 * 10, CPU: Reserve / 4 * 5}
		got := th.Stats()["acme"]
		got.Wait = got.Wait.Round(time.Millisecond)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("stats (-want +got):\n%s", diff)
		}
	})
}

func TestRequestsGetTheirTurnsInOrderAndOtherTenantsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := New(Config{Share: 0.1, Waiting: 100})
		enter(t, th, "acme", effort(Reserve))
		var mu sync.Mutex
		var order []int
		for i := range 50 {
			go func() {
				enter(t, th, "acme", effort(time.Millisecond))
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i) // one at a time: those behind wait for the budget
			}()
			synctest.Wait() // it is in line
		}
		began := time.Now()
		for range 200 {
			enter(t, th, "globex", effort(time.Millisecond))
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("200 requests of another tenant took %v", took)
		}
		stats := th.Stats()
		if stats["acme"].Waiting != 50 || stats["globex"].Waited != 0 {
			t.Errorf("stats %+v", stats)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		if len(order) != 50 || !slices.IsSorted(order) {
			t.Errorf("the order of turns is %v", order)
		}
	})
}

func TestOnlySoManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := New(Config{Share: 0.1, Waiting: 3})
		enter(t, th, "acme", effort(Reserve))
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		for range 3 {
			go func() {
				_, err := th.Enter(ctx, "acme", effort(time.Second))
				gone <- err
			}()
		}
		synctest.Wait()
		_, err := th.Enter(t.Context(), "acme", Effort{})
		if !errdefs.IsResourceExhausted(err) || !strings.Contains(err.Error(), "tenant acme asks for too much: 3 of its requests wait") {
			t.Errorf("the fourth: %v", err)
		}
		cancel() // the clients go away
		for range 3 {
			if err := <-gone; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}
		enter(t, th, "acme", Effort{})
		if s := th.Stats()["acme"]; s.Refused != 1 || s.Waiting != 0 || s.Requests != 2 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestPlacesAreForThoseWhoWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := New(Config{Share: 1, Waiting: 10})
		for range 1000 { // streams
			if _, err := th.Enter(t.Context(), "acme", Effort{Waits: true}); err != nil {
				t.Fatal(err)
			}
		}
		var turns []*Turn
		for range Places {
			turn, err := th.Enter(t.Context(), "acme", Effort{Measured: true})
			if err != nil {
				t.Fatal(err)
			}
			turns = append(turns, turn)
		}
		if s := th.Stats()["acme"]; s.Waited != 0 {
			t.Errorf("%d waited while there was a place", s.Waited)
		}
		entered := false
		go func() {
			enter(t, th, "acme", Effort{})
			entered = true
		}()
		<-time.After(time.Hour)
		synctest.Wait()
		if entered {
			t.Error("there were more places")
		}
		turns[0].Idle()
		turns[0].Leave() // gives back one
		synctest.Wait()
		if s := th.Stats()["acme"]; !entered || s.Waited != 1 {
			t.Errorf("a place that is free is taken: %t, stats %+v", entered, s)
		}
	})
}

func TestWhoIsNotMeasuredHasNoPlaceForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := New(Config{Share: 1, Waiting: 10})
		began := time.Now()
		var turns []*Turn
		for range 2 * Places { // none of them ends
			turn, err := th.Enter(t.Context(), "acme", Effort{})
			if err != nil {
				t.Fatal(err)
			}
			turns = append(turns, turn)
		}
		if took := time.Since(began); took != hold {
			t.Errorf("it took %v", took)
		}
		for _, turn := range turns {
			turn.Leave()
		}
	})
}

func TestDebtsArePaidByWhoComesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := New(Config{Share: 0.5, Waiting: 10})
		turn, err := th.Enter(t.Context(), "acme", effort(Reserve))
		if err != nil {
			t.Fatal(err)
		}
		turn.Charge(time.Hour) // is taken for a quarter of a second
		turn.Leave()
		began := time.Now()
		enter(t, th, "acme", effort(time.Millisecond))
		if took := time.Since(began).Round(time.Millisecond); took != 2*(most+time.Millisecond) {
			t.Errorf("the next waits %v", took)
		}
	})
}
