package probes

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

// autoConfig steps a tenth as fast as the constants would, within a budget that other work on the machine does not pass by itself.
func autoConfig() Config {
	return Config{
		Budget: Budget{Auto: true, Share: 0.1}, Window: 100 * time.Millisecond, Period: time.Second, costEvery: 200 * time.Millisecond,
		Linger: -1, RecorderThreads: 64,
	}
}

// storm makes system calls on all CPUs until the test kills it.
func storm(t *testing.T, cg cgroup) []*process {
	t.Helper()
	var all []*process
	for range 4 {
		all = append(all, start(t, cg, actorBinary(t), "churn", "2000000000"))
	}
	return all
}

// A storm of system calls costs more than the budget: the level steps down, the hooks are off most of the time, and what is shown
// says so. When it is over the level comes back by itself, and every call is counted again.
func TestKernelLevelStepsDownInAStormAndBack(t *testing.T) {
	var mu sync.Mutex
	var told []Step
	cfg := autoConfig()
	cfg.Stepped = func(s Step) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, s)
	}
	p := open(t, cfg)
	key, cg := watch(t, p)
	if l := p.Level(); l != Detail {
		t.Fatalf("the level begins at %s", l)
	}
	run(t, p)
	all := storm(t, cg)
	eventually(t, "the level steps down", func() bool { return p.Level() != Detail })
	st, ok := p.Stepping()
	if !ok || st.Steps == 0 || st.Last.From != Detail || st.Last.To == Detail || st.Last.Price <= 0.1 || st.Last.Estimate >= st.Last.Price || st.Last.Why == "" {
		t.Errorf("stepping %+v", st)
	}
	if _, err := p.Recordings(key); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("the flight recorder below detail: %v", err)
	}
	on, looks := 0, 0
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) { // a span to measure over, not a guess
		if looks++; p.Armed() {
			on++
		}
	}
	if share := float64(on) / float64(looks); share > 0.5 {
		t.Errorf("in the storm the hooks were on for %.2f of the time", share)
	}
	if got := snapshot(t, p, key); got.Level == Detail || got.Counted >= 1 {
		t.Errorf("in the storm: level %s, counted %v", got.Level, got.Counted)
	}
	cost := p.Cost()
	if cost.Attached > 0.2 || cost.Price <= 0 || cost.Burden < cost.Price {
		t.Errorf("cost in the storm: %+v", cost)
	}

	for _, proc := range all {
		proc.cmd.Process.Kill()
	}
	eventually(t, "the level comes back", func() bool { return p.Level() == Detail })
	if n, _ := getppids(t, p, key, cg, "42"); n != 42 {
		t.Errorf("counted %d calls in detail again, want 42", n)
	}
	st, _ = p.Stepping()
	mu.Lock()
	defer mu.Unlock()
	if uint64(len(told)) != st.Steps || told[len(told)-1] != st.Last {
		t.Errorf("told of %+v, of %+v", told, st)
	}
	if err := p.SetLevel(Off); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("set level by hand: %v", err)
	}
}

// What an operator wants of a container holds while the machine's level steps; a tenant's wish is cut down to it; a look for what
// detail would cost counts nothing.
func TestKernelWishesHoldWhileTheLevelSteps(t *testing.T) {
	cfg := autoConfig()
	cfg.Budget.Share = 0
	p := open(t, cfg)
	follower, followerIn := watch(t, p)
	wanted := []struct {
		wish Wish
		want Level
		key  triton.ContainerKey
	}{
		{wish: Wish{}, want: Counters, key: follower},
		{wish: Wish{Level: Detail}, want: Counters},
		{wish: Wish{Level: Off}, want: Off},
	}
	as := func(w Wish) triton.ContainerKey {
		key := newKey()
		if _, err := p.WatchAs(key, CgroupIDs{V2: newCgroup(t).id}, w); err != nil {
			t.Fatal(err)
		}
		return key
	}
	for i := range wanted[1:] {
		wanted[i+1].key = as(wanted[i+1].wish)
	}
	check := func() {
		t.Helper()
		for _, w := range wanted {
			if l, err := p.LevelOf(w.key); l != w.want || err != nil {
				t.Errorf("wish %+v: level %s, %v, want %s", w.wish, l, err, w.want)
			}
		}
	}
	check()
	before := snapshot(t, p, follower)
	for i := range lookEach {
		end, err := p.look()
		if err != nil {
			t.Fatal(err)
		}
		if looking := i == lookEach-1; p.Armed() != looking {
			t.Errorf("window %d: hooks on %v", i, p.Armed())
		}
		start(t, followerIn, actorBinary(t), "churn", "1000").wait(t)
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if m := p.Missing(); p.Armed() || !slices.ContainsFunc(m, func(m MissingProgram) bool { return m.Program == callPrograms[0] }) {
			t.Errorf("after window %d: hooks on %v, missing %v", i, p.Armed(), m)
		}
	}
	if n := snapshot(t, p, follower).SyscallCount() - before.SyscallCount(); n != 0 {
		t.Errorf("looks counted %d calls", n)
	}

	firm := as(Wish{Level: Detail, Firm: true})
	if l, _ := p.LevelOf(firm); l != Detail || !p.Armed() {
		t.Errorf("what an operator wants in detail is at %s, hooks on %v", l, p.Armed())
	}
	check()
	r, tells := p.readingOf(costWindowed{at: time.Now(), busy: 1, cpus: 2, pair: pairOn})
	if !tells || r.floor != 1 {
		t.Errorf("reading %+v, %v", r, tells)
	}
}

// Where nobody follows the machine's level, its step back costs nothing and needs no look.
func TestKernelLevelComesBackWhereNobodyFollows(t *testing.T) {
	p := open(t, autoConfig())
	step := func(r reading) {
		t.Helper()
		if _, _, err := p.follow(r); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Now()
	for range overInRow {
		step(reading{at: at, calls: 1})
	}
	if l := p.Level(); l != Sampled {
		t.Fatalf("level %s", l)
	}
	read := func(add time.Duration) {
		t.Helper()
		r, tells := p.readingOf(costWindowed{at: at.Add(add), busy: 1, cpus: 2})
		if !tells {
			t.Fatal("a reading without followers tells nothing")
		}
		step(r)
	}
	read(0)
	hold := holdWindows * p.cfg.costEvery
	read(hold - time.Millisecond)
	if l := p.Level(); l != Sampled {
		t.Errorf("level %s before the time is over", l)
	}
	read(hold)
	if l := p.Level(); l != Detail {
		t.Errorf("level %s after it", l)
	}
}

func TestBudgetsAreChecked(t *testing.T) {
	for _, c := range []struct {
		cfg Config
		ok  bool
	}{
		{Config{Budget: Budget{Auto: true}}, true},
		{Config{Budget: Budget{Auto: true, Share: 1}}, true},
		{Config{Budget: Budget{Auto: true, Share: 1.1}}, false},
		{Config{Budget: Budget{Auto: true, Share: -0.1}}, false},
		{Config{Budget: Budget{Auto: true, Share: 0.5}, Level: Sampled}, false},
	} {
		c.cfg.PinDir = "/p"
		if err := c.cfg.withDefaults().Validate(); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.cfg, err)
		}
	}
	if diff := cmp.Diff(Detail, Config{}.withDefaults().Level); diff != "" {
		t.Error(diff)
	}
}
