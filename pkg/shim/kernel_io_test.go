package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

var outputs = AttachRequest{Stdout: true, Stderr: true}

func TestKernelStdinHalfClose(t *testing.T) {
	r := newRig(t, "sh", "-c", "wc -c; echo done >&2; exit 5")
	r.req.Stdio = Stdio{Stdin: true, StdinOnce: true}
	r.create()
	s, out := r.attach(AttachRequest{Stdin: true, Stdout: true, Stderr: true})
	must(t, r.client.Start(r.ctx()))
	const size = 3 << 20 // more than any pipe or window holds
	if n, err := s.WriteStdin(make([]byte, size)); n != size || err != nil {
		t.Fatalf("stdin: wrote %d, %v", n, err)
	}
	must(t, s.CloseStdin())
	stdout, stderr := unframe(t, out.end(t))
	if stdout != fmt.Sprintln(size) || stderr != "done\n" {
		t.Errorf("stdout %q, stderr %q", stdout, stderr)
	}
	if rec := r.wait(""); rec.Code != 5 {
		t.Errorf("exit: %+v", rec)
	}
}

func TestKernelStdinOutlivesADetachedClient(t *testing.T) {
	r := newRig(t, "sh", "-c", "read a; echo got $a; read b; echo got $b; cat; echo end")
	r.req.Stdio = Stdio{Stdin: true}
	r.create()
	must(t, r.client.Start(r.ctx()))
	in := AttachRequest{Stdin: true, Stdout: true}
	first, out := r.attach(in)
	_, err := first.WriteStdin([]byte("one\n"))
	must(t, err)
	out.await(t, "got one\n")
	must(t, first.Close())
	second, out := r.attach(in)
	_, err = second.WriteStdin([]byte("two\n"))
	must(t, err)
	out.await(t, "got two\n")
	must(t, second.CloseStdin()) // not StdinOnce: input stays open
	must(t, r.client.CloseStdin(r.ctx(), ""))
	if got, _ := unframe(t, out.end(t)); got != "got two\nend\n" {
		t.Errorf("second client: %q", got)
	}
	if got := r.logText(); got != "got one\ngot two\nend\n" {
		t.Errorf("log %q", got)
	}
}

func TestKernelTerminalResizes(t *testing.T) {
	r := newRig(t, "sh", "-c", "stty size; trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.1; done")
	r.spec.Process.Terminal = true
	r.req.Stdio = Stdio{TTY: true, Stdin: true, Size: [2]uint{20, 70}}
	r.startKeeper()
	r.create()
	_, out := r.attach(outputs)
	must(t, r.client.Start(r.ctx()))
	out.await(t, "20 70\r\nready\r\n")
	must(t, r.client.Resize(r.ctx(), ResizeRequest{Height: 41, Width: 101}))
	if got := out.end(t); !strings.HasSuffix(got, "41 101\r\n") {
		t.Errorf("output %q", got)
	}
	if rec := r.wait(""); rec.Code != 3 {
		t.Errorf("exit: %+v", rec)
	}
	if got := r.logText(); got != "20 70\r\nready\r\n41 101\r\n" {
		t.Errorf("log %q", got)
	}
}

// A terminal outlives a killed shim too, with its input.
func TestKernelTerminalIsAdopted(t *testing.T) {
	r := newRig(t, "sh", "-c", "stty -echo; while read l; do echo got $l; [ $l = quit ] && exit 4; done")
	r.spec.Process.Terminal = true
	r.req.Stdio = Stdio{TTY: true, Stdin: true}
	r.startKeeper()
	r.create()
	must(t, r.client.Start(r.ctx()))
	state, err := r.client.State(r.ctx())
	must(t, err)
	for _, word := range []string{"one", "two", "quit"} {
		s, out := r.attach(AttachRequest{Stdin: true, Stdout: true})
		_, err := s.WriteStdin([]byte(word + "\n"))
		must(t, err)
		out.await(t, "got "+word)
		if word != "quit" {
			kill(t, r.shim)
			r.adoptBy(ProcessReply{Pid: state.Pid, StartTime: state.StartTime})
		}
	}
	if rec := r.wait(""); rec.Code != 4 {
		t.Errorf("exit: %+v", rec)
	}
	for _, word := range []string{"one", "two", "quit"} {
		if n := strings.Count(r.logText(), "got "+word); n != 1 {
			t.Errorf("log has %q %d times: %q", word, n, r.logText())
		}
	}
}

