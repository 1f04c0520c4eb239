package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/dashboard"
	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
)

// fleet is a node's containers by name only.
type fleet struct {
	list []triton.Container
}

var (
	services = []string{"api", "web", "auth", "cart", "search", "mail", "billing", "worker", "cron", "edge", "pg", "redis", "queue", "thumbs"}
	images   = []string{"registry.acme.io/shop/%s:4.2.1", "%s:16", "ghcr.io/acme/%s:main"}
)

func newFleet(n int) *fleet {
	r := rand.New(rand.NewPCG(7, 7))
	f := &fleet{}
	now := time.Now()
	for i := range n {
		service := services[i%len(services)]
		id := fmt.Sprintf("%016x%016x%016x%016x", r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64())
		c := triton.Container{
			Key: triton.ContainerKey{Tenant: "acme", ID: id}, Name: fmt.Sprintf("%s-%d", service, i/len(services)), Created: now.Add(-time.Hour),
			Spec: triton.Spec{
				Image: fmt.Sprintf(images[i%len(images)], service), Cmd: []string{"/usr/bin/" + service, "--listen", ":8080"},
				Labels: map[string]string{"com.docker.compose.service": service, "team": []string{"edge", "core"}[i%2]},
				Log:    triton.LogConfig{Driver: triton.LogJSONFile}, Resources: triton.Resources{Memory: 256 << 20, NanoCPUs: []int64{0, 5e8, 2e9}[i%3]},
			},
			State:   triton.State{Status: triton.StatusRunning, Run: 1, Pid: 1000 + i, StartedAt: now.Add(-time.Duration(r.IntN(90000)) * time.Second)},
			Network: triton.Endpoint{Address: fmt.Sprintf("172.30.%d.%d/16", i/250, i%250+2)},
		}
		switch {
		case i%97 == 13:
			c.State = triton.State{Status: triton.StatusExited, Run: 3, ExitCode: 137, OOMKilled: true, StartedAt: now.Add(-time.Hour), FinishedAt: now.Add(-time.Minute)}
		case i%41 == 7:
			c.State = triton.State{Status: triton.StatusExited, Run: 1, StartedAt: now.Add(-time.Hour), FinishedAt: now.Add(-10 * time.Minute)}
		case i%53 == 5:
			c.State.Run = 5
		}
		f.list = append(f.list, c)
	}
	return f
}

// calls are what a made-up container does: number, share, typical duration, share of errors.
var calls = []struct {
	nr            int
	share, median float64
	errors        float64
}{{0, .31, 4e-6, 0}, {1, .27, 6e-6, 0}, {232, .12, 8e-3, 0}, {202, .1, 3e-4, .12}, {45, .08, 1.2e-5, .02}, {44, .07, 2e-5, 0}, {257, .03, 1e-5, .3}, {3, .02, 1e-6, 0}}

// source makes up container i: busy ones follow a slow wave, most idle.
func (f *fleet) source(i int) telemetry.Source {
	r := rand.New(rand.NewPCG(uint64(i), 3))
	load := math.Pow(r.Float64(), 6) * 1.6
	phase, period := r.Float64()*6, 20+r.Float64()*60
	s := telemetry.Sample{
		Durations: triton.Histogram{Schema: 2, First: -96, Counts: make([]uint64, 145)},
		RunQueue:  triton.Histogram{Schema: 2, First: -96, Counts: make([]uint64, 145)},
	}
	s.PerSyscall = make([]telemetry.SyscallSample, len(calls))
	memory := uint64((20 + r.Float64()*180) * (1 << 20))
	last := time.Now()
	return func() (telemetry.Sample, error) {
		now := time.Now()
		dt := now.Sub(last).Seconds()
		last = now
		cpu := load * (1 + .6*math.Sin(float64(now.UnixMilli())/1000/period*6+phase)) * (.9 + .2*r.Float64())
		s.Time, s.Usage.Time = now, now
		s.Usage.CPUTotal += time.Duration(cpu * dt * 1e9)
		if limit := float64(f.list[i].Spec.Resources.NanoCPUs) / 1e9; limit > 0 && cpu > .8*limit {
			s.Usage.CPUThrottledTime += time.Duration((min(cpu/limit, 1.6) - .8) * .3 * dt * 1e9)
		}
		s.Usage.MemoryWorkingSet = memory + uint64(r.IntN(4<<20))
		s.Usage.Pids = uint64(3 + i%9)
		s.PerSyscall = slices.Clone(s.PerSyscall)
		s.Durations.Counts, s.RunQueue.Counts = slices.Clone(s.Durations.Counts), slices.Clone(s.RunQueue.Counts)
		made(&s, r, cpu*9000*dt+r.Float64()*30*dt)
		waits(&s, r, cpu, dt)
		return s, nil
	}
}

// made adds n system calls.
func made(s *telemetry.Sample, r *rand.Rand, n float64) {
	for k, c := range calls {
		count := uint64(n*c.share + r.Float64())
		p := &s.PerSyscall[k]
		if p.Durations.Counts == nil {
			*p = telemetry.SyscallSample{Nr: c.nr, Durations: triton.Histogram{First: -24, Counts: make([]uint64, 37)}}
		}
		p.Durations.Counts = slices.Clone(p.Durations.Counts)
		p.Count += count
		failed := uint64(float64(count) * c.errors)
		p.Errors += failed
		s.Syscalls += count
		s.SyscallErrors += failed
		spread(&s.Durations, r, c.median, count)
		spread(&p.Durations, r, c.median, count)
	}
}

