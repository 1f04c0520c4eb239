package sched

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

// fleet makes n nodes of mixed sizes with fresh telemetry, told of in the order of perm (nil: 0, 1, ...).
func fleet(t testing.TB, n int, perm []int, history *History) *Snapshot {
	return sizedFleet(t, n, perm, history, 1)
}

// sizedFleet makes nodes of 4, 8 and 16 times size cores, 4 GiB to a core.
func sizedFleet(t testing.TB, n int, perm []int, history *History, times int) *Snapshot {
	s := New(Config{StaleAfter: time.Minute}, history, 7)
	s.Advance(noon)
	for i := range n {
		if perm != nil {
			i = perm[i]
		}
		size := times * 4 << (i % 3)
		check(t, s.SetNode(Node{Name: fmt.Sprintf("n%05d", i), CPU: float64(size), Memory: int64(size) << 32,
			Labels: map[string]string{"zone": fmt.Sprint(i % 4)}}))
	}
	for i := range n {
		check(t, s.Report(Frame{Node: fmt.Sprintf("n%05d", i), Time: noon, Over: nowMemory, CPU: 0.01 * float64(i%7), Memory: 1 << 28}))
	}
	return s
}

var noon = time.Unix(20*24*3600+12*3600, 0).UTC()

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ask(rng *rand.Rand, id int) Request {
	return Request{Key: triton.ContainerKey{Tenant: "default", ID: fmt.Sprintf("c%06d", id)}, Name: fmt.Sprintf("c%d", id),
		Image: fmt.Sprintf("image%d", rng.IntN(40)), CPU: float64(1+rng.IntN(12)) / 4, Memory: int64(1+rng.IntN(8)) << 28}
}

// imagesOf is a history of 40 images that use a tenth of what they ask for on average.
func imagesOf(rng *rand.Rand) *History {
	h := NewHistory()
	for i := range 40 {
		use := 0.4 * rng.Float64() * rng.Float64()
		for hour := range int64(48) {
			h.Observe(Origin{Tenant: "default", Image: fmt.Sprintf("image%d", i)}, hour, 1.5, HourUse{CPUMean: use * (0.5 + rng.Float64()), CPUVar: use * use / 4,
				MemMean: 1 << 27, MemPeak: 1 << 28})
		}
	}
	return h
}

func TestSameInputGivesSameDecision(t *testing.T) {
	run := func() (out []Decision) {
		rng := rand.New(rand.NewPCG(1, 1))
		s := fleet(t, 50, nil, imagesOf(rng))
		for i := range 300 {
			r := ask(rng, i)
			d, err := Place(s, r)
			again, _ := Place(s, r)
			if diff := cmp.Diff(d, again, cmp.AllowUnexported(Parts{}, costs{})); diff != "" {
				t.Fatal("a second Place of an unchanged snapshot differs:", diff)
			}
			if err == nil {
				_, err = s.Assign(d.Node, r)
				check(t, err)
			}
			out = append(out, d)
		}
		return out
	}
	if diff := cmp.Diff(run(), run(), cmp.AllowUnexported(Parts{}, costs{})); diff != "" {
		t.Error(diff)
	}
}

func TestOrderOfNodesDoesNotMatter(t *testing.T) {
	run := func(perm []int) (out []string) {
		rng := rand.New(rand.NewPCG(2, 2))
		s := fleet(t, 60, perm, imagesOf(rng))
		for i := range 400 {
			r := ask(rng, i)
			d, err := Place(s, r)
			out = append(out, d.Node+d.Why())
			if err == nil {
				_, err = s.Assign(d.Node, r)
				check(t, err)
			}
			if i%3 == 2 {
				s.Release(triton.ContainerKey{Tenant: "default", ID: fmt.Sprintf("c%06d", i/2)})
			}
		}
		return out
	}
	perm := rand.New(rand.NewPCG(3, 3)).Perm(60)
	if diff := cmp.Diff(run(nil), run(perm)); diff != "" {
		t.Error(diff)
	}
}

