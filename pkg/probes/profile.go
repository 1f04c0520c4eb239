package probes

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

const (
	// maxProfiles bounds the profiles that are taken at a time.
	maxProfiles = 64
	// maxPending bounds the stacks that wait for a profile's reader.
	maxPending = 32 << 10
	// maxLooks bounds the containers that are profiled at a time.
	maxLooks = 4096
)

var profileProgramList = []program{
	{names: []string{bpf.ProfileProgOnCpuTick}},
}

// profilePrograms are loaded while somebody profiles; their maps take some 22 MiB.
type profilePrograms struct {
	loaded
	sides map[bool][2]*ebpf.Map // of counts: false, of stacks: true
	side  uint32
	ticks []link.Link
}

func loadProfile(first *ebpf.Map) (_ *profilePrograms, err error) {
	k := &profilePrograms{loaded: newLoaded()}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.close())
		}
	}()
	spec, err := bpf.LoadProfile()
	if err != nil {
		return nil, err
	}
	for _, name := range []string{bpf.ProfileMapOnCpu, bpf.ProfileMapOffCpu, bpf.ProfileMapLosses} {
		spec.Maps[name].MaxEntries = maxLooks
	}
	spec.Maps[bpf.ProfileMapExits].MaxEntries = first.MaxEntries()
	if k.maps[bpf.ProfileMapExits], err = first.Clone(); err != nil {
		return nil, fmt.Errorf("share map of first processes: %w", err)
	}
	if err := k.loadAll(spec, profileProgramList); err != nil {
		return nil, err
	}
	k.sides = map[bool][2]*ebpf.Map{
		false: {k.maps[bpf.ProfileMapCountsA], k.maps[bpf.ProfileMapCountsB]},
		true:  {k.maps[bpf.ProfileMapStacksA], k.maps[bpf.ProfileMapStacksB]},
	}
	return k, nil
}

func (k *profilePrograms) close() error { return errors.Join(k.stopTicks(), k.loaded.close()) }

// startTicks interrupts every CPU that is on, unless that is done already.
func (k *profilePrograms) startTicks() error {
	if k.ticks != nil {
		return nil
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count CPUs: %w", err)
	}
	for cpu := range cpus {
		l, err := tickOn(k.programs[bpf.ProfileProgOnCpuTick], cpu)
		if errors.Is(err, unix.ENODEV) {
			continue // it is off
		}
		if err != nil {
			return errors.Join(err, k.stopTicks())
		}
		k.ticks = append(k.ticks, l)
	}
	return nil
}

func (k *profilePrograms) stopTicks() error {
	var errs []error
	for _, l := range k.ticks {
		errs = append(errs, l.Close())
	}
	k.ticks = nil
	return errors.Join(errs...)
}

// ticker is a program that runs with the clock of a CPU.
type ticker struct {
	link.Link
	fd int
}

// Close stops it.
func (t ticker) Close() error { return errors.Join(t.Link.Close(), unix.Close(t.fd)) }

// tickOn lets prog run on a CPU every triton.StackPeriod that something runs there. unix.ENODEV: the CPU is off.
func tickOn(prog *ebpf.Program, cpu int) (link.Link, error) {
	attr := unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: unix.PERF_ATTR_SIZE_VER1,
		Sample: uint64(triton.StackPeriod), Bits: unix.PerfBitExcludeIdle,
	}
	const everyTask, noGroup = -1, -1
	fd, err := unix.PerfEventOpen(&attr, everyTask, cpu, noGroup, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open the clock of CPU %d: %w", cpu, err)
	}
	l, err := link.AttachRawLink(link.RawLinkOptions{Target: fd, Program: prog, Attach: ebpf.AttachPerfEvent})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attach to the clock of CPU %d: %w", cpu, err), unix.Close(fd))
	}
	return ticker{l, fd}, nil
}

// looks names the map of what is being looked at.
func looks(kind triton.StackKind) string {
	if kind == triton.OffCPU {
		return bpf.ProfileMapOffCpu
	}
	return bpf.ProfileMapOnCpu
}