func TestKernelAttachIsLosslessForSlowAndManyClients(t *testing.T) {
	r := newRig(t, "sh", "-c", "seq 1 1000000")
	r.create()
	fast, err := r.client.Attach(r.ctx(), outputs)
	must(t, err)
	slow, err := r.client.Attach(r.ctx(), outputs)
	must(t, err)
	leaver, err := r.client.Attach(r.ctx(), outputs)
	must(t, err)
	must(t, r.client.Start(r.ctx()))
	g := &gathered{done: make(chan struct{})}
	go g.read(fast.Output)
	must(t, leaver.Close()) // a client that goes without a word holds nobody up
	g.await(t, "\n1000\n")
	stalled := g.size(t)
	if stalled > 3*clientWindow {
		t.Errorf("%d bytes passed a client that reads nothing: its window is %d", stalled, clientWindow)
	}
	slowOut := &gathered{done: make(chan struct{})}
	go slowOut.read(slow.Output)
	for _, out := range []*gathered{g, slowOut} {
		stdout, _ := unframe(t, out.end(t))
		if len(stdout) != 6888896 || !strings.HasSuffix(stdout, "\n999999\n1000000\n") {
			t.Errorf("a client got %d bytes", len(stdout))
		}
	}
	r.wait("")
}

// size waits until no more output comes and returns how much came.
func (g *gathered) size(t *testing.T) int {
	last, same := -1, 0
	await(t, "output stalls", func() error {
		n := len(g.String())
		if n == last {
			same++
		} else {
			last, same = n, 0
		}
		if same < 20 {
			return errors.New("still flowing")
		}
		return nil
	})
	return last
}

func TestKernelLogIsCompleteAtAMillionLines(t *testing.T) {
	r := newRig(t, "sh", "-c", "seq 1 1000000")
	r.startKeeper()
	r.create()
	began := time.Now()
	must(t, r.client.Start(r.ctx()))
	r.wait("")
	t.Logf("1e6 lines: %v to the exit record", time.Since(began))
	text := r.logText()
	if len(text) != 6888896 || !strings.HasSuffix(text, "\n999999\n1000000\n") || strings.Count(text, "\n") != 1000000 {
		t.Errorf("log has %d bytes, %d lines", len(text), strings.Count(text, "\n"))
	}
	st, err := r.client.State(r.ctx())
	must(t, err)
	if st.Log.Records != 1000000 || st.Log.DroppedBytes != 0 {
		t.Errorf("log state: %+v", st.Log)
	}
}

func TestKernelLogRotatesUnderOutput(t *testing.T) {
	r := newRig(t, "sh", "-c", "seq 1 100000")
	r.req.Log.MaxSize, r.req.Log.MaxFile = 1<<20, 100
	r.create()
	must(t, r.client.LogRotate(r.ctx()))
	must(t, r.client.Start(r.ctx()))
	r.wait("")
	var text strings.Builder
	for i := 99; i > 0; i-- {
		path := fmt.Sprintf("%s.%d", r.req.LogPath, i)
		if unix.Access(path, unix.F_OK) == nil {
			text.WriteString(logText(t, path))
		}
	}
	text.WriteString(r.logText())
	if got := text.String(); len(got) != 588895 || strings.Count(got, "\n") != 100000 {
		t.Errorf("all files hold %d bytes, %d lines", len(got), strings.Count(got, "\n"))
	}
}

