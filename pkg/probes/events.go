package probes

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
	"golang.org/x/sys/unix"
)

// EventKind says what a record reports.
type EventKind uint32

// The kinds of records: enum event_kind of bpf/lifecycle.h.
const (
	EventExec   EventKind = 1 // a process executed a program
	EventExit   EventKind = 2 // a process ended
	EventSignal EventKind = 3 // a signal is about to end a process with a core dump
	EventOOM    EventKind = 4 // a process was chosen by the OOM killer
)

// String names the kind.
func (k EventKind) String() string {
	switch k {
	case EventExec:
		return "exec"
	case EventExit:
		return "exit"
	case EventSignal:
		return "signal"
	case EventOOM:
		return "oom"
	}
	return fmt.Sprintf("kind %d", uint32(k))
}

// Event is one record of a watched container. Pids are those of the host's pid namespace.
type Event struct {
	Key        triton.ContainerKey
	Kind       EventKind
	At         time.Time
	CgroupID   uint64 // of the task: the container's cgroup2 directory, or one below it
	Pid, Tid   int
	Parent     int
	Comm       string // the task's name, at most 15 bytes
	WaitStatus uint32 // exit: as wait4 gives it
	Signal     int    // signal: its number
	Code       int    // signal: si_code
	Address    uint64 // signal: the faulting address
}

// recordSize is the size of struct event of bpf/lifecycle.h: four u64, six u32, a name.
const recordSize = 4*8 + 6*4 + 16

// decodeRecord reads a record of the ring. boot is the wall clock's reading at boot. The key is not set.
func decodeRecord(b []byte, boot time.Time) (Event, uint64, error) {
	if len(b) != recordSize {
		return Event{}, 0, fmt.Errorf("event record of %d bytes, want %d", len(b), recordSize)
	}
	e := binary.NativeEndian
	ev := Event{
		Kind:     EventKind(e.Uint32(b[32:])),
		At:       boot.Add(time.Duration(e.Uint64(b[0:]))),
		CgroupID: e.Uint64(b[16:]),
		Pid:      int(e.Uint32(b[36:])),
		Tid:      int(e.Uint32(b[40:])),
		Parent:   int(e.Uint32(b[44:])),
	}
	comm, _, _ := bytes.Cut(b[56:72], []byte{0})
	ev.Comm = string(comm)
	status := e.Uint32(b[48:])
	switch ev.Kind {
	case EventExit:
		ev.WaitStatus = status
	case EventSignal:
		ev.Signal, ev.Code, ev.Address = int(status), int(int32(e.Uint32(b[52:]))), e.Uint64(b[24:])
	case EventExec, EventOOM:
	default:
		return Event{}, 0, fmt.Errorf("event record of unknown kind %d", ev.Kind)
	}
	return ev, e.Uint64(b[8:]), nil
}

// eventHub spreads records to subscribers.
type eventHub struct {
	counters
	mu   sync.Mutex
	subs map[*subscription]struct{}
}

type subscription struct {
	kinds uint64 // a bit each
	queue chan Event
}

// Events calls fn for each record of these kinds of watched containers until ctx is done; it returns nil then. Kinds that nobody
// subscribes to cost a test in the kernel and are not recorded. At most queue records wait for fn; what comes beyond that is
// dropped and counted, here under Drops()["queue"]. Records flow while Run runs.
func (p *Probes) Events(ctx context.Context, kinds []EventKind, queue int, fn func(Event)) (err error) {
	if queue < 1 || len(kinds) == 0 {
		return fmt.Errorf("subscribe to events: queue of %d records of %d kinds", queue, len(kinds))
	}
	s := &subscription{queue: make(chan Event, queue)}
	for _, kind := range kinds {
		s.kinds |= 1 << kind
	}
	if err := p.subscribe(func(subs map[*subscription]struct{}) { subs[s] = struct{}{} }); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, p.subscribe(func(subs map[*subscription]struct{}) { delete(subs, s) }))
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev := <-s.queue:
			fn(ev)
		}
	}
}

// subscribe changes who has subscribed, and what the programs record with it.
func (p *Probes) subscribe(change func(map[*subscription]struct{})) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	h := &p.events
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs == nil {
		h.subs = map[*subscription]struct{}{}
	}
	change(h.subs)
	if p.closed {
		return nil // there are no programs any more
	}
	var wanted uint64
	for s := range h.subs {
		wanted |= s.kinds
	}
	if err := p.kernel.variables[bpf.MeasureVarWantedEvents].Set(wanted); err != nil {
		return fmt.Errorf("subscribe to events: %w", err)
	}
	return nil
}

