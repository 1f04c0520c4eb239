package e2e

import (
	"bytes"
	"context"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/pprof/profile"

	"github.com/tritond/triton/test/images"
)

// takeProfile profiles a container with the client and reads what it wrote, which must be for pprof's own tool too. lost is what
// the client says of stacks that are not in it.
func (u *under) takeProfile(t *testing.T, name string, args ...string) (p *profile.Profile, lost int64) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "out.pprof")
	said := u.triton(t, append([]string{"profile", name, "-o", file}, args...)...)
	words := regexp.MustCompile(`: .*; (\d+) lost\b`).FindStringSubmatch(said)
	if !strings.HasPrefix(said, file+": ") || words == nil {
		t.Fatalf("the client says %q", said)
	}
	lost, err := strconv.ParseInt(words[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if p, err = profile.Parse(bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), commandTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", file).CombinedOutput()
	if err != nil {
		t.Errorf("go tool pprof: %v\n%s", err, out)
	}
	t.Logf("%s%s", said, out)
	return p, lost
}

// cumulative adds up the value i of the samples that each function is in.
func cumulative(p *profile.Profile, i int) (sum int64, of map[string]int64) {
	of = map[string]int64{}
	for _, s := range p.Sample {
		sum += s.Value[i]
		in := map[string]bool{}
		for _, l := range s.Location {
			for _, line := range l.Line {
				in[line.Function.Name] = true
			}
		}
		for name := range in {
			of[name] += s.Value[i]
		}
	}
	return sum, of
}

// A program that burns 70, 20 and 10 parts of its time in three functions shows so, by its own symbols; one of Go, without
// symbols, is named by Go's table; and each is in its own profile only, although both are taken at once.
//
// Looks at random moments that hit a function with probability p are n*p of n within sqrt(n*p*(1-p)), one standard
// deviation: four of them are exceeded once in 16,000 tests. The program's own bookkeeping is not counted. Without optimization
// every function has a frame, so that its caller is seen.
func TestProfileShowsWhereAContainerIsBusy(t *testing.T) {
	u := shared(t)
	tritonOnly(t)
	burn := build(t, "burn", "cc", "-O0", "-static", "testdata/burn/burn.c")
	goburn := build(t, "neighbour", "go", "-C", "testdata/neighbour", "build", "-ldflags=-s -w")
	start := func(exe string) string {
		return u.detached(t, "-v", exe+":/burn:ro", images.Busybox, "/burn")
	}
	burner, neighbour := start(burn), start(goburn)
	var own, others *profile.Profile
	var both sync.WaitGroup
	var ownLost, othersLost int64
	both.Go(func() { own, ownLost = u.takeProfile(t, burner, "-d", "4s") })
	both.Go(func() { others, othersLost = u.takeProfile(t, neighbour, "-d", "4s") })
	both.Wait()
	if own == nil || others == nil || ownLost != 0 || othersLost != 0 {
		t.Fatalf("%d and %d stacks are lost", ownLost, othersLost)
	}
	n, by := cumulative(own, 0)
	if n < 20 || by["seventy"]+by["twenty"]+by["ten"] < n/2 {
		t.Fatalf("%d samples of 4 s", n)
	}
	burnt := by["seventy"] + by["twenty"] + by["ten"]
	for name, want := range map[string]float64{"seventy": 0.7, "twenty": 0.2, "ten": 0.1} {
		got, may := float64(by[name])/float64(burnt), 4*math.Sqrt(want*(1-want)/float64(burnt))+0.01
		if math.Abs(got-want) > may {
			t.Errorf("%s has %.3f of %d samples, want %.2f within %.3f", name, got, n, want, may)
		}
	}
	if by["main"] < n*8/10 {
		t.Errorf("main is below %d of %d samples only: callers are missing", by["main"], n)
	}
	if by["main.neighbourBurns"] != 0 {
		t.Errorf("the neighbour is in %d samples of the other's profile", by["main.neighbourBurns"])
	}
	n, by = cumulative(others, 0)
	if by["main.neighbourBurns"] < n*9/10 || n < 20 || by["seventy"]+by["twenty"]+by["ten"] != 0 {
		t.Errorf("of %d samples the neighbour's profile has %v", n, by)
	}
}

// A program that sleeps 60 and 20 ms in turn waits so long in these functions, as often in one as in the other, and in all for
// as long as the profile is taken, since it does nothing else. Each wait has the wait for a processor at its end, of which
// only that it is the same for both is known: the longer sleeps have 60 to 75 of 100 parts as long as that is under 40 ms.
//
// A kernel that keeps the agent of its virtual machine from tracepoints shows no wait that a switch from that one ends, a few of
// a hundred at most; the program's counts say how many these are.
func TestProfileShowsWhatAContainerWaitsFor(t *testing.T) {
	u := shared(t)
	tritonOnly(t)
	exe := build(t, "sleep", "cc", "-O2", "-static", "-fno-ipa-icf", "-fno-omit-frame-pointer", "testdata/sleep/sleep.c")
	p, lost := u.takeProfile(t, u.detached(t, "-v", exe+":/sleeps:ro", images.Busybox, "/sleeps"), "-d", "3s", "--off-cpu")
	times, of := cumulative(p, 0)
	waited, in := cumulative(p, 1)
	if unequal := max(of["sixty"], of["twenty"]) - min(of["sixty"], of["twenty"]); times < 10 || lost > 10 || unequal > 1+lost {
		t.Errorf("of %d waits %v, lost %d", times, of, lost)
	}
	if of["sixty"]+of["twenty"] < times-1 {
		t.Errorf("of %d waits %v", times, of)
	}
	for name, least := range map[string]int64{"sixty": 60e6, "twenty": 20e6} {
		if of[name] > 0 && in[name] < (of[name]-1)*least {
			t.Errorf("%d waits in %s took %d ns, less than its sleeps", of[name], name, in[name])
		}
	}
	// Of a wait that is lost the share and the whole lack as much as the longer sleep has.
	without := float64(lost) * 0.06 / 3
	if share := float64(in["sixty"]) / float64(waited); share < 0.55-without || share > 0.8+without {
		t.Errorf("the longer sleeps have %.2f of the time, lost %d", share, lost)
	}
	if whole := float64(waited) / float64(p.DurationNanos); whole < 0.85-without || whole > 1.01 {
		t.Errorf("it waited %.2f of the time, lost %d", whole, lost)
	}
}
