package probes

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/containerd/errdefs"
	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

var namesProgramList = []program{
	{names: []string{bpf.NamesProgNamesEgress}},
	{names: []string{bpf.NamesProgNamesIngress}},
}

// namesEvery is how often names are taken from the kernel, and questions are looked for that wait for too long.
const namesEvery = time.Second

// namePrograms see what containers ask name servers.
type namePrograms struct {
	loaded
	totals   *mapped[bpf.NamesDnsTotals] // by slot
	attached []link.Link

	mu    sync.Mutex            // one reader of the maps at a time
	asked map[uint64]*nameTable // by owner
}

// WatchNames begins to count what containers ask name servers. cgroupDir is the instance's directory in the unified
// hierarchy: what is outside is not seen. Once only.
func (p *Probes) WatchNames(cgroupDir string) error {
	k, err := loadNames(cgroupDir, p.kernel.maps[bpf.MeasureMapOwnersV2], p.cfg.MaxContainers)
	if err != nil {
		return fmt.Errorf("watch names: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.names != nil {
		return errors.Join(fmt.Errorf("watch names: probes are closed, or do already: %w", errdefs.ErrFailedPrecondition), k.close())
	}
	p.names = k
	return nil
}

func loadNames(cgroupDir string, owners *ebpf.Map, maxContainers int) (_ *namePrograms, err error) {
	k := &namePrograms{loaded: newLoaded(), asked: map[uint64]*nameTable{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.close())
		}
	}()
	spec, err := bpf.LoadNames()
	if err != nil {
		return nil, err
	}
	spec.Maps[bpf.NamesMapDns].MaxEntries = uint32(maxContainers)
	spec.Maps[bpf.NamesMapOwnersV2].MaxEntries = owners.MaxEntries()
	if k.maps[bpf.NamesMapOwnersV2], err = owners.Clone(); err != nil {
		return nil, fmt.Errorf("share map of cgroups: %w", err)
	}
	if err := k.loadAll(spec, namesProgramList); err != nil {
		return nil, err
	}
	if k.totals, err = mapMemory[bpf.NamesDnsTotals](k.maps[bpf.NamesMapDns]); err != nil {
		return nil, err
	}
	for name, kind := range map[string]ebpf.AttachType{
		bpf.NamesProgNamesIngress: ebpf.AttachCGroupInetIngress, bpf.NamesProgNamesEgress: ebpf.AttachCGroupInetEgress,
	} {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroupDir, Attach: kind, Program: k.programs[name]})
		if err != nil {
			return nil, fmt.Errorf("attach %s to %s: %w", name, cgroupDir, err)
		}
		k.attached = append(k.attached, l)
	}
	return k, nil
}

func (k *namePrograms) close() error {
	return errors.Join(closeLinks(k.attached), k.totals.unmap(), k.loaded.close())
}

// watchNames takes names from the kernel every now and then until ctx is done.
func (p *Probes) watchNames(ctx context.Context) error {
	every := time.NewTicker(namesEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
			if err := p.takeNames(time.Now()); err != nil {
				p.log.ErrorContext(ctx, "names that containers ask for are lost", "err", err)
			}
		}
	}
}

// takeNames brings the tables of names up to date.
func (p *Probes) takeNames(now time.Time) error {
	p.mu.RLock() // no slot is freed, and none given to another, meanwhile
	defer p.mu.RUnlock()
	if p.closed || p.names == nil {
		return nil
	}
	p.names.mu.Lock()
	defer p.names.mu.Unlock()
	known := func(owner uint64) bool { return p.table.owning(owner) != nil }
	return errors.Join(p.names.expire(known), p.names.drain(now, known))
}

// drain takes the names. What a program adds between the reading and the removal of an entry is lost of the name, not of
// the container: AskedNames.Other has it. The caller holds mu.
func (k *namePrograms) drain(now time.Time, known func(owner uint64) bool) error {
	names := k.maps[bpf.NamesMapNames]
	all, err := keysOf(names, func(bpf.NamesQuestion, bpf.NamesNameCounts) bool { return true })
	if err != nil {
		return err
	}
	for _, q := range all {
		var c bpf.NamesNameCounts
		if err := names.LookupAndDelete(q, &c); err != nil {
			return fmt.Errorf("take a name: %w", err)
		}
		if !known(q.Owner) {
			continue
		}
		t, err := k.of(q.Owner)
		if err != nil {
			return err
		}
		atomic.AddUint64(&t.Names, ^uint64(0))
		k.table(q.Owner).add(q, c, now)
	}
	return nil
}

// of returns what is counted of an owner, for counting more.
func (k *namePrograms) of(owner uint64) (*bpf.NamesDnsTotals, error) {
	slot := int(uint32(owner))
	return k.totals.at(slot), k.totals.need(slot, 1)
}

func (k *namePrograms) table(owner uint64) *nameTable {
	t := k.asked[owner]
	if t == nil {
		t = &nameTable{names: map[nameID]*nameEntry{}}
		k.asked[owner] = t
	}
	return t
}

