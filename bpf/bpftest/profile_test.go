package bpftest

import (
	"errors"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// profiling loads the functions with room for one count and one stack on each side, which owner 7 may fill, and its losses.
func profiling(t *testing.T) *ProfileObjects { return profilingWithin(t, 1, 1) }

// profilingWithin is profiling with room for so many, of which the owner has a share.
func profilingWithin(t *testing.T, room uint32, share uint64) *ProfileObjects {
	t.Helper()
	spec, err := LoadProfile()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{ProfileMapCountsA, ProfileMapCountsB, ProfileMapStacksA, ProfileMapStacksB} {
		spec.Maps[name].MaxEntries = room
	}
	for _, m := range []*ebpf.MapSpec{spec.Maps[ProfileMapUsedA], spec.Maps[ProfileMapUsedB], spec.Maps[ProfileMapUsed].InnerMap} {
		m.MaxEntries = 2 // owners
	}
	for _, name := range []string{ProfileVarCountShare, ProfileVarStackShare, ProfileVarSleeperShare} {
		if err := spec.Variables[name].Set(share); err != nil {
			t.Fatal(err)
		}
	}
	spec.Maps[ProfileMapExits].MaxEntries = 4
	var o ProfileObjects
	if err := spec.LoadAndAssign(&o, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	for m, zero := range map[*ebpf.Map]any{o.Losses: ProfileLost{}, o.UsedA: ProfileUse{}, o.UsedB: ProfileUse{}, o.Sleeping: uint64(0)} {
		if err := m.Put(uint64(7), zero); err != nil {
			t.Fatal(err)
		}
	}
	return &o
}

func (o *ProfileObjects) lost(t *testing.T) ProfileLost {
	t.Helper()
	var l ProfileLost
	if err := o.Losses.Lookup(uint64(7), &l); err != nil {
		t.Fatal(err)
	}
	return l
}

// keep keeps pcs as the stack of owner 7 and returns its hash.
func (o *ProfileObjects) keep(t *testing.T, on uint32, pcs ...uint64) uint64 {
	t.Helper()
	var s ProfileStack
	for i := range s.Pcs { // what was there before must not count
		s.Pcs[i] = ^uint64(0)
	}
	copy(s.Pcs[:], pcs)
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		t.Fatal(err)
	}
	every := make([]ProfileStack, cpus)
	for i := range every {
		every[i] = s
	}
	if err := o.Scratch.Put(uint32(0), every); err != nil {
		t.Fatal(err)
	}
	a := ProfileProfileArgs{Bytes: int64(8 * len(pcs)), On: on}
	a.Key.Owner = 7
	call(t, o.TestKeepStack, o.TestKeepStackArgs, &a)
	return a.Hash
}

// A stack is found by its hash, ends with a zero, is kept once, and has another hash for any other stack; what finds no room
// is counted.
func TestKernelStacksAreKeptByTheirHash(t *testing.T) {
	o := profiling(t)
	one := o.keep(t, 0, 1, 2, 3)
	var s ProfileStack
	if err := o.StacksA.Lookup(ProfileStackKey{Owner: 7, Hash: one}, &s); err != nil || [4]uint64(s.Pcs[:4]) != [4]uint64{1, 2, 3, 0} {
		t.Errorf("kept %v, %v", s.Pcs[:4], err)
	}
	if again := o.keep(t, 0, 1, 2, 3); again != one || o.lost(t).Stacks != 0 {
		t.Errorf("the same stack has the hashes %x and %x, lost %+v", one, again, o.lost(t))
	}
	seen := map[uint64]bool{one: true}
	for _, pcs := range [][]uint64{{1, 2}, {1, 2, 4}, {3, 2, 1}, {1, 2, 3, 0}, {0}} {
		h := o.keep(t, 0, pcs...)
		if seen[h] || h == 0 {
			t.Errorf("%v has the hash %x", pcs, h)
		}
		seen[h] = true
	}
	if l := o.lost(t); l.Stacks != 5 {
		t.Errorf("lost %+v, want 5 stacks", l)
	}
	full := make([]uint64, 127)
	for i := range full {
		full[i] = uint64(i) + 1
	}
	h := o.keep(t, 1, full...)
	if err := o.StacksB.Lookup(ProfileStackKey{Owner: 7, Hash: h}, &s); err != nil || s.Pcs[126] != 127 || s.Pcs[127] != 0 {
		t.Errorf("the longest ends with %v, %v", s.Pcs[125:], err)
	}
	if h := o.keep(t, 0); h != 0 {
		t.Errorf("no stack has the hash %x", h)
	}
}

// An owner has its share of a side and no more, however much room there is; others have the rest.
func TestKernelAnOwnerHasItsShareOfASide(t *testing.T) {
	const room, share = 16, 3
	o := profilingWithin(t, room, share)
	a := ProfileProfileArgs{}
	a.Key.Owner = 7
	for i := range uint64(5) {
		o.keep(t, 0, 100+i)
		a.Key.User = i
		call(t, o.TestCount, o.TestCountArgs, &a)
		call(t, o.TestCount, o.TestCountArgs, &a) // what is there already takes nothing more
	}
	if l := o.lost(t); l.Stacks != 2 || l.Counts != 4 {
		t.Errorf("lost %+v, want 2 stacks and twice 2 counts", l)
	}
	var u ProfileUse
	if err := o.UsedA.Lookup(uint64(7), &u); err != nil || u != (ProfileUse{Counts: share, Stacks: share}) {
		t.Errorf("used %+v, %v", u, err)
	}
	if err := o.UsedB.Lookup(uint64(7), &u); err != nil || u != (ProfileUse{}) {
		t.Errorf("used of the other side: %+v, %v", u, err)
	}
	if err := o.UsedA.Put(uint64(8), ProfileUse{}); err != nil {
		t.Fatal(err)
	}
	a.Key.Owner = 8
	call(t, o.TestCount, o.TestCountArgs, &a)
	var c ProfileCount
	if err := o.CountsA.Lookup(a.Key, &c); err != nil || c.N != 1 {
		t.Errorf("another owner's: %+v, %v", c, err)
	}
	a.Key.Owner = 9 // whom nobody looks at
	call(t, o.TestCount, o.TestCountArgs, &a)
	if err := o.CountsA.Lookup(a.Key, &c); !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Errorf("of whom nobody looks at: %+v, %v", c, err)
	}
}

