package probes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/question"
	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
)

// understand parses a question as the daemon does.
func understand(t testing.TB, metric, where, by string) *question.Question {
	t.Helper()
	names := question.Names{Device: BlockDevice, Syscalls: func(p string) ([]int, error) { return telemetry.MatchSyscalls([]string{p}) }}
	q, err := question.Parse(question.Text{Metric: metric, Where: where, By: by}, names)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// asking collects what a question is answered.
type asking struct {
	mu      sync.Mutex
	answers []question.Answer
	cancel  context.CancelFunc
	done    chan error
}

// ask asks on behalf of the default tenant; containers are named by the end of their ids, with the label id for all of it.
func ask(t testing.TB, p *Probes, q *question.Question) *asking {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	a := &asking{cancel: cancel, done: make(chan error, 1)}
	attached := make(chan struct{})
	who := Asking{Tenant: triton.DefaultTenant, Describe: func(key triton.ContainerKey) (question.Subject, bool) {
		return question.Subject{ID: key.ID, Name: "c" + key.ID[:6], Image: "example/image:1", Labels: map[string]string{"id": key.ID}}, true
	}}
	go func() {
		a.done <- p.Ask(ctx, q, who, func() { close(attached) }, func(answer question.Answer) error {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.answers = append(a.answers, answer)
			return nil
		})
	}()
	select {
	case <-attached:
	case err := <-a.done:
		t.Fatal(err)
	}
	return a
}

// end waits for two more answers, so that nothing is under way, and ends the question; it returns all rows by their keys in the
// order of the decomposition, what found no room, and what was lost.
func (a *asking) end(t testing.TB, q *question.Question) (rows map[string]question.Counted, rest question.Counted, lost uint64) {
	t.Helper()
	count := func() int {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.answers)
	}
	before := count()
	eventually(t, "two more answers", func() bool { return count() >= before+2 })
	a.cancel()
	if err := <-a.done; err != nil {
		t.Fatal(err)
	}
	rows = map[string]question.Counted{}
	for _, answer := range a.answers {
		lost += answer.Lost
		if answer.Rest != nil {
			rest.Add(*answer.Rest)
		}
		for _, r := range answer.Rows {
			var key []string
			for _, d := range q.By {
				if v, ok := r.Key[d.String()]; ok {
					key = append(key, v)
				}
			}
			c := rows[strings.Join(key, " ")]
			c.Add(r.Counted)
			rows[strings.Join(key, " ")] = c
		}
	}
	return rows, rest, lost
}

// askOf asks a question while argv runs in a container of its own.
func askOf(t *testing.T, p *Probes, where, by string, argv ...string) (rows map[string]question.Counted, rest question.Counted) {
	t.Helper()
	key, cg := watch(t, p)
	proc := start(t, cg, append([]string{actorBinary(t), "gate"}, argv...)...)
	proc.paused(t)
	q := understand(t, "syscall", strings.ReplaceAll(where, "ID", key.ID), by)
	a := ask(t, p, q)
	proc.release(t)
	proc.wait(t)
	rows, rest, lost := a.end(t, q)
	if lost > 0 {
		t.Errorf("%q by %q: %d lost", where, by, lost)
	}
	if _, err := p.Unwatch(key); err != nil {
		t.Fatal(err)
	}
	return rows, rest
}

// countsOf leaves the counts of rows.
func countsOf(rows map[string]question.Counted) map[string]uint64 {
	out := map[string]uint64{}
	for key, c := range rows {
		out[key] = c.Count
	}
	return out
}

// What passes the predicate is counted exactly, under what is told apart, whatever else the program does.
func TestKernelQuestionsCountWhatPasses(t *testing.T) {
	actor := actorBinary(t)
	p := open(t, Config{Level: Off})
	for _, c := range []struct {
		where, by string
		want      map[string]uint64
	}{
		{"syscall=getppid", "syscall", map[string]uint64{"getppid": 5000}},
		{"errno=ENOENT && syscall=open*", "syscall,errno", map[string]uint64{"openat ENOENT": 250}},
		{"errno=EBADF || syscall=getsid", "syscall,errno,comm", map[string]uint64{"close EBADF actor": 500, "getsid 0 actor": 70}},
		{"(syscall=close || syscall=openat || syscall=getsid) && errno!=0", "errno", map[string]uint64{"EBADF": 500, "ENOENT": 250}},
		{"path=/no/such/file", "path", map[string]uint64{"/no/such/file": 250}},
		{"path=/no/* && syscall=openat && !(path=/no/such/other)", "path,errno", map[string]uint64{"/no/such/file ENOENT": 250}},
		{"path=/no/such/fil", "path", map[string]uint64{}},
		{"syscall=clock_nanosleep && latency>=1ms", "syscall,latency", map[string]uint64{"clock_nanosleep": 3}},
		{"syscall=clock_nanosleep && !(latency<1ms)", "syscall", map[string]uint64{"clock_nanosleep": 3}},
		{"syscall=clock_nanosleep && latency<1ms", "syscall", map[string]uint64{}},
		{"syscall=getsid && comm=act*", "image", map[string]uint64{"example/image:1": 70}},
		{"syscall=getsid && comm=actor", "comm", map[string]uint64{"actor": 70}},
		{"syscall=getsid && comm=acto", "comm", map[string]uint64{}},
		{"syscall=getsid && container=ID && label:id=ID && label:id!=other", "comm", map[string]uint64{"actor": 70}},
		{"syscall=getsid && (container=nobody* || label:none=x)", "comm", map[string]uint64{}},
		{"syscall=execve", "path,errno", map[string]uint64{actor + " 0": 1}},
		{"syscall=exit_group", "syscall", map[string]uint64{"exit_group": 11}},
	} {
		rows, rest := askOf(t, p, c.where, c.by, actor, "calls")
		if d := cmp.Diff(c.want, countsOf(rows)); d != "" || rest.Count != 0 {
			t.Errorf("%s by %s: rest %d, (-want +got):\n%s", c.where, c.by, rest.Count, d)
		}
	}
}

