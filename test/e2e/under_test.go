package e2e

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tritond/triton/test/engine"
	"github.com/vishvananda/netns"
)

// under is an engine under test.
type under struct {
	cli     engine.CLI
	api     *engine.API
	netns   string          // path of the bridge's network namespace; empty: this process's
	tritond *engine.Tritond // nil: a foreign engine
}

// commandTime bounds one docker command. It is generous: it tells a hang from a slow machine.
const commandTime = 90 * time.Second

func newUnder(host, netnsPath string) (*under, error) {
	dir, err := os.MkdirTemp("", "docker-config")
	if err != nil {
		return nil, err
	}
	return &under{cli: engine.CLI{Host: host, ConfigDir: dir}, api: engine.NewAPI(host, 16), netns: netnsPath}, nil
}

// load gives the engine the test images.
func (u *under) load(ctx context.Context) error {
	return u.cli.Load(ctx, all.images.Archives()...)
}

// shared returns the engine that most tests share, and lets the test run beside others.
func shared(t *testing.T) *under {
	t.Helper()
	t.Parallel()
	return all.shared
}

// tritonOnly skips a test of what only Triton has, when the tests run against another engine.
func tritonOnly(t *testing.T) {
	t.Helper()
	if all.shared.tritond == nil {
		t.Skip("not portable: needs tritond")
	}
}

// own starts a tritond for this test alone, with images loaded, and checks at its end that nothing is left of it.
func own(t *testing.T, flags ...string) *under {
	t.Helper()
	tritonOnly(t)
	d, err := engine.NewTritond(all.bin, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("end of the log of %s:\n%s", d.Instance, d.Log())
		}
		if err := d.CloseWithin(time.Minute); err != nil {
			t.Error(err)
		}
	})
	return startOwn(t, d)
}

// startOwn starts d, which may have run before, and loads the images when it has none.
func startOwn(t *testing.T, d *engine.Tritond) *under {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := d.Start(ctx); err != nil {
		t.Fatal(err)
	}
	u, err := newUnder(d.Host, "")
	if err != nil {
		t.Fatal(err)
	}
	u.tritond = d
	t.Cleanup(func() {
		u.api.Close()
		os.RemoveAll(u.cli.ConfigDir)
	})
	if u.ok(t, "images", "-q") == "" {
		if err := u.load(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

// docker runs a command to its end.
func (u *under) docker(t *testing.T, args ...string) engine.Result {
	t.Helper()
	return u.dockerIn(t, nil, args...)
}

// dockerIn runs a command with standard input.
func (u *under) dockerIn(t *testing.T, stdin io.Reader, args ...string) engine.Result {
	t.Helper()
	// Cleanups run after t.Context has ended, and use docker as well.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), commandTime)
	defer cancel()
	res, err := u.cli.Run(ctx, stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// ok runs a command that must succeed, and returns what it wrote to stdout, trimmed.
func (u *under) ok(t *testing.T, args ...string) string {
	t.Helper()
	res := u.docker(t, args...)
	if res.Code != 0 {
		t.Fatalf("docker %s: exit code %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), res.Code, res.Stdout, res.Stderr)
	}
	return strings.TrimSpace(res.Stdout)
}

// fails runs a command that must end with code and say on stderr something that matches pattern.
func (u *under) fails(t *testing.T, code int, pattern string, args ...string) {
	t.Helper()
	res := u.docker(t, args...)
	right := res.Code == code || code == anyFailure && res.Code != 0
	if !right || !regexp.MustCompile(pattern).MatchString(res.Stderr) {
		t.Errorf("docker %s: got exit code %d, stderr %q\nwant exit code %d, stderr matching %q",
			strings.Join(args, " "), res.Code, res.Stderr, code, pattern)
	}
}

// name makes up a name for a container, which is removed after the test.
func (u *under) name(t *testing.T) string {
	t.Helper()
	name := "c" + randomHex()
	t.Cleanup(func() {
		// By the API: a client process costs more than the removal. Most are gone already.
		r, err := u.api.Do(context.WithoutCancel(t.Context()), http.MethodDelete, "/v1.41/containers/"+name+"?force=1", "", nil)
		if err != nil || r.Status >= 400 && r.Status != http.StatusNotFound && r.Status != http.StatusConflict {
			t.Errorf("remove %s: %d %s %v", name, r.Status, r.Body, err)
		}
	})
	return name
}

// detached starts a container in the background and returns its name. args are flags, image and command.
func (u *under) detached(t *testing.T, args ...string) string {
	t.Helper()
	name := u.name(t)
	u.ok(t, append([]string{"run", "-d", "--name", name}, args...)...)
	return name
}

// inspect returns one field by a template of `docker inspect -f`.
func (u *under) inspect(t *testing.T, name, format string) string {
	t.Helper()
	return u.ok(t, "inspect", "-f", format, name)
}

// pid returns the first process of a container, as the host numbers it.
func (u *under) pid(t *testing.T, name string) int {
	t.Helper()
	pid, err := strconv.Atoi(u.inspect(t, name, "{{.State.Pid}}"))
	if err != nil || pid == 0 {
		t.Fatalf("%s has no pid: %v", name, err)
	}
	return pid
}

// address returns a container's own IP address.
func (u *under) address(t *testing.T, name string) string {
	t.Helper()
	return u.inspect(t, name, "{{.NetworkSettings.Networks.bridge.IPAddress}}")
}

// inNet calls f in the network namespace that holds the bridge.
func (u *under) inNet(t *testing.T, f func() error) error {
	t.Helper()
	return inNS(t, u.netns, f)
}

// inNS calls f in the network namespace that is pinned at path; empty: this process's.
func inNS(t *testing.T, path string, f func() error) error {
	t.Helper()
	if path == "" {
		return f()
	}
	ns, err := netns.GetFromPath(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			runtime.UnlockOSThread()
			result <- err
			return
		}
		defer home.Close()
		if err = netns.Set(ns); err == nil {
			err = f()
		}
		// Back, and only then unlocked. To leave the thread to its end would do, but Go's first thread never ends.
		if back := netns.Set(home); back != nil {
			result <- errors.Join(err, back)
			return
		}
		runtime.UnlockOSThread()
		result <- err
	}()
	return <-result
}

// eventually polls until cond holds; what says what is waited for.
func eventually(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	if !within(limit, cond) {
		t.Fatalf("after %v still not: %s", limit, what)
	}
}

// promptly does something up to three times, until it takes at most limit: a machine that did other things meanwhile is no defect.
func promptly(t *testing.T, what string, limit time.Duration, do func() time.Duration) {
	t.Helper()
	var took []time.Duration
	for range 3 {
		took = append(took, do())
		if took[len(took)-1] <= limit {
			return
		}
	}
	t.Errorf("%s: took %v, want at most %v once", what, took, limit)
}

// patience is how many times as long everything may take on a machine that does other things as well.
const patience = 4

// within polls until cond holds, and reports whether it did before the limit, which is one for a quiet machine.
func within(limit time.Duration, cond func() bool) bool {
	deadline := time.Now().Add(patience * limit)
	for pause := 5 * time.Millisecond; !cond(); pause = min(2*pause, 200*time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
	}
	return true
}

func randomHex() string {
	b := make([]byte, 6)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// equal is the one assertion for strings.
func equal(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// matches is the one assertion for patterns.
func matches(t *testing.T, what, got, pattern string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(got) {
		t.Errorf("%s: got %q, want a match of %q", what, got, pattern)
	}
}
