package dockerapi

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

func (b *fakeBackend) PauseContainer(_ context.Context, key triton.ContainerKey) error {
	return b.freeze(key, triton.StatusRunning, triton.StatusPaused)
}

func (b *fakeBackend) UpdateContainer(_ context.Context, key triton.ContainerKey, u triton.Update) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.containers[key]
	r, policy, err := u.Apply(&c.c.Spec)
	if err == nil {
		c.c.Spec.Resources, c.c.Spec.RestartPolicy = r, policy
		b.notify()
	}
	return nil, err
}

func (b *fakeBackend) UnpauseContainer(_ context.Context, key triton.ContainerKey) error {
	return b.freeze(key, triton.StatusPaused, triton.StatusRunning)
}

func (b *fakeBackend) freeze(key triton.ContainerKey, from, to triton.Status) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.containers[key]
	if c.c.State.Status != from {
		return fmt.Errorf("container %s is not %s: %w", key.ID, from, errdefs.ErrFailedPrecondition)
	}
	c.c.State.Status = to
	b.notify()
	return nil
}

func (b *fakeBackend) RenameContainer(_ context.Context, key triton.ContainerKey, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.containers[key].c.Name = name
	b.notify()
	return nil
}

func (b *fakeBackend) TopContainer(_ context.Context, _ triton.ContainerKey, options string) (triton.ProcessTable, error) {
	return triton.ProcessTable{Titles: []string{"PID", "OPTIONS"}, Processes: [][]string{{"1", options}}}, nil
}

// ContainerStats is of a container that uses half of one of two processors, and no memory limit.
func (b *fakeBackend) ContainerStats(_ context.Context, key triton.ContainerKey) (*triton.Stats, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.containers[key].c.State.Status != triton.StatusRunning {
		return nil, nil
	}
	now := time.Now()
	up := time.Since(time.Unix(1700000000, 0))
	return &triton.Stats{
		Usage:   triton.Usage{Time: now, CPUTotal: up / 2, MemoryUsage: 3000, Pids: 2},
		HostCPU: uint64(2 * up), OnlineCPUs: 2, HostMemory: 8 << 30,
		MemoryStat: map[string]uint64{"total_inactive_file": 1000},
		Networks:   map[string]triton.InterfaceStats{"eth0": {RxBytes: 7}},
	}, nil
}
