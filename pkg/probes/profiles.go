package probes

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/containerd/errdefs"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

// profiles are those that are being taken. What takes long (loading, attaching, emptying the kernel's maps) is done under turn,
// so that who asks what runs does not wait for it.
type profiles struct {
	turn sync.Mutex // taken before mu

	mu     sync.Mutex
	kernel *profilePrograms // nil: there are none; changed under turn, too
	open   []*Profile       // the same
	drains uint64           // begun; changed under turn, too
}

// Profile is a profile that is being taken. Read it several times a second: what it is of may end at any time, and without
// a reader stacks find no room. All methods may be called from any goroutine.
type Profile struct {
	p    *Probes
	kind triton.StackKind
	all  bool // of every container that is watched, also of those to come

	// Changed under profiles.turn and mu, pending and loss under mu alone.
	closed  bool
	of      map[uint64]watched // by owner
	pending []triton.Stack
	loss    triton.StackLoss            // since the last Read
	told    map[uint64]triton.StackLoss // of what the programs count: as it was at the last Read
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
	s := &Profile{p: p, kind: kind, of: map[uint64]watched{}, told: map[uint64]triton.StackLoss{}}
	if err := p.profiles.start(s, map[uint64]watched{w.owner(): *w}, p.exits.exits); err != nil {
		return nil, fmt.Errorf("profile %s: %w", key, err)
	}
	return s, nil
}

// StartProfileOfAll is StartProfile for all containers: one that comes is in it from the next Read on.
func (p *Probes) StartProfileOfAll(kind triton.StackKind) (*Profile, error) {
	s := &Profile{p: p, kind: kind, all: true, of: map[uint64]watched{}, told: map[uint64]triton.StackLoss{}}
	if err := p.profiles.start(s, p.watchedNow(), p.exits.exits); err != nil {
		return nil, fmt.Errorf("profile all containers: %w", err)
	}
	return s, nil
}

// watchedNow are the containers that are watched, by owner.
func (p *Probes) watchedNow() map[uint64]watched {
	p.mu.RLock()
	defer p.mu.RUnlock()
	out := make(map[uint64]watched, len(p.table.byKey))
	for _, w := range p.table.byKey {
		out[w.owner()] = *w
	}
	return out
}

// start begins s.
func (ps *profiles) start(s *Profile, of map[uint64]watched, first *ebpf.Map) (err error) {
	ps.turn.Lock()
	defer ps.turn.Unlock()
	if len(ps.open) == maxProfiles {
		return fmt.Errorf("%d profiles are being taken already: %w", maxProfiles, errdefs.ErrResourceExhausted)
	}
	if ps.kernel == nil {
		k, err := loadProfile(first)
		if err != nil {
			return fmt.Errorf("load: %w: %w", err, errdefs.ErrUnavailable)
		}
		ps.mu.Lock()
		ps.kernel = k
		ps.mu.Unlock()
	}
	ps.mu.Lock()
	ps.open = append(ps.open, s)
	err = ps.look(s, of)
	ps.mu.Unlock()
	defer func() {
		if err != nil {
			err = errors.Join(err, ps.remove(s))
		}
	}()
	if err != nil {
		return err
	}
	return ps.kernel.attach(ps.open)
}

// look makes s one of these containers. The caller holds turn and mu.
func (ps *profiles) look(s *Profile, of map[uint64]watched) error {
	for owner, w := range s.of {
		if _, still := of[owner]; !still {
			if err := ps.leave(s, owner, w); err != nil {
				return err
			}
		}
	}
	for owner, w := range of {
		if _, already := s.of[owner]; already {
			continue
		}
		s.of[owner] = w
		if err := ps.kernel.maps[looks(s.kind)].Put(w.ids.V2, owner); err != nil {
			return fmt.Errorf("look at cgroup %d: %w", w.ids.V2, err)
		}
		if err := ps.kernel.enter(owner); err != nil {
			return err
		}
		var err error
		if s.told[owner], err = ps.kernel.losses(owner); err != nil {
			return err
		}
	}
	return ps.share()
}

// share divides the maps among the containers that are looked at. The caller holds turn and mu.
func (ps *profiles) share() error {
	owners := map[uint64]bool{}
	for _, s := range ps.open {
		for owner := range s.of {
			owners[owner] = true
		}
	}
	return ps.kernel.share(len(owners))
}

// leave makes s one without a container. The caller holds turn and mu.
func (ps *profiles) leave(s *Profile, owner uint64, w watched) error {
	delete(s.of, owner)
	delete(s.told, owner)
	var errs []error
	other := func(kind triton.StackKind) bool {
		return slices.ContainsFunc(ps.open, func(o *Profile) bool {
			_, of := o.of[owner]
			return of && o.kind == kind
		})
	}
	if !other(s.kind) {
		errs = append(errs, forget(ps.kernel.maps[looks(s.kind)], w.ids.V2))
	}
	if !other(triton.OnCPU) && !other(triton.OffCPU) {
		errs = append(errs, ps.kernel.exit(owner))
	}
	return errors.Join(errs...)
}

