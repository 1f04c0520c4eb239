package probes

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/containerd/errdefs"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
)

const (
	// TracesMax bounds the traces of the machine: every one costs each process of it some 0.2 us per call.
	TracesMax = 8
	// tracesPerTenant leaves room for others.
	tracesPerTenant = 4
	// traceLimit is how many records one trace may have in a tenth of a second.
	traceLimit = 2000
	// traceBatch is how many are told of at once.
	traceBatch = 256
	// traceLook is how often losses are told of and the container is looked for.
	traceLook = 200 * time.Millisecond
	// commMax is TASK_COMM_LEN of include/linux/sched.h without its NUL.
	commMax = 15
)

// Trace tells each of the system calls of a container that f lets pass, in the order in which they return, and of what was
// lost, until ctx is done, the container is watched no more, or each returns an error, which Trace then returns.
// started is called once the trace is attached. each gets at most traceBatch events, for the time of the call. A slow one
// loses events and hears how many. Not watched is errdefs.ErrNotFound, too many traces errdefs.ErrResourceExhausted. Any
// level will do.
func (p *Probes) Trace(ctx context.Context, key triton.ContainerKey, f triton.TraceFilter, started func(), each func([]triton.TraceEvent) error) error {
	if len(f.Comm) > commMax || f.Slower < 0 {
		return fmt.Errorf("trace %s: names of threads have at most %d bytes, and no call takes less than no time: %w", key, commMax, errdefs.ErrInvalidArgument)
	}
	p.mu.RLock()
	w, err := p.find(key)
	p.mu.RUnlock()
	if err != nil {
		return fmt.Errorf("trace %s: %w", key, err)
	}
	if err := p.traces.take(key.Tenant); err != nil {
		return fmt.Errorf("trace %s: %w", key, err)
	}
	defer p.traces.give(key.Tenant)
	owner := w.owner()
	t, err := p.loadTrace(w.ids.V2, f)
	if err != nil {
		return fmt.Errorf("trace %s: %w", key, err)
	}
	p.listTrace(t)
	stop := context.AfterFunc(ctx, func() { t.ring.Close() })
	defer stop()
	started()
	err = t.follow(func() bool { return p.watches(key, owner) }, each)
	p.unlistTrace(t)
	return errors.Join(err, t.close())
}

// listTrace makes what a trace's programs cost a part of the price.
func (p *Probes) listTrace(t *trace) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tracing == nil {
		p.tracing = map[*trace]struct{}{}
	}
	p.tracing[t] = struct{}{}
}

func (p *Probes) unlistTrace(t *trace) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.tracing, t)
}

// Traces is how many live traces run.
func (p *Probes) Traces() int { return p.traces.count() }

// watches reports whether owner is still key's.
func (p *Probes) watches(key triton.ContainerKey, owner uint64) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	w, err := p.find(key)
	return err == nil && w.owner() == owner
}

// trace is an attached trace.
type trace struct {
	programs  map[string]*ebpf.Program
	links     []link.Link
	ring      *ringbuf.Reader
	lostLimit *ebpf.Variable
	lostRing  *ebpf.Variable
	told      uint64 // of what was lost
}

// loadTrace loads and attaches the programs of one trace.
func (p *Probes) loadTrace(cgroupID uint64, f triton.TraceFilter) (_ *trace, err error) {
	spec, err := bpf.LoadTrace()
	if err != nil {
		return nil, err
	}
	shared := map[string]*ebpf.Map{bpf.TraceMapExits: p.kernel.maps[bpf.MeasureMapExits]}
	for name, m := range shared {
		spec.Maps[name].MaxEntries = m.MaxEntries()
	}
	if err := setTrace(spec, cgroupID, f); err != nil {
		return nil, err
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared})
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	defer coll.Close()
	t := &trace{programs: map[string]*ebpf.Program{}, lostLimit: coll.Variables[bpf.TraceVarLostLimit], lostRing: coll.Variables[bpf.TraceVarLostRing]}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	if t.ring, err = ringbuf.NewReader(coll.Maps[bpf.TraceMapTraceRing]); err != nil {
		return nil, fmt.Errorf("open ring: %w", err)
	}
	for _, name := range []string{bpf.TraceProgTraceExit, bpf.TraceProgTraceExec, bpf.TraceProgTraceEnter} {
		t.programs[name] = coll.DetachProgram(name)
		l, err := link.AttachTracing(link.TracingOptions{Program: t.programs[name]})
		if err != nil {
			return nil, fmt.Errorf("attach %s: %w", name, err)
		}
		t.links = append(t.links, l)
	}
	return t, nil
}

