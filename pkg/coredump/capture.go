package coredump

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tritond/triton/pkg/durable"
)

// capture is one crash of a container while its process is held.
type capture struct {
	*Service
	peer   *peer
	proc   *procDir
	begun  time.Time
	mini   bool // the policy: no body
	record *Record
	elf    *scan // nil where the process's memory cannot be read
	dir    string
	meter  meter // what the crash takes of the daemon's processor time
}

// admitted saves a crash, or counts it where its container has used up its processor time. first: with the process its
// container ends; such a crash is always saved.
func (c *capture) admitted(ctx context.Context, src stream, first bool) error {
	r, key := c.record, c.record.Container
	var h *Head
	var m *memory
	var err error
	c.meter.during(func() { h, m, err = c.look(src) })
	if err != nil {
		return fmt.Errorf("crash of %s: %w", key, err)
	}
	if m != nil {
		defer m.close()
	}
	at, whole, wait := c.spent.admit(key, r.Signal+" "+r.Place, first, c.cfg.Now())
	if !whole {
		c.spent.charge(key, c.meter.read(), c.cfg.Now())
		c.log.Debug("crash counted", "container", key, "signal", r.Signal, "place", r.Place, "wait", wait)
		if wait > 0 {
			pause(ctx, wait)
			c.spent.released(key)
		}
		return nil
	}
	if err := c.save(ctx, h, m); err != nil {
		c.spent.failed(key, at, c.meter.read(), c.cfg.Now())
		return fmt.Errorf("%s of %s: %w", r.Comm, key, err)
	}
	c.spent.saved(key, at, r.ID, c.meter.read(), c.cfg.Now())
	c.enqueue(key.Tenant, r.ID)
	return nil
}

// look reads what tells crashes apart. m is nil where the process's memory cannot be read; the record says why.
func (c *capture) look(src stream) (h *Head, m *memory, err error) {
	r := c.record
	h, err = receive(src)
	if h == nil {
		return nil, nil, err
	}
	if err != nil {
		r.Missing = append(r.Missing, err.Error())
	}
	if err := c.peer.verify(c.proc, h); err != nil {
		return nil, nil, err
	}
	r.Signal, r.Code, r.Fault = signalName(h.Signal), h.Code, h.Fault
	if m, err = openMemory(c.peer, c.proc); err != nil {
		r.Missing = append(r.Missing, err.Error())
		return h, nil, nil
	}
	c.elf = newScan(m)
	r.Place = placeOf(h, c.elf)
	return h, m, nil
}

// save keeps a crash in the order of what explains most: the mini core, the metadata, the body. The record on disk is
// true after each step, so a kill of the daemon at any moment leaves what it says. m may be nil.
func (c *capture) save(ctx context.Context, h *Head, m *memory) (err error) {
	r := c.record
	c.store.objects.mu.RLock() // until the record names the files that are kept
	defer c.store.objects.mu.RUnlock()
	if c.dir, err = c.store.begin(r); err != nil {
		return err
	}
	c.meter.during(func() { c.describe(ctx, h, m) })
	r.Kept = c.store.keep(ctx, r.Container.Tenant, c.proc, h.codeFiles(), debugIDs(r.Modules), c.cfg.MinFree, &c.meter)
	full := m != nil && !c.mini
	if full && !c.rate.allow(string(r.Container.Tenant)+" "+r.Signal+" "+r.Place, c.begun, c.cfg.Keep.PerPlace) {
		full, r.Cut = false, CutRate
	}
	if full {
		r.Cut = CutKill
	}
	c.meter.during(func() { err = c.store.save(r) })
	if err != nil { // without a record it is no dump
		return errors.Join(err, c.store.drop(r.Container.Tenant, r.ID))
	}
	if full {
		c.saveBody(ctx, h, m)
	}
	r.HeldFor = c.cfg.Now().Sub(c.begun)
	c.meter.during(func() { err = c.finish() })
	return err
}

