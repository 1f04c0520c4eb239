package node

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/coredump"
	"github.com/tritond/triton/pkg/death"
	"github.com/tritond/triton/pkg/triton"
)

// CrashSubject finds the container that a crashed process belongs to: by the id of its cgroup, or, where the container
// divided its cgroup or runs so shortly that its id is not noted yet, by the cgroup's path.
func (n *Node) CrashSubject(cgroupID uint64, path string) (coredump.Subject, bool) {
	for _, c := range n.all() {
		c.mu.Lock()
		hit := cgroupID != 0 && c.state.CgroupID == cgroupID
		c.mu.Unlock()
		if own := n.cgroupPath(c.key); hit || path == own || strings.HasPrefix(path, own+"/") {
			c.mu.Lock()
			defer c.mu.Unlock()
			spec := c.rec.Spec
			return coredump.Subject{
				Key: c.key, Name: c.rec.Name, Image: spec.Image, ImageID: spec.ImageID, Run: c.state.Run, Pid: c.state.Pid, Labels: spec.Labels,
			}, true
		}
	}
	return coredump.Subject{}, false
}

// LiveProcess finds a process of a container that runs, by its id in the container; 1 is the first. It returns the
// container and the process's id in the daemon's namespace. errdefs.ErrFailedPrecondition: the container does not run, or
// is paused.
func (n *Node) LiveProcess(ctx context.Context, tenant triton.Tenant, ref string, pid int) (coredump.Subject, int, error) {
	key, err := n.ResolveContainer(ctx, tenant, ref)
	if err != nil {
		return coredump.Subject{}, 0, err
	}
	c, _, err := n.needTask(key)
	if err != nil {
		return coredump.Subject{}, 0, err
	}
	if err := c.needThawed("snapshot"); err != nil {
		return coredump.Subject{}, 0, err
	}
	c.mu.Lock()
	first := c.state.Pid
	c.mu.Unlock()
	sub, ok := n.CrashSubject(0, n.cgroupPath(key))
	if !ok {
		return coredump.Subject{}, 0, noSuchContainer(ref)
	}
	if pid == 1 {
		return sub, first, nil
	}
	pids, err := n.cfg.Cgroups.Pids(n.cgroupPath(key))
	if err != nil {
		return coredump.Subject{}, 0, err
	}
	for _, host := range pids {
		if coredump.PidInside(host) == pid {
			return sub, host, nil
		}
	}
	return coredump.Subject{}, 0, kindf(errdefs.ErrNotFound, "container %s has no process %d", c.name(), pid)
}

// LastLines returns the last lines of a container's output, oldest first, each with its stream; none where the log
// cannot be read back.
func (n *Node) LastLines(ctx context.Context, key triton.ContainerKey, lines int) ([]string, error) {
	var out []string
	err := n.ContainerLogs(ctx, key, triton.LogOptions{Stdout: true, Stderr: true, Tail: lines}, func(r triton.LogRecord) error {
		out = append(out, fmt.Sprintf("%s: %s", r.Stream, strings.ToValidUTF8(strings.TrimSuffix(string(r.Line), "\n"), "�")))
		return nil
	})
	return out, err
}

// LastMinute returns the telemetry of a container's last minute, a sample a second, oldest first.
func (n *Node) LastMinute(key triton.ContainerKey) []triton.Sample {
	var out []triton.Sample
	for _, s := range n.cfg.Telemetry.Newest(key, deathSeconds) {
		out = append(out, sampleInShort(s))
	}
	return out
}

// CoreSaved notes that a dump is there; the process that died is still held.
func (n *Node) CoreSaved(r coredump.Record) {
	c, err := n.get(r.Container)
	if err != nil {
		return // removed meanwhile: there is nobody to tell
	}
	c.mu.Lock()
	// The first process's dump is the end's: those of others that were held meanwhile may be saved after it.
	if k := c.state.Core; c.state.Run == r.Run && (k == nil || !k.First) {
		c.state.Core = &triton.Core{
			ID: r.ID, Signal: r.Signal, Number: int(unix.SignalNum(r.Signal)), Comm: r.Comm, First: r.Pid == c.state.Pid,
		}
	}
	c.mu.Unlock()
	n.saveState(c)
}

// CoreAnalysed tells those who follow events of a dump, and the record of the death of which it is, once its stacks were
// read or could not be. Of a dump that is for operators the tenant learns that there is one, and not where it crashed.
func (n *Node) CoreAnalysed(r coredump.Record) {
	if r.OperatorOnly {
		r.Analysis = &coredump.Analysis{}
	}
	c, err := n.get(r.Container)
	if err != nil {
		c = nil // removed meanwhile
	}
	n.count(r.Container.Tenant, c, func(t *Toll) { t.countCrash(cmp.Or(r.Analysis.State, CrashAlone)) })
	if c != nil {
		c.mu.Lock()
		if k := c.state.Core; k != nil && k.ID == r.ID {
			named := *k
			named.Group, named.Top = r.Analysis.Group, r.Analysis.Top
			c.state.Core = &named
		}
		c.mu.Unlock()
		n.saveState(c)
		attributes := map[string]string{"triton.core": r.ID, "signal": r.Signal, "comm": r.Comm, "body": r.Body}
		if r.Analysis.Group != "" {
			attributes["triton.group"], attributes["triton.frame"] = r.Analysis.Group, r.Analysis.Top
			attributes["triton.group.state"] = r.Analysis.State
		}
		n.publish(c.event("coredump", r.At, attributes))
	}
	// After the state: a record of the death that is made meanwhile looks there once more.
	d, err := n.cfg.Deaths.Get(r.Container.Tenant, death.ID(r.Container, r.Run))
	if err != nil || d.Core == nil || d.Core.ID != r.ID {
		return
	}
	d.Core.Group, d.Core.Top = r.Analysis.Group, r.Analysis.Top
	if err := n.cfg.Deaths.Complete(d); err != nil {
		n.log.Error("death record not completed", "container", r.Container, "err", err)
	}
}
