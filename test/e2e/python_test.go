package e2e

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/backtrace"
	"github.com/tritond/triton/test/images"
)

var (
	faultThread = regexp.MustCompile(`(?m)^(Current thread|Thread) 0x[0-9a-f]+.*\(most recent call first\):$`)
	faultCall   = regexp.MustCompile(`(?m)^  File "([^"]*)", line (\d+) in (.*)$`)
)

// faults reads what Python's faulthandler wrote: the calls of each thread, innermost first, the crashed one's first.
func faults(text string) [][]string {
	var stacks [][]string
	at := faultThread.FindAllStringSubmatchIndex(text, -1)
	for i, m := range at {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		var calls []string
		for _, c := range faultCall.FindAllStringSubmatch(text[m[1]:end], -1) {
			calls = append(calls, fmt.Sprintf("%s:%s %s", c[1], c[2], strings.ReplaceAll(strings.ReplaceAll(c[3], `\xf6`, "ö"), `\xdf`, "ß")))
		}
		if text[m[2]:m[3]] == "Current thread" {
			stacks = slices.Insert(stacks, 0, calls)
		} else {
			stacks = append(stacks, calls)
		}
	}
	slices.SortFunc(stacks[min(1, len(stacks)):], slices.Compare)
	return stacks
}

// pythonCalls are the calls that an analysis found, in the form of faults.
func pythonCalls(b *backtrace.Result) [][]string {
	var stacks [][]string
	for _, th := range b.Threads {
		var calls []string
		for _, f := range th.Python {
			calls = append(calls, fmt.Sprintf("%s:%d %s", f.File, f.Line, strings.TrimPrefix(path.Ext("."+f.Func), ".")))
		}
		if len(calls) > 0 {
			stacks = append(stacks, calls)
		}
	}
	slices.SortFunc(stacks[min(1, len(stacks)):], slices.Compare)
	return stacks
}

// TestBacktraceOfPython: CPython 3.13 that crashes in C code tells the calls of its own faulthandler, from a whole dump and
// from a mini core.
func TestBacktraceOfPython(t *testing.T) {
	u := taking(t, "socket")
	program, err := os.ReadFile("testdata/python/crash.py")
	if err != nil {
		t.Fatal(err)
	}
	const tag = "triton-test/python:3.13"
	built, err := images.Python(tag, program).Build(t.Context(), "../../.cache")
	if err != nil {
		t.Fatal(err)
	}
	u.ok(t, "load", "-q", "-i", built.Archive)
	for _, policy := range []string{"full", "mini"} {
		t.Run(policy, func(t *testing.T) {
			name := u.name(t)
			u.fails(t, 139, "Fatal Python error", "run", "--init", "--name", name, "--label", "triton.core="+policy, tag)
			want := faults(u.docker(t, "logs", name).Stderr)
			if len(want) != 3 || len(want[0]) < 6 {
				t.Fatalf("faulthandler told %q", want)
			}
			r, b, text := u.stacksOf(t, name)
			if diff := cmp.Diff(want, pythonCalls(&b)); diff != "" {
				t.Errorf("faulthandler and triton differ (-faulthandler +triton):\n%s\n%s", diff, text)
			}
			matches(t, "text", text, `(?s)in Python:\n +#0 +string_at at \S+__init__\.py:\d+\n.*Walker\.walk at /srv/main\.py:\d+\n.*größe at /srv/main\.py:\d+\n`)
			equal(t, "body", r.Body, policy)
			if len(b.Missing) > 0 && policy == "full" {
				t.Errorf("missing: %q", b.Missing)
			}
		})
	}
}
