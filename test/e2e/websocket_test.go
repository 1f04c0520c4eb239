package e2e

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tritond/triton/test/images"
)

// socket attaches to a container over a websocket.
func (u *under) socket(t *testing.T, name, query string) *websocket.Conn {
	t.Helper()
	network, address, _ := strings.Cut(u.cli.Host, "://")
	dialer := websocket.Dialer{HandshakeTimeout: time.Minute, NetDialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}}
	c, _, err := dialer.DialContext(t.Context(), "ws://engine/v1.41/containers/"+name+"/attach/ws?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(time.Minute))
	t.Cleanup(func() { c.Close() })
	return c
}

// hear reads messages until they hold what is expected; "": until the end.
func hear(t *testing.T, c *websocket.Conn, last string) string {
	t.Helper()
	var all strings.Builder
	for last == "" || !strings.Contains(all.String(), last) {
		_, data, err := c.ReadMessage()
		if err != nil && last != "" {
			t.Fatalf("after %q: %v", all.String(), err)
		}
		if err != nil {
			break
		}
		all.Write(data)
	}
	return all.String()
}

func TestWebsocketCarriesTheStreams(t *testing.T) {
	u := shared(t)
	name := u.name(t)
	u.ok(t, "create", "-i", "--name", name, images.Busybox, "sh", "-c", "read a; echo out $a; read b; echo err $b >&2; sleep 0.1; exit 3")
	c := u.socket(t, name, "stream=1&stdin=1&stdout=1&stderr=1")
	u.ok(t, "start", name)
	// One after the other: two pipes have no order between them.
	var heard strings.Builder
	for _, say := range []struct{ line, answer string }{{"first\n", "out first\n"}, {"second\n", ""}} {
		if err := c.WriteMessage(websocket.BinaryMessage, []byte(say.line)); err != nil {
			t.Fatal(err)
		}
		heard.WriteString(hear(t, c, say.answer))
	}
	equal(t, "live", heard.String(), "out first\nerr second\n")
	equal(t, "exit code", u.ok(t, "wait", name), "3")
	equal(t, "replayed", hear(t, u.socket(t, name, "logs=1"), ""), "out first\nerr second\n")
}

func TestWebsocketOfATerminal(t *testing.T) {
	u := shared(t)
	name := u.detached(t, "-it", images.Busybox, "sh")
	c := u.socket(t, name, "stream=1&stdin=1&stdout=1&detachKeys=ctrl-x,y")
	say := func(text string) {
		if err := c.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	say("tty; echo up$((1+1))\n")
	if got := hear(t, c, "up2\r\n"); !strings.Contains(got, "\r\n/dev/pts/0\r\n") {
		t.Errorf("got %q", got)
	}
	say("\x18y")
	hear(t, c, "")
	equal(t, "running after the detach", u.inspect(t, name, "{{.State.Running}}"), "true")
}
