package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/sched"
	"github.com/tritond/triton/pkg/triton"
)

// The generated workload stands for the traces in CI: what is judged there must hold here too.
func TestMeasuredUseAdmitsMoreThanRequestsAndRatios(t *testing.T) {
	s := generate(1)
	run := func(make func(*world) policy) result { return replay(s, 1, false, 1, make) }
	ours := run(func(w *world) policy { return newOurs(w, sched.Config{}, 1) })
	pack := run(func(*world) policy { return &request{k: 1, rank: binPack} })
	t.Logf("admitted %.2f with %.3f %% in violation; by requests %.2f", ours.Admitted, 100*ours.Violation, pack.Admitted)
	if ours.Violation > 0.005 || ours.Unserved > 0.001 || ours.MemBreach > 0.0001 {
		t.Errorf("violations: %+v", ours)
	}
	if ours.Admitted < 3*pack.Admitted {
		t.Errorf("admitted %.2f, by requests %.2f", ours.Admitted, pack.Admitted)
	}
}

func TestReplayIsRepeatable(t *testing.T) {
	s := generate(2)
	for _, make := range []func(*world) policy{
		func(w *world) policy { return newOurs(w, sched.Config{}, 1) },
		func(*world) policy { return newNSigma(3) },
		func(*world) policy { return &request{k: 2, rank: anyNode, d: 1} },
	} {
		if diff := cmp.Diff(replay(s, 4, false, 5, make), replay(s, 4, false, 5, make)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestOracleNeverOverloadsWithoutMoving(t *testing.T) {
	r := replay(generate(3), 1, false, 1, func(w *world) policy { return newOracle(w, 1) })
	if r.Violation > 0.002 { // it looks two days ahead, a few containers live longer
		t.Errorf("violations of the oracle: %.4f", r.Violation)
	}
}

// What a policy may learn images from ends where the replayed window begins, and no instance plays anything else.
func TestHistoryAndWindowAreDisjoint(t *testing.T) {
	s := generate(1)
	start, end := s.window()
	w := newWorld(s, 1)
	for shift := 0; shift < end-start; shift += stepsPerDay {
		seen := map[int]bool{}
		for step := w.start; step < w.end; step++ {
			at := w.index(shift, step)
			if at < start || at >= end || seen[at] {
				t.Fatalf("shift %d, step %d plays %d, window %d to %d, seen %v", shift, step, at, start, end, seen[at])
			}
			seen[at] = true
		}
	}
}

func TestTracesThatLieAreRefused(t *testing.T) {
	line := strings.Repeat(",1", stepsPerHour)
	for _, text := range []string{"", "1", "x,1" + line, "1,y" + line, "1,2,-3" + line, "1,2,NaN" + line} {
		if rows, err := parseRows(strings.NewReader(text)); err == nil {
			t.Errorf("%q gave %d rows", text, len(rows))
		}
	}
}

func TestDaysOfOneMachineAreChained(t *testing.T) {
	day := func(date, id int64, v float32) row {
		r := row{a: date, b: id, samples: make([]float32, stepsPerDay)}
		for i := range r.samples {
			r.samples[i] = v
		}
		return r
	}
	got := chainDays([]row{day(20110309, 7, 30), day(20110303, 7, 10), day(20110303, 8, 50)})
	if len(got) != 2 || got[0].a != 7 || got[0].samples[0] != 100 {
		t.Fatalf("got %d rows: %+v", len(got), got[0].a)
	}
}

func TestRecordedDecisionsAreReplayed(t *testing.T) {
	s := sched.New(sched.Config{}, nil, 1)
	now := time.Unix(1e9, 0).UTC()
	s.Advance(now)
	if err := s.SetNode(sched.Node{Name: "a", CPU: 4, Memory: 8 << 30}); err != nil {
		t.Fatal(err)
	}
	request := sched.Request{Key: triton.ContainerKey{Tenant: "default", ID: "x"}, Image: "web", CPU: 3, Memory: 1 << 30}
	second := request
	second.Key.ID = "y"
	b, err := json.Marshal(recorded{Snapshot: s.Record(), Requests: []sched.Request{request, second}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "record.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run([]string{"-record", file}, &out); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "placed on a") || !strings.Contains(got, "refused: 1 node: cpu 2.0 cores short") {
		t.Errorf("got\n%s", got)
	}
}

func TestTableAndPlotsAreWritten(t *testing.T) {
	s := generate(1)
	c := &curve{set: s, job: 4, entries: policies()[:3], results: make([]result, 3)}
	if svg := string(c.plot()); !strings.HasPrefix(svg, "<svg") || strings.Count(svg, "<circle") != 3 || !strings.HasSuffix(svg, "</svg>\n") {
		t.Errorf("plot: %s", svg)
	}
	var out bytes.Buffer
	c.table(&out)
	if got := strings.Count(out.String(), "\n"); got != 8 {
		t.Errorf("table has %d lines:\n%s", got, out.String())
	}
}