func waits(s *telemetry.Sample, r *rand.Rand, cpu, dt float64) {
	n := uint64((cpu*900 + 5) * dt)
	spread(&s.RunQueue, r, 1.5e-5*(1+cpu*cpu*20), n)
}

// spread adds n durations around a median, log-normally, in twelve draws.
func spread(h *triton.Histogram, r *rand.Rand, median float64, n uint64) {
	const draws = 12
	for d := range uint64(draws) {
		part := n / draws
		if d < n%draws {
			part++
		}
		if part == 0 {
			continue
		}
		v := median * math.Exp(r.NormFloat64()*.7)
		at := int(math.Ceil(math.Log2(v)*float64(int(1)<<h.Schema))) - int(h.First)
		h.Counts[min(max(at, 0), len(h.Counts)-1)] += part
		h.SumNs += uint64(v * 1e9 * float64(part))
	}
}

// ListContainers implements dashboard.Containers.
func (f *fleet) ListContainers(_ context.Context, tenant triton.Tenant) ([]triton.Container, error) {
	if tenant != "acme" {
		return nil, nil
	}
	return slices.Clone(f.list), nil
}

// ResolveContainer implements dashboard.Containers.
func (f *fleet) ResolveContainer(_ context.Context, tenant triton.Tenant, ref string) (triton.ContainerKey, error) {
	for i := range f.list {
		if k := f.list[i].Key; k.Tenant == tenant && (k.ID == ref || triton.ShortID(k.ID) == ref || f.list[i].Name == ref) {
			return k, nil
		}
	}
	return triton.ContainerKey{}, fmt.Errorf("no such container: %s: %w", ref, errdefs.ErrNotFound)
}

// Changes implements dashboard.Containers: nothing ever does.
func (f *fleet) Changes() uint64 { return 1 }

// ContainerLogs writes two lines a second, one of them with the escapes of a terminal.
func (f *fleet) ContainerLogs(ctx context.Context, _ triton.ContainerKey, opt triton.LogOptions, emit func(triton.LogRecord) error) error {
	line := func(at time.Time, k int) error {
		err := emit(triton.LogRecord{Stream: "stdout", Time: at, Line: fmt.Appendf(nil, "\x1b[32mINFO\x1b[0m request %d GET /cart/%d 200 in %d ms\n", k, k*37%1000, k%40)})
		if err == nil && k%9 == 0 {
			err = emit(triton.LogRecord{Stream: "stderr", Time: at, Line: []byte("WARN upstream slow: <b>retrying</b> in 250 ms\n")})
		}
		return err
	}
	if !opt.Follow {
		for k := range 60 {
			if err := line(time.Now().Add(time.Duration(k-60)*500*time.Millisecond), k); err != nil {
				return err
			}
		}
		return nil
	}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for k := 60; ; k++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-tick.C:
			if err := line(now, k); err != nil {
				return err
			}
		}
	}
}

// Stream implements dashboard.Events.
func (f *fleet) Stream(ctx context.Context, tenant triton.Tenant, _, _ time.Time, emit func(triton.Event) error) error {
	for i := range f.list {
		k := f.list[i].Key
		for n, action := range []string{"create", "start", "exec_create: sh", "oom", "die", "start"} {
			attrs := map[string]string{"name": f.list[i].Name}
			if action == "die" {
				attrs["exitCode"], attrs["execDuration"] = "137", "812"
			}
			e := triton.Event{Type: triton.EventContainer, Action: action, ID: k.ID, Tenant: tenant, Time: time.Now().Add(time.Duration(n-40) * time.Minute), Attributes: attrs}
			if err := emit(e); err != nil {
				return err
			}
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// CreateExec implements dashboard.Terminals.
func (f *fleet) CreateExec(context.Context, triton.ContainerKey, triton.ExecSpec) (string, error) {
	return triton.NewID(), nil
}

// InspectExec implements dashboard.Terminals.
func (f *fleet) InspectExec(context.Context, triton.ExecKey) (triton.Exec, error) {
	code := 0
	return triton.Exec{ExitCode: &code}, nil
}

// ResizeExec implements dashboard.Terminals.
func (f *fleet) ResizeExec(context.Context, triton.ExecKey, uint, uint) error { return nil }

// AttachExec gives a program that repeats what is typed.
func (f *fleet) AttachExec(context.Context, triton.ExecKey, [2]uint) (dashboard.Terminal, error) {
	return &echo{closed: make(chan struct{})}, nil
}

type echo struct {
	once   sync.Once
	closed chan struct{}
}

// Close implements dashboard.Terminal.
func (e *echo) Close() error {
	e.once.Do(func() { close(e.closed) })
	return nil
}

// Serve implements dashboard.Terminal.
func (e *echo) Serve(_ context.Context, in io.Reader, out io.Writer) error {
	if _, err := io.WriteString(out, "/ # "); err != nil {
		return err
	}
	_, err := io.Copy(out, in)
	return err
}
