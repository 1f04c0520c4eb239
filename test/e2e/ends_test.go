package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

// hijacked is a connection that was taken over: no library between the test and what the server did to it.
type hijacked struct {
	*net.UnixConn
	in *bufio.Reader
}

// hijack asks for the streams of path.
func hijack(ctx context.Context, host, path string, body any) (*hijacked, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", strings.TrimPrefix(host, "unix://"))
	if err != nil {
		return nil, err
	}
	w := &hijacked{UnixConn: conn.(*net.UnixConn), in: bufio.NewReader(conn)}
	if err := w.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	var sent []byte
	if body != nil {
		if sent, err = json.Marshal(body); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, len(sent))
	if _, err := w.Write(append([]byte(head), sent...)); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	answer, err := http.ReadResponse(w.in, nil)
	if err == nil && answer.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(answer.Body)
		err = fmt.Errorf("%s %s", answer.Status, text)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("POST %s: %w", path, err), w.Close())
	}
	return w, nil
}

// all reads both outputs to their end.
func (w *hijacked) all() (stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	_, err = stdcopy.StdCopy(&out, &errs, w.in)
	return out.String(), errs.String(), errors.Join(err, w.Close())
}

// ends is one client of many that look at the ends of outputs.
type ends struct {
	host string
	api  *engine.API
	tag  string // of this round: what its programs write is nobody else's
}

const endsAPI = "/v1.51"

func (e *ends) post(ctx context.Context, path string, in, out any) error {
	return e.api.JSON(ctx, http.MethodPost, endsAPI+path, in, out)
}

// create makes a container that runs a script.
func (e *ends) create(ctx context.Context, script string, host map[string]any) (string, error) {
	host["NetworkMode"] = "none"
	var made struct{ Id string }
	spec := map[string]any{"Image": images.Busybox, "Cmd": []string{"sh", "-c", script}, "HostConfig": host, "OpenStdin": true}
	err := e.post(ctx, "/containers/create", spec, &made)
	return made.Id, err
}

// exec runs a script in a container and wants what it writes, and its exit code.
func (e *ends) exec(ctx context.Context, id, script, input, wantOut, wantErr string, wantCode int) error {
	var made struct{ Id string }
	spec := map[string]any{"Cmd": []string{"sh", "-c", script}, "AttachStdin": input != "", "AttachStdout": true, "AttachStderr": true}
	if err := e.post(ctx, "/containers/"+id+"/exec", spec, &made); err != nil {
		return err
	}
	w, err := hijack(ctx, e.host, endsAPI+"/exec/"+made.Id+"/start", map[string]any{"Detach": false})
	if err != nil {
		return err
	}
	if input != "" {
		go func() {
			_, _ = io.WriteString(w, input) // what is missing of it is missing in the output
			_ = w.CloseWrite()
		}()
	}
	stdout, stderr, err := w.all()
	if err != nil {
		return err
	}
	var state struct {
		Running  bool
		ExitCode *int
	}
	if err := e.api.JSON(ctx, http.MethodGet, endsAPI+"/exec/"+made.Id+"/json", nil, &state); err != nil {
		return err
	}
	if state.Running || state.ExitCode == nil || *state.ExitCode != wantCode {
		return fmt.Errorf("exec of %q: after its end inspect says %+v, want exit code %d", script, state, wantCode)
	}
	return sameOutput("exec of "+script, stdout, stderr, wantOut, wantErr)
}

func sameOutput(what, stdout, stderr, wantOut, wantErr string) error {
	if stdout == wantOut && stderr == wantErr {
		return nil
	}
	short := func(s string) string { return fmt.Sprintf("%d bytes %.40q", len(s), s) }
	return fmt.Errorf("%s: got %s and %s, want %s and %s", what, short(stdout), short(stderr), short(wantOut), short(wantErr))
}

