package throttle

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// served starts a server whose requests are all of one tenant, or nobody's where the header Operator is set.
func served(t *testing.T, th *Throttle, e Effort, h http.HandlerFunc) string {
	t.Helper()
	whose := func(r *http.Request) (triton.Tenant, bool) { return "acme", r.Header.Get("Operator") == "" }
	server := httptest.NewServer(th.Handler(h, whose, func(*http.Request) Effort { return e }))
	t.Cleanup(server.Close)
	return server.URL
}

func get(ctx context.Context, url string, operator bool) (*http.Response, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, "", err
	}
	if operator {
		req.Header.Set("Operator", "yes")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// What a handler computes is charged, what it waits for is not, and of the answer its size.
func TestProcessorTimeIsMeasured(t *testing.T) {
	const work, size = 20 * time.Millisecond, 5 << 20
	for _, tc := range []struct {
		name  string
		serve http.HandlerFunc
		want  time.Duration
	}{
		{"computes", func(http.ResponseWriter, *http.Request) {
			for end := threadTime() + work; threadTime() < end; {
			}
		}, work},
		{"waits", func(http.ResponseWriter, *http.Request) { <-time.After(2 * work) }, 0},
		{"writes", func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, size)) }, size},
	} {
		th := New(Config{Share: 1, Waiting: 1})
		resp, _, err := get(t.Context(), served(t, th, Effort{Measured: true}, tc.serve), false)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v %v", tc.name, resp, err)
		}
		// Beyond it: what the handler is called with, and memory that is made ready for it.
		if got := th.Stats()["acme"].CPU - Least; got < tc.want.Truncate(time.Microsecond) || got > tc.want+work {
			t.Errorf("%s: charged with %v, want %v", tc.name, got, tc.want)
		}
	}
}

// A client that does not read its answer keeps nobody from a place, and one whose handler fails neither.
func TestAnAnswerThatHasBegunHasNoPlace(t *testing.T) {
	th := New(Config{Share: 1, Waiting: 4 * Places})
	release := make(chan struct{})
	defer close(release) // or the server does not end
	url := served(t, th, Effort{Measured: true}, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/panic":
			panic(http.ErrAbortHandler)
		case "/flush":
			http.NewResponseController(w).Flush()
		case "/hijack":
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
		default:
			w.WriteHeader(http.StatusOK)
		}
		<-release
	})
	for _, path := range []string{"/panic", "/flush", "/hijack", "/header"} {
		for range Places {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go get(ctx, url+path, false)
		}
	}
	until(t, "all have had their turn", func() bool { return th.Stats()["acme"].Requests == 4*Places })
}

func TestWhoIsRefusedIsToldSo(t *testing.T) {
	th := New(Config{Share: 0.01, Waiting: 1})
	url := served(t, th, Effort{CPU: Reserve - Least}, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "served") })
	if _, body, err := get(t.Context(), url, false); err != nil || body != "served" {
		t.Fatalf("the first: %q %v", body, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error)
	go func() {
		_, _, err := get(ctx, url, false)
		waits <- err
	}()
	until(t, "the second waits", func() bool { return th.Stats()["acme"].Waiting == 1 })
	resp, body, err := get(t.Context(), url, false)
	if err != nil || resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "1" ||
		strings.TrimSpace(body) != `{"message":"tenant acme asks for too much: 1 of its requests wait already, try again later"}` {
		t.Errorf("the third: %v %q %v", resp, body, err)
	}
	if _, body, err := get(t.Context(), url, true); err != nil || body != "served" {
		t.Errorf("an operator's: %q %v", body, err)
	}
	cancel()
	if <-waits == nil {
		t.Error("the second was served")
	}
}

func TestNoShareIsNoBound(t *testing.T) {
	th := New(Config{})
	url := served(t, th, Effort{CPU: Reserve}, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "served") })
	for range 10 {
		if _, body, err := get(t.Context(), url, false); err != nil || body != "served" {
			t.Fatalf("%q %v", body, err)
		}
	}
	if n := len(th.Stats()); n != 0 {
		t.Errorf("%d tenants are counted", n)
	}
}
