package dockerapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/pkg/stdcopy"

	"github.com/tritond/triton/pkg/triton"
)

// rawClient is an HTTP client that shows what a connection really carries.
type rawClient struct {
	*net.UnixConn
	r *bufio.Reader
}

func (s *testServer) dial(t *testing.T) *rawClient {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: s.sock})
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { c.Close() })
	return &rawClient{c, bufio.NewReader(c)}
}

// post sends a request and extra bytes in one write, and reads the response's head.
func (c *rawClient) post(t *testing.T, path, head, body, extra string) *http.Response {
	t.Helper()
	if body != "" {
		head += fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	if _, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: d\r\n%s\r\n%s%s", path, head, body, extra); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func (c *rawClient) rest(t *testing.T) string {
	t.Helper()
	raw, err := io.ReadAll(c.r)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

const upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n"

func demux(t *testing.T, raw string) (stdout, stderr string) {
	t.Helper()
	var o, e bytes.Buffer
	if _, err := stdcopy.StdCopy(&o, &e, strings.NewReader(raw)); err != nil {
		t.Fatalf("%v in %q", err, raw)
	}
	return o.String(), e.String()
}

const attachAll = "/attach?stream=1&stdin=1&stdout=1&stderr=1"

func TestAttachKeepsBytesSentWithTheRequest(t *testing.T) {
	s := startServer(t)
	id := s.container(t, "cc", `{"Image":"busybox","Cmd":["cat"],"OpenStdin":true,"StdinOnce":true}`)
	c := s.dial(t)
	resp := c.post(t, "/v1.44/containers/"+id+attachAll, upgrade, "", "early ")
	if resp.StatusCode != 101 || resp.Status != "101 UPGRADED" || resp.Header.Get("Content-Type") != "application/vnd.docker.multiplexed-stream" ||
		resp.Header.Get("Upgrade") != "tcp" {
		t.Fatalf("got %s %v", resp.Status, resp.Header)
	}
	s.do(t, "POST", "/containers/cc/start", "").want(t, 204, "")
	fmt.Fprint(c, "late")
	c.CloseWrite()
	stdout, _ := demux(t, c.rest(t))
	if got, want := stdout, "early lateEND\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestAttachDropsTheBody: dockerode repeats its options in one.
func TestAttachDropsTheBody(t *testing.T) {
	s := startServer(t)
	id := s.container(t, "cc", `{"Image":"busybox","Cmd":["cat"],"OpenStdin":true,"StdinOnce":true}`)
	c := s.dial(t)
	c.post(t, "/containers/"+id+attachAll, upgrade, `{"stream":true,"hijack":true}`, "input")
	s.do(t, "POST", "/containers/cc/start", "").want(t, 204, "")
	c.CloseWrite()
	if stdout, _ := demux(t, c.rest(t)); stdout != "inputEND\n" {
		t.Errorf("got %q", stdout)
	}
}

func TestAttachContentTypes(t *testing.T) {
	s := startServer(t)
	s.container(t, "plain", `{"Image":"busybox","Cmd":["both"]}`)
	s.container(t, "tty", `{"Image":"busybox","Cmd":["both"],"Tty":true}`)
	const raw, mux = "application/vnd.docker.raw-stream", "application/vnd.docker.multiplexed-stream"
	for _, tc := range []struct {
		path, head string
		status     int
		media      string
	}{
		{"/v1.41/containers/plain", upgrade, 101, raw},
		{"/v1.42/containers/plain", upgrade, 101, mux},
		{"/containers/tty", upgrade, 101, raw},
		{"/containers/plain", "", 200, raw},
	} {
		c := s.dial(t)
		resp := c.post(t, tc.path+"/attach?stream=1&stdout=1", tc.head, "", "")
		if resp.StatusCode != tc.status || resp.Header.Get("Content-Type") != tc.media {
			t.Errorf("%s: got %d %s, want %d %s", tc.path, resp.StatusCode, resp.Header.Get("Content-Type"), tc.status, tc.media)
		}
	}
}

func TestAttachHalfCloseWithoutStdinKeepsOutput(t *testing.T) {
	s := startServer(t)
	s.container(t, "cc", `{"Image":"busybox","Cmd":["both"]}`)
	c := s.dial(t)
	c.post(t, "/containers/cc/attach?stream=1&stdout=1&stderr=1", upgrade, "", "")
	c.CloseWrite() // what docker run without -i does
	s.do(t, "POST", "/containers/cc/start", "").want(t, 204, "")
	stdout, stderr := demux(t, c.rest(t))
	if stdout != "out\n" || stderr != "err\n" {
		t.Errorf("got %q %q", stdout, stderr)
	}
}

func TestAttachReplaysLogs(t *testing.T) {
	s := startServer(t)
	s.container(t, "cc", `{"Image":"busybox","Cmd":["both"]}`)
	s.do(t, "POST", "/containers/cc/start", "").want(t, 204, "")
	s.do(t, "POST", "/containers/cc/wait", "").want(t, 200, "")
	c := s.dial(t)
	c.post(t, "/containers/cc/attach?logs=1&stdout=1&stderr=1", upgrade, "", "")
	stdout, stderr := demux(t, c.rest(t))
	if stdout != "out\n" || stderr != "err\n" {
		t.Errorf("got %q %q", stdout, stderr)
	}
}

func TestAttachErrorsComeBeforeTheUpgrade(t *testing.T) {
	s := startServer(t)
	s.container(t, "cc", `{"Image":"busybox","Cmd":["cat"]}`)
	s.do(t, "POST", "/containers/nope"+attachAll, "").want(t, 404, "No such container: nope")
	s.do(t, "POST", "/containers/cc"+attachAll+"&detachKeys=ctrl-%3F", "").want(t, 400, "Invalid detach keys (ctrl-?) provided")
}

// TestVanishedClientEndsServe closes the client in each state that could hide it.
func TestVanishedClientEndsServe(t *testing.T) {
	for _, halfFirst := range []bool{false, true} {
		s := startServer(t)
		s.container(t, "cc", `{"Image":"busybox","Cmd":["sleep"],"OpenStdin":true}`)
		served := make(chan error, 1)
		s.Backend = &watchedBackend{fakeBackend: s.b, served: served}
		s.do(t, "POST", "/containers/cc/start", "").want(t, 204, "")
		c := s.dial(t)
		c.post(t, "/containers/cc"+attachAll, upgrade, "", "")
		fmt.Fprint(c, "nobody reads this")
		if halfFirst {
			c.CloseWrite()
		}
		c.Close()
		select {
		case err := <-served:
			if err == nil && !halfFirst {
				t.Error("Serve ended well")
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("half closed first %v: Serve goes on", halfFirst)
		}
	}
}

// watchedBackend tells when an attachment's Serve has ended.
type watchedBackend struct {
	*fakeBackend
	served chan error
}

func (b *watchedBackend) AttachContainer(ctx context.Context, key triton.ContainerKey, opt triton.AttachOptions) (Attachment, error) {
	a, err := b.fakeBackend.AttachContainer(ctx, key, opt)
	return &watchedAttachment{a, b.served}, err
}

type watchedAttachment struct {
	Attachment
	served chan error
}

func (a *watchedAttachment) Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	err := a.Attachment.Serve(ctx, in, out)
	a.served <- err
	return err
}

func TestDetachKeysEndTheStreamAndNotTheProcess(t *testing.T) {
	s := startServer(t)
	s.container(t, "cc", `{"Image":"busybox","Cmd":["cat"],"OpenStdin":true,"Tty":true}`)
	s.do(t, "POST", "/containers/cc/start", "").want(t, 204, "")
	c := s.dial(t)
	c.post(t, "/containers/cc"+attachAll+"&detachKeys=ctrl-x,y", upgrade, "", "")
	const before = "ab" // the keys; as much of it as came before the end is echoed, and nothing else
	fmt.Fprint(c, before+"\x18")
	fmt.Fprint(c, "y")
	if got := c.rest(t); !strings.HasPrefix(before, got) {
		t.Errorf("got %q", got)
	}
	if r := s.do(t, "GET", "/containers/cc/json", ""); !strings.Contains(r.body, `"Running":true`) {
		t.Error("the container has ended")
	}
	for _, cc := range s.b.containers {
		if left := cc.proc.left.Load(); left != 1 {
			t.Errorf("%d attachments were left by keys, want 1", left)
		}
	}
}

// TestEndOfSharedStdinIsADetach: without StdinOnce the next client must find stdin open.
func TestEndOfSharedStdinIsADetach(t *testing.T) {
	s := startServer(t)
	s.container(t, "cc", `{"Image":"busybox","Cmd":["cat"],"OpenStdin":true}`)
	s.do(t, "POST", "/containers/cc/start", "").want(t, 204, "")
	for _, text := range []string{"one", "two"} {
		c := s.dial(t)
		c.post(t, "/containers/cc"+attachAll, upgrade, "", text)
		frame := make([]byte, frameHeader+len(text))
		if _, err := io.ReadFull(c.r, frame); err != nil || string(frame[frameHeader:]) != text {
			t.Fatalf("got %q %v", frame, err)
		}
		c.CloseWrite()
		if rest := c.rest(t); rest != "" {
			t.Errorf("after the end of stdin: got %q", rest)
		}
	}
}

func TestUnreadInputDoesNotCostTheOutput(t *testing.T) {
	s := startServer(t)
	s.container(t, "cc", `{"Image":"busybox","Cmd":["echo","bye"],"OpenStdin":true}`)
	c := s.dial(t)
	c.post(t, "/containers/cc"+attachAll, upgrade, "", "")
	go io.Copy(c, io.LimitReader(zeros{}, 1<<20))
	s.do(t, "POST", "/containers/cc/start", "").want(t, 204, "")
	stdout, _ := demux(t, c.rest(t))
	if stdout != "bye\n" {
		t.Errorf("got %q", stdout)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func (s *testServer) newExec(t *testing.T, body string) string {
	t.Helper()
	r := s.do(t, "POST", "/containers/cc/exec", body)
	if r.status != 201 {
		t.Fatalf("%+v", r)
	}
	return strings.Split(r.body, `"`)[3]
}

func TestExec(t *testing.T) {
	s := startServer(t)
	s.container(t, "cc", `{"Image":"busybox","Cmd":["sleep"]}`)
	s.do(t, "POST", "/containers/cc/exec", `{"Cmd":["true"]}`).want(t, 409, "")
	s.do(t, "POST", "/containers/cc/start", "").want(t, 204, "")
	s.do(t, "POST", "/containers/cc/exec", `{}`).want(t, 400, "No exec command specified")
	s.do(t, "POST", "/containers/cc/exec", `{"Cmd":["true"],"Wish":1}`).want(t, 400, "Wish: this version of triton does not know the field")
	s.do(t, "POST", "/exec/nope/start", `{}`).want(t, 404, "No such exec instance: nope")

	id := s.newExec(t, `{"Cmd":["cat"],"AttachStdin":true,"AttachStdout":true}`)
	c := s.dial(t)
	resp := c.post(t, "/v1.43/exec/"+id+"/start", upgrade, `{"Detach":false,"Tty":false}`, "in")
	if resp.StatusCode != 101 || resp.Header.Get("Content-Type") != "application/vnd.docker.multiplexed-stream" {
		t.Errorf("got %s %v", resp.Status, resp.Header)
	}
	c.CloseWrite()
	if stdout, _ := demux(t, c.rest(t)); stdout != "inEND\n" {
		t.Errorf("got %q", stdout)
	}

	id = s.newExec(t, `{"Cmd":["stty"],"AttachStdout":true,"Tty":true}`)
	c = s.dial(t)
	c.post(t, "/exec/"+id+"/start", upgrade, `{"Tty":true,"ConsoleSize":[30,100]}`, "")
	if got := c.rest(t); got != "30 100\n" {
		t.Errorf("console size: got %q", got)
	}
}

func TestExecThatCannotStartSaysSoInTheStream(t *testing.T) {
	s := startServer(t)
	s.container(t, "cc", `{"Image":"busybox","Cmd":["sleep"]}`)
	s.do(t, "POST", "/containers/cc/start", "").want(t, 204, "")
	id := s.newExec(t, `{"Cmd":["missing"],"AttachStdout":true}`)
	c := s.dial(t)
	c.post(t, "/exec/"+id+"/start", upgrade, `{}`, "")
	if stdout, _ := demux(t, c.rest(t)); !strings.HasSuffix(stdout, "executable file not found in $PATH\r\n") {
		t.Errorf("got %q", stdout)
	}
	if r := s.do(t, "GET", "/exec/"+id+"/json", ""); !strings.Contains(r.body, `"ExitCode":127`) {
		t.Errorf("got %s", r.body)
	}
	id = s.newExec(t, `{"Cmd":["noexec"]}`)
	s.do(t, "POST", "/exec/"+id+"/start", `{"Detach":true}`).want(t, 400, `failed to create task for container: exec: "noexec": permission denied`)
}

func TestWaitSendsItsHeaderAtOnce(t *testing.T) {
	s := startServer(t)
	s.container(t, "cc", `{"Image":"busybox","Cmd":["exit","7"]}`)
	if r := s.do(t, "POST", "/containers/cc/wait", ""); r.body != "{\"StatusCode\":0}\n" {
		t.Errorf("not-running of a created container: got %+v", r)
	}
	s.do(t, "POST", "/containers/cc/wait?condition=soon", "").want(t, 400, `invalid condition: "soon"`)
	c := s.dial(t)
	resp := c.post(t, "/containers/cc/wait?condition=next-exit", "", "", "") // returns with the header
	s.do(t, "POST", "/containers/cc/start", "").want(t, 204, "")
	raw, err := io.ReadAll(resp.Body)
	if err != nil || string(raw) != "{\"StatusCode\":7}\n" {
		t.Errorf("got %q %v", raw, err)
	}
}

func TestLogs(t *testing.T) {
	s := startServer(t)
	key := triton.ContainerKey{Tenant: triton.DefaultTenant, ID: s.container(t, "cc", `{"Image":"busybox","Cmd":["sleep"]}`)}
	at := time.Date(2026, 1, 2, 3, 4, 5, 60, time.UTC)
	s.b.mu.Lock()
	for i, stream := range []string{"stdout", "stderr", "stdout"} {
		s.b.containers[key].log = append(s.b.containers[key].log, triton.LogRecord{Stream: stream, Time: at.Add(time.Duration(i) * time.Second),
			Line: fmt.Appendf(nil, "line %d\n", i)})
	}
	s.b.mu.Unlock()
	for _, tc := range []struct{ query, out, err string }{
		{"stdout=1&stderr=1", "line 0\nline 2\n", "line 1\n"},
		{"stdout=1", "line 0\nline 2\n", ""},
		{"stderr=1&timestamps=1", "", "2026-01-02T03:04:06.000000060Z line 1\n"},
		{"stdout=1&details=1", " line 0\n line 2\n", ""},
		{"stdout=1&tail=1", "line 2\n", ""},
		{"stdout=1&tail=-1", "line 0\nline 2\n", ""},
		{"stdout=1&tail=all&since=0&until=0", "line 0\nline 2\n", ""},
		{fmt.Sprintf("stdout=1&since=%d.1", at.Unix()), "line 2\n", ""},
		{fmt.Sprintf("stdout=1&until=%d.000000061", at.Unix()), "line 0\n", ""},
		{"stdout=1&follow=1", "line 0\nline 2\n", ""},
	} {
		r := s.do(t, "GET", "/v1.42/containers/cc/logs?"+tc.query, "")
		stdout, stderr := demux(t, r.body)
		if diff := cmp.Diff([]string{tc.out, tc.err}, []string{stdout, stderr}); diff != "" || r.status != 200 {
			t.Errorf("%s: %d (-want +got):\n%s", tc.query, r.status, diff)
		}
		if got := r.header.Get("Content-Type"); got != "application/vnd.docker.multiplexed-stream" {
			t.Errorf("content type: %s", got)
		}
	}
	s.do(t, "GET", "/containers/cc/logs", "").want(t, 400, "Bad parameters: you must choose at least one stream")
	s.do(t, "GET", "/containers/cc/logs?stdout=1&since=x", "").want(t, 400, `invalid value for "since": failed to parse value as time or duration: "x"`)
	s.container(t, "quiet", `{"Image":"busybox","HostConfig":{"LogConfig":{"Type":"none"}}}`)
	s.do(t, "GET", "/containers/quiet/logs?stdout=1", "").want(t, 501, "configured logging driver does not support reading")
	s.container(t, "tty", `{"Image":"busybox","Cmd":["echo","x"],"Tty":true}`)
	s.do(t, "POST", "/containers/tty/start", "").want(t, 204, "")
	s.do(t, "POST", "/containers/tty/wait", "").want(t, 200, "")
	if r := s.do(t, "GET", "/containers/tty/logs?stdout=1", ""); r.body != "x\n" || r.header.Get("Content-Type") != "application/vnd.docker.raw-stream" {
		t.Errorf("tty: got %q %v", r.body, r.header)
	}
}

func TestLogsFollowDeliversEachLine(t *testing.T) {
	s := startServer(t)
	id := s.container(t, "cc", `{"Image":"busybox","Cmd":["sleep"]}`)
	s.do(t, "POST", "/containers/cc/start", "").want(t, 204, "")
	resp, err := s.client.Get("http://d/containers/cc/logs?stdout=1&follow=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	proc := s.b.containers[triton.ContainerKey{Tenant: triton.DefaultTenant, ID: id}].proc
	for i := range 3 {
		proc.record("stdout", fmt.Appendf(nil, "%d\n", i))
		frame := make([]byte, frameHeader+2)
		if _, err := io.ReadFull(resp.Body, frame); err != nil || string(frame[frameHeader:]) != fmt.Sprintf("%d\n", i) {
			t.Fatalf("line %d: got %q %v", i, frame, err)
		}
	}
	s.do(t, "POST", "/containers/cc/kill", "").want(t, 204, "")
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 {
		t.Errorf("rest %q %v", rest, err)
	}
}

func TestParseDetachKeys(t *testing.T) {
	for text, want := range map[string]string{"": "\x10\x11", "ctrl-a": "\x01", "a,b": "ab", "ctrl-@,ctrl-[,ctrl-_": "\x00\x1b\x1f", "ctrl-z,x": "\x1ax"} {
		got, err := parseDetachKeys(text)
		if err != nil || string(got) != want {
			t.Errorf("%q: got %q %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{",", "ctrl-", "ctrl-A", "ab", "ctrl-p,,", "é"} {
		if got, err := parseDetachKeys(text); err == nil {
			t.Errorf("%q: got %q, want an error", text, got)
		}
	}
}

func TestDetachReader(t *testing.T) {
	for _, tc := range []struct {
		keys, in, out string
		detached      bool
	}{
		{"pq", "abc", "abc", false},
		{"pq", "abpqcd", "ab", true},
		{"pq", "p", "p", false},
		{"pq", "ppq", "p", true},
		{"pq", "pxpq", "px", true},
		{"aab", "aaaab", "aa", true},
		{"aab", "aacaa", "aacaa", false},
		{"x", "x", "", true},
	} {
		for _, one := range []bool{true, false} {
			var src io.Reader = strings.NewReader(tc.in)
			if one {
				src = iotest.OneByteReader(src)
			}
			got, err := io.ReadAll(newDetachReader(src, []byte(tc.keys)))
			if string(got) != tc.out || errors.Is(err, ErrDetached) != tc.detached {
				t.Errorf("%q in %q: got %q %v", tc.keys, tc.in, got, err)
			}
		}
	}
}

func FuzzDetachReader(f *testing.F) {
	f.Add([]byte("pq"), []byte("abpqcd"), 1)
	f.Add([]byte("aab"), []byte("aaaab"), 3)
	f.Fuzz(func(t *testing.T, keys, in []byte, chunk int) {
		if len(keys) == 0 || chunk < 1 {
			return
		}
		d := newDetachReader(bytes.NewReader(in), keys)
		var got []byte
		var err error
		buf := make([]byte, min(chunk, 100))
		for err == nil {
			var n int
			n, err = d.Read(buf)
			got = append(got, buf[:n]...)
		}
		want, detached := in, false
		if i := bytes.Index(in, keys); i >= 0 {
			want, detached = in[:i], true
		}
		if !bytes.Equal(got, want) || errors.Is(err, ErrDetached) != detached {
			t.Errorf("%q in %q: got %q %v, want %q", keys, in, got, err, want)
		}
	})
}

func TestMain(m *testing.M) {
	code := m.Run()
	if fds := epollFDs(); code == 0 && fds != 0 {
		fmt.Fprintf(os.Stderr, "%d epoll descriptors are left\n", fds)
		code = 1
	}
	os.Exit(code)
}

// epollFDs counts epoll descriptors beyond the Go runtime's own.
func epollFDs() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	n := -1
	for _, e := range entries {
		if link, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.Contains(link, "eventpoll") {
			n++
		}
	}
	return max(n, 0)
}
