package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

func TestRunReturnsTheProgramsExitCode(t *testing.T) {
	u := shared(t)
	for _, code := range []int{0, 1, 42, 255} {
		res := u.docker(t, "run", "--rm", images.Busybox, "sh", "-c", fmt.Sprintf("exit %d", code))
		if res.Code != code {
			t.Errorf("exit %d: got exit code %d, stderr %q", code, res.Code, res.Stderr)
		}
	}
	if res := u.docker(t, "run", "--rm", images.True); res.Code != 0 {
		t.Errorf("/true: got exit code %d, stderr %q", res.Code, res.Stderr)
	}
}

func TestRunTellsWhoseFaultAFailureIs(t *testing.T) {
	u := shared(t)
	for _, c := range []struct {
		behaviour string
		code      int
		pattern   string
		args      []string
	}{
		{"flag the client refuses", 125, `invalid argument "1x"`, []string{"--memory", "1x", images.True}},
		{"value the daemon refuses", 125, `(?i)memory limit`, []string{"--memory", "1m", images.True}},
		{"missing image", 125, `No such image`, []string{"--pull", "never", "nosuchimage:1"}},
		{"missing image that cannot be pulled", 125, `Unable to find image`, []string{"nosuchimage:1"}},
		{"file without execute permission", 126, `(?i)permission denied`, []string{images.Programs, "/etc/not-a-program"}},
		{"folder as program", 126, `(?i)permission denied|is a directory`, []string{images.Busybox, "/etc"}},
		{"program not in PATH", 127, `not found`, []string{images.Busybox, "nosuchprogram"}},
		{"program path that does not exist", 127, `no such file or directory`, []string{images.Busybox, "/no/such/program"}},
		{"working folder that is a file", anyFailure, `(?i)not a directory`, []string{"-w", "/etc/passwd", images.Busybox, "true"}},
		{"unknown user", 125, `(?i)unable to find user nosuchuser`, []string{"--user", "nosuchuser", images.Busybox, "true"}},
	} {
		t.Run(c.behaviour, func(t *testing.T) {
			u.fails(t, c.code, c.pattern, append([]string{"run", "--rm"}, c.args...)...)
		})
	}
}

// anyFailure stands for an exit code that differs between engines.
const anyFailure = -1

func TestRunThatCannotStartLeavesACreatedContainer(t *testing.T) {
	u := shared(t)
	name := u.name(t)
	u.fails(t, 127, "nosuchprogram", "run", "--name", name, images.Busybox, "nosuchprogram")
	equal(t, "state", u.inspect(t, name, "{{.State.Status}} {{.State.Running}} {{.State.Pid}} {{.State.ExitCode}}"), "created false 0 127")
	matches(t, "State.Error", u.inspect(t, name, "{{.State.Error}}"), "nosuchprogram")

	gone := u.name(t)
	u.fails(t, 127, "nosuchprogram", "run", "--rm", "--name", gone, images.Busybox, "nosuchprogram")
	eventually(t, 10*time.Second, "the --rm container is gone", func() bool { return u.docker(t, "inspect", gone).Code != 0 })
}

func TestRunRmRemoves(t *testing.T) {
	u := shared(t)
	name := u.name(t)
	u.ok(t, "run", "--rm", "--name", name, images.True)
	u.fails(t, 1, "(?i)no such (object|container)", "inspect", name)
}

func TestRunKeepsStreamsApart(t *testing.T) {
	u := shared(t)
	res := u.docker(t, "run", "--rm", images.Busybox, "sh", "-c", "echo out; echo err >&2")
	equal(t, "stdout", res.Stdout, "out\n")
	equal(t, "stderr", res.Stderr, "err\n")
}

func TestRunDetachedPrintsTheID(t *testing.T) {
	u := shared(t)
	name := u.name(t)
	id := u.ok(t, "run", "-d", "--name", name, images.Busybox, "sleep", "1000")
	matches(t, "output", id, "^[0-9a-f]{64}$")
	equal(t, "id", u.inspect(t, name, "{{.Id}}"), id)
	equal(t, "state", u.inspect(t, name, "{{.State.Status}}"), "running")
}