// Counts add up, on their own side, and one that finds no room is a loss.
func TestKernelCountsOfStacksAddUp(t *testing.T) {
	o := profiling(t)
	a := ProfileProfileArgs{}
	a.Key.Owner, a.Key.User = 7, 1
	for range 3 {
		call(t, o.TestCount, o.TestCountArgs, &a)
	}
	var c ProfileCount
	if err := o.CountsA.Lookup(a.Key, &c); err != nil || c.N != 3 || c.Ns != 15 {
		t.Errorf("%+v, %v", c, err)
	}
	if err := o.CountsB.Lookup(a.Key, &c); !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Errorf("the other side has %+v, %v", c, err)
	}
	a.Key.User = 2
	call(t, o.TestCount, o.TestCountArgs, &a)
	if l := o.lost(t); l.Counts != 1 {
		t.Errorf("lost %+v", l)
	}
}

// A wait lasts from the going to the waking, and is counted once.
func TestKernelWaitsAreCountedAtTheirEnd(t *testing.T) {
	o := profiling(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const second = 1_000_000_000
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	s := ProfileSleeper{AtNs: uint64(now.Nano()) - second}
	s.Key.Owner, s.Key.Kind = 7, 1
	if err := o.Sleepers.Put(uint32(unix.Gettid()), s); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		call(t, o.TestWakeUp, o.TestWakeUpArgs, &ProfileProfileArgs{})
	}
	var c ProfileCount
	if err := o.CountsA.Lookup(s.Key, &c); err != nil || c.N != 1 || c.Ns < second || c.Ns > 60*second {
		t.Errorf("%+v, %v", c, err)
	}
}

// A wait whose end was not seen is lost, counted, when the task's next one begins, which has its own beginning and its own stack.
func TestKernelAWaitWhoseEndIsNotSeenIsLost(t *testing.T) {
	o := profilingWithin(t, 8, 1) // of one task: that has its room already
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for i := range uint64(3) {
		args := ProfileProfileArgs{Hash: i + 1}
		args.Key.Owner, args.Key.User = 7, 10+i
		call(t, o.TestKeepSleeper, o.TestKeepSleeperArgs, &args)
	}
	var s ProfileSleeper
	if err := o.Sleepers.Lookup(uint32(unix.Gettid()), &s); err != nil || s.AtNs != 3 || s.Key.User != 12 {
		t.Errorf("waits since %+v, %v", s, err)
	}
	var waiting uint64
	if err := o.Sleeping.Lookup(uint64(7), &waiting); err != nil || waiting != 1 {
		t.Errorf("%d tasks wait, %v", waiting, err)
	}
	if diff := cmp.Diff(ProfileLost{Counts: 2}, o.lost(t)); diff != "" {
		t.Errorf("lost (-want +got):\n%s", diff)
	}
}