// execs looks at execs in a container that was started just before, the last of which ends with the container.
func (e *ends) execs(ctx context.Context) error {
	id, err := e.create(ctx, "until [ -e /over ]; do usleep 2000; done", map[string]any{})
	if err != nil {
		return err
	}
	defer e.api.Remove(context.WithoutCancel(ctx), id)
	if err := e.post(ctx, "/containers/"+id+"/start", nil, nil); err != nil {
		return err
	}
	big := strings.Repeat(e.tag+"\n", 10_000)
	for _, f := range []func() error{
		func() error {
			return e.exec(ctx, id, "echo "+e.tag+"; echo err >&2; exit 3", "", e.tag+"\n", "err\n", 3)
		},
		func() error { return e.exec(ctx, id, "cat; echo end >&2", big, big, "end\n", 0) },
		func() error {
			return e.exec(ctx, id, "yes "+e.tag+" | head -n 10000; touch /over; exec sleep 1000", "", big, "", 137)
		},
	} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// removed waits until a container is removed, and wants its exit code, unless it was gone already.
func (e *ends) removed(ctx context.Context, id string, code int) error {
	var end struct{ StatusCode int }
	err := e.post(ctx, "/containers/"+id+"/wait?condition=removed", nil, &end)
	switch {
	case err != nil && strings.Contains(err.Error(), "404"):
		return nil
	case err == nil && end.StatusCode != code:
		return fmt.Errorf("wait says %d, want %d", end.StatusCode, code)
	}
	return err
}

// run looks at the output of a container that is removed when it ends, by those who attached before, and by a reader of its log.
func (e *ends) run(ctx context.Context) error {
	id, err := e.create(ctx, "read go; yes "+e.tag+" | head -n 10000; echo last >&2; exit 5", map[string]any{"AutoRemove": true})
	if err != nil {
		return err
	}
	defer e.api.Remove(context.WithoutCancel(ctx), id) // not there any more, mostly
	var wires []*hijacked
	for range 2 {
		w, err := hijack(ctx, e.host, endsAPI+"/containers/"+id+"/attach?stream=1&stdin=1&stdout=1&stderr=1", nil)
		if err != nil {
			return err
		}
		wires = append(wires, w)
	}
	if err := e.post(ctx, "/containers/"+id+"/start", nil, nil); err != nil {
		return err
	}
	log, err := e.api.Stream(ctx, endsAPI+"/containers/"+id+"/logs?follow=1&stdout=1&stderr=1")
	if err != nil {
		return err
	}
	defer log.Close()
	ended := make(chan error, 1)
	go func() {
		ended <- e.removed(ctx, id, 5)
	}()
	if _, err := io.WriteString(wires[0], "go\n"); err != nil {
		return err
	}
	big := strings.Repeat(e.tag+"\n", 10_000)
	for i, w := range wires {
		stdout, stderr, err := w.all()
		if err == nil {
			err = sameOutput(fmt.Sprintf("attached client %d", i), stdout, stderr, big, "last\n")
		}
		if err != nil {
			return err
		}
	}
	var out, errs bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &errs, log); err != nil {
		return err
	}
	return errors.Join(sameOutput("the log", out.String(), errs.String(), big, "last\n"), <-ended)
}

// endsRounds is how many rounds each of six clients of TestNoEndOfAnOutputIsLost makes; TRITON_E2E_LONG makes it 100, `make test-races` so too.
const endsRounds = 4

// TestNoEndOfAnOutputIsLost: of execs and containers that end at once, or with each other, by six clients at a time.
func TestNoEndOfAnOutputIsLost(t *testing.T) {
	u := own(t)
	rounds := endsRounds
	if all.long {
		rounds = 100
	}
	const clients = 6
	api := engine.NewAPI(u.tritond.Host, 4*clients)
	defer api.Close()
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			for round := range rounds {
				e := &ends{host: u.tritond.Host, api: api, tag: fmt.Sprintf("c%dr%d", client, round)}
				if err := errors.Join(e.execs(t.Context()), e.run(t.Context())); err != nil {
					t.Errorf("client %d, round %d: %v", client, round, err)
				}
			}
		})
	}
	wg.Wait()
}

