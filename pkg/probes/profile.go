package probes

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

const (
	// maxProfiles bounds the profiles that are taken at a time.
	maxProfiles = 64
	// maxPending bounds the stacks that wait for a profile's reader.
	maxPending = 32 << 10
	// maxKept bounds the stacks that are remembered for tasks that wait.
	maxKept = 32 << 10
	// maxLooks bounds the containers that are profiled at a time.
	maxLooks = 4096
)

var profileProgramList = []program{
	{names: []string{bpf.ProfileProgOnCpuTick}},
	{names: []string{bpf.ProfileProgOffCpuSwitch}},
}

// profilePrograms are loaded while somebody profiles; their maps take some 22 MiB.
type profilePrograms struct {
	loaded
	sides map[bool][2]*ebpf.Map // of counts: false, of stacks: true
	used  [2]*ebpf.Map          // what containers have of a side
	side  uint32
	ticks []link.Link // while somebody profiles on CPUs
	waits link.Link   // while somebody profiles off CPUs
	// kept are stacks of tasks that may wait still, when their stacks were taken long ago.
	kept map[bpf.ProfileStackKey][]uint64
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
	for _, name := range []string{
		bpf.ProfileMapOnCpu, bpf.ProfileMapOffCpu, bpf.ProfileMapLosses, bpf.ProfileMapUsedA, bpf.ProfileMapUsedB, bpf.ProfileMapSleeping,
	} {
		spec.Maps[name].MaxEntries = maxLooks
	}
	spec.Maps[bpf.ProfileMapUsed].InnerMap.MaxEntries = maxLooks
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
	k.used = [2]*ebpf.Map{k.maps[bpf.ProfileMapUsedA], k.maps[bpf.ProfileMapUsedB]}
	return k, nil
}

