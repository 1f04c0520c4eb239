package bpftest

import (
	"errors"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// profiling loads the functions with room for one count and one stack on each side, and losses of owner 7.
func profiling(t *testing.T) *ProfileObjects {
	t.Helper()
	spec, err := LoadProfile()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{ProfileMapCountsA, ProfileMapCountsB, ProfileMapStacksA, ProfileMapStacksB} {
		spec.Maps[name].MaxEntries = 1
	}
	spec.Maps[ProfileMapExits].MaxEntries = 4
	var o ProfileObjects
	if err := spec.LoadAndAssign(&o, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	if err := o.Losses.Put(uint64(7), ProfileLost{}); err != nil {
		t.Fatal(err)
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
	call(t, o.TestKeepStack, &a)
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

// Counts add up, on their own side, and one that finds no room is a loss.
func TestKernelCountsOfStacksAddUp(t *testing.T) {
	o := profiling(t)
	a := ProfileProfileArgs{}
	a.Key.Owner, a.Key.User = 7, 1
	for range 3 {
		call(t, o.TestCount, &a)
	}
	var c ProfileCount
	if err := o.CountsA.Lookup(a.Key, &c); err != nil || c.N != 3 || c.Ns != 15 {
		t.Errorf("%+v, %v", c, err)
	}
	if err := o.CountsB.Lookup(a.Key, &c); !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Errorf("the other side has %+v, %v", c, err)
	}
	a.Key.User = 2
	call(t, o.TestCount, &a)
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
		call(t, o.TestWakeUp, &ProfileProfileArgs{})
	}
	var c ProfileCount
	if err := o.CountsA.Lookup(s.Key, &c); err != nil || c.N != 1 || c.Ns < second || c.Ns > 60*second {
		t.Errorf("%+v, %v", c, err)
	}
}
