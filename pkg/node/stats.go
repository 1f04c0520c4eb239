package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/network"
	"github.com/tritond/triton/pkg/triton"
)

// userHZ is the unit of /proc/stat: 100 per second on every architecture that Linux has left (include/asm-generic/param.h).
const userHZ = 100

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
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil, fmt.Errorf("read processor time of the machine: %w", err)
	}
	if s.HostCPU, s.OnlineCPUs, err = hostCPU(string(stat)); err != nil {
		return nil, err
	}
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

// hostCPU sums the first line of /proc/stat (proc_stat(5): user to softirq, as docker sums it; guest time is in user, and
// stolen time is nobody's here) and counts the processors that are online.
func hostCPU(text string) (ns uint64, online int, err error) {
	const counted = 7
	for _, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || !strings.HasPrefix(words[0], "cpu") {
			continue
		}
		if words[0] != "cpu" {
			online++
			continue
		}
		if len(words) <= counted {
			return 0, 0, fmt.Errorf("/proc/stat: %d fields of processor time", len(words)-1)
		}
		for _, word := range words[1 : counted+1] {
			v, err := strconv.ParseUint(word, 10, 64)
			if err != nil {
				return 0, 0, fmt.Errorf("/proc/stat: %w", err)
			}
			ns += v * (1e9 / userHZ)
		}
	}
	if ns == 0 {
		return 0, 0, errors.New("/proc/stat: no processor time")
	}
	if online == 0 {
		online = goruntime.NumCPU()
	}
	return ns, online, nil
}
