package node

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/death"
	"github.com/tritond/triton/pkg/host"
	"github.com/tritond/triton/pkg/probes"
	"github.com/tritond/triton/pkg/procfs"
)

// oomKilled publishes a kill in a container that runs, and keeps a picture of its memory; the last kill of a run may be told
// by its exit record instead.
func (n *Node) oomKilled(e probes.Event) {
	c, err := n.get(e.Key)
	if err != nil {
		return // removed meanwhile
	}
	now := n.cfg.Now()
	c.mu.Lock()
	running := c.running()
	due := c.oomAfter == nil || now.Sub(c.oomAfter.At) >= oomPause
	if running {
		c.oomKills++
		if len(c.victims) < death.MaxVictims {
			c.victims = append(c.victims, death.Victim{At: e.At.UTC(), Pid: e.Pid, Comm: e.Comm})
		}
	}
	c.mu.Unlock()
	if !running {
		return
	}
	n.publish(c.event("oom", e.At.UTC(), nil))
	if due {
		after := n.oomAfter(c, e)
		c.mu.Lock()
		c.oomAfter = after
		c.mu.Unlock()
	}
}

// A picture is not taken at each kill of a container that has many, nor of all of its tasks: events of others wait.
const (
	oomPause = time.Second
	oomPids  = 1024
)

// oomAfter is what there is of a container's memory when the daemon hears of a kill; nil: nothing any more. It is shown where
// the kernel's log tells no more.
func (n *Node) oomAfter(c *container, e probes.Event) *death.OOM {
	path := n.cgroupPath(c.key)
	usage, _, err := n.cfg.Cgroups.DetailedUsage(path)
	if err != nil {
		return nil
	}
	o := &death.OOM{
		Source: death.OOMAfter, At: n.cfg.Now().UTC(), Scope: death.OOMContainer, Usage: usage.MemoryUsage, Limit: usage.MemoryLimit, Chosen: e.Pid,
		Stat: map[string]uint64{"rss": usage.MemoryRSS, "cache": usage.MemoryCache},
	}
	pids, err := n.cfg.Cgroups.Pids(path)
	if err != nil {
		return o
	}
	if !slices.Contains(pids, e.Pid) {
		o.Tasks = append(o.Tasks, death.OOMTask{Pid: e.Pid, Comm: e.Comm})
	}
	for _, pid := range pids[:min(len(pids), oomPids)] {
		if t, err := n.oomTask(pid, e.At); err == nil {
			o.Tasks = append(o.Tasks, t)
		}
	}
	o.Rank()
	return o
}

// oomTask reads what the kernel's killer looks at, of a process that was there at a time.
func (n *Node) oomTask(pid int, at time.Time) (death.OOMTask, error) {
	t := death.OOMTask{Pid: pid}
	dir, err := procfs.Open(pid)
	if err != nil {
		return t, err
	}
	defer dir.Close()
	stat, err := dir.Read("stat")
	if err != nil {
		return t, err
	}
	if began, ok := procfs.Started(string(stat)); !ok || sinceBoot(n.cfg.Now(), unix.CLOCK_BOOTTIME, began).After(at) {
		return t, fmt.Errorf("process %d is younger", pid)
	}
	status, err := dir.Read("status")
	if err != nil {
		return t, err
	}
	sizes := map[string]*uint64{
		"VmRSS": &t.RSS, "RssAnon": &t.Anon, "RssFile": &t.File, "RssShmem": &t.Shmem, "VmSwap": &t.Swap, "VmPTE": &t.PageTables,
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch size := sizes[key]; {
		case size != nil:
			kib, err := strconv.ParseUint(strings.TrimSuffix(value, " kB"), 10, 53)
			if err != nil {
				return t, fmt.Errorf("%s of process %d: %w", key, pid, err)
			}
			*size = kib << 10
		case key == "Name":
			t.Comm = value
		case key == "Uid":
			if f := strings.Fields(value); len(f) > 0 {
				t.UID, err = strconv.Atoi(f[0])
			}
		}
	}
	if err != nil {
		return t, err
	}
	adj, err := dir.Read("oom_score_adj")
	if err != nil {
		return t, err
	}
	t.ScoreAdj, err = strconv.Atoi(string(bytes.TrimSpace(adj)))
	return t, err
}