// publish never blocks.
func (h *eventHub) publish(ev Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		if s.kinds&(1<<ev.Kind) == 0 {
			continue
		}
		select {
		case s.queue <- ev:
		default:
			h.droppedQueue.Add(1)
		}
	}
}

// readRing decodes records until ctx is done.
func (p *Probes) readRing(ctx context.Context) error {
	ring, err := ringbuf.NewReader(p.kernel.maps[bpf.MeasureMapEvents])
	if err != nil {
		return fmt.Errorf("open event ring: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { ring.Close() })
	defer stop()
	defer ring.Close()
	var rec ringbuf.Record
	for {
		if err := ring.ReadInto(&rec); err != nil {
			if errors.Is(err, os.ErrClosed) {
				return nil
			}
			return fmt.Errorf("read event ring: %w", err)
		}
		p.handle(rec.RawSample)
	}
}

func (p *Probes) handle(raw []byte) {
	ev, owner, err := decodeRecord(raw, bootTime())
	if err != nil {
		p.events.malformed.Add(1)
		return
	}
	key, ok := p.ownerKey(owner)
	if !ok {
		p.events.droppedUnowned.Add(1)
		return
	}
	ev.Key = key
	p.events.publish(ev)
}

// ownerKey resolves an owner; that of a retired slot still is, since records lag behind Unwatch.
func (p *Probes) ownerKey(owner uint64) (triton.ContainerKey, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	slot := owner & 0xffffffff
	if slot >= uint64(len(p.table.bySlot)) {
		return triton.ContainerKey{}, false
	}
	w := p.table.bySlot[slot]
	if w == nil || w.owner() != owner {
		return triton.ContainerKey{}, false
	}
	return w.Key, true
}

// bootTime returns the wall clock's reading at boot.
func bootTime() time.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Time{} // impossible since Linux 2.6.39
	}
	return time.Now().Add(-time.Duration(ts.Nano()))
}

// Drops counts what was lost since Open, by reason: ring (event records, the ring was full), queue (records, a
// subscriber was too slow), unowned (records that arrived after their container's slot was freed), malformed (records),
// cells (calls counted under SyscallOther because the pool was empty), storage (calls counted without duration),
// delay_ns (nanoseconds of waiting, the matrix of delays was full),
// disks (requests whose device and time are not known, the map was full), exits (exit statuses, the map was full),
// missed (program runs skipped by the kernel), peers (changes of connections,
// the map was full), threads (found no room in the flight recorder), sockets (connections whose times are not counted: the kernel gave no storage).
func (p *Probes) Drops() map[string]uint64 {
	d := map[string]uint64{
		"ring": p.events.droppedRing.Load(), "queue": p.events.droppedQueue.Load(),
		"unowned": p.events.droppedUnowned.Load(), "malformed": p.events.malformed.Load(),
		"cells": p.events.droppedCells.Load(), "storage": p.events.droppedStorage.Load(),
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return d
	}
	for i, w := range p.table.bySlot {
		for shard := range p.kernel.shards {
			if w == nil { // what a slot had lost was counted when it was given back
				break
			}
			slot := p.kernel.slots.at(i*p.kernel.shards + shard)
			d["ring"] += load64(&slot.DropRing)
			d["cells"] += load64(&slot.DropCells)
			d["storage"] += load64(&slot.DropStorage)
		}
	}
	d["exits"] = p.exits.count(exitsFull)
	d["missed"] = p.kernel.missed()
	var lost uint64
	if err := p.kernel.variables[bpf.MeasureVarDelaysDroppedNs].Get(&lost); err == nil { // a variable of a loaded program can be read
		d["delay_ns"] = lost
	}
	var strangers uint64
	if err := p.kernel.variables[bpf.MeasureVarDisksDropped].Get(&strangers); err == nil { // the same
		d["disks"] = strangers
	}
	var unrecorded uint64
	if err := p.kernel.variables[bpf.MeasureVarUnrecordedThreads].Get(&unrecorded); err == nil { // the same
		d["threads"] = unrecorded
	}
	if p.peers != nil {
		d["peers"] = p.peers.count(bpf.PeersVarPeersDropped)
		d["connections"] = p.peers.count(bpf.PeersVarUntracked)
		d["drop_reasons"] = p.peers.count(bpf.PeersVarReasonsDropped)
	}
	if p.network != nil {
		d["sockets"] = p.network.dropped()
	}
	return d
}

// UnseenSwitches counts the switches between tasks that show that the kernel has kept others from the programs, as those of some virtual
// machines do with their agents. What these had a CPU for is nobody's in Delays.
func (p *Probes) UnseenSwitches() (n uint64) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed || p.kernel.variables[bpf.MeasureVarUnseenSwitches].Get(&n) != nil { // a variable of a loaded program can be read
		return 0
	}
	return n
}
