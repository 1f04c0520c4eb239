package probes

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/containerd/errdefs"
	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
	"golang.org/x/sys/unix"
)

// syscallNumbers is the length of a slot's cell table; SyscallOther is its last entry.
const syscallNumbers = len(bpf.MeasureSlot{}.Cells)

// SyscallOther is the number under which calls with a number outside the table, and 32-bit calls, are counted.
const SyscallOther = syscallNumbers - 1

// CgroupIDs are the inode numbers of a container's cgroup directories. Ids repeat across hierarchies.
type CgroupIDs struct {
	V2 uint64            // in cgroup2; required
	V1 map[string]uint64 // by controller, on hybrid hosts: "blkio", "memory", …
}

// blkio is the id that the block layer charges: that of v1's blkio hierarchy where there is one, else cgroup2's.
func (c CgroupIDs) blkio() uint64 {
	if id := c.V1["blkio"]; id != 0 {
		return id
	}
	return c.V2
}

// Watch describes a container being watched.
type Watch struct {
	Key        triton.ContainerKey
	Slot       int
	Generation uint32 // never used before by this daemon
	Since      time.Time
}

// owner is how the programs name the watch.
func (w Watch) owner() uint64 { return uint64(w.Generation)<<32 | uint64(w.Slot) }

// watched is a Watch with what is needed to end it.
type watched struct {
	Watch
	ids      CgroupIDs
	wish     Wish
	detail   time.Time // since when it is at level Detail again; zero: it always was, or is not
	sampling *sampling // nil: not at level Sampled
	guess    guess
	doubt    doubt // of what is guessed
}

// slotTable says who has which slot. Slots go from free to used by Watch, to retired by Unwatch, and back to free once
// no program can still be adding to them.
type slotTable struct {
	byKey      map[triton.ContainerKey]*watched
	bySlot     []*watched // used or retired; nil: free
	free       []int      // a stack
	retired    []*watched
	generation uint32
}

func newSlotTable(n int) slotTable {
	t := slotTable{byKey: map[triton.ContainerKey]*watched{}, bySlot: make([]*watched, n)}
	for i := n - 1; i >= 0; i-- {
		t.free = append(t.free, i)
	}
	return t
}

// Watch begins to count what the tasks of a container do. Call it between the creation of the cgroup and the start of
// its first task: nothing has run in the cgroup yet, so nothing is missed. After a restart of the daemon the same call
// takes up a running container again, from zero. Watching twice with the same ids returns the first Watch; other ids,
// or a cgroup that belongs to another container, are errdefs.ErrAlreadyExists; no slot left is
// errdefs.ErrResourceExhausted. How much is counted is the machine's level.
func (p *Probes) Watch(key triton.ContainerKey, ids CgroupIDs) (Watch, error) {
	return p.WatchAs(key, ids, Wish{})
}

// WatchAs is Watch with a wish of how much to count from the first moment on.
func (p *Probes) WatchAs(key triton.ContainerKey, ids CgroupIDs, wish Wish) (Watch, error) {
	w, err := p.watch(key, ids, wish)
	if err != nil {
		return w, err
	}
	if err := p.questions.admit(key, ids); err != nil { // they ask again each second
		p.log.Warn("questions begin late for a container", "container", key, "err", err)
	}
	return w, nil
}

func (p *Probes) watch(key triton.ContainerKey, ids CgroupIDs, wish Wish) (Watch, error) {
	if err := cmp.Or(wish.Level, Detail).Validate(); err != nil {
		return Watch{}, fmt.Errorf("watch %s: %w", key, err)
	}
	if ids.V2 == 0 {
		return Watch{}, fmt.Errorf("watch %s: no cgroup2 id: %w", key, errdefs.ErrInvalidArgument)
	}
	if err := p.lockWithSlot(); err != nil {
		return Watch{}, fmt.Errorf("watch %s: %w", key, err)
	}
	defer p.mu.Unlock()
	if p.closed {
		return Watch{}, fmt.Errorf("watch %s: probes are closed: %w", key, errdefs.ErrFailedPrecondition)
	}
	if w := p.table.byKey[key]; w != nil {
		if w.ids.V2 == ids.V2 {
			return w.Watch, nil
		}
		return Watch{}, fmt.Errorf("watch %s: already watched in cgroup %d: %w", key, w.ids.V2, errdefs.ErrAlreadyExists)
	}
	if len(p.table.free) == 0 {
		return Watch{}, fmt.Errorf("watch %s: all %d slots are in use: %w", key, p.cfg.MaxContainers, errdefs.ErrResourceExhausted)
	}
	if err := p.attach(p.needed(wish.Of(p.level))); err != nil {
		return Watch{}, fmt.Errorf("watch %s: %w", key, err)
	}
	w, err := p.claim(key, ids, wish)
	if err != nil {
		return Watch{}, fmt.Errorf("watch %s: %w", key, err)
	}
	return w.Watch, nil
}

