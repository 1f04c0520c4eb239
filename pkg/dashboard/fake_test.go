package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/gorilla/websocket"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
)

// fleet is a node with containers that exist by name only. Its telemetry passes when a test says so.
type fleet struct {
	mu      sync.Mutex
	list    []triton.Container
	changes uint64
	samples map[triton.ContainerKey]telemetry.Sample
	window  []telemetry.Sample
	passed  chan struct{}
	logs    []string
	readers int // of telemetry, events and logs
	callers map[string]Caller
	level   string // of all containers
	machine Level
}

func newFleet() *fleet {
	return &fleet{samples: map[triton.ContainerKey]telemetry.Sample{}, passed: make(chan struct{}), callers: map[string]Caller{
		"alice": {Name: "alice", Tenant: "acme", Exec: true}, "bob": {Name: "bob", Tenant: "other", Exec: true},
		"eve": {Name: "eve", Tenant: "acme"}, "cookie": {Name: "cookie", Tenant: "acme", Ambient: true},
	}}
}

func (f *fleet) add(tenant triton.Tenant, name string) triton.ContainerKey {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := triton.ContainerKey{Tenant: tenant, ID: fmt.Sprintf("%064x", f.changes+0xabc)}
	f.list = append(f.list, triton.Container{
		Key: key, Name: name, Spec: triton.Spec{Image: "img"}, State: triton.State{Status: triton.StatusRunning, Run: 1},
	})
	f.changes++
	return key
}

func (f *fleet) remove(key triton.ContainerKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.list {
		if f.list[i].Key == key {
			f.list = append(f.list[:i:i], f.list[i+1:]...)
			break
		}
	}
	delete(f.samples, key)
	f.changes++
}

// pass gives every container a sample at second n: half a core, n calls of read in all.
func (f *fleet) pass(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := time.Unix(1_700_000_000+int64(n), 0)
	for _, c := range f.list {
		f.samples[c.Key] = telemetry.Sample{
			Time: at, Level: f.level, NoCalls: f.level == "counters", CallsEstimated: f.level == "sampled",
			Usage:      triton.Usage{Time: at, CPUTotal: time.Duration(n) * time.Second / 2, MemoryWorkingSet: uint64(n) << 20},
			Counters:   telemetry.Counters{Syscalls: uint64(n)},
			Durations:  triton.Histogram{Schema: 2, First: -96, Counts: []uint64{uint64(n), 0}},
			RunQueue:   triton.Histogram{Schema: 2, First: -96, Counts: []uint64{0, uint64(n)}},
			PerSyscall: []telemetry.SyscallSample{{Nr: 0, Count: uint64(n), Durations: triton.Histogram{First: -24, Counts: []uint64{uint64(n)}}}},
		}
		if s := f.samples[c.Key]; s.CallsEstimated {
			s.CallsGuessed, s.CallsOff = 0.9, 0.2
			f.samples[c.Key] = s
		}
	}
	close(f.passed)
	f.passed = make(chan struct{})
}

func (f *fleet) ListContainers(_ context.Context, tenant triton.Tenant) ([]triton.Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []triton.Container
	for _, c := range f.list {
		if c.Key.Tenant == tenant {
			out = append(out, c)
		}
	}
	return out, nil
}

func (f *fleet) ResolveContainer(_ context.Context, tenant triton.Tenant, ref string) (triton.ContainerKey, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.list {
		if c.Key.Tenant == tenant && (c.Key.ID == ref || c.Name == ref) {
			return c.Key, nil
		}
	}
	return triton.ContainerKey{}, fmt.Errorf("no such container: %s: %w", ref, errdefs.ErrNotFound)
}

func (f *fleet) Changes() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changes
}

func (f *fleet) Last(key triton.ContainerKey) (telemetry.Sample, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.samples[key]
	return s, ok
}

func (f *fleet) Window(triton.ContainerKey) []telemetry.Sample { return f.window }

func (f *fleet) Newest(_ triton.ContainerKey, n int) []telemetry.Sample {
	return f.window[max(0, len(f.window)-n):]
}

func (f *fleet) CPU(triton.ContainerKey) (out []telemetry.CPUReading) {
	for _, s := range f.window {
		out = append(out, telemetry.CPUReading{Time: s.Time, At: s.Usage.Time, Used: s.Usage.CPUTotal})
	}
	return out
}

func (f *fleet) Passed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.passed
}

