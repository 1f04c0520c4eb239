package profile

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tritond/triton/pkg/backtrace"
	"github.com/tritond/triton/pkg/triton"
)

var webKey = triton.ContainerKey{Tenant: "acme", ID: "5ecfe7a0c0ffee"}

// busyKernel are stacks of a task that is always at the same place, which is the kernel's.
type busyKernel struct{}

func (*busyKernel) Read() ([]triton.Stack, triton.StackLoss, error) {

	return []triton.Stack{{Container: webKey, PID: 1 << 30, Count: 3}}, triton.StackLoss{}, nil
}
func (k *busyKernel) Last() ([]triton.Stack, triton.StackLoss, error) { return k.Read() }
func (*busyKernel) Close() error                                      { return nil }

// pushTo runs a pusher of one busy container against url until done reports true of its counters.
func pushTo(t *testing.T, url string, done func(counters map[string]float64) bool) map[string]float64 {
	t.Helper()
	subjects := map[triton.ContainerKey]Subject{webKey: {Key: webKey, Name: "web,1", Image: "nginx:1"}}
	return push(t, url, &busyKernel{}, subjects, time.Millisecond, done)
}

func push(t *testing.T, url string, stacks Stacks, subjects map[triton.ContainerKey]Subject, pause time.Duration,
	done func(counters map[string]float64) bool) map[string]float64 {
	t.Helper()
	name := func(context.Context, *backtrace.Process, backtrace.Memory, []*os.File) (*backtrace.Result, error) {
		return &backtrace.Result{}, nil
	}
	p, err := NewPusher(PushConfig{
		URL: url, Node: "n1", Every: 20 * time.Millisecond, Pause: pause, Taker: &Taker{Name: name, Now: time.Now},
		Start:    func() (Stacks, error) { return stacks, nil },
		Subjects: func() map[triton.ContainerKey]Subject { return subjects },
		Log:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(p)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	var counters map[string]float64
	for end := time.Now().Add(30 * time.Second); !done(counters); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("timed out; counters: %v", counters)
			break
		}
		counters = map[string]float64{}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.Metric {
				key := strings.TrimSuffix(strings.TrimPrefix(f.GetName(), "triton_container_profile_"), "_total")
				for _, l := range m.Label {
					key += " " + l.GetValue()
				}
				counters[key] = m.GetCounter().GetValue()
			}
		}
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the pusher did not end")
	}
	return counters
}

// checkIngest tells what is wrong with an upload.
func checkIngest(r *http.Request) error {
	q := r.URL.Query()
	from, err1 := strconv.ParseInt(q.Get("from"), 10, 64)
	until, err2 := strconv.ParseInt(q.Get("until"), 10, 64)
	if r.Method != http.MethodPost || r.URL.Path != "/base/ingest" || err1 != nil || err2 != nil || from >= until {
		return fmt.Errorf("%s %s", r.Method, r.URL)
	}
	if name := q.Get("name"); name != "web_1{container_id=5ecfe7a0c0ffee,image=nginx:1,node=n1,tenant=acme}" {
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
	if p.PeriodType.Type != "cpu" || p.PeriodType.Unit != "nanoseconds" || len(p.Sample) != 1 || p.Sample[0].Value[0]%3 != 0 || p.Sample[0].Value[0] == 0 {
		return fmt.Errorf("profile %s", p)
	}
	if s := p.Sample[0]; s.Value[1] != s.Value[0]*triton.StackPeriod.Nanoseconds() {
		return fmt.Errorf("%d samples of %d ns", s.Value[0], s.Value[1])
	}
	return p.CheckValid()
}

// A server gets each container's profile, whole; one that fails for a time is asked again, and nothing is lost by that.
func TestProfilesArePushedAndTriedAgain(t *testing.T) {
	bad, asked := make(chan error, 100), atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1)%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if err := checkIngest(r); err != nil {
			select {
			case bad <- err:
			default:
			}
		}
	}))
	defer server.Close()
	c := pushTo(t, server.URL+"/base/", func(c map[string]float64) bool { return c["uploads"] >= 3 })
	close(bad)
	for err := range bad {
		t.Errorf("upload: %v", err)
	}
	if c["failures status"] < 3 || c["lost tries"]+c["lost refused"]+c["lost queue"] != 0 {
		t.Errorf("counters %v", c)
	}
}

// What cannot be uploaded is counted, and does not hold up what comes after.
func TestProfilesThatAreLostAreCounted(t *testing.T) {
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
	defer refusing.Close()
	c := pushTo(t, refusing.URL, func(c map[string]float64) bool { return c["lost refused"] >= 2 })
	if c["failures status"] != c["lost refused"] || c["uploads"] != 0 {
		t.Errorf("refused: counters %v", c)
	}
	dead := httptest.NewServer(nil)
	dead.Close()
	c = pushTo(t, dead.URL, func(c map[string]float64) bool { return c["lost tries"] >= 2 })
	if c["failures request"] < 2*maxTries {
		t.Errorf("no answer: counters %v", c)
	}
}

// A server that hangs does not hold up the end, and what waits meanwhile is bounded.
func TestPyroscopeThatHangsDoesNotHoldUpTheEnd(t *testing.T) {
	asked, release := make(chan struct{}, 100), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-release
	}))
	defer server.Close()
	defer close(release)
	pushTo(t, server.URL, func(map[string]float64) bool { return len(asked) > 0 })
}

// stacksOf are stacks of several containers.
type stacksOf []triton.ContainerKey

func (s stacksOf) Read() (all []triton.Stack, _ triton.StackLoss, _ error) {
	for _, key := range s {
		all = append(all, triton.Stack{Container: key, PID: 1 << 30, Count: 3})
	}
	return all, triton.StackLoss{Counts: 1, Stacks: 2, Broken: 3}, nil
}
func (s stacksOf) Last() ([]triton.Stack, triton.StackLoss, error) { return s.Read() }
func (stacksOf) Close() error                                      { return nil }

// A tenant whose uploads hang, and one whose uploads fail, hold up their own alone; what was lost of stacks is counted by kind.
func TestATenantWhosePushesHangDelaysNoOther(t *testing.T) {
	release, hangs := make(chan struct{}), atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch name := r.URL.Query().Get("name"); {
		case strings.Contains(name, "tenant=slow"):
			hangs.Add(1)
			<-release
		case strings.Contains(name, "tenant=limited"):
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	defer server.Close()
	defer close(release)
	var keys stacksOf
	for _, tenant := range []triton.Tenant{"slow", "slow", "slow", "slow", "slow", "limited", "limited", "quick"} {
		keys = append(keys, triton.ContainerKey{Tenant: tenant, ID: fmt.Sprint(len(keys))})
	}
	subjects := map[triton.ContainerKey]Subject{}
	for _, key := range keys {
		subjects[key] = Subject{Key: key, Name: key.ID}
	}
	c := push(t, server.URL, keys, subjects, time.Hour, func(c map[string]float64) bool { return c["uploads"] >= 5 })
	if hangs.Load() != 1 || c["failures status"] == 0 || c["lost tries"]+c["lost refused"] != 0 {
		t.Errorf("%d uploads of one tenant hang, counters %v", hangs.Load(), c)
	}
	if c["stacks_lost counts"] == 0 || c["stacks_lost stacks"] != 2*c["stacks_lost counts"] || c["stacks_lost broken"] != 3*c["stacks_lost counts"] {
		t.Errorf("counters %v", c)
	}
}
