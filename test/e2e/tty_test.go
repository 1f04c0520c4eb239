package e2e

import (
	"testing"
	"time"

	"github.com/tritond/triton/test/images"
)

func TestTerminalHasTheClientsSizeAndFollowsIt(t *testing.T) {
	u := shared(t)
	x := u.terminal(t, 40, 100, "run", "-it", "--rm", images.Busybox, "sh")
	x.send("echo ready$((1+1))\n")
	x.expect("ready2")
	// The client sends the first size after the start: it may arrive a moment later.
	x.send("until stty size | grep -q '^40 100$'; do sleep 0.05; done; echo first$((1+1))\n")
	x.expect("first2")
	x.resize(25, 81)
	x.send("until stty size | grep -q '^25 81$'; do sleep 0.05; done; echo second$((1+1))\n")
	x.expect("second2")
	x.send("tty; exit 7\n")
	x.expect("/dev/pts/0")
	if code := x.code(); code != 7 {
		t.Errorf("got exit code %d, want 7", code)
	}
}

func TestControlCReachesTheProgram(t *testing.T) {
	u := shared(t)
	x := u.terminal(t, 24, 80, "run", "-it", "--rm", images.Busybox, "sh", "-c", "trap 'echo caught; exit 9' INT; echo armed; while :; do sleep 0.1; done")
	x.expect("armed")
	x.send("\x03")
	x.expect("caught")
	if code := x.code(); code != 9 {
		t.Errorf("got exit code %d, want 9", code)
	}
}

func TestDetachKeysLeaveTheContainerRunning(t *testing.T) {
	u := shared(t)
	for _, c := range []struct {
		keys  string
		flags []string
	}{
		{"\x10\x11", nil},
		{"\x18x", []string{"--detach-keys", "ctrl-x,x"}},
	} {
		name := u.name(t)
		x := u.terminal(t, 24, 80, append(append([]string{"run", "-it", "--name", name}, c.flags...), images.Busybox, "sh")...)
		x.send("echo up$((1+1))\n")
		x.expect("up2")
		x.send(c.keys)
		if code := x.code(); code != 0 {
			t.Errorf("detach: got exit code %d, want 0", code)
		}
		equal(t, "running", u.inspect(t, name, "{{.State.Running}}"), "true")

		again := u.terminal(t, 24, 80, "attach", name)
		again.send("echo back$((1+1))\n")
		again.expect("back2")
		again.send("exit 5\n")
		if code := again.code(); code != 5 {
			t.Errorf("attach: got exit code %d, want 5", code)
		}
	}
}

func TestExecOnATerminal(t *testing.T) {
	u := shared(t)
	name := u.detached(t, images.Busybox, "sleep", "1000")
	x := u.terminal(t, 31, 91, "exec", "-it", name, "sh")
	x.send("until stty size | grep -q '^31 91$'; do sleep 0.05; done; echo sized$((1+1))\n")
	x.expect("sized2")
	x.resize(22, 72)
	x.send("until stty size | grep -q '^22 72$'; do sleep 0.05; done; echo again$((1+1))\n")
	x.expect("again2")
	x.send("exit 6\n")
	if code := x.code(); code != 6 {
		t.Errorf("got exit code %d, want 6", code)
	}

	detached := u.terminal(t, 24, 80, "exec", "-it", name, "sh")
	detached.send("echo up$((1+1))\n")
	detached.expect("up2")
	detached.send("\x10\x11")
	detached.code()
	equal(t, "running", u.inspect(t, name, "{{.State.Running}}"), "true")
}

func TestTerminalOutputIsLoggedRaw(t *testing.T) {
	u := shared(t)
	name := u.detached(t, "-t", images.Busybox, "sh", "-c", "echo one; echo two >&2")
	u.ok(t, "wait", name)
	eventually(t, 5*time.Second, "both lines in the log", func() bool {
		return u.docker(t, "logs", name).Stdout == "one\r\ntwo\r\n"
	})
}