func forget(m *ebpf.Map, key uint64) error {
	if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget %d in %s: %w", key, m, err)
	}
	return nil
}

// losses are those of a container since it is looked at.
func (k *profilePrograms) losses(owner uint64) (triton.StackLoss, error) {
	var lost bpf.ProfileLost
	if err := k.maps[bpf.ProfileMapLosses].Lookup(owner, &lost); err != nil {
		return triton.StackLoss{}, fmt.Errorf("read losses: %w", err)
	}
	return triton.StackLoss{Counts: lost.Counts, Stacks: lost.Stacks, Broken: lost.Broken}, nil
}

// remove ends s, and unloads the programs after the last. The caller holds turn.
func (ps *profiles) remove(s *Profile) error {
	ps.mu.Lock()
	s.closed = true
	ps.open = slices.DeleteFunc(ps.open, func(o *Profile) bool { return o == s })
	k := ps.kernel
	if len(ps.open) == 0 {
		ps.kernel = nil
	}
	ps.mu.Unlock()
	if len(ps.open) == 0 {
		return k.close()
	}
	errs := []error{k.attach(ps.open)}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for owner, w := range s.of {
		errs = append(errs, ps.leave(s, owner, w))
	}
	return errors.Join(append(errs, ps.share())...)
}

// Read returns what was counted since the last one, and what was lost meanwhile. Stacks may occur more than once.
func (s *Profile) Read() ([]triton.Stack, triton.StackLoss, error) {
	var now map[uint64]watched
	if s.all {
		now = s.p.watchedNow()
	}
	ps := &s.p.profiles
	ps.mu.Lock()
	before := ps.drains
	ps.mu.Unlock()
	ps.turn.Lock()
	defer ps.turn.Unlock()
	if ps.kernel != nil && ps.drains == before { // else another reader drained since
		if err := ps.drain(nil); err != nil {
			return nil, triton.StackLoss{}, err
		}
	}
	stacks, loss, err := s.take()
	if err == nil && s.all {
		ps.mu.Lock()
		defer ps.mu.Unlock()
		err = ps.look(s, now)
	}
	return stacks, loss, err
}

// Last is Read at the profile's end: it has the waits that go on at the moment, too, for as long as they do.
func (s *Profile) Last() ([]triton.Stack, triton.StackLoss, error) {
	ps := &s.p.profiles
	ps.turn.Lock()
	defer ps.turn.Unlock()
	var now waiters
	if ps.kernel != nil {
		err := ps.drain(func() (err error) {
			if s.kind == triton.OffCPU {
				now, err = ps.kernel.waiting()
			}
			return err
		})
		if err != nil {
			return nil, triton.StackLoss{}, err
		}
	}
	stacks, loss, err := s.take()
	if err != nil {
		return nil, triton.StackLoss{}, err
	}
	return append(stacks, ps.kernel.stacks(now, s.of)...), loss, nil
}

// take takes what was drained for s. The caller holds turn.
func (s *Profile) take() ([]triton.Stack, triton.StackLoss, error) {
	ps := &s.p.profiles
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if s.closed {
		return nil, triton.StackLoss{}, fmt.Errorf("profile: closed: %w", errdefs.ErrFailedPrecondition)
	}
	stacks, loss := s.pending, s.loss
	s.pending, s.loss = nil, triton.StackLoss{}
	for owner, told := range s.told {
		l, err := ps.kernel.losses(owner)
		if err != nil {
			return nil, triton.StackLoss{}, err
		}
		loss.Add(triton.StackLoss{Counts: l.Counts - told.Counts, Stacks: l.Stacks - told.Stacks, Broken: l.Broken - told.Broken})
		s.told[owner] = l
	}
	return stacks, loss, nil
}

// drain empties the kernel's maps, which are loaded, and gives what was counted to the profiles that it belongs to. atOnce is
// that of the maps. The caller holds turn.
func (ps *profiles) drain(atOnce func() error) error {
	ps.mu.Lock()
	ps.drains++
	ps.mu.Unlock()
	all, err := ps.kernel.drain(atOnce)
	if err != nil {
		return err
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, d := range all {
		for _, s := range ps.open {
			w, of := s.of[d.owner]
			switch {
			case !of || d.kind != s.kind:
			case len(s.pending) == maxPending:
				s.loss.Counts += d.stack.Count
			default:
				d.stack.Container = w.Key
				s.pending = append(s.pending, d.stack)
			}
		}
	}
	return nil
}

// Close ends the profile; what was not read is gone. Idempotent.
func (s *Profile) Close() error {
	ps := &s.p.profiles
	ps.turn.Lock()
	defer ps.turn.Unlock()
	if s.closed {
		return nil
	}
	return ps.remove(s)
}

// close ends all profiles.
func (ps *profiles) close() error {
	ps.turn.Lock()
	defer ps.turn.Unlock()
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
