package dockerapi

import (
	"cmp"
	"fmt"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tritond/triton/pkg/throttle"
)

// asked are requests of a kind, spread evenly over a time.
type asked struct {
	n            int
	method, path string
	from, to     time.Duration
}

// readUse reads a use from testdata/use: a comment, then lines of how many, of what, from when and until when (in ms).
func readUse(t *testing.T, file string) (all []asked) {
	t.Helper()
	text, err := os.ReadFile("testdata/use/" + file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var a asked
		var from, to int
		if _, err := fmt.Sscanf(line, "%d %s %s %d %d", &a.n, &a.method, &a.path, &from, &to); err != nil {
			t.Fatalf("%s: %q: %v", file, line, err)
		}
		a.from, a.to = time.Duration(from)*time.Millisecond, time.Duration(to)*time.Millisecond
		all = append(all, a)
	}
	return all
}

// measured is what a request is charged with that is measured: thrice what was measured where a tenant has 300 containers.
func measured(path string) time.Duration {
	if strings.HasSuffix(path, "/containers/json") {
		return 12 * time.Millisecond
	}
	return 120 * time.Microsecond
}

// replay makes the requests of a use when they are due, on a machine so many times as fast as the recorded one.
func (s *testServer) replay(t *testing.T, th *throttle.Throttle, use []asked, fast time.Duration) {
	t.Helper()
	type request struct {
		at           time.Duration
		method, path string
	}
	var requests []request
	for _, a := range use {
		for i := range a.n {
			at := a.from + (a.to-a.from)*time.Duration(i)/time.Duration(max(a.n-1, 1))
			requests = append(requests, request{at / fast, a.method, a.path})
		}
	}
	slices.SortStableFunc(requests, func(a, b request) int { return cmp.Compare(a.at, b.at) })
	var turns sync.WaitGroup
	defer turns.Wait()
	began := time.Now()
	for _, r := range requests {
		<-time.After(r.at - time.Since(began))
		turns.Go(func() {
			e := s.Effort(httptest.NewRequest(r.method, r.path, nil))
			turn, err := th.Enter(t.Context(), "acme", e)
			if err != nil {
				t.Error(err)
				return
			}
			if e.Measured {
				turn.Charge(measured(r.path))
			}
			turn.Leave()
		})
		synctest.Wait() // it has its turn, or waits
	}
}

// What docker compose 5 asks for when it brings up 300 containers, and takes them down, recorded without a bound on two processors, waits for nothing
// in the default share of such a machine, nor on one that is up to three times as fast.
func TestOrdinaryUseDoesNotWait(t *testing.T) {
	s := startServer(t)
	files, err := os.ReadDir("testdata/use")
	if err != nil || len(files) == 0 {
		t.Fatalf("there is no use: %v", err)
	}
	for _, f := range files {
		for _, fast := range []time.Duration{1, 2, 3} {
			t.Run(fmt.Sprintf("%s/%d", f.Name(), fast), func(t *testing.T) {
				use := readUse(t, f.Name())
				synctest.Test(t, func(t *testing.T) {
					th := throttle.New(throttle.Config{Share: 0.2, Waiting: 1024})
					s.replay(t, th, use, fast)
					stats := th.Stats()["acme"]
					t.Logf("%d requests, %v", stats.Requests, stats.CPU)
					if stats.Waited > 0 || stats.Requests < 600 {
						t.Errorf("%d of %d requests waited, %v together", stats.Waited, stats.Requests, stats.Wait)
					}
				})
			})
		}
	}
}
