package e2e

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/backtrace"
	"github.com/tritond/triton/test/images"
)

var (
	tracedGoroutine = regexp.MustCompile(`(?m)^goroutine (\d+) (?:gp=\S+ m=\S+ (?:mp=\S+ )?)?\[([^\],]*).*\]:$`)
	tracedCall      = regexp.MustCompile(`(?m)^(\S.*)\((.*)\)\n\t(\S+):(\d+)`)
)

// tracedGoroutines reads what Go's runtime told of goroutines as it crashed: their calls by number, those that ran left out.
// Without lines it is what a stripped program tells others: functions that are in no other's body.
func tracedGoroutines(text string, lines bool) map[uint64][]string {
	all := map[uint64][]string{}
	at := tracedGoroutine.FindAllStringSubmatchIndex(text, -1)
	for i, m := range at {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		if state := text[m[4]:m[5]]; state == "running" || state == "idle" {
			continue
		}
		var id uint64
		if _, err := fmt.Sscan(text[m[2]:m[3]], &id); err != nil {
			continue
		}
		part, _, _ := strings.Cut(text[m[1]:end], "\ncreated by ")
		for _, c := range tracedCall.FindAllStringSubmatch(part, -1) {
			switch {
			case lines:
				all[id] = append(all[id], fmt.Sprintf("%s %s:%s", c[1], filepath.Base(c[3]), c[4]))
			case c[2] != "...":
				all[id] = append(all[id], c[1])
			}
		}
	}
	return all
}

// readGoroutines are the goroutines of an analysis in the form of tracedGoroutines.
func readGoroutines(b *backtrace.Result, lines bool) map[uint64][]string {
	all := map[uint64][]string{}
	for _, g := range b.Goroutines {
		for _, f := range g.Frames {
			call := f.Func
			if lines {
				call += fmt.Sprintf(" %s:%d", filepath.Base(f.File), f.Line)
			}
			all[g.ID] = append(all[g.ID], call)
		}
	}
	return all
}

// TestGoroutinesOfADump: goroutines that wait are in a dump, be it whole or a mini core, of a stripped program too, as Go's runtime
// told itself.
func TestGoroutinesOfADump(t *testing.T) {
	u := taking(t, "socket")
	for _, c := range [][2]string{{"", "full"}, {"-s -w", "full"}, {"", "mini"}, {"-s -w", "mini"}} {
		flags, policy := c[0], c[1]
		t.Run("ldflags "+flags+" "+policy, func(t *testing.T) {
			name := u.crashIn(t, images.Busybox, policy, buildGo(t, flags))
			want := tracedGoroutines(u.docker(t, "logs", name).Stderr, flags == "")
			if len(want) < 5 {
				t.Fatalf("the runtime told of %d goroutines: %v", len(want), want)
			}
			r, b, text := u.stacksOf(t, name)
			equal(t, "body", r.Body, policy)
			if diff := cmp.Diff(want, readGoroutines(&b, flags == "")); diff != "" {
				t.Errorf("Go and triton differ (-Go +triton):\n%s\n%s", diff, text)
			}
			matches(t, "text", text, `(?s)goroutine \d+ \[waiting\]\n  #0 +0x[0-9a-f]+ runtime\.gopark .*main\.main\.func1`)
		})
	}
}

// TestGoroutinesBeyondAMiniCore: of more goroutines than a mini core has room for, many are told, and how many others there are.
func TestGoroutinesBeyondAMiniCore(t *testing.T) {
	u := taking(t, "socket")
	const waiting = 20_000
	r, b, text := u.stacksOf(t, u.crashIn(t, images.Busybox, "mini", buildGo(t, ""), fmt.Sprint(waiting)))
	equal(t, "body", r.Body, "mini")
	told := 0
	for _, g := range b.Goroutines {
		if n := len(g.Frames); n > 1 && g.Frames[n-2].Func == "main.main.func1" && g.Cut == "" {
			told++
		}
	}
	m := regexp.MustCompile(`(?m)^.*gopanic: (\d+) goroutines, some of which may have ended, were not saved$`).FindStringSubmatch(strings.Join(b.Missing, "\n"))
	if m == nil {
		t.Fatalf("%d of %d are told, missing %q\n%.2000s", told, waiting, b.Missing, text)
	}
	var left int
	if _, err := fmt.Sscan(m[1], &left); err != nil || told < 500 || told+left < waiting-100 || told+left > waiting+100 {
		t.Errorf("%d are told, %d are said not to be, of %d", told, left, waiting)
	}
}