// oomPicture is that of the last kill in a run: the kernel's own, or else what was there right after it.
func (n *Node) oomPicture(c *container, started time.Time) (*death.OOM, error) {
	c.mu.Lock()
	after, victims, used := c.oomAfter, slices.Clone(c.victims), c.oomSeq
	c.mu.Unlock()
	own := n.cgroupPath(c.key)
	within := func(group, path string) bool { return path == group || strings.HasPrefix(path, group+"/") }
	var last *death.OOMReport
	var scan death.OOMScanner
	err := host.KernelLog(func(seq uint64, at time.Duration, line string) {
		r := scan.Add(seq, at, line)
		if r != nil && r.Seq > used && within(own, r.Task) && n.logged(r.At).After(started.Add(-clockSlack)) {
			last = r
		}
	})
	chosen := func(v death.Victim) bool { return v.Pid == last.OOM.Chosen }
	if last == nil || len(victims) > 0 && len(victims) < death.MaxVictims && !slices.ContainsFunc(victims, chosen) {
		return after, err
	}
	c.mu.Lock()
	c.oomSeq = last.Seq
	c.mu.Unlock()
	o := last.OOM
	o.Source, o.At, o.Scope = death.OOMKernel, n.logged(last.At).UTC(), death.OOMContainer
	if i := slices.IndexFunc(victims, chosen); i >= 0 {
		o.At = victims[i].At // of the clock that all else is told by
	}
	if !within(own, last.Group) || last.Group == "" {
		n.hideOthers(c, last.Group, after, &o)
	}
	o.Rank()
	return &o, err
}

// hideOthers leaves of a report what is the container's: where the machine or a group of several containers was short, the rest
// is other tenants'. A number says nothing: by now it may be that of a process here, and was another's.
func (n *Node) hideOthers(c *container, group string, after *death.OOM, o *death.OOM) {
	o.Scope = death.OOMAbove
	if group == "" || group == "/" {
		o.Scope = death.OOMMachine
	}
	own := map[oomProcess]bool{}
	if after != nil {
		for i := range after.Tasks {
			own[oomProcessOf(&after.Tasks[i])] = true
		}
	}
	if pids, err := n.cfg.Cgroups.Pids(n.cgroupPath(c.key)); err == nil {
		for _, pid := range pids {
			if t, err := n.oomTask(pid, o.At); err == nil {
				own[oomProcessOf(&t)] = true
			}
		}
	}
	keepOwn(o, own)
}

// oomProcess tells a process of a report from one that has its number now: containers' users are others.
type oomProcess struct {
	pid, uid int
	comm     string
}

func oomProcessOf(t *death.OOMTask) oomProcess { return oomProcess{t.Pid, t.UID, t.Comm} }

// keepOwn leaves of a report the process that was killed, and those of own.
func keepOwn(o *death.OOM, own map[oomProcess]bool) {
	o.Tasks = slices.DeleteFunc(o.Tasks, func(t death.OOMTask) bool { return t.Pid != o.Chosen && !own[oomProcessOf(&t)] })
	if !slices.ContainsFunc(o.Tasks, func(t death.OOMTask) bool { return t.Comm == o.Asked }) {
		o.Asked = ""
	}
	o.Usage, o.Limit, o.Failures, o.Stat = 0, 0, 0, nil
}

// clockSlack is how far the clock of the kernel's log, which nobody sets, may be off after months.
const clockSlack = 5 * time.Minute

// logged is when the clock of the kernel's log showed d.
func (n *Node) logged(d time.Duration) time.Time {
	return sinceBoot(n.cfg.Now(), unix.CLOCK_MONOTONIC, d)
}

// sinceBoot is when a clock that began with the machine showed d.
func sinceBoot(now time.Time, clock int32, d time.Duration) time.Time {
	var shows unix.Timespec
	if err := unix.ClockGettime(clock, &shows); err != nil {
		return time.Time{}
	}
	return now.Add(d - time.Duration(shows.Nano()))
}