// share divides the maps among so many containers: at most a quarter for one of many, for few have all to tell at a time.
func (k *profilePrograms) share(containers int) error {
	parts := uint64(min(max(containers, 1), 4))
	for name, m := range map[string]*ebpf.Map{
		bpf.ProfileVarCountShare: k.sides[false][0], bpf.ProfileVarStackShare: k.sides[true][0], bpf.ProfileVarSleeperShare: k.maps[bpf.ProfileMapSleepers],
	} {
		if err := k.variables[name].Set(uint64(m.MaxEntries()) / parts); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// enter makes a container one whose stacks are counted; it may be one already.
func (k *profilePrograms) enter(owner uint64) error {
	for m, zero := range map[*ebpf.Map]any{
		k.maps[bpf.ProfileMapLosses]: bpf.ProfileLost{}, k.used[0]: bpf.ProfileUse{}, k.used[1]: bpf.ProfileUse{},
		k.maps[bpf.ProfileMapSleeping]: uint64(0),
	} {
		if err := m.Update(owner, zero, ebpf.UpdateNoExist); err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
			return fmt.Errorf("count stacks of %d in %s: %w", owner, m, err)
		}
	}
	return nil
}

// exit ends enter.
func (k *profilePrograms) exit(owner uint64) error {
	var errs []error
	for _, m := range []*ebpf.Map{k.used[0], k.used[1], k.maps[bpf.ProfileMapSleeping], k.maps[bpf.ProfileMapLosses]} {
		errs = append(errs, forget(m, owner))
	}
	return errors.Join(errs...)
}

func (k *profilePrograms) close() error {
	return errors.Join(k.stopTicks(), k.stopWaits(), k.loaded.close())
}

// attach attaches what these profiles need, and detaches the rest.
func (k *profilePrograms) attach(open []*Profile) error {
	of := func(kind triton.StackKind) bool {
		return slices.ContainsFunc(open, func(s *Profile) bool { return s.kind == kind })
	}
	var errs []error
	if of(triton.OnCPU) {
		errs = append(errs, k.startTicks())
	} else {
		errs = append(errs, k.stopTicks())
	}
	if of(triton.OffCPU) {
		errs = append(errs, k.startWaits())
	} else {
		errs = append(errs, k.stopWaits())
	}
	return errors.Join(errs...)
}

func (k *profilePrograms) startWaits() (err error) {
	if k.waits != nil {
		return nil
	}
	k.kept = map[bpf.ProfileStackKey][]uint64{}
	if k.waits, err = link.AttachTracing(link.TracingOptions{Program: k.programs[bpf.ProfileProgOffCpuSwitch]}); err != nil {
		k.waits = nil
		return fmt.Errorf("attach %s: %w", bpf.ProfileProgOffCpuSwitch, err)
	}
	return nil
}

func (k *profilePrograms) stopWaits() error {
	if k.waits == nil {
		return nil
	}
	err := k.waits.Close()
	k.waits, k.kept = nil, nil
	if err := waitForPrograms(); err != nil {
		return err
	}
	sleepers, emptied := empty[uint32, bpf.ProfileSleeper](k.maps[bpf.ProfileMapSleepers]) // of a later profile they would be news of old
	errs := []error{err, emptied}
	for _, s := range sleepers {
		if err := k.maps[bpf.ProfileMapSleeping].Update(s.value.Key.Owner, uint64(0), ebpf.UpdateExist); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

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

// drain takes what was counted since the last one. atOnce is called where that ends, before anything takes time; nil: nobody asks.
func (k *profilePrograms) drain(atOnce func() error) ([]drained, error) {
	old := k.side
	if err := k.variables[bpf.ProfileVarSide].Set(1 - old); err != nil {
		return nil, fmt.Errorf("change sides: %w", err)
	}
	k.side = 1 - old
	if atOnce != nil {
		if err := atOnce(); err != nil {
			return nil, err
		}
	}
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
	if err := k.renew(k.used[old], stacks, counts); err != nil {
		return nil, err
	}
	pcs := make(map[bpf.ProfileStackKey][]uint64, len(stacks))
	for _, s := range stacks {
		pcs[s.key] = pcsOf(&s.value)
		if k.waits != nil && len(k.kept) < maxKept {
			k.kept[s.key] = pcs[s.key]
		}
	}
	find := func(owner, hash uint64) []uint64 {
		key := bpf.ProfileStackKey{Owner: owner, Hash: hash}
		if s, ok := pcs[key]; ok {
			return s
		}
		return k.kept[key]
	}
	out := make([]drained, 0, len(counts))
	for _, c := range counts {
		out = append(out, drained{owner: c.key.Owner, kind: triton.StackKind(c.key.Kind), stack: stackOf(c.key, c.value, find)})
	}
	return out, nil
}

// renew gives the owners of what was in a side, which is empty now, their whole shares of it.
func (k *profilePrograms) renew(
	used *ebpf.Map, stacks []entry[bpf.ProfileStackKey, bpf.ProfileStack], counts []entry[bpf.ProfileCountKey, bpf.ProfileCount],
) error {
	owners := map[uint64]bool{}
	for i := range stacks {
		owners[stacks[i].key.Owner] = true
	}
	for i := range counts {
		owners[counts[i].key.Owner] = true
	}
	for owner := range owners {
		if err := used.Update(owner, bpf.ProfileUse{}, ebpf.UpdateExist); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("renew the share of %d: %w", owner, err)
		}
	}
	return nil
}

// stackOf puts a count and its stacks together.
func stackOf(key bpf.ProfileCountKey, count bpf.ProfileCount, find func(owner, hash uint64) []uint64) triton.Stack {
	user := find(key.Owner, key.User)
	return triton.Stack{
		PID: int(key.Pid), Image: key.Image, User: user, Unread: key.Image != 0 && user == nil,
		Kernel: find(key.Owner, key.Kernel), Count: count.N, Time: time.Duration(count.Ns),
	}
}

// waiters are the tasks that wait at a moment.
type waiters struct {
	sleepers []entry[uint32, bpf.ProfileSleeper]
	now      uint64 // CLOCK_MONOTONIC, that of bpf_ktime_get_ns
}

func (k *profilePrograms) waiting() (w waiters, err error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return w, fmt.Errorf("read the clock: %w", err)
	}
	w.now = uint64(now.Nano())
	if w.sleepers, err = batches[uint32, bpf.ProfileSleeper](k.maps[bpf.ProfileMapSleepers].BatchLookup); err != nil {
		return w, fmt.Errorf("read who waits: %w", err)
	}
	return w, nil
}

// stacks are those of tasks of containers that waited at w, whose stacks have been drained.
func (k *profilePrograms) stacks(w waiters, of map[uint64]watched) (out []triton.Stack) {
	for _, e := range w.sleepers {
		s := e.value
		in, ok := of[s.Key.Owner]
		if !ok || w.now < s.AtNs {
			continue
		}
		stack := stackOf(s.Key, bpf.ProfileCount{N: 1, Ns: w.now - s.AtNs}, func(owner, hash uint64) []uint64 {
			return k.kept[bpf.ProfileStackKey{Owner: owner, Hash: hash}]
		})
		stack.Container = in.Key
		out = append(out, stack)
	}
	return out
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

// readAtOnce is how many entries of a map are read with one call of the kernel: of stacks 264 KiB.
const readAtOnce = 256

// empty takes all entries of a hash map that no program uses now.
func empty[K, V any](m *ebpf.Map) ([]entry[K, V], error) {
	return batches[K, V](m.BatchLookupAndDelete)
}

// batches reads a hash map by a method of it for batches.
func batches[K, V any](read func(at *ebpf.MapBatchCursor, keys, values any, opts *ebpf.BatchOptions) (int, error)) ([]entry[K, V], error) {
	var all []entry[K, V]
	var at ebpf.MapBatchCursor
	keys, values := make([]K, readAtOnce), make([]V, readAtOnce)
	for {
		n, err := read(&at, keys, values, nil)
		for i := range n {
			all = append(all, entry[K, V]{keys[i], values[i]})
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) { // that was the last
			return all, nil
		}
		if err != nil {
			return nil, err
		}
	}
}
