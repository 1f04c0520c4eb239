package node

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/network"
	"github.com/tritond/triton/pkg/probes"
	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
)

// Observed is what the kernel reported of one run of a container.
type Observed struct {
	Key      triton.ContainerKey
	Name     string
	Image    string
	Run      int
	Running  bool
	CgroupID uint64
	Totals   probes.Totals
	State    triton.State
}

// observedRing keeps the final readings of ended runs for a while: a container that lived for a millisecond, or was
// removed, can still be explained.
type observedRing struct {
	mu    sync.Mutex
	items []observedItem // oldest first
	lost  uint64
}

type observedItem struct {
	at time.Time
	Observed
}

const (
	observedFor = 10 * time.Minute
	observedMax = 4096 // about 2 KiB each
)

// add keeps o and lets go of what is too old or too much; the latter is counted.
func (r *observedRing) add(now time.Time, o Observed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	drop := 0
	for drop < len(r.items) && now.Sub(r.items[drop].at) > observedFor {
		drop++
	}
	if len(r.items)-drop >= observedMax {
		drop++
		r.lost++
	}
	if drop > 0 {
		r.items = append(r.items[:0:0], r.items[drop:]...)
	}
	r.items = append(r.items, observedItem{now, o})
}

// find returns the latest run kept of a tenant's container, by id, unique prefix or name.
func (r *observedRing) find(tenant triton.Tenant, ref string) (Observed, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.items) - 1; i >= 0; i-- {
		o := r.items[i].Observed
		if o.Key.Tenant == tenant && (o.Key.ID == ref || o.Name == ref || len(ref) >= 12 && strings.HasPrefix(o.Key.ID, ref)) {
			return o, true
		}
	}
	return Observed{}, false
}

// watch arms the probes of a container's cgroup and lets telemetry read it.
func (n *Node) watch(c *container, ids probes.CgroupIDs) error {
	c.watching.Lock()
	defer c.watching.Unlock()
	c.mu.Lock()
	name, image, wish := c.rec.Name, c.rec.Spec.Image, c.wish()
	c.mu.Unlock()
	if _, err := n.cfg.Probes.WatchAs(c.key, ids, wish); err != nil {
		return err
	}
	if err := n.tellAddresses(c); err != nil {
		n.log.Error("who talks to a container knows it by its address alone", "container", c.key, "err", err)
	}
	n.cfg.Telemetry.Add(c.key, name, image, func() (telemetry.Sample, error) { return n.sample(c) })
	return nil
}

// tellAddresses tells the probes which addresses are a watched container's now.
func (n *Node) tellAddresses(c *container) error {
	c.mu.Lock()
	address, attached := c.rec.Endpoint.Address, c.attached
	c.mu.Unlock()
	var all []netip.Addr
	if p, err := netip.ParsePrefix(address); err == nil { // none without an address of its own
		all = append(all, p.Addr())
	}
	for i := range attached {
		all = append(all, attached[i].Addresses()...)
	}
	return n.cfg.Probes.SetAddresses(c.key, all)
}

// sample reads all that telemetry keeps of a running container.
func (n *Node) sample(c *container) (telemetry.Sample, error) {
	usage, more, uerr := n.cfg.Cgroups.DetailedUsage(n.cgroupPath(c.key))
	totals, perr := n.cfg.Probes.Snapshot(c.key)
	s := sampleOf(usage, totals)
	s.Detail = more
	c.mu.Lock()
	pid, own := c.state.Pid, c.rec.Endpoint.NetNS != ""
	s.Started = c.state.StartedAt
	s.Limits = limitsOf(c.rec.Spec.Resources)
	c.mu.Unlock()
	var nerr error
	if own && pid != 0 {
		s.Network, nerr = network.Counters(pid)
	}
	return s, errors.Join(uerr, perr, nerr)
}

// limitsOf gives the processor limits as the kernel takes them: --cpus is a quota of docker's usual period.
func limitsOf(r triton.Resources) telemetry.Limits {
	l := telemetry.Limits{CPUQuota: r.CPUQuota, CPUPeriod: cmp.Or(r.CPUPeriod, 100_000)}
	if r.NanoCPUs > 0 {
		l.CPUQuota = r.NanoCPUs * l.CPUPeriod / 1e9
	}
	return l
}

