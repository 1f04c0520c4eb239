package dockerapi

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/triton"
)

var update = flag.Bool("update", false, "rewrite golden files")

// testServer is a Server on a unix socket over a fake backend.
type testServer struct {
	*Server
	b      *fakeBackend
	sock   string
	client *http.Client
}

func startServer(t *testing.T, edit ...func(*Config)) *testServer {
	t.Helper()
	b := newFakeBackend()
	cfg := Config{
		Backend: b, Version: "0.1", Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Caller: func(r *http.Request) (auth.Caller, error) {
			if name := r.Header.Get("X-Tenant"); name != "" {
				return auth.Caller{Tenant: triton.Tenant(name)}, nil
			}
			return auth.Caller{Tenant: triton.DefaultTenant, Operator: true}, nil
		},
	}
	for _, f := range edit {
		f(&cfg)
	}
	s := New(cfg)
	dir, err := os.MkdirTemp("", "tda") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(dir, "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	srv := s.HTTPServer(ctx)
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(l) }()
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", sock) }}
	t.Cleanup(func() {
		cancel()
		tr.CloseIdleConnections()
		srv.Close()
		<-done
		os.RemoveAll(dir)
	})
	return &testServer{Server: s, b: b, sock: sock, client: &http.Client{Transport: tr}}
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (s *testServer) do(t *testing.T, method, path, body string, header ...string) reply {
	t.Helper()
	req, err := http.NewRequest(method, "http://d"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body == "" {
		req.Body, req.ContentLength = nil, 0
	} else {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(raw)}
}

// want checks status and, when it is not empty, the message of an error.
func (r reply) want(t *testing.T, status int, message string) {
	t.Helper()
	if r.status != status {
		t.Errorf("status: got %d %s, want %d", r.status, r.body, status)
	}
	if message == "" {
		return
	}
	var e struct{ Message string }
	if err := json.Unmarshal([]byte(r.body), &e); err != nil {
		t.Errorf("body is not JSON: %s", r.body)
	}
	if diff := cmp.Diff(message, e.Message); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

// container creates a container and returns its id.
func (s *testServer) container(t *testing.T, name, body string) string {
	t.Helper()
	r := s.do(t, "POST", "/containers/create?name="+name, body)
	var resp struct{ ID string }
	if err := json.Unmarshal([]byte(r.body), &resp); err != nil || r.status != 201 {
		t.Fatalf("create: %d %s", r.status, r.body)
	}
	return resp.ID
}

// golden compares with testdata/name; -update writes it.
func golden(t *testing.T, name string, raw []byte) {
	t.Helper()
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, raw, "", "  "); err != nil {
		t.Fatalf("not JSON: %s", raw)
	}
	pretty.WriteByte('\n')
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, pretty.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), pretty.String()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// eventually polls cond until it holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
