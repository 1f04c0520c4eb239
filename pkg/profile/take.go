package profile

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// readEvery is how often stacks are read: a process that lives shorter may have no names.
const readEvery = 200 * time.Millisecond

// Bounds of what is asked for.
const (
	MaxTime      = 5 * time.Minute
	maxPerTenant = 8 // at a time
)

// Stacks are stacks being taken. Close is idempotent.
type Stacks interface {
	Read() ([]triton.Stack, triton.StackLoss, error)
	// Last is the Read of the end: it has what waits still, too.
	Last() ([]triton.Stack, triton.StackLoss, error)
	Close() error
}

// Taker takes profiles that are asked for. Its methods may be called from any goroutine.
type Taker struct {
	// Start begins to take stacks of a container that is watched.
	Start func(triton.ContainerKey, triton.StackKind) (Stacks, error)
	// CPU is the time that a cgroup has had on CPUs.
	CPU  func(cgroupPath string) (time.Duration, error)
	Name Namer
	Now  func() time.Time

	names  Names
	kernel Kernel

	mu      sync.Mutex
	running map[triton.Tenant]int
}

// Take profiles a container for some time, or until ctx ends, which is an error. errdefs.ErrInvalidArgument: the time is not
// above 0 and up to MaxTime; errdefs.ErrResourceExhausted: the tenant has too many running.
func (t *Taker) Take(ctx context.Context, sub Subject, kind triton.StackKind, during time.Duration) (_ *Profile, err error) {
	if during <= 0 || during > MaxTime {
		return nil, fmt.Errorf("profile for %s: must be above 0 and at most %s: %w", during, MaxTime, errdefs.ErrInvalidArgument)
	}
	if err := t.enter(sub.Key.Tenant); err != nil {
		return nil, err
	}
	defer t.leave(sub.Key.Tenant)
	stacks, err := t.Start(sub.Key, kind)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stacks.Close()) }()
	c := t.collector(sub, kind)
	defer func() { err = errors.Join(err, c.Close()) }()
	before, beforeErr := t.CPU(sub.CgroupPath)
	if err := collect(ctx, c, stacks, during); err != nil {
		return nil, err
	}
	c.end = t.Now()
	after, afterErr := t.CPU(sub.CgroupPath)
	if err := stacks.Close(); err != nil {
		return nil, err
	}
	if beforeErr != nil || afterErr != nil || kind != triton.OnCPU {
		before, after = 0, 0 // the container ended meanwhile; or it is not about time on CPUs
	}
	return c.Finish(ctx, after-before)
}

func (t *Taker) collector(sub Subject, kind triton.StackKind) *Collector {
	return NewCollector(Config{Subject: sub, Kind: kind, Name: t.Name, Names: &t.names, Kernel: &t.kernel, Now: t.Now})
}

// collect reads stacks until the time is over.
func collect(ctx context.Context, c *Collector, stacks Stacks, during time.Duration) error {
	every, end := time.NewTicker(min(readEvery, during)), time.NewTimer(during)
	defer every.Stop()
	defer end.Stop()
	for read := stacks.Read; ; {
		over := false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-every.C:
		case <-end.C:
			read, over = stacks.Last, true
		}
		all, loss, err := read()
		if err != nil {
			return err
		}
		c.Add(all, loss)
		if over {
			return nil
		}
	}
}

func (t *Taker) enter(tenant triton.Tenant) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running[tenant] == maxPerTenant {
		return fmt.Errorf("%d profiles of tenant %s are being taken already: %w", maxPerTenant, tenant, errdefs.ErrResourceExhausted)
	}
	if t.running == nil {
		t.running = map[triton.Tenant]int{}
	}
	t.running[tenant]++
	return nil
}

func (t *Taker) leave(tenant triton.Tenant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running[tenant]--; t.running[tenant] == 0 {
		delete(t.running, tenant)
	}
}
