package dockerapi

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// socket opens a websocket; resp is the answer to the handshake, whatever it was.
func (s *testServer) socket(t *testing.T, path string, header http.Header) (*websocket.Conn, *http.Response) {
	t.Helper()
	d := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) { return net.Dial("unix", s.sock) }, HandshakeTimeout: 10 * time.Second}
	c, resp, err := d.Dial("ws://d"+path, header)
	if err != nil && !errors.Is(err, websocket.ErrBadHandshake) {
		t.Fatal(err)
	}
	if c != nil {
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		t.Cleanup(func() { c.Close() })
	}
	return c, resp
}

// output reads to the server's close, which must say that all is well.
func output(t *testing.T, c *websocket.Conn) string {
	t.Helper()
	var all strings.Builder
	for {
		kind, data, err := c.ReadMessage()
		if err != nil {
			if !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				t.Errorf("after %q: %v", all.String(), err)
			}
			return all.String()
		}
		if kind != websocket.BinaryMessage {
			t.Errorf("message of type %d: %q", kind, data)
		}
		all.Write(data)
	}
}

func say(t *testing.T, c *websocket.Conn, kind int, text string) {
	t.Helper()
	if err := c.WriteMessage(kind, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

var wsClosed = string(websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))

func TestWebsocketAttachSendsBareOutput(t *testing.T) {
	for _, tc := range []struct{ path, query, want string }{
		{"", "?stream=1&stdout=1&stderr=1", "out\nerr\n"},
		{"", "?stream=1&stderr=1", "err\n"},
		{"", "?stream=1", ""},
		{"/v1.41", "?stream=1", "out\nerr\n"},
		{"/v1.42", "?stream=1&stdout=1", "out\n"},
	} {
		for _, tty := range []string{"false", "true"} {
			s := startServer(t)
			s.container(t, "cc", `{"Image":"busybox","Cmd":["both"],"Tty":`+tty+`}`)
			c, _ := s.socket(t, tc.path+"/containers/cc/attach/ws"+tc.query, nil)
			s.do(t, "POST", "/containers/cc/start", "").want(t, 204, "")
			if got := output(t, c); got != tc.want {
				t.Errorf("%s%s, terminal %s: got %q, want %q", tc.path, tc.query, tty, got, tc.want)
			}
		}
	}
}

func TestWebsocketAttachInput(t *testing.T) {
	s := startServer(t)
	s.container(t, "cc", `{"Image":"busybox","Cmd":["cat"],"OpenStdin":true,"StdinOnce":true}`)
	c, _ := s.socket(t, "/containers/cc"+strings.Replace(attachAll, "?", "/ws?", 1), nil)
	say(t, c, websocket.TextMessage, "one ")
	say(t, c, websocket.BinaryMessage, "")
	say(t, c, websocket.BinaryMessage, "two ")
	say(t, c, websocket.CloseMessage, wsClosed) // the end of stdin: what follows comes before the server's close
	s.do(t, "POST", "/containers/cc/start", "").want(t, 204, "")
	if got, want := output(t, c), "one two END\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWebsocketAttachDetaches(t *testing.T) {
	for _, tty := range []string{"false", "true"} {
		s := startServer(t)
		s.container(t, "cc", `{"Image":"busybox","Cmd":["cat"],"OpenStdin":true,"Tty":`+tty+`}`)
		s.do(t, "POST", "/containers/cc/start", "").want(t, 204, "")
		c, _ := s.socket(t, "/containers/cc/attach/ws?stream=1&stdin=1&stdout=1&detachKeys=ctrl-x,y", nil)
		if tty == "true" {
			say(t, c, websocket.BinaryMessage, "\x18y")
		} else {
			say(t, c, websocket.CloseMessage, wsClosed)
		}
		if got := output(t, c); got != "" {
			t.Errorf("terminal %s: got %q", tty, got)
		}
		if r := s.do(t, "GET", "/containers/cc/json", ""); !strings.Contains(r.body, `"Running":true`) {
			t.Errorf("terminal %s: the container has ended", tty)
		}
	}
}

func TestWebsocketAttachReplaysLogs(t *testing.T) {
	s := startServer(t)
	s.container(t, "cc", `{"Image":"busybox","Cmd":["both"]}`)
	s.do(t, "POST", "/containers/cc/start", "").want(t, 204, "")
	s.do(t, "POST", "/containers/cc/wait", "").want(t, 200, "")
	c, _ := s.socket(t, "/containers/cc/attach/ws?logs=1&stdout=1&stderr=1", nil)
	if got, want := output(t, c), "out\nerr\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	s.container(t, "quiet", `{"Image":"busybox","HostConfig":{"LogConfig":{"Type":"none"}}}`)
	c, _ = s.socket(t, "/containers/quiet/attach/ws?logs=1&stdout=1", nil)
	if got, want := output(t, c), "Error attaching: configured logging driver does not support reading\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWebsocketAttachRefusesBeforeTheUpgrade(t *testing.T) {
	s := startServer(t)
	s.container(t, "cc", `{"Image":"busybox","Cmd":["cat"]}`)
	const path = "/containers/cc/attach/ws?stream=1&stdout=1"
	for _, tc := range []struct {
		path, origin string
		status       int
		message      string
	}{
		{"/containers/nope/attach/ws?stream=1", "", 404, "No such container: nope"},
		{path + "&detachKeys=ctrl-%3F", "", 400, "Invalid detach keys (ctrl-?) provided"},
		{path, "http://elsewhere", 403, "request origin not allowed"},
		{path, "null", 403, "request origin not allowed"},
		{path, "http://d", 101, ""},
	} {
		header := http.Header{}
		if tc.origin != "" {
			header.Set("Origin", tc.origin)
		}
		_, resp := s.socket(t, tc.path, header)
		if resp.StatusCode == 101 && tc.status == 101 {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != tc.status || !strings.Contains(string(body), tc.message) {
			t.Errorf("%s from %q: got %d %s, want %d %s", tc.path, tc.origin, resp.StatusCode, body, tc.status, tc.message)
		}
	}
	if r := s.do(t, "GET", path, ""); r.status != 400 || !strings.Contains(r.body, "not using the websocket protocol") {
		t.Errorf("without a handshake: got %+v", r)
	}
	if _, resp := s.socket(t, path, http.Header{"Sec-Websocket-Protocol": {"channel"}}); resp.Header.Get("Sec-Websocket-Protocol") != "channel" {
		t.Errorf("subprotocol: got %v", resp.Header)
	}
}

// TestWebsocketAttachOfAVanishedClientEnds: whether or not its input is read.
func TestWebsocketAttachOfAVanishedClientEnds(t *testing.T) {
	for _, query := range []string{"stdout=1", "stdin=1&stdout=1"} {
		for _, leave := range []func(*websocket.Conn) error{
			func(c *websocket.Conn) error { return c.Close() },
			func(c *websocket.Conn) error { return c.WriteMessage(websocket.CloseMessage, []byte(wsClosed)) },
		} {
			s := startServer(t)
			s.container(t, "cc", `{"Image":"busybox","Cmd":["sleep"],"OpenStdin":true}`)
			served := make(chan error, 1)
			s.Backend = &watchedBackend{fakeBackend: s.b, served: served}
			s.do(t, "POST", "/containers/cc/start", "").want(t, 204, "")
			c, _ := s.socket(t, "/containers/cc/attach/ws?stream=1&"+query, nil)
			if err := leave(c); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-served:
				if err == nil {
					t.Error("Serve ended well")
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: Serve goes on", query)
			}
		}
	}
}

// FuzzUnframed: however a framed stream is cut into writes, what comes out is its content.
func FuzzUnframed(f *testing.F) {
	f.Add([]byte("out"), []byte("err"), uint8(1))
	f.Add([]byte(""), bytes.Repeat([]byte("x"), 300), uint8(7))
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x02"), []byte(""), uint8(0))
	f.Fuzz(func(t *testing.T, first, second []byte, cut uint8) {
		var framed, got bytes.Buffer
		rec := &recordWriter{out: &framed, framed: true}
		for _, b := range [][]byte{first, second} {
			rec.note(1, string(b))
		}
		u := &unframed{out: &got}
		for rest := framed.Bytes(); len(rest) > 0; {
			n := min(int(cut)+1, len(rest))
			if wrote, err := u.Write(rest[:n]); wrote != n || err != nil {
				t.Fatalf("wrote %d of %d: %v", wrote, n, err)
			}
			rest = rest[n:]
		}
		if want := string(first) + string(second); got.String() != want {
			t.Errorf("got %q, want %q", got.String(), want)
		}
		got.Reset() // no frames at all: whatever is taken for one, nothing is made up
		if wrote, err := (&unframed{out: &got}).Write(second); wrote != len(second) || err != nil || got.Len() > len(second) {
			t.Errorf("wrote %d of %d, %v, %d bytes came out", wrote, len(second), err, got.Len())
		}
	})
}