// unwatch takes the final reading and keeps it.
func (n *Node) unwatch(c *container) {
	n.cfg.Telemetry.Remove(c.key)
	totals, err := n.cfg.Probes.Unwatch(c.key)
	if err != nil {
		n.log.Error("final reading lost", "container", c.key, "err", err)
		return
	}
	c.mu.Lock()
	o := Observed{
		Key: c.key, Name: c.rec.Name, Image: c.rec.Spec.Image, Run: c.state.Run, CgroupID: c.state.CgroupID,
		Totals: totals, State: c.state,
	}
	c.mu.Unlock()
	n.observed.add(n.cfg.Now(), o)
}

// Run keeps the containers' appointments and tells of what the kernel reports as it happens, until ctx is done: kills by the
// OOM killer, which a container may survive. It returns nil.
func (n *Node) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { n.agenda.run(ctx, n.spawn) })
	return n.cfg.Probes.Events(ctx, []probes.EventKind{probes.EventOOM}, eventQueue, n.oomKilled)
}

// eventQueue bounds the records that wait for Run; the probes count what is dropped.
const eventQueue = 1024

// Observe returns what the kernel reported of a container: live, or for ten minutes after its end or removal.
func (n *Node) Observe(ctx context.Context, tenant triton.Tenant, ref string) (Observed, error) {
	key, err := n.ResolveContainer(ctx, tenant, ref)
	if err == nil {
		if o, ok, err := n.observeLive(key); ok || err != nil {
			return o, err
		}
		ref = key.ID
	}
	if o, ok := n.observed.find(tenant, ref); ok {
		return o, nil
	}
	if err == nil {
		err = kindf(errdefs.ErrNotFound, "container %s has not run in the last %.0f minutes", triton.ShortID(key.ID), observedFor.Minutes())
	}
	return Observed{}, err
}

func (n *Node) observeLive(key triton.ContainerKey) (Observed, bool, error) {
	c, err := n.get(key)
	if err != nil {
		return Observed{}, false, err
	}
	c.mu.Lock()
	o := Observed{
		Key: key, Name: c.rec.Name, Image: c.rec.Spec.Image, Run: c.state.Run, CgroupID: c.state.CgroupID,
		State: c.state, Running: c.running(),
	}
	c.mu.Unlock()
	if !o.Running {
		return Observed{}, false, nil
	}
	o.Totals, err = n.cfg.Probes.Snapshot(key)
	return o, err == nil, err
}

// sampleOf joins a reading of the cgroups and one of the probes to what telemetry keeps.
func sampleOf(u triton.Usage, t probes.Totals) telemetry.Sample {
	s := telemetry.Sample{
		Time: t.Last, Usage: u, Durations: t.Durations, RunQueue: t.RunQueue, Waits: t.Waits,
		Block: triton.BlockUsage{
			Reads: t.BlockReads, Writes: t.BlockWrites, ReadBytes: t.BlockReadBytes, WriteBytes: t.BlockWriteBytes,
		},
		Counters: telemetry.Counters{
			Execs: t.Execs, Exits: t.Exits, Forks: t.Forks, FatalSignals: t.FatalSignals, OOMKills: t.OOMKills,
			RunQueueNs: t.RunQueue.SumNs,
			Dropped:    telemetry.Dropped{Ring: t.Dropped.Ring, Cells: t.Dropped.Cells, Storage: t.Dropped.Storage, Threads: t.Dropped.Threads},
		},
		NoCalls: t.Counted == 0 || t.Level == probes.Counters || t.Level == probes.Off, NoWaits: t.Level == probes.Off, CallsGuessed: 1 - t.Counted,
		Level: string(t.Level), CallsEstimated: t.Level == probes.Sampled,
		PerSyscall: make([]telemetry.SyscallSample, 0, len(t.Syscalls)), CallsVariance: t.Doubt.Variance,
	}
	for _, nr := range t.Numbers() {
		c := t.Syscalls[nr]
		s.Syscalls += c.Count
		s.SyscallErrors += c.Errors
		s.PerSyscall = append(s.PerSyscall, telemetry.SyscallSample{Nr: nr, Count: c.Count, Errors: c.Errors, Durations: c.Durations})
	}
	s.CallsOff = t.CallsOff()
	return s
}
