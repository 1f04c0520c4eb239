package coredump

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

// till is accounts of a fifth of a processor with a clock.
type till struct {
	*accounts
	now time.Time
}

func newTill() *till { return &till{newAccounts(0.2), time.Unix(1e9, 0)} }

func container(id string) triton.ContainerKey {
	return triton.ContainerKey{Tenant: triton.DefaultTenant, ID: id}
}

// crash has a container crash, and a dump that is made take a time; it says what becomes of the crash.
func (s *till) crash(id, at, dump string, took time.Duration) string {
	name, whole, wait := s.admit(container(id), at, false, s.now)
	if !whole {
		if wait > 0 {
			s.released(container(id))
		}
		return "counted, waits " + wait.String()
	}
	s.saved(container(id), name, dump, took, s.now)
	return "saved"
}

// TestCrashesBeyondTheirTimeAreCounted: a container that has used up its time has only the first crash of each place saved,
// and what it owes slows it down; another one is not concerned, and time pays.
func TestCrashesBeyondTheirTimeAreCounted(t *testing.T) {
	s := newTill()
	const cost = accountMost / 2
	var got []string
	say := func(format string, args ...any) { got = append(got, fmt.Sprintf(format, args...)) }
	for i := range 4 {
		say("flood %d: %s", i, s.crash("flood", "a", fmt.Sprint("dump", i), cost))
	}
	say("another place: %s", s.crash("flood", "b", "other", cost))
	say("another container: %s", s.crash("neighbour", "a", "its", cost))
	_, whole, _ := s.admit(container("flood"), "a", true, s.now)
	say("the first process: %t", whole)
	s.saved(container("flood"), "a", "first", 10*time.Millisecond, s.now)
	say("after it: %s", s.crash("flood", "a", "", 0))
	s.now = s.now.Add(5 * cost) // pays for one
	say("owes little: %s", s.crash("flood", "a", "", 0))
	s.now = s.now.Add(100 * time.Millisecond)
	say("has some: %s", s.crash("flood", "a", "again", cost))
	s.now = s.now.Add(ratePeriod + time.Second)
	say("an hour later: %s", s.crash("flood", "a", "late", cost))
	want := []string{
		"flood 0: saved", "flood 1: saved", "flood 2: counted, waits 0s", "flood 3: counted, waits 0s",
		"another place: saved", "another container: saved", "the first process: true", "after it: counted, waits 200ms",
		"owes little: counted, waits 50ms", "has some: saved", "an hour later: saved",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	flood := container("flood")
	told := map[string]uint64{}
	for k, n := range s.tell() {
		if k.container != flood {
			t.Errorf("told of %v", k.container)
		}
		told[k.dump] = n.n
	}
	if diff := cmp.Diff(map[string]uint64{"dump1": 2, "first": 4, "again": 4}, told); diff != "" {
		t.Errorf("counted with each dump, -want +got:\n%s", diff)
	}
	if spent, counted := s.read(); spent != 6*cost+10*time.Millisecond || counted != 4 {
		t.Errorf("%s spent, %d counted", spent, counted)
	}
}

// TestManyCrashesAtOnceShareTheTime: what is not paid yet is taken ahead, so that not all of many find the same time.
func TestManyCrashesAtOnceShareTheTime(t *testing.T) {
	s := newTill()
	saved := 0
	for range 1000 {
		if _, whole, _ := s.admit(container("fork"), "a", false, s.now); whole {
			saved++
		}
	}
	if want := int(accountMost / accountAhead); saved != want {
		t.Errorf("%d of 1000 are saved, want %d", saved, want)
	}
	if c := s.of[container("fork")]; c.held > countedHeld {
		t.Errorf("%d processes wait", c.held)
	}
	s.saved(container("fork"), "a", "late", 0, s.now) // those that came before the first dump are told with it
	for k, n := range s.tell() {
		if k.dump != "late" || n.n != uint64(1000-saved) {
			t.Errorf("%d are told with %s", n.n, k.dump)
		}
	}
}

// TestPlacesWithoutEndAreOne: a container cannot have all of its crashes saved by making each a first one.
func TestPlacesWithoutEndAreOne(t *testing.T) {
	s := newTill()
	s.charge(container("jit"), time.Hour, s.now)
	saved := 0
	for i := range 1000 {
		if s.crash("jit", fmt.Sprint(i), "d", 0) == "saved" {
			saved++
		}
	}
	if saved != accountPlaces+1 {
		t.Errorf("%d of 1000 are saved, want %d", saved, accountPlaces+1)
	}
	s.forget(dumpOf{container("jit"), "d"}) // somebody removed it
	if got := s.crash("jit", "7", "e", 0); got != "saved" {
		t.Errorf("after the dump is gone, the crash is %s", got)
	}
}

// TestFailedDumpLeavesTheNextTheFirst: a crash that could not be saved is no reason to only count the next.
func TestFailedDumpLeavesTheNextTheFirst(t *testing.T) {
	s := newTill()
	s.charge(container("c"), time.Hour, s.now)
	name, whole, _ := s.admit(container("c"), "a", false, s.now)
	s.failed(container("c"), name, 0, s.now)
	if got := s.crash("c", "a", "d", 0); !whole || got != "saved" {
		t.Errorf("the first is saved: %t; after it failed the second is %s", whole, got)
	}
}

// TestAccountsEnd: what is paid and old is forgotten.
func TestAccountsEnd(t *testing.T) {
	s := newTill()
	s.crash("paid", "a", "d", accountMost)
	s.crash("owes", "a", "d", 10*time.Hour)
	s.now = s.now.Add(2 * ratePeriod)
	s.prune(s.now)
	if len(s.of) != 1 || s.of[container("owes")] == nil {
		t.Errorf("%d accounts are left", len(s.of))
	}
}

// TestGroupsAreToldOfEachCountedCrashOnce: with the newest dump of its place, and again if nobody could take it.
func TestGroupsAreToldOfEachCountedCrashOnce(t *testing.T) {
	s := newTill()
	told := func() map[string]uint64 {
		got := map[string]uint64{}
		for _, g := range s.group() {
			got[g.place+" "+g.dump] += g.n
			if g.container != container("flood") || !g.last.Equal(s.now) {
				t.Errorf("told of %v at %s", g.container, g.last)
			}
		}
		return got
	}
	var got []map[string]uint64
	crash := func(at, dump string, n int) {
		for range n {
			s.crash("flood", at, dump, accountMost)
		}
	}
	crash("a", "1", 4)
	crash("b", "2", 3)
	got = append(got, told(), told())
	crash("a", "", 2)
	all := s.group()
	for i := range all {
		s.regroup(&all[i])
	}
	s.admit(container("flood"), "a", true, s.now)
	s.saved(container("flood"), "a", "3", 0, s.now)
	crash("a", "", 1)
	got = append(got, told(), told())
	s.regroup(&grouped{dumpOf: dumpOf{container("other"), "x"}, place: "a", repeats: repeats{n: 1}})
	want := []map[string]uint64{{"a 1": 3, "b 2": 2}, {}, {"a 3": 3}, {}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
