package bpftest

import (
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const (
	expMin, expMax = -24, 12
	otherNumber    = 511
)

// load loads the functions with room for two containers in one shard, and a pool of cells cells beside the shared.
func load(t *testing.T, cells int) *FunctionsObjects {
	t.Helper()
	spec, err := LoadFunctions()
	if err != nil {
		t.Fatal(err)
	}
	const slots = 2
	spec.Maps[FunctionsMapSlots].MaxEntries = slots
	spec.Maps[FunctionsMapCells].MaxEntries = uint32(slots + cells)
	spec.Maps[FunctionsMapFreeCells].MaxEntries = uint32(slots + cells)
	spec.Maps[FunctionsMapOwnersV2].MaxEntries = slots
	spec.Maps[FunctionsMapExits].MaxEntries = 4
	spec.Maps[FunctionsMapAcceptDelays].MaxEntries = slots
	spec.Maps[FunctionsMapAcceptQueue].MaxEntries = 4
	for name, v := range map[string]uint64{
		FunctionsVarCellLimit: uint64(slots + cells), FunctionsVarFreshCells: slots,
	} {
		if err := spec.Variables[name].Set(v); err != nil {
			t.Fatal(err)
		}
	}
	var o FunctionsObjects
	if err := spec.LoadAndAssign(&o, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return &o
}

// call runs a function with args, which it may change, for the calling thread.
func call[T any](t *testing.T, prog *ebpf.Program, passed *ebpf.Variable, args *T) {
	t.Helper()
	if err := passed.Set(args); err != nil {
		t.Fatal(err)
	}
	if _, err := prog.Run(&ebpf.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := passed.Get(args); err != nil {
		t.Fatal(err)
	}
}

// bound is the largest number of whole nanoseconds not above 2^(i/4) seconds, by arbitrary precision.
func bound(i int) uint64 {
	x := new(big.Float).SetPrec(300).SetInt64(1e9)
	if i < 0 {
		x.Quo(x, power(-i))
	} else {
		x.Mul(x, power(i))
	}
	n, _ := x.Uint64()
	return n
}

// power is 2^(i/4).
func power(i int) *big.Float {
	x := new(big.Float).SetPrec(300).SetMantExp(big.NewFloat(1), i)
	return x.Sqrt(new(big.Float).SetPrec(300).Sqrt(x))
}

// Every bound of every bucket is exact: the bound itself belongs to its bucket, one nanosecond more to the next.
func TestKernelBucketBoundsAreExact(t *testing.T) {
	o := load(t, 1)
	bucket := func(ns uint64) (int, int) {
		a := FunctionsBucketArgs{Ns: ns}
		call(t, o.TestBucket, o.TestBucketArgs, &a)
		if a.Stepped != uint64(a.B2) {
			t.Fatalf("%d ns: position %d by steps, want %d", ns, a.Stepped, a.B2)
		}
		return int(a.B2) + 4*expMin, int(a.B0) + expMin
	}
	for i := 4 * expMin; i <= 4*expMax; i++ {
		at, at0 := bucket(bound(i))
		if at != i || at0 != int(math.Ceil(float64(i)/4)) {
			t.Errorf("%d ns: buckets %d and %d, want %d and its union", bound(i), at, at0, i)
		}
		want := min(i+1, 4*expMax)
		if above, _ := bucket(bound(i) + 1); above != want {
			t.Errorf("%d ns: bucket %d, want %d", bound(i)+1, above, want)
		}
	}
	for ns, want := range map[uint64]int{0: 4 * expMin, 1: 4 * expMin, math.MaxUint64: 4 * expMax, 1e9: 0, 1e9 + 1: 1, 1953125: -36} {
		if got, _ := bucket(ns); got != want {
			t.Errorf("%d ns: bucket %d, want %d", ns, got, want)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		ns := rnd.Uint64() >> (24 + rnd.UintN(38))
		got, _ := bucket(ns)
		if got < 4*expMax && ns > bound(got) || got > 4*expMin && ns <= bound(got-1) {
			t.Fatalf("%d ns: bucket %d holds %d to %d", ns, got, bound(got-1)+1, bound(got))
		}
	}
}

func slot(t *testing.T, o *FunctionsObjects, i uint32) FunctionsSlot {
	t.Helper()
	var s FunctionsSlot
	if err := o.Slots.Lookup(i, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func cell(t *testing.T, o *FunctionsObjects, i uint32) FunctionsCell {
	t.Helper()
	var c FunctionsCell
	if err := o.Cells.Lookup(i, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// A call takes a cell on its first use, a given-back one before a fresh one, and the shared one when none is left.
func TestKernelCellsComeFromThePool(t *testing.T) {
	o := load(t, 2)
	add := func(owner, nr uint64) {
		call(t, o.TestAdd, o.TestAddArgs, &FunctionsCallArgs{Owner: owner, Ns: 100, Nr: nr})
	}
	// An owner is its generation in the upper half, its slot in the lower.
	add(1<<32, 7)
	add(1<<32, 7)
	add(2<<32|1, 7)
	if a, b := slot(t, o, 0).Cells[7], slot(t, o, 1).Cells[7]; a != 2 || b != 3 {
		t.Errorf("cells %d and %d, want the first fresh ones 2 and 3", a, b)
	}
	add(1<<32, 8)
	if s := slot(t, o, 0); s.Cells[8] != 0 || s.DropCells != 1 || cell(t, o, 0).SumNs != 100 {
		t.Errorf("empty pool: cell %d, drops %d, shared %+v", s.Cells[8], s.DropCells, cell(t, o, 0))
	}
	if err := o.FreeCells.Update(nil, uint32(3), ebpf.UpdateAny); err != nil {
		t.Fatal(err)
	}
	add(1<<32, 9)
	if got := slot(t, o, 0).Cells[9]; got != 3 {
		t.Errorf("cell %d, want the one given back", got)
	}
	if got := cell(t, o, 2).SumNs; got != 200 {
		t.Errorf("call 7 of slot 0 took %d ns, want 200", got)
	}
}

func TestKernelErrorsAreNegativeErrnosOnly(t *testing.T) {
	o := load(t, 4)
	for _, c := range []struct {
		nr   uint64
		ret  int64
		want uint64
	}{
		{1, 0, 0}, {2, -1, 1}, {3, -4095, 1}, {4, -4096, 0}, {unix.SYS_RT_SIGRETURN, -4, 0},
	} {
		call(t, o.TestAdd, o.TestAddArgs, &FunctionsCallArgs{Owner: 1 << 32, Nr: c.nr, Ret: c.ret})
		i := slot(t, o, 0).Cells[c.nr]
		if got := cell(t, o, i).Errors; got != c.want {
			t.Errorf("call %d with result %d: %d errors, want %d", c.nr, c.ret, got, c.want)
		}
	}
}

// own makes this process's cgroup a watched one.
func own(t *testing.T, o *FunctionsObjects) {
	t.Helper()
	var st unix.Stat_t
	root := "/sys/fs/cgroup/unified"
	if _, err := os.Stat(root); err != nil {
		root = "/sys/fs/cgroup"
	}
	if err := unix.Stat(root, &st); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	if path := lastLine(b); path != "0::/" {
		if err := unix.Stat(root+path[len("0::"):], &st); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.OwnersV2.Put(st.Ino, uint64(1<<32)); err != nil {
		t.Fatal(err)
	}
}

func lastLine(b []byte) string {
	end := len(b) - 1
	start := end
	for start > 0 && b[start-1] != '\n' {
		start--
	}
	return string(b[start:end])
}

// exit is counted at its entry, a fork's child not at all, a refused call at its return.
func TestKernelUnpairedCallsAreTold(t *testing.T) {
	o := load(t, 16)
	own(t, o)
	untimed := func(nr uint64) uint64 {
		i := slot(t, o, 0).Cells[nr]
		if i == 0 {
			return 0
		}
		return cell(t, o, i).Untimed
	}
	call(t, o.TestEnter, o.TestEnterArgs, &FunctionsCallArgs{Nr: unix.SYS_EXIT_GROUP})
	call(t, o.TestEnter, o.TestEnterArgs, &FunctionsCallArgs{Nr: unix.SYS_GETPID})
	for _, nr := range []uint64{unix.SYS_CLONE, unix.SYS_FORK, unix.SYS_VFORK, unix.SYS_CLONE3} {
		call(t, o.TestLeaveUnpaired, o.TestLeaveUnpairedArgs, &FunctionsCallArgs{Nr: nr})
		if n := untimed(nr); n != 0 {
			t.Errorf("a child's birth by call %d was counted", nr)
		}
	}
	call(t, o.TestLeaveUnpaired, o.TestLeaveUnpairedArgs, &FunctionsCallArgs{Nr: unix.SYS_CLONE, Ret: -1})
	call(t, o.TestLeaveUnpaired, o.TestLeaveUnpairedArgs, &FunctionsCallArgs{Nr: 100000})
	for nr, want := range map[uint64]uint64{unix.SYS_EXIT_GROUP: 1, unix.SYS_GETPID: 0, unix.SYS_CLONE: 1, otherNumber: 1} {
		if n := untimed(nr); n != want {
			t.Errorf("call %d: counted %d without duration, want %d", nr, n, want)
		}
	}
}

// The stages of a container's birth, as a table: who forks whom, what is kept.
func TestKernelOnlyTheLastStageIsKept(t *testing.T) {
	const shim, stage0, stage1, stage2, stage3 = 10, 11, 12, 13, 14
	o := load(t, 1)
	born := func(forker, parent, pid uint32) {
		call(t, o.TestChildBorn, o.TestChildBornArgs, &FunctionsExitArgs{Forker: forker, Parent: parent, Pid: pid})
	}
	ended := func(pid, status uint32) {
		call(t, o.TestChildEnded, o.TestChildEndedArgs, &FunctionsExitArgs{Pid: pid, Status: status})
	}
	has := func(pid uint32) bool {
		var r FunctionsExitRecord
		return o.Exits.Lookup(pid, &r) == nil
	}
	born(shim, shim, stage0)
	if has(stage0) {
		t.Error("a child of a parent that is not registered was entered")
	}
	if err := o.Parents.Put(uint32(shim), uint64(99)); err != nil {
		t.Fatal(err)
	}
	born(shim, shim, stage0)
	born(stage0, shim, stage1)
	ended(stage0, 0)
	born(stage1, shim, stage2)
	ended(stage1, 0)
	born(stage2, shim, stage3)
	born(stage2, stage2, 15)
	for pid, want := range map[uint32]bool{stage0: false, stage1: false, stage2: true, stage3: false, 15: false} {
		if has(pid) != want {
			t.Errorf("pid %d in the map: %t, want %t", pid, has(pid), want)
		}
	}
	ended(stage2, 0x2500)
	ended(stage2, 0x100)
	var r FunctionsExitRecord
	if err := o.Exits.Lookup(uint32(stage2), &r); err != nil {
		t.Fatal(err)
	}
	if r.Status != 0x2500 || r.Ended != 1 || r.CgroupId != 99 || r.Parent != shim || r.AtNs == 0 {
		t.Errorf("record %+v", r)
	}
}
