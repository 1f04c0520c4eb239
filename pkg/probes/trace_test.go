package probes

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// traceOf traces argv, run in a container of its own, to its end; lost is how many calls were.
func traceOf(t *testing.T, p *Probes, f triton.TraceFilter, argv ...string) (calls []triton.TracedCall, lost uint64) {
	t.Helper()
	key, cg := watch(t, p)
	proc := start(t, cg, append([]string{actorBinary(t), "gate"}, argv...)...)
	proc.paused(t)
	attached, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- p.Trace(t.Context(), key, f, func() { close(attached) }, func(batch []triton.TraceEvent) error {
			for _, e := range batch {
				lost += e.Lost
				if e.TracedCall != nil {
					calls = append(calls, *e.TracedCall)
				}
			}
			return nil
		})
	}()
	select {
	case <-attached:
	case err := <-done:
		t.Fatal(err)
	}
	proc.release(t)
	proc.wait(t)
	if _, err := p.Unwatch(key); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return calls, lost
}

// A trace has the calls that strace sees, in their order and with their errors, from the execve that the container is seen to
// make to the exit_group from which it does not return, at a level at which nothing else observes calls.
func TestKernelTraceHasTheCallsOfStrace(t *testing.T) {
	actor := actorBinary(t)
	calls, lost := traceOf(t, open(t, Config{Level: Counters}), triton.TraceFilter{Memory: true}, actor, "exit37")
	var got []string
	for _, c := range calls {
		if c.Name == "execve" {
			got = nil // what came before is the gate's
			if !strings.HasPrefix(c.Text, `execve("`+actor+`", `) {
				t.Errorf("the program is shown as %s", c.Text)
			}
		}
		got = append(got, strings.TrimSpace(c.Name+" "+c.Error))
		if c.Comm != "actor" || c.Tid != c.Pid || c.At.IsZero() || c.InCall != (c.Name == "exit_group") {
			t.Errorf("%+v", c)
		}
		// The gate was in its read when the trace began.
		if unseen := c.InCall || len(got) == 1 && c.Name == "read"; unseen == (c.Duration > 0) {
			t.Errorf("%s took %s", c.Text, c.Duration)
		}
	}
	if want := straceOrder(t, actor, "exit37"); lost > 0 || !slices.Equal(got, want) {
		t.Errorf("%d lost; strace (-) and the trace (+) differ:\n%s", lost, cmp.Diff(want, got))
	}
}

// quoted finds what strace and a trace show alike: the call, its path, and its error.
var quoted = regexp.MustCompile(`^(\w+)\([^"]*"([^"]*)"`)

func TestKernelTraceReadsPathsAndAddresses(t *testing.T) {
	script := []string{"/bin/bash", "--norc", "-c", "exec 3<>/dev/tcp/127.0.0.1/1; /bin/cat /etc/hostname /no/such; exec /bin/cat /no/such/either"}
	names := []int{unix.SYS_OPENAT, unix.SYS_EXECVE, unix.SYS_CONNECT}
	calls, lost := traceOf(t, open(t, Config{}), triton.TraceFilter{Memory: true, Numbers: names}, script...)
	var got []string
	refused := false
	for _, c := range calls {
		if m := quoted.FindStringSubmatch(c.Text); m != nil && c.Name != "connect" {
			got = append(got, strings.TrimSpace(m[1]+" "+m[2]+" "+c.Error))
		}
		refused = refused || c.Name == "connect" && c.Error == "ECONNREFUSED" && strings.Contains(c.Text, ", 127.0.0.1:1, 16)")
	}
	file := t.TempDir() + "/strace"
	cmd := exec.Command("strace", append([]string{"-f", "-s", "300", "-e", "trace=openat,execve", "-o", file}, script...)...)
	cmd.Env = []string{}
	if err := cmd.Run(); err == nil {
		t.Error("cat found a file that there is not")
	}
	var want []string
	for line := range strings.Lines(readFile(t, file)) {
		_, line, _ = strings.Cut(line, " ") // the pid
		m := quoted.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		error := ""
		if _, result, ok := strings.Cut(line, " = -1 "); ok {
			error, _, _ = strings.Cut(result, " ")
		}
		want = append(want, strings.TrimSpace(m[1]+" "+m[2]+" "+error))
	}
	if lost > 0 || len(want) < 5 || !slices.Equal(got, want) {
		t.Errorf("%d lost; strace (-) and the trace (+) differ:\n%s", lost, cmp.Diff(want, got))
	}
	if !refused {
		t.Errorf("no connection to 127.0.0.1:1 was refused: %+v", calls)
	}
}