// drain takes what was counted since the last one.
func (k *profilePrograms) drain() ([]drained, error) {
	old := k.side
	if err := k.variables[bpf.ProfileVarSide].Set(1 - old); err != nil {
		return nil, fmt.Errorf("change sides: %w", err)
	}
	k.side = 1 - old
	if err := waitForPrograms(); err != nil {
		return nil, err
	}
	stacks, err := empty[bpf.ProfileStackKey, bpf.ProfileStack](k.sides[true][old])
	if err != nil {
		return nil, fmt.Errorf("read stacks: %w", err)
	}
	counts, err := empty[bpf.ProfileCountKey, bpf.ProfileCount](k.sides[false][old])
	if err != nil {
		return nil, fmt.Errorf("read counts of stacks: %w", err)
	}
	pcs := make(map[bpf.ProfileStackKey][]uint64, len(stacks))
	for _, s := range stacks {
		pcs[s.key] = pcsOf(&s.value)
	}
	out := make([]drained, 0, len(counts))
	for _, c := range counts {
		user := pcs[bpf.ProfileStackKey{Owner: c.key.Owner, Hash: c.key.User}]
		out = append(out, drained{owner: c.key.Owner, kind: triton.StackKind(c.key.Kind), stack: triton.Stack{
			PID: int(c.key.Pid), Image: c.key.Image, User: user, Unread: c.key.Image != 0 && user == nil,
			Kernel: pcs[bpf.ProfileStackKey{Owner: c.key.Owner, Hash: c.key.Kernel}], Count: c.value.N, Time: time.Duration(c.value.Ns),
		}})
	}
	return out, nil
}

// drained is a stack before it is known whose profile it belongs to.
type drained struct {
	owner uint64
	kind  triton.StackKind
	stack triton.Stack
}

// pcsOf copies the addresses of a stack up to the first 0.
func pcsOf(s *bpf.ProfileStack) []uint64 {
	n := slices.Index(s.Pcs[:], 0)
	if n < 0 {
		n = len(s.Pcs)
	}
	return slices.Clone(s.Pcs[:n])
}

// entry is one of a map.
type entry[K, V any] struct {
	key   K
	value V
}

// empty takes all entries of a map that no program uses now.
func empty[K, V any](m *ebpf.Map) ([]entry[K, V], error) {
	var all []entry[K, V]
	var e entry[K, V]
	entries := m.Iterate()
	for entries.Next(&e.key, &e.value) {
		all = append(all, e)
	}
	if err := entries.Err(); err != nil {
		return nil, err
	}
	for i := range all {
		if err := m.Delete(&all[i].key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, err
		}
	}
	return all, nil
}

// profiles are those that are being taken.
type profiles struct {
	mu     sync.Mutex
	kernel *profilePrograms // nil: there are none
	open   []*Profile
}

// Profile is a profile that is being taken. Read it several times a second: what it is of may end at any time, and without
// a reader stacks find no room. All methods may be called from any goroutine.
type Profile struct {
	p     *Probes
	watch watched
	kind  triton.StackKind

	// Guarded by profiles.mu.
	closed  bool
	pending []triton.Stack
	loss    triton.StackLoss // since the last Read
	told    triton.StackLoss // of what the programs count: as it was at the last Read
}

// StartProfile begins to take stacks of a container's tasks, until Close. Not watched is errdefs.ErrNotFound; too many
// profiles at a time are errdefs.ErrResourceExhausted.
func (p *Probes) StartProfile(key triton.ContainerKey, kind triton.StackKind) (*Profile, error) {
	p.mu.RLock()
	w, err := p.find(key)
	p.mu.RUnlock()
	if err != nil {
		return nil, fmt.Errorf("profile %s: %w", key, err)
	}
	p.profiles.mu.Lock()
	defer p.profiles.mu.Unlock()
	s := &Profile{p: p, watch: *w, kind: kind}
	if err := p.profiles.add(s, p.exits.exits); err != nil {
		return nil, fmt.Errorf("profile %s: %w", key, err)
	}
	return s, nil
}

