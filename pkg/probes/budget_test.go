package probes

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Scripts of the stepper: testdata/budget. A line is "budget 3", at the beginning, or "AT base B calls C", with "floor F" or not and
// "until AT every AT" or not; prices in per cent, AT in seconds. After ---- are the steps that are to follow.
func TestLevelsFollowTheBudget(t *testing.T) {
	scripts, err := filepath.Glob("testdata/budget/*.txt")
	if err != nil || len(scripts) < 6 {
		t.Fatalf("scripts %v, %v", scripts, err)
	}
	for _, path := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			script, want, _ := strings.Cut(string(text), "----\n")
			if diff := cmp.Diff(want, steps(t, script)); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
		})
	}
}

// steps plays a script and writes what follows, a step a line.
func steps(t *testing.T, script string) string {
	t.Helper()
	var out strings.Builder
	var s *stepper
	lines := bufio.NewScanner(strings.NewReader(script))
	for lines.Scan() {
		words := strings.Fields(strings.SplitN(lines.Text(), "#", 2)[0])
		if len(words) == 0 {
			continue
		}
		if words[0] == "budget" {
			s = newStepper(Budget{Auto: true, Share: number(t, words[1]) / 100}, 0.1, 0.01, 30*time.Second)
			fmt.Fprintf(&out, "0 %s\n", s.level)
			continue
		}
		v := map[string]float64{"until": number(t, words[0]), "every": 1}
		for i := 1; i+1 < len(words); i += 2 {
			v[words[i]] = number(t, words[i+1])
		}
		for at := number(t, words[0]); at <= v["until"]; at += v["every"] {
			r := reading{at: time.Unix(int64(at), 0), base: v["base"] / 100, calls: v["calls"] / 100, floor: v["floor"]}
			if st, ok := s.read(r); ok {
				fmt.Fprintf(&out, "%v %s (%s)\n", at, st.To, st.Why)
				if st.To != s.level || st != s.state.Last || st.From == st.To || st.Price != s.state.Estimates[st.From] || st.Estimate != s.state.Estimates[st.To] {
					t.Errorf("step %+v of %+v", st, s.state)
				}
			}
		}
	}
	fmt.Fprintf(&out, "steps %d, hold %v\n", s.state.Steps, s.state.Hold)
	return out.String()
}

func number(t *testing.T, word string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(word, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// However readings come, the level changes at most once per hold upwards, and the stepper never leaves the levels it has.
func FuzzStepper(f *testing.F) {
	f.Add([]byte{1, 2, 3, 200, 200, 200, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, prices []byte) {
		const every = 5 * time.Second
		s := newStepper(Budget{Auto: true, Share: 0.03}, 0.1, 0.01, 30*time.Second)
		var up time.Time
		for i, p := range prices {
			r := reading{at: time.Unix(1000, 0).Add(time.Duration(i) * every), base: 0.001, calls: float64(p) / 256}
			before := s.level
			st, ok := s.read(r)
			switch {
			case !ok && s.level != before, ok && (st.From != before || st.To != s.level || st.To == st.From), s.level == Off:
				t.Fatalf("reading %d: from %s to %s, %+v", i, before, s.level, st)
			case !ok:
			case st.From.below(st.To): // up
				if s.price(st.To, r) > 0.03 || r.at.Sub(up) < 30*time.Second {
					t.Fatalf("reading %d: %+v, the last step up was at %v", i, st, up)
				}
				up = r.at
			case s.price(st.From, r) <= 0.03:
				t.Fatalf("reading %d: %+v though the price is within the budget", i, st)
			}
		}
	})
}