// The path of a program that is executed is told of even if it was in no page when the call began, and never taken for what
// the new program has at its place.
func TestKernelTraceHasProgramsWhosePathHadNoPage(t *testing.T) {
	actor := actorBinary(t)
	calls, lost := traceOf(t, open(t, Config{}), triton.TraceFilter{Memory: true, Numbers: []int{unix.SYS_EXECVE}}, actor, "untouched", actor)
	if len(calls) != 2 || lost > 0 {
		t.Fatalf("%d lost, %+v", lost, calls)
	}
	for _, c := range calls {
		if !strings.HasPrefix(c.Text, `execve("`+actor+`", `) || c.Error != "" {
			t.Errorf("%s %s", c.Text, c.Error)
		}
	}
}

// What does not pass the filter is not told of, and what passes is told of or counted as lost.
func TestKernelTraceFiltersInTheKernel(t *testing.T) {
	actor := actorBinary(t)
	p := open(t, Config{})
	for name, c := range map[string]struct {
		filter triton.TraceFilter
		want   int
	}{
		"every call of a name": {triton.TraceFilter{Numbers: []int{unix.SYS_GETPPID}}, 5000},
		"errors":               {triton.TraceFilter{Numbers: []int{unix.SYS_CLOSE, unix.SYS_GETPPID, unix.SYS_OPENAT}, Errors: true}, 750},
		"slower":               {triton.TraceFilter{Numbers: []int{unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_GETSID}, Slower: time.Millisecond}, 3},
		"of its name":          {triton.TraceFilter{Numbers: []int{unix.SYS_GETSID}, Comm: "actor"}, 70},
		"of another name":      {triton.TraceFilter{Numbers: []int{unix.SYS_GETSID}, Comm: "actors"}, 0},
		"none":                 {triton.TraceFilter{Numbers: []int{}}, 0},
	} {
		calls, lost := traceOf(t, p, c.filter, actor, "calls")
		if len(calls)+int(lost) != c.want {
			t.Errorf("%s: %d calls and %d lost, want %d", name, len(calls), lost, c.want)
		}
		for _, call := range calls {
			if !slices.Contains(c.filter.Numbers, call.Number) || c.filter.Errors && call.Error == "" || call.Duration < c.filter.Slower {
				t.Errorf("%s: %+v passed", name, call)
			}
		}
	}
}

// Traces end with those who look, are bounded, and leave nothing attached.
func TestKernelTracesEnd(t *testing.T) {
	p := open(t, Config{})
	key, _ := watch(t, p)
	ctx, cancel := context.WithCancel(t.Context())
	attached, done := make(chan struct{}), make(chan error)
	for range tracesPerTenant {
		go func() {
			done <- p.Trace(ctx, key, triton.TraceFilter{}, func() { attached <- struct{}{} }, func([]triton.TraceEvent) error { return nil })
		}()
		<-attached
	}
	never := func([]triton.TraceEvent) error { return errors.New("told of a call") }
	if err := p.Trace(ctx, key, triton.TraceFilter{}, t.FailNow, never); !errdefs.IsResourceExhausted(err) {
		t.Errorf("a trace too many: %v", err)
	}
	cancel()
	for range tracesPerTenant {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := p.Traces(); n != 0 {
		t.Errorf("%d traces after their end", n)
	}
	if err := p.Trace(t.Context(), newKey(), triton.TraceFilter{}, t.FailNow, never); !errdefs.IsNotFound(err) {
		t.Errorf("a container that is not watched: %v", err)
	}
	if err := p.Trace(t.Context(), key, triton.TraceFilter{Comm: strings.Repeat("x", 16)}, t.FailNow, never); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a name that no thread can have: %v", err)
	}
	if err := p.Trace(t.Context(), key, triton.TraceFilter{Numbers: []int{syscallNumbers}}, t.FailNow, never); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a number that no call has: %v", err)
	}
}

// Records of any bytes are shown or refused, and what is shown is bounded.
func FuzzDecodeTraced(f *testing.F) {
	f.Add(make([]byte, tracedHead))
	f.Add(make([]byte, tracedHead+2*tracedMemory))
	full := slices.Repeat([]byte{0xff}, tracedHead+2*tracedMemory)
	full[72], full[73], full[74], full[75] = unix.SYS_RENAME, 0, 0, 0
	full[85], full[87] = 0, 0
	f.Add(full)
	f.Add([]byte(os.DevNull))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := decodeTraced(raw, time.Time{})
		if err == nil && (len(e.Text) > 3000 || e.Lost != 0) {
			t.Errorf("%d bytes are shown as %q", len(raw), e.Text)
		}
	})
}
