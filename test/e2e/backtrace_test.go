package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/backtrace"
	"github.com/tritond/triton/test/images"
)

var gdbFrame = regexp.MustCompile(`(?m)^FRAME (\d+) (\d+)$`)

// gdbStacks returns the program counters of each thread's frames, innermost first, as gdb unwinds a core. Frames of
// functions that were put into others are left out, as they have no counter of their own; so are those that gdb makes up
// for tail calls.
func gdbStacks(t *testing.T, exe, core string) map[int][]uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "gdb", "-batch", "-nx", "-ex", "set debuginfod enabled off", "-ex", "set backtrace past-main on", exe, core, "-ex", "python\n"+
		"for t in gdb.selected_inferior().threads():\n t.switch()\n f = gdb.newest_frame()\n n = 0\n"+
		" while f is not None and n < 1024:\n"+
		"  if f.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):\n"+
		"   print('FRAME %d %d' % (t.ptid[1] or t.ptid[0], f.pc()))\n   n += 1\n"+
		"  try:\n   f = f.older()\n  except gdb.error:\n   break\n").CombinedOutput()
	if err != nil {
		t.Fatalf("gdb: %v\n%s", err, out)
	}
	stacks := map[int][]uint64{}
	for _, m := range gdbFrame.FindAllStringSubmatch(string(out), -1) {
		var tid int
		var pc uint64
		if _, err := fmt.Sscan(m[1]+" "+m[2], &tid, &pc); err != nil {
			t.Fatal(err)
		}
		stacks[tid] = append(stacks[tid], pc)
	}
	return stacks
}

// stacksOf asks for the stacks of a container's only dump, in numbers and as the client prints them.
func (u *under) stacksOf(t *testing.T, name string) (coreRecord, backtrace.Result, string) {
	t.Helper()
	r := u.onlyCore(t, name)
	var b backtrace.Result
	if err := json.Unmarshal([]byte(u.triton(t, "cores", "bt", "-json", r.ID)), &b); err != nil {
		t.Fatal(err)
	}
	return r, b, u.triton(t, "cores", "bt", "-all", r.ID)
}

// counters are the frames that have counters of their own.
func counters(b backtrace.Result) map[int][]uint64 {
	stacks := map[int][]uint64{}
	for _, th := range b.Threads {
		stacks[th.TID] = []uint64{}
		for _, f := range th.Frames {
			if !f.Inline {
				stacks[th.TID] = append(stacks[th.TID], f.PC)
			}
		}
	}
	return stacks
}

// withHostLibraries mounts the libraries that programs built here want.
var withHostLibraries = []string{"-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro"}

// build compiles a program of testdata into a folder that containers may read.
func build(t *testing.T, name string, command ...string) string {
	t.Helper()
	exe := filepath.Join(t.TempDir(), name)
	out, err := exec.CommandContext(t.Context(), command[0], append(slices.Clone(command[1:]), "-o", exe)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", command, err, out)
	}
	return exe
}

// crash runs a program of the host as the child of a shell in a container until it dumps core.
func (u *under) crash(t *testing.T, exe string, args ...string) (name string) {
	t.Helper()
	return u.crashIn(t, images.Busybox, "full", exe, args...)
}

// crashIn is crash in a container of an image, with as much of a dump as policy says.
func (u *under) crashIn(t *testing.T, image, policy, exe string, args ...string) (name string) {
	t.Helper()
	name = u.name(t)
	run := slices.Concat([]string{"run", "--name", name, "--label", "triton.core=" + policy, "-e", "GOTRACEBACK=crash", "-v", exe + ":" + exe + ":ro"},
		withHostLibraries, []string{image, "/bin/busybox", "sh", "-c", strings.Join(append([]string{exe}, args...), " ") + "; exit 7"})
	u.fails(t, 7, "", run...)
	return name
}

