package node

import (
	"context"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/cgroup"
	"github.com/tritond/triton/pkg/network"
	"github.com/tritond/triton/pkg/triton"
)

// ContainerStats reads what a container uses now; nil without an error: it does not run.
func (n *Node) ContainerStats(_ context.Context, key triton.ContainerKey) (*triton.Stats, error) {
	c, task, _, err := n.runningTask(key)
	if err != nil || task == nil {
		return nil, err
	}
	s, err := n.cfg.Cgroups.Stats(n.cgroupPath(key))
	if errdefs.IsNotFound(err) {
		return nil, nil // it ended meanwhile
	}
	if err != nil {
		return nil, err
	}
	s.HostMemory = uint64(n.cfg.Memory)
	machine, err := cgroup.ReadMachine()
	if err != nil {
		return nil, err
	}
	s.HostCPU, s.OnlineCPUs = uint64(machine.CPU), machine.Online
	c.mu.Lock()
	hostNetwork := c.rec.Spec.NetworkMode == triton.ModeHost
	c.mu.Unlock()
	if hostNetwork {
		return &s, nil
	}
	// A process that ended meanwhile has no interfaces any more (ENOENT, or EINVAL of a zombie); all else is still true.
	if all, err := network.Interfaces(task.Pid()); err == nil {
		s.Networks = all
	}
	return &s, nil
}