// exec registers, attaches to and starts a process in the container.
func (r *rig) exec(id string, cfg Stdio, change func(*specs.Process), argv ...string) (*Stream, *gathered, error) {
	r.t.Helper()
	p := *r.spec.Process
	p.Args, p.Terminal = argv, cfg.TTY
	if change != nil {
		change(&p)
	}
	oci, err := json.Marshal(&p)
	must(r.t, err)
	must(r.t, r.client.Exec(r.ctx(), ExecRequest{ID: id, Process: oci, Stdio: cfg}))
	s, out := r.attach(AttachRequest{ExecRef: ExecRef{ID: id}, Stdin: cfg.Stdin, Stdout: true, Stderr: true})
	_, err = r.client.ExecStart(r.ctx(), id)
	return s, out, err
}

// execRig runs a container to execute programs in.
func execRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, "sleep", "1000")
	r.startKeeper()
	r.create()
	must(t, r.client.Start(r.ctx()))
	return r
}

func TestKernelExecRunsAsAsked(t *testing.T) {
	r := execRig(t)
	t.Run("user, cwd, env, code", func(t *testing.T) {
		_, out, err := r.exec("e1", Stdio{}, func(p *specs.Process) {
			p.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{7}}
			p.Cwd, p.Env = "/tmp", []string{"PATH=/bin", "X=y"}
		}, "sh", "-c", "id -u; id -G; pwd; echo $X; echo err >&2; exit 42")
		must(t, err)
		stdout, stderr := unframe(t, out.end(t))
		if stdout != "1000\n1000 7\n/tmp\ny\n" || stderr != "err\n" {
			t.Errorf("stdout %q, stderr %q", stdout, stderr)
		}
		if rec := r.wait("e1"); rec.Code != 42 || rec.ExecID != "e1" {
			t.Errorf("exit: %+v", rec)
		}
		if rec, err := readRecord(r.req.ExitDir, "e1"); err != nil || rec.Code != 42 {
			t.Errorf("record: %+v, %v", rec, err)
		}
	})
	t.Run("input sent before the start arrives", func(t *testing.T) {
		p := *r.spec.Process
		p.Args = []string{"cat"}
		oci, err := json.Marshal(&p)
		must(t, err)
		must(t, r.client.Exec(r.ctx(), ExecRequest{ID: "e2", Process: oci, Stdio: Stdio{Stdin: true, StdinOnce: true}}))
		s, out := r.attach(AttachRequest{ExecRef: ExecRef{ID: "e2"}, Stdin: true, Stdout: true})
		_, err = s.WriteStdin([]byte("early\n"))
		must(t, err)
		must(t, s.CloseStdin())
		_, err = r.client.ExecStart(r.ctx(), "e2")
		must(t, err)
		if got, _ := unframe(t, out.end(t)); got != "early\n" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("terminal", func(t *testing.T) {
		s, out, err := r.exec("e3", Stdio{TTY: true, Stdin: true, Size: [2]uint{33, 99}}, nil, "sh", "-c", "stty size; tty; read x; exit 6")
		must(t, err)
		out.await(t, "33 99\r\n/dev/pts/")
		_, err = s.WriteStdin([]byte("\n"))
		must(t, err)
		if rec := r.wait("e3"); rec.Code != 6 {
			t.Errorf("exit: %+v", rec)
		}
	})
	t.Run("missing program", func(t *testing.T) {
		_, out, err := r.exec("e4", Stdio{}, nil, "nosuch")
		var e *Error
		if !errors.As(err, &e) || e.Kind != KindExecNotFound {
			t.Errorf("got %v", err)
		}
		out.end(t)
		if _, err := r.client.ExecStart(r.ctx(), "e4"); !errors.As(err, &e) || e.Kind != KindNotFound {
			t.Errorf("an exec that failed is still there: %v", err)
		}
	})
}

func TestKernelExecEnds(t *testing.T) {
	r := execRig(t)
	t.Run("signal and deadline", func(t *testing.T) {
		_, _, err := r.exec("e5", Stdio{}, nil, "sleep", "1000")
		must(t, err)
		must(t, r.client.Signal(r.ctx(), SignalRequest{ExecRef: ExecRef{ID: "e5"}, Signal: int(unix.SIGTERM)}))
		if rec := r.wait("e5"); rec.Code != 143 || rec.Signal != 15 {
			t.Errorf("exit: %+v", rec)
		}
		_, _, err = r.exec("e6", Stdio{}, nil, "sleep", "1000")
		must(t, err)
		must(t, r.client.Deadline(r.ctx(), DeadlineRequest{
			ExecRef: ExecRef{ID: "e6"}, Signal: int(unix.SIGKILL), At: time.Now().Add(50 * time.Millisecond)}))
		if rec := r.wait("e6"); rec.Code != 137 {
			t.Errorf("exit: %+v", rec)
		}
	})
	t.Run("a descendant that keeps the pipe does not hold the end", func(t *testing.T) {
		_, out, err := r.exec("e7", Stdio{}, nil, "sh", "-c", "(sleep 1000; echo never) & echo now; exit 9")
		must(t, err)
		if rec := r.wait("e7"); rec.Code != 9 {
			t.Errorf("exit: %+v", rec)
		}
		if got, _ := unframe(t, out.String()); got != "now\n" {
			t.Errorf("output %q", got)
		}
	})
	t.Run("survives the shim", func(t *testing.T) {
		_, _, err := r.exec("e8", Stdio{}, nil, "sh", "-c", "while [ ! -e /tmp/go ]; do usleep 1000; done; exit 23")
		must(t, err)
		state, err := r.client.State(r.ctx())
		must(t, err)
		kill(t, r.shim)
		r.adoptBy(ProcessReply{Pid: state.Pid, StartTime: state.StartTime})
		_, _, err = r.exec("e9", Stdio{}, nil, "touch", "/tmp/go")
		must(t, err)
		if rec := r.wait("e8"); rec.Code != 23 || rec.Source != triton.ExitByPidfd {
			t.Errorf("exit: %+v", rec)
		}
	})
}

func TestKernelLosingAClientFreesItsConnection(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	r.create()
	must(t, r.client.Start(r.ctx()))
	before := openFDs(t, r.shim.Process.Pid)
	for range 20 {
		ctx, cancel := context.WithTimeout(r.ctx(), 20*time.Millisecond)
		if _, err := r.client.Wait(ctx, ""); err == nil {
			t.Error("wait ended")
		}
		cancel()
		s, err := r.client.Attach(r.ctx(), outputs)
		must(t, err)
		must(t, s.Close())
	}
	await(t, "the connections are closed", func() error {
		if now := openFDs(t, r.shim.Process.Pid); now > before {
			return fmt.Errorf("%d descriptors, were %d", now, before)
		}
		return nil
	})
}

// Input that the process does not read must not make an error of the end of its output.
func TestKernelUnreadInputIsNoError(t *testing.T) {
	r := execRig(t)
	for i := range 20 {
		id := "u" + itoa(i)
		p := *r.spec.Process
		p.Args = []string{"echo", "out"}
		oci, err := json.Marshal(&p)
		must(t, err)
		must(t, r.client.Exec(r.ctx(), ExecRequest{ID: id, Process: oci, Stdio: Stdio{Stdin: true, StdinOnce: true}}))
		s, err := r.client.Attach(r.ctx(), AttachRequest{ExecRef: ExecRef{ID: id}, Stdin: true, Stdout: true})
		must(t, err)
		_, err = r.client.ExecStart(r.ctx(), id)
		must(t, err)
		for range 50 {
			_, err = s.WriteStdin([]byte("in"))
			must(t, err)
		}
		r.wait(id)
		must(t, s.CloseStdin())
		if out, err := io.ReadAll(s.Output); err != nil || !contains(string(out), "out\n") {
			t.Fatalf("output %q: %v", out, err)
		}
		must(t, s.Close())
	}
}