// add begins s. The caller holds mu.
func (ps *profiles) add(s *Profile, first *ebpf.Map) (err error) {
	if len(ps.open) == maxProfiles {
		return fmt.Errorf("%d profiles are being taken already: %w", maxProfiles, errdefs.ErrResourceExhausted)
	}
	if ps.kernel == nil {
		if ps.kernel, err = loadProfile(first); err != nil {
			return fmt.Errorf("load: %w: %w", err, errdefs.ErrUnavailable)
		}
	}
	ps.open = append(ps.open, s)
	defer func() {
		if err != nil {
			err = errors.Join(err, ps.remove(s))
		}
	}()
	owner := s.watch.owner()
	if err := ps.kernel.maps[looks(s.kind)].Put(s.watch.ids.V2, owner); err != nil {
		return fmt.Errorf("look at cgroup %d: %w", s.watch.ids.V2, err)
	}
	var lost bpf.ProfileLost
	err = ps.kernel.maps[bpf.ProfileMapLosses].Update(owner, lost, ebpf.UpdateNoExist)
	if err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
		return fmt.Errorf("count losses: %w", err)
	}
	if s.told, err = ps.kernel.losses(owner); err != nil {
		return err
	}
	return ps.kernel.startTicks()
}

// losses are those of a container since it is looked at.
func (k *profilePrograms) losses(owner uint64) (triton.StackLoss, error) {
	var lost bpf.ProfileLost
	if err := k.maps[bpf.ProfileMapLosses].Lookup(owner, &lost); err != nil {
		return triton.StackLoss{}, fmt.Errorf("read losses: %w", err)
	}
	return triton.StackLoss{Counts: lost.Counts, Stacks: lost.Stacks, Broken: lost.Broken}, nil
}

// remove ends s, and unloads the programs after the last. The caller holds mu.
func (ps *profiles) remove(s *Profile) error {
	s.closed = true
	ps.open = slices.DeleteFunc(ps.open, func(o *Profile) bool { return o == s })
	if len(ps.open) == 0 {
		k := ps.kernel
		ps.kernel = nil
		return k.close()
	}
	of := func(o *Profile) bool { return o.watch.owner() == s.watch.owner() }
	var errs []error
	if !slices.ContainsFunc(ps.open, func(o *Profile) bool { return of(o) && o.kind == s.kind }) {
		errs = append(errs, forget(ps.kernel.maps[looks(s.kind)], s.watch.ids.V2))
	}
	if !slices.ContainsFunc(ps.open, of) {
		errs = append(errs, forget(ps.kernel.maps[bpf.ProfileMapLosses], s.watch.owner()))
	}
	return errors.Join(errs...)
}

func forget(m *ebpf.Map, key uint64) error {
	if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget %d in %s: %w", key, m, err)
	}
	return nil
}

// Read returns what was counted since the last one, and what was lost meanwhile. Stacks may occur more than once.
func (s *Profile) Read() ([]triton.Stack, triton.StackLoss, error) {
	ps := &s.p.profiles
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if s.closed {
		return nil, triton.StackLoss{}, fmt.Errorf("profile of %s: closed: %w", s.watch.Key, errdefs.ErrFailedPrecondition)
	}
	if err := ps.distribute(); err != nil {
		return nil, triton.StackLoss{}, err
	}
	told, err := ps.kernel.losses(s.watch.owner())
	if err != nil {
		return nil, triton.StackLoss{}, err
	}
	stacks, loss := s.pending, s.loss
	loss.Add(triton.StackLoss{Counts: told.Counts - s.told.Counts, Stacks: told.Stacks - s.told.Stacks, Broken: told.Broken - s.told.Broken})
	s.pending, s.loss, s.told = nil, triton.StackLoss{}, told
	return stacks, loss, nil
}

// distribute gives what was counted to the profiles that it belongs to. The caller holds mu.
func (ps *profiles) distribute() error {
	all, err := ps.kernel.drain()
	if err != nil {
		return err
	}
	for _, d := range all {
		for _, s := range ps.open {
			switch {
			case d.owner != s.watch.owner() || d.kind != s.kind:
			case len(s.pending) == maxPending:
				s.loss.Counts += d.stack.Count
			default:
				d.stack.Container = s.watch.Key
				s.pending = append(s.pending, d.stack)
			}
		}
	}
	return nil
}

// Close ends the profile; what was not read is gone. Idempotent.
func (s *Profile) Close() error {
	ps := &s.p.profiles
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if s.closed {
		return nil
	}
	return ps.remove(s)
}

// close ends all profiles.
func (ps *profiles) close() error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	var errs []error
	for _, s := range slices.Clone(ps.open) {
		errs = append(errs, ps.remove(s))
	}
	return errors.Join(errs...)
}

// running returns the programs that run for profiles.
func (ps *profiles) running() map[string]*ebpf.Program {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.kernel == nil {
		return nil
	}
	return ps.kernel.programs
}
