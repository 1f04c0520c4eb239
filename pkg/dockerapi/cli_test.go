package dockerapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/console"
	"github.com/google/go-cmp/cmp"
)

// cli runs the real docker CLI against the server.
func (s *testServer) cli(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	path, err := exec.LookPath("docker")
	if err != nil {
		t.Fatal("the docker CLI is needed: ", err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+s.sock, "DOCKER_CONFIG="+t.TempDir())
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = 5 * time.Second
	timer := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("docker %v: %v %s", args, err, errs.String())
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// TestCLITerminal runs docker run -it on a terminal of its own.
func TestCLITerminal(t *testing.T) {
	s := startServer(t)
	terminal, tty, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	if err := terminal.Resize(console.WinSize{Height: 33, Width: 111}); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(tty, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("docker", "run", "-it", "--name", "term", "--detach-keys", "ctrl-x,y", "busybox", "cat")
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+s.sock, "DOCKER_CONFIG="+t.TempDir(), "TERM=xterm")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	watchdog := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer watchdog.Stop()
	size := func() [2]uint {
		s.b.mu.Lock()
		defer s.b.mu.Unlock()
		for _, c := range s.b.containers {
			c.proc.mu.Lock()
			defer c.proc.mu.Unlock()
			return c.proc.size
		}
		return [2]uint{}
	}
	eventually(t, "size of the terminal", func() bool { return size() == [2]uint{33, 111} })
	if err := terminal.Resize(console.WinSize{Height: 20, Width: 50}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "resize", func() bool { return size() == [2]uint{20, 50} })
	fmt.Fprint(terminal, "ping")
	answer := make([]byte, len("ping"))
	if _, err := io.ReadFull(terminal, answer); err != nil || string(answer) != "ping" {
		t.Errorf("got %q %v", answer, err)
	}
	fmt.Fprint(terminal, "\x18y")
	if err := cmd.Wait(); err != nil {
		t.Errorf("docker: %v", err)
	}
	if out, _, _ := s.cli(t, "", "ps", "--format", "{{.Names}}"); out != "term\n" {
		t.Errorf("after detach: got %q", out)
	}
}

func TestCLIRun(t *testing.T) {
	s := startServer(t)
	for _, tc := range []struct {
		name, stdin string
		args        []string
		out, err    string
		code        int
	}{
		{name: "output", args: []string{"run", "--rm", "busybox", "echo", "hello"}, out: "hello\n"},
		{name: "stderr apart", args: []string{"run", "--rm", "busybox", "both"}, out: "out\n", err: "err\n"},
		{name: "exit code", args: []string{"run", "--rm", "busybox", "exit", "42"}, code: 42},
		{name: "half-closed stdin", stdin: "in", args: []string{"run", "--rm", "-i", "busybox", "cat"}, out: "inEND\n"},
		{name: "not found", args: []string{"run", "--rm", "busybox", "missing"}, err: "executable file not found", code: 127},
		{name: "not executable", args: []string{"run", "--rm", "busybox", "noexec"}, err: "permission denied", code: 126},
		{name: "daemon error", args: []string{"run", "--rm", "busybox", "broken"}, err: "the machine is on fire", code: 125},
		{name: "no image", args: []string{"run", "--rm", "nosuch", "true"}, err: "pull access denied for nosuch", code: 125},

		{name: "refused restart", args: []string{"run", "--restart=sometimes", "busybox", "true"},
			err: "invalid restart policy: unknown policy 'sometimes'", code: 125},
		{name: "refused volume", args: []string{"run", "--volume-driver", "nfs", "-v", "data:/data", "busybox", "true"}, err: "local is the only volume driver", code: 125},
		{name: "many flags", args: []string{
			"run", "--rm", "-v", "/tmp:/host:ro", "--mount", "type=bind,src=/etc,dst=/etc2,readonly", "--mount", "type=tmpfs,dst=/x,tmpfs-size=1m",
			"--tmpfs", "/y:size=3m", "--security-opt", "no-new-privileges", "--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "-m", "64m", "--cpus", "1.5",
			"--ulimit", "nofile=10:20", "--dns", "1.1.1.1", "--add-host", "a:1.2.3.4", "--log-opt", "max-size=1m", "--init=false", "--expose", "80",
			"--stop-timeout", "3", "--pids-limit", "100", "--shm-size", "1m", "-e", "A=b", "--label", "l=1", "--hostname", "h", "-w", "/tmp", "-u", "1:2",
			"busybox", "echo", "ok",
		}, out: "ok\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, stderr, code := s.cli(t, tc.stdin, tc.args...)
			if code != tc.code || out != tc.out || !strings.Contains(stderr, tc.err) {
				t.Errorf("got code %d, out %q, err %q; want %d, %q, %q", code, out, stderr, tc.code, tc.out, tc.err)
			}
		})
	}
	if out, _, _ := s.cli(t, "", "ps", "-aq"); strings.Count(out, "\n") != 0 {
		t.Errorf("left over: %s", out)
	}
}

func TestCLILifecycle(t *testing.T) {
	s := startServer(t)
	run := func(want string, args ...string) string {
		t.Helper()
		out, stderr, code := s.cli(t, "", args...)
		if code != 0 {
			t.Fatalf("docker %v: code %d, %s", args, code, stderr)
		}
		if want != "" {
			if diff := cmp.Diff(want, strings.TrimSpace(out)); diff != "" {
				t.Errorf("docker %v (-want +got):\n%s", args, diff)
			}
		}
		return out
	}
	id := strings.TrimSpace(run("", "run", "-d", "--name", "web", "busybox", "sleep", "1"))
	run(id[:12], "ps", "-q", "-f", "name=web", "-f", "status=running")
	run("web busybox \"sleep 1\" running", "ps", "--format", "{{.Names}} {{.Image}} {{.Command}} {{.State}}", "--no-trunc")
	if out := run("", "ps", "--format", "{{.Status}}"); !strings.HasPrefix(out, "Up ") || !strings.Contains(out, "second") {
		t.Errorf("status: got %q", out)
	}
	run("hi", "exec", "web", "echo", "hi")
	run("true 172.30.0.2 json-file", "inspect", "-f", "{{.State.Running}} {{.NetworkSettings.IPAddress}} {{.HostConfig.LogConfig.Type}}", "web")
	if _, stderr, code := s.cli(t, "", "exec", "web", "missing"); code != 127 {
		t.Errorf("exec missing: code %d %s, want 127", code, stderr)
	}
	if _, stderr, code := s.cli(t, "", "rm", "web"); code != 1 || !strings.Contains(stderr, "stop the container before removing") {
		t.Errorf("rm of a running container: %d %s", code, stderr)
	}
	run("web", "restart", "web")
	run("web", "stop", "web")
	run("137", "wait", "web")
	run("web", "start", "web")
	run("web", "kill", "web")
	run("web", "rm", "web")
	run("", "version")
	run("", "info")
	run("busybox:latest", "images", "--format", "{{.Repository}}:{{.Tag}}")
	run("", "tag", "busybox", "foo/bar:1")
	run("[busybox:latest foo/bar:1]", "image", "inspect", "-f", "{{.RepoTags}}", "foo/bar:1")
	if _, stderr, code := s.cli(t, "", "inspect", "nope"); code != 1 || !strings.Contains(stderr, "No such object: nope") {
		t.Errorf("inspect of nothing: %d %s", code, stderr)
	}
	run("bridge\nhost\nnone", "network", "ls", "--format", "{{.Name}}")
	until := strconv.FormatInt(time.Now().Unix()+1, 10) // the client's times have whole seconds; this one is after the last event
	out := run("", "events", "--since", "1h", "--until", until, "--filter", "event=die", "--format", "{{.Actor.Attributes.name}} {{.Action}}")
	if got, want := out, strings.Repeat("web die\n", 3); got != want {
		t.Errorf("events: got %q, want %q", got, want)
	}
}
