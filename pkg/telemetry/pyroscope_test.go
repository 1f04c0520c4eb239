package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

// profileTo runs a profiler against url until done reports true of its metrics.
func profileTo(t *testing.T, url string, done func(body string) bool) {
	t.Helper()
	p, err := NewPyroscope(PyroscopeConfig{URL: url, Node: "n1", Rate: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{})
	if err := s.Register(p); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	body := ""
	for end := time.Now().Add(30 * time.Second); !done(body); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("timed out; metrics:\n%s", body)
			break
		}
		_, body = scrape(t, s, "")
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the profiler did not end")
	}
}

// checkUpload tells what is wrong with an upload.
func checkUpload(r *http.Request) error {
	q := r.URL.Query()
	from, err1 := strconv.ParseInt(q.Get("from"), 10, 64)
	until, err2 := strconv.ParseInt(q.Get("until"), 10, 64)
	if r.Method != http.MethodPost || r.URL.Path != "/ingest" || err1 != nil || err2 != nil || from >= until {
		return fmt.Errorf("%s %s", r.Method, r.URL)
	}
	if name := q.Get("name"); !strings.HasPrefix(name, "tritond") || !strings.Contains(name, "node=n1") {
		return fmt.Errorf("name %q", name)
	}
	f, _, err := r.FormFile("profile")
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	p, err := profile.ParseData(b)
	if err != nil {
		return err
	}
	return p.CheckValid()
}

func TestPyroscopeReceivesProfiles(t *testing.T) {
	bad := make(chan error, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := checkUpload(r); err != nil {
			select {
			case bad <- err:
			default:
			}
		}
	}))
	defer server.Close()
	profileTo(t, server.URL, func(body string) bool {
		return strings.Contains(body, "triton_pyroscope_uploads_total ") && !strings.Contains(body, "triton_pyroscope_uploads_total 0\n") &&
			!strings.Contains(body, "triton_pyroscope_uploads_total 1\n")
	})
	close(bad)
	for err := range bad {
		t.Errorf("upload: %v", err)
	}
}

func TestPyroscopeCountsRefusedUploads(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}))
	defer server.Close()
	profileTo(t, server.URL, func(body string) bool {
		return asked.Load() > 0 && strings.Contains(body, `triton_pyroscope_failures_total{reason="status"} `) &&
			!strings.Contains(body, `triton_pyroscope_failures_total{reason="status"} 0`)
	})
}

func TestPyroscopeCountsUploadsWithoutAnswer(t *testing.T) {
	server := httptest.NewServer(nil)
	url := server.URL
	server.Close()
	profileTo(t, url, func(body string) bool {
		return strings.Contains(body, `triton_pyroscope_failures_total{reason="request"} `) &&
			!strings.Contains(body, `triton_pyroscope_failures_total{reason="request"} 0`)
	})
}

func TestPyroscopeThatHangsDoesNotHoldUpTheEnd(t *testing.T) {
	asked, release := make(chan struct{}, 100), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-release
	}))
	defer server.Close()
	defer close(release)
	profileTo(t, server.URL, func(string) bool { return len(asked) > 0 })
}

func TestPyroscopeRefusesWhatItCannotUse(t *testing.T) {
	for _, url := range []string{"", "localhost:4040", "ftp://h", "http://", "http://a b"} {
		if _, err := NewPyroscope(PyroscopeConfig{URL: url}); err == nil {
			t.Errorf("address %q was taken", url)
		}
	}
	t.Setenv(adhocAddress, "http://other:1")
	if _, err := NewPyroscope(PyroscopeConfig{URL: "http://h:4040"}); err == nil || !strings.Contains(err.Error(), adhocAddress) {
		t.Errorf("error = %v, want one that names the variable", err)
	}
}
