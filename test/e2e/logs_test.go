package e2e

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tritond/triton/test/images"
)

// numbered returns the lines "o 1\n" to "o n\n".
func numbered(stream string, first, last int) string {
	var b strings.Builder
	for i := first; i <= last; i++ {
		fmt.Fprintf(&b, "%s %d\n", stream, i)
	}
	return b.String()
}

func TestLogsGiveBothStreams(t *testing.T) {
	u := shared(t)
	name := u.detached(t, images.Programs, "lines", "2000", "0", "0")
	equal(t, "exit code", u.ok(t, "wait", name), "0")
	res := u.docker(t, "logs", name)
	equal(t, "stdout", res.Stdout, numbered("o", 1, 2000))
	equal(t, "stderr", res.Stderr, numbered("e", 1, 2000))
}

func TestLogsTailCountsLinesOfBothStreams(t *testing.T) {
	u := shared(t)
	name := u.detached(t, images.Busybox, "seq", "1", "500")
	u.ok(t, "wait", name)
	equal(t, "--tail 2", u.ok(t, "logs", "--tail", "2", name), "499\n500")
	equal(t, "--tail 0", u.ok(t, "logs", "--tail", "0", name), "")
	equal(t, "-n 1000", fmt.Sprint(strings.Count(u.ok(t, "logs", "-n", "1000", name), "\n")), "499")
	equal(t, "--tail all", fmt.Sprint(strings.Count(u.ok(t, "logs", "--tail", "all", name), "\n")), "499")
	equal(t, "-f --tail 1 of an ended container", u.ok(t, "logs", "-f", "--tail", "1", name), "500")
}

func TestLogsTimestampsAndBounds(t *testing.T) {
	u := shared(t)
	name := u.detached(t, images.Busybox, "sh", "-c", "echo a; sleep 1.1; echo b; sleep 1.1; echo c")
	u.ok(t, "wait", name)
	lines := strings.Split(u.ok(t, "logs", "--timestamps", name), "\n")
	if len(lines) != 3 {
		t.Fatalf("got %q, want 3 lines", lines)
	}
	var times []string
	for i, line := range lines {
		m := regexp.MustCompile(`^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (.)$`).FindStringSubmatch(line)
		if m == nil || m[2] != string("abc"[i]) {
			t.Fatalf("line %d is %q", i, line)
		}
		times = append(times, m[1])
	}
	equal(t, "since b", u.ok(t, "logs", "--since", times[1], name), "b\nc")
	equal(t, "until b", u.ok(t, "logs", "--until", times[1], name), "a\nb")
	equal(t, "since b until b", u.ok(t, "logs", "--since", times[1], "--until", times[1], name), "b")
	equal(t, "since far back", u.ok(t, "logs", "--since", "1h", name), "a\nb\nc")
	at, err := time.Parse(time.RFC3339Nano, times[2])
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "since a unix time after the end", u.ok(t, "logs", "--since", fmt.Sprint(at.Unix()+1), name), "")
}

func TestLogsFollowUntilTheEnd(t *testing.T) {
	u := shared(t)
	name := u.name(t)
	u.ok(t, "create", "--name", name, images.Programs, "lines", "300", "200", "3")
	u.ok(t, "start", name)
	res := u.docker(t, "logs", "-f", name)
	equal(t, "stdout", res.Stdout, numbered("o", 1, 300))
	equal(t, "stderr", res.Stderr, numbered("e", 1, 300))
	equal(t, "state after logs -f", u.inspect(t, name, "{{.State.ExitCode}}"), "3")
}

func TestLogsKeepLongAndUnfinishedLines(t *testing.T) {
	u := shared(t)
	name := u.detached(t, images.Busybox, "sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; echo; printf end")
	u.ok(t, "wait", name)
	equal(t, "stdout", u.docker(t, "logs", name).Stdout, strings.Repeat("x", 100000)+"\nend")
}

func TestLogsRotateAndKeepTheLastLines(t *testing.T) {
	u := shared(t)
	name := u.detached(t, "--log-opt", "max-size=10k", "--log-opt", "max-file=3", images.Busybox, "seq", "1", "2000")
	u.ok(t, "wait", name)
	lines := strings.Split(u.ok(t, "logs", name), "\n")
	if len(lines) < 50 || len(lines) > 1000 {
		t.Errorf("got %d lines, want what fits 20 to 30 kB of JSON", len(lines))
	}
	for i, line := range lines {
		if want := fmt.Sprint(2000 - len(lines) + 1 + i); line != want {
			t.Fatalf("line %d is %q, want %q", i, line, want)
		}
	}
}

// The driver local keeps what docker's does: five files of 20 MB, or what the options say, compressed when they are rotated.
func TestLogsOfDriverLocal(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	name := u.detached(t, "--log-driver", "local", "--log-opt", "max-size=10k", images.Busybox, "seq", "1", "2000")
	u.ok(t, "wait", name)
	matches(t, "the last lines", u.ok(t, "logs", "--tail", "2", name), "^1999\n2000$")
	if n := len(strings.Fields(u.ok(t, "logs", name))); n < 100 || n >= 2000 {
		t.Errorf("%d lines, want what five files of 10 kB hold", n)
	}
	equal(t, "path", u.inspect(t, name, "{{.LogPath}}"), "")
}

func TestLogsOfDriverNoneAreRefused(t *testing.T) {
	u := shared(t)
	name := u.detached(t, "--log-driver", "none", images.Busybox, "echo", "unseen")
	u.ok(t, "wait", name)
	u.fails(t, 1, "configured logging driver does not support reading", "logs", name)
}

func TestAttachBeforeAndAfterStart(t *testing.T) {
	u := shared(t)
	name := u.name(t)
	u.ok(t, "create", "--name", name, "-i", images.Busybox, "sh", "-c", "cat; exit 8")
	res := u.dockerIn(t, strings.NewReader("fed\n"), "start", "-a", "-i", name)
	if res.Code != 8 || res.Stdout != "fed\n" {
		t.Errorf("start -ai: got %q, exit code %d, stderr %q", res.Stdout, res.Code, res.Stderr)
	}

	running := u.detached(t, images.Busybox, "sh", "-c", "until [ -e /go ]; do echo tick; sleep 0.05; done; echo seen; exit 9")
	cmd := u.cli.Command(t.Context(), "attach", "--no-stdin", running)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "tick\n" {
		t.Fatalf("attach: got %q, %v", line, err)
	}
	release(t, u.pid(t, running))
	rest, err := io.ReadAll(lines)
	if err != nil {
		t.Fatal(err)
	}
	matches(t, "attach", string(rest), "^(tick\n)*seen\n$")
	cmd.Wait() // the code is checked next
	if code := cmd.ProcessState.ExitCode(); code != 9 {
		t.Errorf("attach: got exit code %d, want 9", code)
	}
}

func TestOutputOfTheFirstMomentReachesTheClient(t *testing.T) {
	u := shared(t)
	for range 5 {
		equal(t, "stdout", u.docker(t, "run", "--rm", images.Busybox, "echo", "first").Stdout, "first\n")
	}
}