// A histogram has the latencies that its row sums up.
func TestKernelQuestionsHaveLatencies(t *testing.T) {
	rows, _ := askOf(t, open(t, Config{Level: Off}), "syscall=clock_nanosleep", "latency", actorBinary(t), "calls")
	c := rows[""]
	if len(rows) != 1 || c.Timed != 3 || c.Latency == nil || c.Latency.Count() != 3 {
		t.Fatalf("%+v", rows)
	}
	if low, high := c.Latency.Quantile(0.01), c.Latency.Quantile(1); low < time.Millisecond || uint64(high)*3 < c.Ns || c.Ns < 3e6 {
		t.Errorf("three calls of %d ns together are between %s and %s", c.Ns, low, high)
	}
}

// What finds no room is counted all the same: of 3,000 names of files rowsMax have a row, the others are the rest.
func TestKernelQuestionsCountTheRest(t *testing.T) {
	const names = 3000
	script := fmt.Sprintf("i=0; while [ $i -lt %d ]; do [ -e /no/such/$i ]; i=$((i+1)); done", names)
	rows, rest := askOf(t, open(t, Config{}), "path=/no/such/*", "path", "/bin/bash", "--norc", "-c", script)
	sum := rest.Count
	for _, c := range rows {
		sum += c.Count
	}
	if sum != names || len(rows) < rowsMax || len(rows) > names {
		t.Errorf("%d in %d rows and the rest of %d, want %d", sum, len(rows), rest.Count, names)
	}
}

// A container that comes while a question runs is part of it from its first call on, and one of another tenant never is.
func TestKernelQuestionsSeeWhoComesAndNobodyElses(t *testing.T) {
	p := open(t, Config{Level: Off})
	q := understand(t, "syscall", "syscall=getsid", "container")
	a := ask(t, p, q)
	want := map[string]uint64{}
	for _, tenant := range []triton.Tenant{triton.DefaultTenant, "acme", triton.DefaultTenant} {
		key, cg := newKey(), newCgroup(t)
		key.Tenant = tenant
		if _, err := p.Watch(key, CgroupIDs{V2: cg.id}); err != nil {
			t.Fatal(err)
		}
		proc := start(t, cg, actorBinary(t), "calls")
		proc.wait(t)
		if _, err := p.Unwatch(key); err != nil {
			t.Fatal(err)
		}
		if tenant == triton.DefaultTenant {
			want["c"+key.ID[:6]] = 70
		}
	}
	rows, _, lost := a.end(t, q)
	if d := cmp.Diff(want, countsOf(rows)); d != "" || lost > 0 {
		t.Errorf("%d lost, (-want +got):\n%s", lost, d)
	}
}

// Questions end with those who look, are bounded, and leave nothing attached.
func TestKernelQuestionsEnd(t *testing.T) {
	p := open(t, Config{Level: Off})
	q := understand(t, "syscall", "", "container")
	var all []*asking
	for range questionsPerTenant {
		all = append(all, ask(t, p, q))
	}
	never := func(question.Answer) error { return errors.New("was answered") }
	if err := p.Ask(t.Context(), q, Asking{Tenant: triton.DefaultTenant}, t.FailNow, never); !errdefs.IsResourceExhausted(err) {
		t.Errorf("a question too many: %v", err)
	}
	if err := p.measureCost(t.Context()); err != nil {
		t.Fatal(err)
	}
	cost := p.Cost()
	named := func(c Cost, name string) bool {
		return slices.ContainsFunc(c.Programs, func(c ProgramCost) bool { return c.Program == name && c.Runs > 0 })
	}
	if !named(cost, "ask_exit") || cost.Tax == 0 {
		t.Errorf("no price: %+v", cost)
	}
	for _, a := range all {
		a.end(t, q)
	}
	if err := p.measureCost(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := p.Questions(); n != 0 || named(p.Cost(), "ask_exit") {
		t.Errorf("%d questions after their end, at %+v", n, p.Cost())
	}
}

// Bytes of a map of any length are told of or refused.
func FuzzDecodeAnswer(f *testing.F) {
	f.Add(make([]byte, answerHead), make([]byte, 8*keyWords))
	f.Add(slices.Repeat([]byte{0xff}, answerFull), slices.Repeat([]byte{0xff}, 8*keyWords))
	by := []question.Dimension{}
	for field := range maps.Keys(wordsOf) {
		by = append(by, question.Dimension{Field: field})
	}
	a := &asked{q: &question.Question{By: by}, devices: map[uint64]string{}}
	f.Fuzz(func(t *testing.T, value, key []byte) {
		if _, err := decodeCounted(value); err == nil && len(value) != answerHead && len(value) != answerFull {
			t.Errorf("%d bytes are an answer", len(value))
		}
		values, _, err := a.decodeKey(key)
		if err == nil && len(values) != len(by)-1 {
			t.Errorf("%d values of %d fields", len(values), len(by))
		}
		clear(a.devices)
	})
}