// TestBacktraceEqualsGDB: every thread's every counter, of programs that crash in containers with dumps off for them.
func TestBacktraceEqualsGDB(t *testing.T) {
	u := taking(t, "socket")
	const source = "testdata/stacks/stacks.c"
	plain := build(t, "stacks", "cc", "-O2", "-g", "-fomit-frame-pointer", "-pthread", source)
	stripped := build(t, "bare", "cc", "-O2", "-s", "-fomit-frame-pointer", "-pthread", source)
	static := build(t, "static", "cc", "-O2", "-g", "-static", "-fomit-frame-pointer", "-pthread", source)
	for _, c := range []struct {
		exe, how, signal string
		threads          int
		names            []string // in the crashed thread's stack, in this order
	}{
		{plain, "sort", "SIGSEGV", 3, []string{"deref", "compare", "qsort_r", "sort", "main"}},
		{plain, "abort", "SIGABRT", 3, []string{"give_up", "main"}},
		{plain, "overflow", "SIGSEGV", 3, []string{"deeper", "deeper"}},
		{plain, "many", "SIGSEGV", 200, []string{"compare", "main"}},
		{stripped, "divide", "SIGFPE", 3, nil},
		{stripped, "sort", "SIGSEGV", 3, []string{"qsort_r"}},
		{static, "bus", "SIGBUS", 3, []string{"truncated", "main"}},
		{static, "null", "SIGSEGV", 3, []string{"call_null", "main"}},
	} {
		t.Run(filepath.Base(c.exe)+" "+c.how, func(t *testing.T) {
			r, b, text := u.stacksOf(t, u.crash(t, c.exe, c.how))
			core := filepath.Join(t.TempDir(), "core")
			u.triton(t, "cores", "pull", "-o", core, r.ID)
			if diff := cmp.Diff(gdbStacks(t, c.exe, core), counters(b)); diff != "" {
				t.Errorf("gdb and triton differ (-gdb +triton):\n%s\n%s", diff, text)
			}
			equal(t, "signal", r.Signal, c.signal)
			if len(b.Threads) != c.threads {
				t.Errorf("%d threads, want %d", len(b.Threads), c.threads)
			}
			if at := regexp.MustCompile(`(?s)` + strings.Join(c.names, `\b.*\b`)); !at.MatchString(text) {
				t.Errorf("no %q in\n%s", c.names, text)
			}
		})
	}
}

// TestBacktraceOfGo: of a program with symbols, and of one without any, for which gdb is given those of the other.
func TestBacktraceOfGo(t *testing.T) {
	u := taking(t, "socket")
	named := buildGo(t, "")
	for _, flags := range []string{"", "-s -w"} {
		t.Run("ldflags "+flags, func(t *testing.T) {
			exe := buildGo(t, flags)
			r, b, text := u.stacksOf(t, u.crash(t, exe))
			equal(t, "signal", r.Signal, "SIGABRT")
			const stack = `(?s)runtime\.raise.*runtime\.gopanic.*runtime\.sigpanic.*main\.walk.*main\.walk.*main\.walk.*main\.walk.*main\.main.*runtime\.main`
			matches(t, "stack", text, stack)
			core := filepath.Join(t.TempDir(), "core")
			u.triton(t, "cores", "pull", "-o", core, r.ID)
			witness := gdbStacks(t, named, core)
			for _, th := range b.Threads {
				own, gdbs := onOneStack(th), witness[th.TID]
				if diff := cmp.Diff(gdbs[:min(len(gdbs), len(own))], own); diff != "" {
					t.Errorf("thread %d: gdb and triton differ (-gdb +triton):\n%s\n%s", th.TID, diff, text)
				}
			}
			if want := []string{"main.walk", "main.main"}; !slices.Equal(b.Signature.Frames, want) {
				t.Errorf("signature of %q, want %q", b.Signature.Frames, want)
			}
		})
	}
}

// onOneStack lists a thread's counters up to where Go's runtime left another stack, which gdb knows nothing of.
func onOneStack(th backtrace.Thread) []uint64 {
	var own []uint64
	for _, f := range th.Frames {
		if !f.Inline {
			own = append(own, f.PC)
		}
		if f.Func == "runtime.systemstack" || f.Func == "runtime.mcall" {
			break
		}
	}
	return own
}

// buildGo compiles testdata/gopanic.
func buildGo(t *testing.T, flags string) string {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "gopanic")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", flags, "-o", exe, "./testdata/gopanic").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return exe
}