// expire gives up questions that have waited for too long. The caller holds mu.
func (k *namePrograms) expire(known func(owner uint64) bool) error {
	now, err := monotonicNs()
	if err != nil {
		return err
	}
	questions := k.maps[bpf.NamesMapQuestions]
	late, err := keysOf(questions, func(_ bpf.NamesWaitingKey, w bpf.NamesWaiting) bool { return now > w.AtNs+uint64(triton.NameTimeout) })
	if err != nil {
		return err
	}
	for _, key := range late {
		var w bpf.NamesWaiting
		if err := questions.LookupAndDelete(key, &w); errors.Is(err, ebpf.ErrKeyNotExist) {
			continue // answered just now
		} else if err != nil {
			return fmt.Errorf("give up a question: %w", err)
		}
		if !known(w.Question.Owner) {
			continue
		}
		t, err := k.of(w.Question.Owner)
		if err != nil {
			return err
		}
		atomic.AddUint64(&t.Waiting, ^uint64(0))
		atomic.AddUint64(&t.Unanswered, 1)
		k.table(w.Question.Owner).unanswered(w.Question)
	}
	return nil
}

// forget removes what is known of owners whose slots are about to be freed.
func (k *namePrograms) forget(gone func(owner uint64) bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for owner := range k.asked {
		if gone(owner) {
			delete(k.asked, owner)
		}
	}
	return errors.Join(
		forgetIn(k.maps[bpf.NamesMapQuestions], func(_ bpf.NamesWaitingKey, w bpf.NamesWaiting) bool { return gone(w.Question.Owner) }),
		forgetIn(k.maps[bpf.NamesMapNames], func(q bpf.NamesQuestion, _ bpf.NamesNameCounts) bool { return gone(q.Owner) }),
	)
}

// keysOf lists the keys of the entries that are wanted. Programs add and remove meanwhile: some may be missing.
func keysOf[K, V any](m *ebpf.Map, want func(K, V) bool) ([]K, error) {
	var key K
	var value V
	var out []K
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		if want(key, value) {
			out = append(out, key)
		}
	}
	if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) { // aborted: entries went meanwhile; the next reading has all
		return nil, fmt.Errorf("read %s: %w", m, err)
	}
	return out, nil
}

// forgetIn removes the entries that are to go.
func forgetIn[K, V any](m *ebpf.Map, goes func(K, V) bool) error {
	doomed, err := keysOf(m, goes)
	if err != nil {
		return err
	}
	for _, key := range doomed {
		if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget in %s: %w", m, err)
		}
	}
	return nil
}

// monotonicNs is the programs' clock.
func monotonicNs() (uint64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0, fmt.Errorf("read the clock: %w", err)
	}
	return uint64(ts.Nano()), nil
}

// NameService tells what each watched container asked name servers; nil before WatchNames.
func (p *Probes) NameService() map[triton.ContainerKey]triton.NameService {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.names == nil || p.closed {
		return nil
	}
	return byContainer(p, p.names.read)
}

func (k *namePrograms) read(slot int) triton.NameService {
	t := k.totals.at(slot)
	s := triton.NameService{
		RoundTrip: durations(t.Latency[:], &t.LatencySumNs), Asked: load64(&t.Asked), AskedTCP: load64(&t.AskedByTcp), Answers: map[string]uint64{},
		Truncated: load64(&t.Truncated), Unanswered: load64(&t.Unanswered), Untimed: load64(&t.Untimed), Unasked: load64(&t.Unasked),
		Malformed: load64(&t.Malformed), Unnamed: load64(&t.Unnamed), Unfollowed: load64(&t.Unfollowed),
	}
	for code := range t.Rcodes {
		if n := load64(&t.Rcodes[code]); n > 0 {
			s.Answers[codeName(code)] += n
		}
	}
	return s
}

// codeName is a code of an answer as miekg/dns has it, RCODE12 of one that has no name.
func codeName(code int) string {
	if name := dns.RcodeToString[code]; name != "" {
		return name
	}
	return fmt.Sprintf("RCODE%d", code)
}

// AskedNames tells which names a container asks for, as of now. Not watched is errdefs.ErrNotFound, names that are not
// watched are errdefs.ErrFailedPrecondition.
func (p *Probes) AskedNames(key triton.ContainerKey) (triton.NameService, triton.AskedNames, error) {
	if err := p.takeNames(time.Now()); err != nil {
		return triton.NameService{}, triton.AskedNames{}, err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	w, err := p.find(key)
	if err == nil && p.names == nil {
		err = fmt.Errorf("nobody looks: %w", errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return triton.NameService{}, triton.AskedNames{}, fmt.Errorf("names of %s: %w", key, err)
	}
	p.names.mu.Lock()
	defer p.names.mu.Unlock()
	s := p.names.read(w.Slot)
	out := triton.AskedNames{Other: s.Asked}
	if t := p.names.asked[w.owner()]; t != nil {
		out = t.list(s.Asked)
	}
	return s, out, nil
}