func TestRunPassesEnvironmentUserAndFolder(t *testing.T) {
	u := shared(t)
	for _, c := range []struct{ behaviour, want, command string }{
		{"environment", "b c", "--env A=b\\ c|echo $A"},
		{"working folder is made", "/made/here", "--workdir /made/here|pwd"},
		{"user by name", "1000 1000 1000 50", "--user worker|echo $(id -u) $(id -g) $(id -G)"},
		{"user and group by number", "7 8", "--user 7:8|echo $(id -u) $(id -g)"},
		{"group added", "1000 50 77", "--user worker --group-add 77|id -G"},
		{"host name", "a.b", "--hostname a.b|hostname"},
		{"home of the user", "/root", "|echo $HOME"},
		{"default host name is the short id", "12", "|hostname | tr -d '\\n' | wc -c"},
		{"label is no variable", "", "--label x=y|echo $x"},
		{"pid 1", "1", "|echo $$"},
	} {
		t.Run(c.behaviour, func(t *testing.T) {
			flags, script, _ := strings.Cut(c.command, "|")
			args := append([]string{"run", "--rm"}, words(flags)...)
			equal(t, script, u.ok(t, append(args, images.Busybox, "sh", "-c", script)...), c.want)
		})
	}
	equal(t, "entrypoint", u.ok(t, "run", "--rm", "--entrypoint", "echo", images.Busybox, "a", "b"), "a b")
	equal(t, "init", u.ok(t, "run", "--rm", images.Busybox, "cat", "/proc/1/comm"), "cat")
}

// words splits at spaces that no backslash precedes.
func words(s string) []string {
	var w []string
	for _, f := range strings.Fields(strings.ReplaceAll(s, `\ `, "\x00")) {
		w = append(w, strings.ReplaceAll(f, "\x00", " "))
	}
	return w
}

func TestTwentyParallelRuns(t *testing.T) {
	u := shared(t)
	var wg sync.WaitGroup
	results := make([]engine.Result, 20)
	errs := make([]error, len(results))
	ctx, cancel := context.WithTimeout(t.Context(), 2*commandTime)
	defer cancel()
	for i := range results {
		wg.Go(func() {
			script := fmt.Sprintf("echo hello %d; exit %d", i, i)
			results[i], errs[i] = u.cli.Run(ctx, nil, "run", "--rm", images.Busybox, "sh", "-c", script)
		})
	}
	wg.Wait()
	for i, res := range results {
		if want := fmt.Sprintf("hello %d\n", i); errs[i] != nil || res.Code != i || res.Stdout != want {
			t.Errorf("run %d: got %q, exit code %d, stderr %q, error %v", i, res.Stdout, res.Code, res.Stderr, errs[i])
		}
	}
}

func TestStdinEndsWhereTheClientsEnds(t *testing.T) {
	u := shared(t)
	res := u.dockerIn(t, strings.NewReader("x\n"), "run", "-i", "--rm", images.Busybox, "cat")
	if res.Code != 0 || res.Stdout != "x\n" {
		t.Errorf("got %q, exit code %d, stderr %q", res.Stdout, res.Code, res.Stderr)
	}
	// Output that comes after the end of input must still arrive.
	res = u.dockerIn(t, strings.NewReader("a\nb\n"), "run", "-i", "--rm", images.Busybox, "sh", "-c", "wc -l; sleep 0.3; echo late; exit 3")
	if res.Code != 3 || res.Stdout != "2\nlate\n" {
		t.Errorf("got %q, exit code %d, stderr %q", res.Stdout, res.Code, res.Stderr)
	}
}

func TestFiftyMegabytesGoThroughUnharmed(t *testing.T) {
	u := shared(t)
	const size = 50_000_000
	sent, got := sha256.New(), sha256.New()
	ctx, cancel := context.WithTimeout(t.Context(), commandTime)
	defer cancel()
	cmd := u.cli.Command(ctx, "run", "-i", "--rm", "--log-driver", "none", images.Busybox, "cat")
	cmd.Stdin = io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), sent)
	var stderr strings.Builder
	cmd.Stdout, cmd.Stderr = got, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	equal(t, "checksum", hex.EncodeToString(got.Sum(nil)), hex.EncodeToString(sent.Sum(nil)))
}

func TestRunKilledByASignalReturns128AndTheSignal(t *testing.T) {
	u := shared(t)
	name := u.name(t)
	ended := make(chan engine.Result, 1)
	go func() {
		res, _ := u.cli.Run(t.Context(), nil, "run", "--name", name, images.Busybox, "sleep", "1000")
		ended <- res
	}()
	eventually(t, 30*time.Second, "running", func() bool {
		return u.docker(t, "inspect", "-f", "{{.State.Running}}", name).Stdout == "true\n"
	})
	u.ok(t, "kill", name)
	if res := <-ended; res.Code != 137 {
		t.Errorf("got exit code %d, want 137", res.Code)
	}
	equal(t, "inspect", u.inspect(t, name, "{{.State.ExitCode}} {{.State.OOMKilled}}"), "137 false")
	// A fault of the program itself.
	if res := u.docker(t, "run", "--rm", images.Programs, "crash"); res.Code != 139 {
		t.Errorf("SIGSEGV: got exit code %d, want 139", res.Code)
	}
}