func (f *fleet) ContainerLogs(ctx context.Context, _ triton.ContainerKey, opt triton.LogOptions, emit func(triton.LogRecord) error) error {
	for i, line := range f.logs {
		at := time.Unix(int64(i+1), 0)
		if at.Before(opt.Since) {
			continue
		}
		if err := emit(triton.LogRecord{Stream: "stdout", Time: at, Line: []byte(line)}); err != nil {
			return err
		}
	}
	if opt.Follow {
		<-ctx.Done()
	}
	return nil
}

func (f *fleet) Stream(ctx context.Context, tenant triton.Tenant, _, _ time.Time, emit func(triton.Event) error) error {
	f.count(1)
	defer f.count(-1)
	for _, c := range f.list {
		if c.Key.Tenant != tenant {
			continue
		}
		if err := emit(triton.Event{Type: triton.EventContainer, Action: "start", ID: c.Key.ID, Tenant: tenant}); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

func (f *fleet) count(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readers += n
}

func (f *fleet) CreateExec(context.Context, triton.ContainerKey, triton.ExecSpec) (string, error) {
	return "e", nil
}

func (f *fleet) InspectExec(context.Context, triton.ExecKey) (triton.Exec, error) {
	code := 7
	return triton.Exec{ExitCode: &code}, nil
}
func (f *fleet) ResizeExec(context.Context, triton.ExecKey, uint, uint) error { return nil }

// AttachExec gives a program that repeats its input until a line "exit".
func (f *fleet) AttachExec(context.Context, triton.ExecKey, [2]uint) (Terminal, error) {
	return echo{}, nil
}

type echo struct{}

func (echo) Close() error { return nil }
func (echo) Serve(_ context.Context, in io.Reader, out io.Writer) error {
	buf := make([]byte, 100)
	for {
		n, err := in.Read(buf)
		if err != nil {
			return err
		}
		if strings.Contains(string(buf[:n]), "exit") {
			return nil
		}
		if _, err := out.Write(buf[:n]); err != nil {
			return err
		}
	}
}

// start serves a hub over the fleet. The login is the Authorization header.
func (f *fleet) start(t *testing.T) (*Hub, string) {
	t.Helper()
	h := New(Config{
		Version: "test", Boot: "boot1", Node: "n1", Containers: f, Telemetry: f, Events: f, Terminals: f,
		Caller: func(r *http.Request) (Caller, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if who, ok := f.callers[r.Header.Get("Authorization")]; ok {
				return who, nil
			}
			return Caller{}, errors.New("who are you?")
		},
		Recheck: 50 * time.Millisecond, Missing: func() []string { return []string{"x"} },
		Level: func() Level {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.machine
		},
	})
	s := httptest.NewServer(h.Handler())
	t.Cleanup(func() {
		h.Close()
		s.Close()
	})
	return h, "ws" + strings.TrimPrefix(s.URL, "http")
}

// browser is a client of a test.
type browser struct {
	t     *testing.T
	conn  *websocket.Conn
	boot  string
	acked uint64
}

func dial(t *testing.T, url, login string) *browser {
	t.Helper()
	d := websocket.Dialer{Subprotocols: []string{Subprotocol}}
	conn, _, err := d.Dial(url+Path, http.Header{"Authorization": {login}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	b := &browser{t: t, conn: conn}
	hello := b.reply("hello")
	b.boot = hello.Hello.Boot
	return b
}

func (b *browser) say(r Request) {
	b.t.Helper()
	if err := b.conn.WriteJSON(r); err != nil {
		b.t.Fatal(err)
	}
}

// next reads one message: a reply or a frame.
func (b *browser) next() (*Reply, []byte) {
	b.t.Helper()
	b.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	kind, data, err := b.conn.ReadMessage()
	if err != nil {
		b.t.Fatal(err)
	}
	if kind == websocket.BinaryMessage {
		return nil, data
	}
	var r Reply
	if err := json.Unmarshal(data, &r); err != nil {
		b.t.Fatal(err)
	}
	return &r, nil
}

// reply expects an answer.
func (b *browser) reply(op string) Reply {
	b.t.Helper()
	r, data := b.next()
	if r == nil || r.Op != op {
		b.t.Fatalf("got %+v and %d bytes, want a reply %q", r, len(data), op)
	}
	return *r
}

// frame expects a data frame, and acknowledges it.
func (b *browser) frame(into body) Head {
	b.t.Helper()
	r, data := b.next()
	if r != nil {
		b.t.Fatalf("got reply %+v, want a frame", *r)
	}
	if err := msgpack.Unmarshal(data, into); err != nil {
		b.t.Fatal(err)
	}
	b.acked++
	b.say(Request{Op: "ack", N: b.acked})
	return *into.head()
}

// waitFor polls a condition.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