// describe writes the mini core, and reads what else is known of the process.
func (c *capture) describe(ctx context.Context, h *Head, m *memory) {
	r := c.record
	for _, s := range h.Segments {
		r.MemoryBytes += s.Dumped
	}
	if m != nil {
		r.Modules = modules(h.Files, c.elf)
		c.saveMini(h, m)
	}
	r.describe(c.proc, h, c.lastCalls(r))
	r.explain()
	r.Telemetry = c.cfg.LastMinute(r.Container)
	var err error
	if r.Log, err = c.cfg.Log(ctx, r.Container, logLines); err != nil {
		r.Missing = append(r.Missing, err.Error())
	}
}

// finish makes the dump one that retention counts, and tells of it.
func (c *capture) finish() error {
	r := c.record
	if err := c.store.save(r); err != nil {
		return err
	}
	if err := c.store.shelve(r); err != nil {
		c.log.Error("retention of core dumps", "err", err)
	}
	c.counts.saved(r)
	c.log.Info("core dump saved", "container", r.Container, "dump", r.ID, "signal", r.Signal, "program", r.Comm,
		"body", r.Body, "cut", r.Cut, "mini_after", r.MiniAfter, "held", r.HeldFor)
	c.cfg.Saved(*r)
	return nil
}

func (c *capture) saveMini(h *Head, m *memory) {
	r := c.record
	runs := h.merge(slices.Concat(h.mini(), h.python(m), h.goroutines(r.Modules, c.elf, m)))
	err := c.store.insist(r.Container.Tenant, func() error {
		return durable.WriteFile(filepath.Join(c.dir, miniFile), func(w io.Writer) error { return commitTo(w, h, m, runs) })
	})
	if err != nil {
		r.Missing = append(r.Missing, "mini core: "+err.Error())
		return
	}
	r.Body, r.MiniAfter = BodyMini, c.cfg.Now().Sub(c.begun)
}

// saveBody waits for its turn and writes the memory.
func (c *capture) saveBody(ctx context.Context, h *Head, m *memory) {
	r := c.record
	until := c.begun.Add(c.cfg.MaxHold)
	turn, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	leave, err := c.bodies.enter(turn, r.Container.Tenant)
	if err != nil {
		r.Cut = CutTime
		return
	}
	defer leave()
	if err := c.store.makeRoom(r.Container.Tenant, c.cfg.MinFree+c.store.owed()); err != nil {
		c.log.Error("retention of core dumps", "err", err)
	}
	if c.store.spare() < c.cfg.MinFree {
		r.Cut = CutDisk
		r.Missing = append(r.Missing, "memory: the volume of the core dumps is full")
		return
	}
	err = durable.WriteFile(filepath.Join(c.dir, headFile), func(w io.Writer) error {
		_, err := w.Write(h.encode())
		return err
	})
	if err != nil {
		r.Cut = CutDisk
		r.Missing = append(r.Missing, err.Error())
		return
	}
	f, err := writeFile(filepath.Join(c.dir, bodyFile))
	if err != nil {
		r.Cut = CutDisk
		r.Missing = append(r.Missing, err.Error())
		return
	}
	// From here on a kill leaves a body that ends early, which its reader copes with.
	r.Body = BodyTruncated
	if err := c.store.save(r); err != nil {
		r.Missing = append(r.Missing, err.Error())
	}
	stored, cut, err := writeBody(f, h, m, h.body(m.absent), c.limits(until))
	err = errors.Join(err, f.Close())
	r.StoredBytes, r.Cut = stored, cut
	if err != nil {
		r.Missing = append(r.Missing, "body: "+err.Error())
		if full(err) {
			r.Cut = CutDisk
		}
	}
	if r.Cut == "" && err == nil {
		r.Body = BodyFull
	}
}

// limits are those of a body that is to be written until a time.
func (c *capture) limits(until time.Time) bodyLimits {
	spare := c.store.spare()
	l := bodyLimits{quota: c.cfg.Quota, room: min(c.cfg.Quota, spare-min(spare, c.cfg.MinFree)), until: until, now: c.cfg.Now, meter: &c.meter}
	if c.cfg.MinFree > 0 {
		l.free = func(ahead uint64) bool { return c.store.spare()+ahead >= c.cfg.MinFree }
	}
	if b, err := c.proc.Read("statm"); err == nil {
		if f := strings.Fields(string(b)); len(f) > 1 {
			pages, err := strconv.ParseUint(f[1], 10, 40)
			if err == nil {
				l.resident = pages * pageSize
			}
		}
	}
	return l
}
