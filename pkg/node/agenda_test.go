package node

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAgendaKeepsTimesAndForgetsWhatIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgenda(time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { a.run(ctx, func(f func()) { f() }) })
		begun := time.Now()
		var got []string
		note := func(what string) func(*appointment) {
			return func(*appointment) { got = append(got, what+" "+time.Since(begun).String()) }
		}
		a.at(begun.Add(3*time.Second), note("third"))
		cancelled := a.at(begun.Add(2*time.Second), note("cancelled"))
		a.at(begun.Add(time.Second), note("first"))
		a.at(begun.Add(-time.Second), note("overdue"))
		a.at(begun.Add(4*time.Second), func(*appointment) { a.at(time.Now().Add(time.Second), note("made by another")) })
		a.at(begun.Add(time.Hour), note("never"))
		a.cancel(cancelled)
		a.cancel(cancelled) // again
		a.cancel(nil)
		<-time.After(time.Minute) // of the bubble
		cancel()
		wg.Wait()
		want := []string{"overdue 0s", "first 1s", "third 3s", "made by another 5s"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}
