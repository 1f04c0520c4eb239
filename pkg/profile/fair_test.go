package profile

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

// fairScript is a queue on a clock of its own.
type fairScript struct {
	*fair[string]
	at time.Time
}

func newFairScript(most int) *fairScript {
	s := &fairScript{at: time.Unix(1_700_000_000, 0)}
	s.fair = newFair[string](most, func() time.Time { return s.at })
	return s
}

// served takes what can be taken without waiting.
func (s *fairScript) served() string {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.mu.Lock()
	t, thing, _, ok := s.next()
	s.mu.Unlock()
	if !ok {
		if _, _, ok := s.take(ctx); ok {
			return "found by waiting"
		}
		return ""
	}
	return string(t) + thing
}

func TestTenantsAreServedInTurns(t *testing.T) {
	s := newFairScript(100)
	for i := range 3 {
		s.put("a", fmt.Sprint(i))
	}
	s.put("b", "0")
	s.put("c", "0")
	var got []string
	for range 3 { // three at a time: one of each
		got = append(got, s.served())
	}
	got = append(got, s.served()) // all are being served
	s.done("a")
	got = append(got, s.served())
	s.done("b")
	s.put("b", "1")
	s.done("a")
	got = append(got, s.served(), s.served(), s.served())
	want := []string{"a0", "b0", "c0", "", "a1", "a2", "b1", ""} // b had nothing for a moment: it is behind a
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, tenant := range []triton.Tenant{"a", "b", "c"} {
		s.done(tenant)
	}
	if len(s.tenants) != 0 || len(s.order) != 0 || s.waiting != 0 {
		t.Errorf("%d tenants, %d in order, %d things are left of nothing", len(s.tenants), len(s.order), s.waiting)
	}
}

// A tenant whose things fail rests, by itself.
func TestATenantThatFailsRestsAlone(t *testing.T) {
	s := newFairScript(100)
	s.put("a", "0")
	s.put("a", "1")
	first := s.served()
	s.again("a", "0", time.Second)
	s.put("b", "0")
	got := []string{first, s.served(), s.served()}
	s.at = s.at.Add(time.Second)
	got = append(got, s.served())
	s.done("a")
	got = append(got, s.served())
	if diff := cmp.Diff([]string{"a0", "b0", "", "a0", "a1"}, got); diff != "" {
		t.Error(diff)
	}
}

// Without room the one with most waiting loses its newest, whoever comes.
func TestWhoHasMostWaitingLoses(t *testing.T) {
	s := newFairScript(4)
	var lost []string
	for _, put := range strings.Fields("a0 a1 a2 a3 b0 b1 a4 c0") {
		if l, any := s.put(triton.Tenant(put[:1]), put[1:]); any {
			lost = append(lost, l)
		}
	}
	if diff := cmp.Diff([]string{"3", "2", "4", "1"}, lost); diff != "" {
		t.Errorf("lost (-want +got):\n%s", diff)
	}
	rest := s.rest()
	slices.Sort(rest)
	if diff := cmp.Diff([]string{"0", "0", "0", "1"}, rest); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
}

func TestTakeWaitsForThingsAndForRests(t *testing.T) {
	f := newFair[string](10, time.Now)
	got := make(chan string)
	go func() {
		for range 2 {
			tenant, thing, ok := f.take(t.Context())
			if got <- fmt.Sprint(tenant, thing, ok); thing == "0" {
				f.again(tenant, "1", 20*time.Millisecond)
			}
		}
	}()
	f.put("a", "0")
	for _, want := range []string{"a0true", "a1true"} {
		select {
		case g := <-got:
			if g != want {
				t.Errorf("took %s, want %s", g, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s is not taken", want)
		}
	}
}