// Without telemetry promises never exceed a node; with it memory never exceeds what is predicted at the stated risk.
func TestPromisesNeverExceedCapacity(t *testing.T) {
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 4))
		s := fleet(t, 12, nil, imagesOf(rng))
		stale := seed%2 == 0
		if stale {
			s.Advance(noon.Add(time.Hour))
		}
		for i := range 600 {
			r := ask(rng, i)
			if d, err := Place(s, r); err == nil {
				_, err = s.Assign(d.Node, r)
				check(t, err)
			}
			if rng.IntN(3) == 0 {
				s.Release(triton.ContainerKey{Tenant: "default", ID: fmt.Sprintf("c%06d", rng.IntN(i+1))})
			}
			for n := range s.nodes.alive {
				var none load
				if m := s.memoryPeak(int32(n), &none); !stale && m > s.nodes.mem[n]*1.0001 {
					t.Fatalf("seed %d, node %d: memory %v of %v predicted", seed, n, m, s.nodes.mem[n])
				}
				if stale && (s.nodes.promised[n] > float64(s.nodes.cap[n])+1e-3 || s.nodes.promisedMem[n] > float64(s.nodes.mem[n])+1) {
					t.Fatalf("seed %d, node %d: promised %v cores of %v, %v MiB of %v", seed, n, s.nodes.promised[n], s.nodes.cap[n],
						s.nodes.promisedMem[n], s.nodes.mem[n])
				}
			}
		}
	}
}

// What a node can take with a container more, it can take without; a smaller request fits where a larger one does.
func TestFitIsMonotonous(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	s := fleet(t, 30, nil, imagesOf(rng))
	for i := range 500 {
		r := ask(rng, i)
		d, err := Place(s, r)
		if err != nil {
			continue
		}
		small := r
		small.Memory /= 2
		if _, err := Place(s, small); err != nil {
			t.Fatalf("request %d fits, but not with half the memory: %v", i, err)
		}
		before, _ := s.byName[d.Node]
		risk := s.look(before, nil, -1, 0).risk
		_, err = s.Assign(d.Node, r)
		check(t, err)
		if after := s.look(before, nil, -1, 0).risk; after < risk-1e-6 {
			t.Fatalf("request %d: risk of %s fell from %v to %v by a container more", i, d.Node, risk, after)
		}
	}
}

func TestReleaseUndoesAssign(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	s := fleet(t, 9, nil, imagesOf(rng))
	want := append([]float32(nil), s.nodes.level...)
	for i := range 90 {
		_, err := s.Assign(fmt.Sprintf("n%05d", i%9), ask(rng, i))
		check(t, err)
	}
	for i := range 90 {
		s.Release(triton.ContainerKey{Tenant: "default", ID: fmt.Sprintf("c%06d", i)})
	}
	for n, level := range s.nodes.level {
		if d := level - want[n]; d > 1e-4 || d < -1e-4 {
			t.Errorf("node %d: level %v, want %v", n, level, want[n])
		}
	}
	if len(s.containers)+len(s.replicas)+len(s.byContainer)+len(s.used) != 0 {
		t.Errorf("left over: %d containers, %d images, %d names, %d tenants", len(s.containers), len(s.replicas), len(s.byContainer), len(s.used))
	}
}

// A hundred containers placed before any frame comes must not all go to the node that was idle in the last one.
func TestJustPlacedContainersCount(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	s := fleet(t, 10, nil, imagesOf(rng))
	on := map[string]int{}
	for i := range 100 {
		r := ask(rng, i)
		r.Image = "image1"
		d, err := Place(s, r)
		check(t, err)
		_, err = s.Assign(d.Node, r)
		check(t, err)
		on[d.Node]++
	}
	for node, count := range on {
		if count > 30 {
			t.Errorf("%s got %d of 100", node, count)
		}
	}
	if len(on) < 8 {
		t.Errorf("only %d nodes of 10 were used: %v", len(on), on)
	}
}