// TestSlowReadersGetTheEnd: what a client has not read when the container ends is not lost, though the container is removed
// meanwhile, and nobody waits for the client.
func TestSlowReadersGetTheEnd(t *testing.T) {
	u := shared(t)
	const size, late = 9_000_000, 1_300_000 // late: more than a client's window in the shim, less than all on the way can hold
	api := engine.NewAPI(u.cli.Host, 4)
	defer api.Close()
	e := &ends{host: u.cli.Host, api: api}
	id, err := e.create(t.Context(), fmt.Sprintf("head -c %d /dev/zero; echo last >&2; exit 4", size), map[string]any{"AutoRemove": true})
	if err != nil {
		t.Fatal(err)
	}
	slow, err := hijack(t.Context(), e.host, endsAPI+"/containers/"+id+"/attach?stream=1&stdout=1&stderr=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.post(t.Context(), "/containers/"+id+"/start", nil, nil); err != nil {
		t.Fatal(err)
	}
	var begin bytes.Buffer
	if _, err := io.CopyN(&begin, slow.in, size-late); err != nil {
		t.Fatal(err)
	}
	if err := e.removed(t.Context(), id, 4); err != nil {
		t.Error(err)
	}
	slow.in = bufio.NewReader(io.MultiReader(&begin, slow.in))
	stdout, stderr, err := slow.all()
	if err != nil || len(stdout) != size || stderr != "last\n" {
		t.Errorf("the client got %d bytes of %d and %q: %v", len(stdout), size, stderr, err)
	}
}

// TestClientsSeeThatTheDaemonWasKilled: nobody takes an output that was cut off for one that ended, and what it was of goes on.
func TestClientsSeeThatTheDaemonWasKilled(t *testing.T) {
	t.Parallel()
	u := own(t)
	script := []string{"sh", "-c", "echo begun; until [ -e /go ]; do usleep 2000; done; echo over; exit 6"}
	u.ok(t, append([]string{"run", "-d", "--name", "other", images.Busybox}, script...)...)
	clients := map[string][]string{
		"run":    append([]string{"run", "--name", "mine", images.Busybox}, script...),
		"exec":   append([]string{"exec", "other"}, script...),
		"logs":   {"logs", "-f", "other"},
		"events": {"events", "--since", "1h", "--format", "begun {{.Action}}"},
		"wait":   {"wait", "other"}, // says nothing before the end
	}
	ends := map[string]*client{}
	for name, args := range clients {
		ends[name] = u.background(t, name != "wait", args...)
	}
	u.kill(t)
	for name, c := range ends {
		if res := c.end(t); res.Code == 0 || res.Stderr == "" && name != "exec" { // its client says nothing
			t.Errorf("docker %s: exit code %d, output %q, errors %q", name, res.Code, res.Stdout, res.Stderr)
		}
	}
	u.restart(t)
	for _, name := range []string{"mine", "other"} {
		release(t, u.pid(t, name)) // an exec would end with the container, as often as not before it has an exit code of its own
		equal(t, "docker wait "+name, u.ok(t, "wait", name), "6")
		equal(t, "docker logs "+name, u.ok(t, "logs", name), "begun\nover")
	}
}

// client is a docker client that runs beside the test.
type client struct {
	cmd    *exec.Cmd
	out    *bufio.Reader
	first  string
	stderr bytes.Buffer
}

// background starts docker and waits, if it is to say something, for its first line.
func (u *under) background(t *testing.T, says bool, args ...string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), commandTime)
	t.Cleanup(cancel)
	c := &client{cmd: u.cli.Command(ctx, args...)}
	c.cmd.Stderr = &c.stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if says {
		if c.first, err = c.out.ReadString('\n'); err != nil || !strings.HasPrefix(c.first, "begun") {
			t.Fatalf("docker %s said %q: %v", strings.Join(args, " "), c.first, err)
		}
	}
	return c
}

// end waits for the client's end.
func (c *client) end(t *testing.T) engine.Result {
	t.Helper()
	rest, err := io.ReadAll(c.out)
	if err != nil {
		t.Errorf("docker %s: %v", c.cmd.Args[1], err)
	}
	if err := c.cmd.Wait(); err != nil && c.cmd.ProcessState == nil {
		t.Error(err)
	}
	return engine.Result{Stdout: c.first + string(rest), Stderr: c.stderr.String(), Code: c.cmd.ProcessState.ExitCode()}
}