// claim takes a free slot and makes it known to the programs. The caller holds mu.
func (p *Probes) claim(key triton.ContainerKey, ids CgroupIDs, wish Wish) (*watched, error) {
	t := &p.table
	slot := t.free[len(t.free)-1]
	w := &watched{Watch: Watch{Key: key, Slot: slot, Generation: t.generation + 1, Since: time.Now()}, ids: ids, wish: wish}
	if err := p.kernel.slots.need(slot*p.kernel.shards, p.kernel.shards); err != nil {
		return nil, err
	}
	if p.peers != nil {
		if err := p.peers.begin(slot, w.owner()); err != nil {
			return nil, err
		}
	}
	p.mute(slot, wish.Of(p.level))
	if wish.Of(p.level) == Sampled {
		p.startSampling(w, w.Since)
	}
	if err := p.own(bpf.MeasureMapOwnersV2, ids.V2, w.owner()); err != nil {
		return nil, err
	}
	if err := p.own(bpf.MeasureMapOwnersBlkio, ids.blkio(), w.owner()); err != nil {
		return nil, errors.Join(err, p.kernel.maps[bpf.MeasureMapOwnersV2].Delete(ids.V2))
	}
	if err := p.kernel.maps[bpf.MeasureMapRingUses].Put(w.owner(), uint64(0)); err != nil {
		return nil, errors.Join(fmt.Errorf("count threads: %w", err), p.disown(ids))
	}
	if err := p.kernel.advance(bpf.MeasureVarEpoch); err != nil {
		return nil, errors.Join(err, p.disown(ids), forget(p.kernel.maps[bpf.MeasureMapRingUses], w.owner()))
	}
	t.generation++
	t.free = t.free[:len(t.free)-1]
	t.byKey[key], t.bySlot[slot] = w, w
	p.idle = time.Time{}
	return w, nil
}

// own enters the owner of a cgroup in the map of its hierarchy.
func (p *Probes) own(hierarchy string, id, owner uint64) error {
	err := p.kernel.maps[hierarchy].Update(id, owner, ebpf.UpdateNoExist)
	if errors.Is(err, ebpf.ErrKeyExist) {
		return fmt.Errorf("cgroup %d is watched for another container: %w", id, errdefs.ErrAlreadyExists)
	}
	if err != nil {
		return fmt.Errorf("enter cgroup %d in %s: %w", id, hierarchy, err)
	}
	return nil
}

// disown removes what own entered for a container.
func (p *Probes) disown(ids CgroupIDs) error {
	var errs []error
	for hierarchy, id := range map[string]uint64{bpf.MeasureMapOwnersV2: ids.V2, bpf.MeasureMapOwnersBlkio: ids.blkio()} {
		if err := p.kernel.maps[hierarchy].Delete(id); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, fmt.Errorf("forget cgroup %d in %s: %w", id, hierarchy, err))
		}
	}
	return errors.Join(errs...)
}

// Unwatch ends a watch and returns its final totals; call it when the container's tasks have ended. The slot and its
// cells are used again after a grace period. Not watched is errdefs.ErrNotFound.
func (p *Probes) Unwatch(key triton.ContainerKey) (Totals, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, err := p.find(key)
	if err != nil {
		return Totals{}, fmt.Errorf("unwatch %s: %w", key, err)
	}
	if err := p.disown(w.ids); err != nil {
		return Totals{}, fmt.Errorf("unwatch %s: %w", key, err)
	}
	if err := p.kernel.advance(bpf.MeasureVarEpoch); err != nil {
		return Totals{}, fmt.Errorf("unwatch %s: %w", key, err)
	}
	if p.peers != nil {
		if err := p.peers.end(w.Slot, w.owner()); err != nil {
			return Totals{}, fmt.Errorf("unwatch %s: %w", key, err)
		}
	}
	if err := forget(p.kernel.maps[bpf.MeasureMapRingUses], w.owner()); err != nil {
		return Totals{}, fmt.Errorf("unwatch %s: %w", key, err)
	}
	totals := p.read(w)
	delete(p.table.byKey, key)
	p.table.retired = append(p.table.retired, w)
	if len(p.table.byKey) == 0 {
		p.idle = time.Now()
		if p.cfg.Linger >= 0 {
			return totals, nil // see disarmIdle
		}
	}
	return totals, p.detach(p.needed())
}