// The margin widens while predictions are missed and narrows while they hold.
func TestMarginLearnsFromMisses(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	s := fleet(t, 3, nil, imagesOf(rng))
	for i := range 30 {
		_, err := s.Assign(fmt.Sprintf("n%05d", i%3), ask(rng, i))
		check(t, err)
	}
	report := func(cpu float64, from, hours int) {
		for h := range hours {
			for n := range 3 {
				check(t, s.Report(Frame{Node: fmt.Sprintf("n%05d", n), Time: noon.Add(time.Duration(from+h+1) * time.Hour), Over: time.Hour, CPU: cpu}))
			}
		}
	}
	start := s.Margin().N
	report(4, 0, 24)
	missed := s.Margin()
	if missed.N <= start || missed.Misses == 0 {
		t.Fatalf("after a day above prediction: margin %+v, was %v", missed, start)
	}
	report(0.2, 24, 240)
	if held := s.Margin().N; held >= missed.N {
		t.Errorf("after ten days within prediction: margin %v, was %v", held, missed.N)
	}
}

func TestRefusalIsResourceExhausted(t *testing.T) {
	_, err := Place(New(Config{}, nil, 1), Request{Key: triton.ContainerKey{ID: "x"}})
	var refusal *Refusal
	if !errors.As(err, &refusal) || !errdefs.IsResourceExhausted(err) {
		t.Errorf("got %v", err)
	}
	if _, err := Place(New(Config{}, nil, 1), Request{CPU: -1}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a wrong request: %v", err)
	}
}

func TestDecisionSurvivesJSON(t *testing.T) {
	s := fleet(t, 5, nil, nil)
	d, err := Place(s, Request{Key: triton.ContainerKey{Tenant: "default", ID: "x"}, Image: "i", CPU: 1, Memory: 1 << 30})
	check(t, err)
	b, err := json.Marshal(d)
	check(t, err)
	var back Decision
	check(t, json.Unmarshal(b, &back))
	if diff := cmp.Diff(d.Explain(), back.Explain()); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
}

func TestRecordReplaysTheSameDecisions(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 10))
	s := fleet(t, 20, nil, imagesOf(rng))
	for i := range 100 {
		r := ask(rng, i)
		if d, err := Place(s, r); err == nil {
			_, err = s.Assign(d.Node, r)
			check(t, err)
		}
	}
	s.SetDelay("image1", "image2", 0.3)
	s.SetQuota("other", Quota{CPU: 1})
	s.Refresh()
	b, err := json.Marshal(s.Record())
	check(t, err)
	var rec Record
	check(t, json.Unmarshal(b, &rec))
	back, err := FromRecord(rec)
	check(t, err)
	for i := range 100 {
		r := ask(rng, 1000+i)
		want, _ := Place(s, r)
		got, _ := Place(back, r)
		if diff := cmp.Diff(want.Explain(), got.Explain()); diff != "" {
			t.Fatalf("request %d: -want +got:\n%s", i, diff)
		}
	}
}

func FuzzParseConstraint(f *testing.F) {
	for _, seed := range []string{"constraint:node==a", "affinity:container!=~/web-[0-9]+/", "constraint:zone==~eu-*", "affinity:image==redis:7",
		"affinity:com.example.tier!=data", "constraint:a==[", "constraint:==", "affinity:x=~y", "constraint:k==/(/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseConstraint(text)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%q: error of another kind: %v", text, err)
			}
			return
		}
		again, err := ParseConstraint(c.String())
		if err != nil || again.String() != c.String() || again.Kind != c.Kind || again.Soft != c.Soft || again.Not != c.Not {
			t.Errorf("%q became %q, which parses as %+v, %v", text, c.String(), again, err)
		}
		c.matches(text)
	})
}

func TestConstraintsComeFromEnvironmentAndLabels(t *testing.T) {
	got, err := Constraints([]string{"PATH=/bin", "affinity:container==db", "constraint:disk!=~hdd"},
		map[string]string{"com.docker.swarm.affinities": `["image==redis"]`, "com.docker.swarm.constraints": `["zone==eu"]`})
	check(t, err)
	var texts []string
	for _, c := range got {
		texts = append(texts, c.String())
	}
	if diff := cmp.Diff([]string{"affinity:container==db", "constraint:disk!=~hdd", "affinity:image==redis", "constraint:zone==eu"}, texts); diff != "" {
		t.Error(diff)
	}
	if _, err := Constraints(nil, map[string]string{"com.docker.swarm.affinities": "x"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("bad label: %v", err)
	}
}
