package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/tritond/triton/test/images"
)

func TestExecRunsInTheContainer(t *testing.T) {
	u := shared(t)
	name := u.detached(t, "--env", "FROM=run", "--hostname", "inside", images.Busybox, "sleep", "1000")
	for _, c := range []struct {
		behaviour string
		flags     []string
		script    string
		stdout    string
		code      int
	}{
		{"exit code", nil, "exit 42", "", 42},
		{"output", nil, "echo hi", "hi\n", 0},
		{"environment of the container", nil, "echo $FROM", "run\n", 0},
		{"environment of its own", []string{"-e", "FROM=exec"}, "echo $FROM", "exec\n", 0},
		{"folder", []string{"-w", "/tmp"}, "pwd", "/tmp\n", 0},
		{"user", []string{"-u", "worker"}, "id -u", "1000\n", 0},
		{"host name", nil, "hostname", "inside\n", 0},
		{"same pid namespace", nil, "cat /proc/1/comm", "sleep\n", 0},
		{"killed", nil, "kill -9 $$", "", 137},
	} {
		t.Run(c.behaviour, func(t *testing.T) {
			args := append(append([]string{"exec"}, c.flags...), name, "sh", "-c", c.script)
			res := u.docker(t, args...)
			if res.Code != c.code || res.Stdout != c.stdout {
				t.Errorf("got %q, exit code %d, stderr %q; want %q, %d", res.Stdout, res.Code, res.Stderr, c.stdout, c.code)
			}
		})
	}
}

func TestExecOfAMissingProgramIs127(t *testing.T) {
	u := shared(t)
	name := u.detached(t, images.Programs, "sleep", "1000")
	// The client shows the engine's message on either stream, depending on when the engine learns of it.
	for want, program := range map[int]string{127: "nosuchprogram", 126: "/etc/not-a-program"} {
		if u.tritond == nil {
			want = 126 // what engine 20.10 says in both cases; newer ones tell them apart
		}
		res := u.docker(t, "exec", name, program)
		if res.Code != want {
			t.Errorf("exec %s: got exit code %d, want %d (%s%s)", program, res.Code, want, res.Stdout, res.Stderr)
		}
		matches(t, "message", res.Stdout+res.Stderr, "not found|ermission denied")
	}
	equal(t, "running", u.inspect(t, name, "{{.State.Running}}"), "true")
}

func TestExecStdinEndsWhereTheClientsEnds(t *testing.T) {
	u := shared(t)
	name := u.detached(t, images.Busybox, "sleep", "1000")
	big := strings.Repeat("0123456789abcde\n", 200_000)
	res := u.dockerIn(t, strings.NewReader(big), "exec", "-i", name, "sh", "-c", "cat; echo end; exit 4")
	if res.Code != 4 || res.Stdout != big+"end\n" {
		t.Errorf("got %d bytes, exit code %d, stderr %q; want %d bytes, 4", len(res.Stdout), res.Code, res.Stderr, len(big)+4)
	}
}

func TestExecDetachedReturnsAtOnce(t *testing.T) {
	u := shared(t)
	name := u.detached(t, images.Busybox, "sleep", "1000")
	u.ok(t, "exec", "-d", name, "sh", "-c", "echo done >/tmp/mark; exec sleep 1000")
	eventually(t, 10*time.Second, "the exec has run", func() bool {
		return u.docker(t, "exec", name, "cat", "/tmp/mark").Stdout == "done\n"
	})
}

func TestExecNeedsARunningContainer(t *testing.T) {
	u := shared(t)
	u.fails(t, 1, "No such container: nosuch", "exec", "nosuch", "true")
	name := u.name(t)
	u.ok(t, "create", "--name", name, images.True)
	u.fails(t, 1, "(?i)is not running", "exec", name, "true")
}

func TestExecEndsWithItsContainer(t *testing.T) {
	u := shared(t)
	name := u.detached(t, images.Busybox, "sleep", "1000")
	x := u.terminal(t, 24, 80, "exec", "-it", name, "sh")
	x.send("echo up$((1+1))\n")
	x.expect("up2")
	u.ok(t, "kill", name)
	if code := x.code(); code != 137 {
		t.Errorf("got exit code %d, want 137", code)
	}
}