// Snapshot reads what was counted so far. Each histogram's count is the sum of its buckets, so a number is never
// ahead of its parts. Not watched is errdefs.ErrNotFound.
func (p *Probes) Snapshot(key triton.ContainerKey) (Totals, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	w, err := p.find(key)
	if err != nil {
		return Totals{}, fmt.Errorf("snapshot %s: %w", key, err)
	}
	return p.read(w), nil
}

func (p *Probes) find(key triton.ContainerKey) (*watched, error) {
	if p.closed {
		return nil, fmt.Errorf("probes are closed: %w", errdefs.ErrFailedPrecondition)
	}
	w := p.table.byKey[key]
	if w == nil {
		return nil, fmt.Errorf("not watched: %w", errdefs.ErrNotFound)
	}
	return w, nil
}

// lockWithSlot locks mu, for the caller to unlock unless there is an error. When no slot is free it frees retired ones
// first, again if others were quicker to take them: without a free slot then, all are in use.
func (p *Probes) lockWithSlot() error {
	for {
		p.mu.Lock()
		if p.closed || len(p.table.free) > 0 || len(p.table.retired) == 0 {
			return nil
		}
		p.mu.Unlock()
		if err := p.reap(); err != nil {
			return err
		}
	}
}

// reap frees the slots that were retired before the call, once no program can still use them.
func (p *Probes) reap() error {
	p.reapMu.Lock()
	defer p.reapMu.Unlock()
	p.mu.RLock()
	retired := slices.Clone(p.table.retired)
	p.mu.RUnlock()
	if len(retired) == 0 {
		return nil
	}
	if err := waitForPrograms(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.table.retired = slices.Clone(p.table.retired[len(retired):])
	for i, w := range retired {
		if err := p.release(w); err != nil {
			p.table.retired = append(p.table.retired, retired[i:]...)
			return fmt.Errorf("free slot %d of %s: %w", w.Slot, w.Key, err)
		}
	}
	if err := errors.Join(p.forgetDelays(), p.forgetDisks()); err != nil {
		return err
	}
	gone := func(owner uint64) bool {
		return slices.ContainsFunc(retired, func(w *watched) bool { return w.owner() == owner })
	}
	var errs []error
	if p.peers != nil {
		errs = append(errs, p.peers.forget(gone))
	}
	if p.names != nil {
		errs = append(errs, p.names.forget(gone))
	}
	return errors.Join(errs...)
}

// release clears a slot and gives its cells back to the pool. The caller holds mu.
func (p *Probes) release(w *watched) error {
	pool := p.kernel.maps[bpf.MeasureMapFreeCells]
	for shard := range p.kernel.shards {
		i := w.Slot*p.kernel.shards + shard
		slot := p.kernel.slots.at(i)
		if err := p.kernel.cells.clear(i); err != nil {
			return err
		}
		for nr, cell := range slot.Cells {
			if cell == 0 {
				continue
			}
			if err := p.kernel.cells.clear(int(cell)); err != nil {
				return err
			}
			slot.Cells[nr] = 0
			if err := pool.Update(nil, cell, ebpf.UpdateAny); err != nil {
				return fmt.Errorf("give back cell %d: %w", cell, err)
			}
		}
		p.events.droppedRing.Add(slot.DropRing)
		p.events.droppedCells.Add(slot.DropCells)
		p.events.droppedStorage.Add(slot.DropStorage)
		*slot = bpf.MeasureSlot{}
	}
	if p.network != nil {
		if err := errors.Join(p.network.totals.clear(w.Slot), p.kernel.accepts.clear(w.Slot)); err != nil {
			return err
		}
	}
	if p.peers != nil {
		if err := p.peers.slots.clear(w.Slot); err != nil {
			return err
		}
	}
	if p.names != nil {
		if err := p.names.totals.clear(w.Slot); err != nil {
			return err
		}
	}
	p.table.bySlot[w.Slot] = nil
	p.table.free = append(p.table.free, w.Slot)
	return nil
}

// membarrierGlobal is MEMBARRIER_CMD_GLOBAL of linux/membarrier.h: the kernel runs synchronize_rcu for it, which also
// waits for all code that runs with preemption off, as BPF programs on tracepoints do (include/trace/bpf_probe.h).
const membarrierGlobal = 1

// waitForPrograms returns when every program that was running at the time of the call has ended.
func waitForPrograms() error {
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0); errno != 0 {
		return fmt.Errorf("wait for running programs: membarrier: %w", errno)
	}
	return nil
}

// counters are drops of slots that are free again, and of user space.
type counters struct {
	droppedRing, droppedCells, droppedStorage atomic.Uint64
	droppedQueue, droppedUnowned              atomic.Uint64
	malformed                                 atomic.Uint64
}