// setTrace sets the filter in the programs' constants.
func setTrace(spec *ebpf.CollectionSpec, cgroupID uint64, f triton.TraceFilter) error {
	var wanted [syscallNumbers / 64]uint64
	for _, nr := range f.Numbers {
		if nr < 0 || nr >= syscallNumbers {
			return fmt.Errorf("system call %d: %w", nr, errdefs.ErrInvalidArgument)
		}
		wanted[nr/64] |= 1 << (nr % 64)
	}
	for i := range wanted {
		if f.Numbers == nil {
			wanted[i] = ^uint64(0)
		}
	}
	var comm [commMax + 1]byte
	copy(comm[:], f.Comm)
	var captures [syscallNumbers]uint16
	for nr := range captures {
		if f.Memory {
			captures[nr] = telemetry.Captures(nr)
		}
	}
	for name, value := range map[string]any{
		bpf.TraceVarTracedCgroup: cgroupID, bpf.TraceVarWantedCalls: wanted, bpf.TraceVarLeastNs: uint64(f.Slower),
		bpf.TraceVarOnlyErrors: f.Errors, bpf.TraceVarWantedComm: comm, bpf.TraceVarCaptures: captures,
		bpf.TraceVarWindowLimit: uint64(traceLimit),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// close detaches; it may be called after the reader of the ring was closed.
func (t *trace) close() error {
	var errs []error
	for _, l := range t.links {
		errs = append(errs, l.Close())
	}
	for _, prog := range t.programs {
		errs = append(errs, prog.Close())
	}
	if t.ring != nil {
		errs = append(errs, t.ring.Close())
	}
	return errors.Join(errs...)
}

// follow reads the ring until its reader is closed, the container is there no more, or each fails.
func (t *trace) follow(there func() bool, each func([]triton.TraceEvent) error) error {
	var rec ringbuf.Record
	var batch []triton.TraceEvent
	zero := monotonicZero()
	for looked := time.Now(); ; {
		t.ring.SetDeadline(time.Now().Add(traceLook))
		err := t.ring.ReadInto(&rec)
		switch {
		case err == nil:
			e, err := decodeTraced(rec.RawSample, zero)
			if err != nil {
				return fmt.Errorf("read trace: %w", err)
			}
			batch = append(batch, e)
		case errors.Is(err, os.ErrClosed):
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("read trace: %w", err)
		}
		gone := false
		if now := time.Now(); err != nil || now.Sub(looked) > traceLook {
			looked, zero, gone = now, monotonicZero(), err != nil && !there()
			if lost := t.lost(); lost > 0 {
				batch = append(batch, triton.TraceEvent{Lost: lost})
			}
		}
		if len(batch) > 0 && (err != nil || len(batch) >= traceBatch || rec.Remaining == 0) {
			if err := each(batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
		if gone {
			return nil
		}
	}
}

// lost is what was lost since the last call.
func (t *trace) lost() uint64 {
	var limit, ring uint64
	if t.lostLimit.Get(&limit) != nil || t.lostRing.Get(&ring) != nil { // variables of a loaded program can be read
		return 0
	}
	n := limit + ring - t.told
	t.told = limit + ring
	return n
}

// Layout of struct traced_call of bpf/trace.h.
const (
	tracedHead   = 9*8 + 3*4 + 2*2 + 16
	tracedMemory = 256
	notRead      = 0xffff
)

// decodeTraced reads a record of a trace; zero is the wall clock's reading at CLOCK_MONOTONIC 0.
func decodeTraced(b []byte, zero time.Time) (triton.TraceEvent, error) {
	if len(b) != tracedHead && len(b) != tracedHead+2*tracedMemory {
		return triton.TraceEvent{}, fmt.Errorf("record of %d bytes", len(b))
	}
	e := binary.NativeEndian
	c := &triton.TracedCall{Pid: int(e.Uint32(b[76:])), Tid: int(e.Uint32(b[80:]))}
	var comm [16]int8
	for i := range comm {
		comm[i] = int8(b[88+i])
	}
	c.Comm = text(comm)
	c.At = zero.Add(time.Duration(e.Uint64(b)))
	c.Number = int(e.Uint32(b[72:]))
	for i := range c.Args {
		c.Args[i] = e.Uint64(b[24+8*i:])
	}
	var memory [2][]byte
	for i := range memory {
		n := int(e.Uint16(b[84+2*i:]))
		if n == notRead || len(b) == tracedHead {
			continue
		}
		if n > tracedMemory {
			return triton.TraceEvent{}, fmt.Errorf("record with %d bytes of an argument", n)
		}
		from := tracedHead + i*tracedMemory
		memory[i] = b[from : from+n : from+n]
	}
	complete(&c.Call, e.Uint64(b[8:]), int64(e.Uint64(b[16:])))
	name(&c.Call)
	c.Text = telemetry.FormatTraced(c.Number, c.Args, memory)
	return triton.TraceEvent{TracedCall: c}, nil
}
