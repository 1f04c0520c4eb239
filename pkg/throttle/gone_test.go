package throttle

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// watched starts a server that sees whose client is gone. Each request of acme takes a quarter of the reserve.
func watched(t *testing.T, th *Throttle, encrypted bool, h http.HandlerFunc) (dial func() net.Conn) {
	t.Helper()
	server := httptest.NewUnstartedServer(th.Handler(h, func(*http.Request) (triton.Tenant, bool) { return "acme", true },
		func(*http.Request) Effort { return effort(Reserve / 4) }))
	server.Config.ConnContext = ConnContext
	if encrypted {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return func() net.Conn {
		var conn net.Conn
		var err error
		if address := server.Listener.Addr().String(); encrypted {
			conn, err = tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		} else {
			conn, err = net.Dial("tcp", address)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
}

// post sends a request and as much of its body.
func post(t *testing.T, conn net.Conn, length int, body string) {
	t.Helper()
	if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", length, body); err != nil {
		t.Fatal(err)
	}
}

// A request whose client is gone waits no more, though nobody has read its body, whether all of that has come or not.
func TestWhoIsGoneDoesNotWait(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		th := New(Config{Share: 0.01, Waiting: 3})
		enter(t, th, "acme", effort(Reserve))
		dial := watched(t, th, encrypted, func(http.ResponseWriter, *http.Request) { t.Error("a request had its turn") })
		waiting := func(n int) func() bool { return func() bool { return th.Stats()["acme"].Waiting == n } }
		whole, part, stays := dial(), dial(), dial()
		for i, conn := range []net.Conn{whole, part, stays} {
			post(t, conn, 5+i, "hello")
			until(t, "it waits", waiting(i+1))
		}
		whole.Close()
		until(t, "one waits no more", waiting(2))
		part.Close()
		until(t, "another waits no more", waiting(1))
		before := th.Stats()["acme"]
		post(t, dial(), 0, "") // there is room again
		until(t, "one more waits", waiting(2))
		if after := th.Stats()["acme"]; after.Refused != before.Refused {
			t.Errorf("it was refused: %+v", after)
		}
		stays.Close()
		until(t, "the last waits", waiting(1))
	}
}

// A request that waited, and was looked at meanwhile, gets all that its client sent, and a connection that is taken over too.
func TestWhoWaitedIsServedAll(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		th := New(Config{Share: 0.5, Waiting: 2})
		enter(t, th, "acme", effort(Reserve))
		dial := watched(t, th, encrypted, func(w http.ResponseWriter, _ *http.Request) {
			conn, data, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			line, err := data.ReadString('\n')
			if err != nil {
				t.Error(err)
			}
			io.WriteString(conn, "echo "+line)
		})
		conn := dial()
		began := time.Now()
		post(t, conn, 0, "hello\n")
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || line != "echo hello\n" {
			t.Errorf("the answer is %q, %v", line, err)
		}
		if took := time.Since(began); took < 2*look {
			t.Errorf("it waited only %v", took)
		}
	}
}
