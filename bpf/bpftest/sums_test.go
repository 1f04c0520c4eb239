package bpftest

import (
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// loadSums loads the functions with room for entries in each map of sums.
func loadSums(t *testing.T, entries uint32) *SumsObjects {
	t.Helper()
	spec, err := LoadSums()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{SumsMapSlots, SumsMapCells, SumsMapFreeCells, SumsMapOwnersV2, SumsMapOwnersBlkio, SumsMapExits} {
		spec.Maps[name].MaxEntries = 4
	}
	spec.Maps[SumsMapDisks].MaxEntries, spec.Maps[SumsMapDelays].MaxEntries = entries, entries
	var o SumsObjects
	if err := spec.LoadAndAssign(&o, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return &o
}

func TestKernelRequestsAreSummedByDisk(t *testing.T) {
	o := loadSums(t, 2)
	const us = 1000
	for _, r := range []SumsRequestArgs{
		{Owner: 1, Major: 8, Bytes: 4096, Left: 4096, StartNs: 100 * us, NowNs: 110 * us},
		{Owner: 1, Major: 8, Bytes: 1024, Left: 4096, StartNs: 100 * us, NowNs: 120 * us}, // a part: bytes only
		{Owner: 1, Major: 8, Bytes: 3072, Left: 3072, StartNs: 100 * us, NowNs: 130 * us}, // the rest of it
		{Owner: 1, Major: 8, Bytes: 512, Left: 512, NowNs: 140 * us},                      // no beginning
		{Owner: 1, Major: 8, Bytes: 512, Left: 512, StartNs: 150 * us, NowNs: 140 * us},   // another clock
		{Owner: 1, Major: 8, Write: 1, Bytes: 512, Left: 512, StartNs: 1, NowNs: 2},
		{Owner: 2, Major: 8, Bytes: 512, Left: 512, StartNs: 1, NowNs: 2}, // no room
	} {
		call(t, o.TestRequest, o.TestRequestArgs, &r)
	}
	type sums struct{ Timed, SumNs, Untimed, Bytes uint64 }
	got := map[SumsDiskKey]sums{}
	var key SumsDiskKey
	var d SumsDiskTotals
	entries := o.Disks.Iterate()
	for entries.Next(&key, &d) {
		s := sums{SumNs: d.SumNs, Untimed: d.Untimed, Bytes: d.Bytes}
		for _, n := range d.Durations {
			s.Timed += n
		}
		got[key] = s
	}
	want := map[SumsDiskKey]sums{
		{Owner: 1, Major: 8}:           {Timed: 2, SumNs: 40 * us, Untimed: 2, Bytes: 4096 + 4096 + 1024},
		{Owner: 1, Major: 8, Write: 1}: {Timed: 1, SumNs: 1, Bytes: 512},
	}
	if diff := cmp.Diff(want, got); entries.Err() != nil || diff != "" {
		t.Errorf("%v %s", entries.Err(), diff)
	}
	if dropped := variable(t, o.DisksDropped); dropped != 1 {
		t.Errorf("%d dropped, want the one that found no room", dropped)
	}
}

func variable(t *testing.T, v *ebpf.Variable) (n uint64) {
	t.Helper()
	if err := v.Get(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A CPU ran HOST at 100..200, A at 200..300, the victim itself at 300..400, B at 400..500, and was idle from then on.
func TestKernelWaitsAreChargedToTheRunsThatOverlap(t *testing.T) {
	const (
		host, unattributed = 0, 1
		idle               = 3
		victim             = 1 << 32
		a, b               = 2<<32 | 1, 3<<32 | 2
	)
	for _, c := range []struct {
		name                   string
		from, until, elsewhere uint64
		want                   map[uint64]uint64
		self                   uint64
	}{
		{"one run", 410, 450, 0, map[uint64]uint64{b: 40}, 0},
		{"all of them", 150, 450, 0, map[uint64]uint64{host: 50, a: 100, b: 50}, 100},
		{"begun before what is remembered", 50, 250, 0, map[uint64]uint64{host: 100, a: 50, unattributed: 50}, 0},
		{"elsewhere first", 400, 410, 7, map[uint64]uint64{b: 10, unattributed: 7}, 0},
		{"elsewhere only", 400, 400, 7, map[uint64]uint64{unattributed: 7}, 0},
		{"nobody ran", 510, 600, 0, map[uint64]uint64{idle: 90}, 0},
		{"B, and then nobody", 450, 600, 0, map[uint64]uint64{b: 50, idle: 100}, 0},
		{"on the bound of two runs", 300, 400, 0, map[uint64]uint64{}, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := loadSums(t, 8)
			runs := make([]SumsCpuRuns, ebpf.MustPossibleCPU())
			for cpu := range runs {
				r := &runs[cpu]
				r.Runs = 5
				for i, owner := range []uint64{host, a, victim, b, idle} {
					r.Ring[i].StartNs, r.Ring[i].Owner = uint64(100+100*i), owner
				}
			}
			if err := o.RecentRuns.Put(uint32(0), runs); err != nil {
				t.Fatal(err)
			}
			call(t, o.TestWait, o.TestWaitArgs, &SumsWaitArgs{Victim: victim, From: c.from, Until: c.until, Elsewhere: c.elsewhere})
			got := map[uint64]uint64{}
			var key SumsDelayKey
			var ns uint64
			entries := o.Delays.Iterate()
			for entries.Next(&key, &ns) {
				if key.Victim != victim {
					t.Errorf("charged to victim %#x", key.Victim)
				}
				got[key.Culprit] = ns
			}
			if diff := cmp.Diff(c.want, got); entries.Err() != nil || diff != "" {
				t.Errorf("%v %s", entries.Err(), diff)
			}
			var slot SumsSlot
			if err := o.Slots.Lookup(uint32(0), &slot); err != nil || slot.SelfDelayNs != c.self {
				t.Errorf("%d ns of its own, want %d; %v", slot.SelfDelayNs, c.self, err)
			}
		})
	}
}

// Who has a CPU between two switches that were seen, of which the second is not of the task that the first was to, is not known: neither
// is the task before charged for it, nor is it known how long the task after had waited.
func TestKernelWhoIsNotSeenIsNobodysDelay(t *testing.T) {
	const a, b, unattributed = 7 << 32, 8 << 32, 1
	o := loadSums(t, 8)
	here := stayOnACPU(t)
	queued := []uint64{}
	for _, s := range []SumsSwitchArgs{ // by pid: 1 and 3 are a's, 2 is b's, 9 is not seen when it leaves
		{Leaves: 1, Gets: 2, Owner: a, StartNs: 100, QueuedNs: 150}, // the first of all
		{Leaves: 2, Gets: 1, Owner: b, StartNs: 200, QueuedNs: 210},
		{Leaves: 1, Gets: 3, Owner: a, StartNs: 300, QueuedNs: 310},
		{Leaves: 3, Gets: 9, Owner: a, StartNs: 400, QueuedNs: 410},
		{Leaves: 2, Gets: 1, Owner: b, StartNs: 500, QueuedNs: 510},
		{Leaves: 1, Gets: 2, Owner: a, StartNs: 600, QueuedNs: 610},
	} {
		call(t, o.TestSwitch, o.TestSwitchArgs, &s)
		queued = append(queued, s.QueuedNs)
	}
	if diff := cmp.Diff([]uint64{0, 150, 210, 310, 0, 510}, queued); diff != "" {
		t.Errorf("queued since (-want +got):\n%s", diff)
	}
	var cpus []SumsCpuRuns
	if err := o.RecentRuns.Lookup(uint32(0), &cpus); err != nil {
		t.Fatal(err)
	}
	var got [][2]uint64
	for _, run := range cpus[here].Ring[:cpus[here].Runs] {
		got = append(got, [2]uint64{run.StartNs, run.Owner})
	}
	if n := variable(t, o.UnseenSwitches); n != 1 {
		t.Errorf("%d switches show that others were not seen, want 1", n)
	}
	if diff := cmp.Diff([][2]uint64{{100, a}, {200, b}, {300, a}, {400, unattributed}, {500, b}, {600, a}}, got); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
}

// stayOnACPU has the rest of the test run on one CPU, on a thread that ends with it.
func stayOnACPU(t *testing.T) (cpu int) {
	t.Helper()
	runtime.LockOSThread()
	var may, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		t.Fatal(err)
	}
	for !may.IsSet(cpu) {
		cpu++
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	return cpu
}

// What finds no room in the matrix is counted, not lost.
func TestKernelDelaysBeyondTheMatrixAreCounted(t *testing.T) {
	o := loadSums(t, 1)
	call(t, o.TestWait, o.TestWaitArgs, &SumsWaitArgs{Victim: 1 << 32, Elsewhere: 5})
	call(t, o.TestWait, o.TestWaitArgs, &SumsWaitArgs{Victim: 2 << 32, Elsewhere: 9})
	call(t, o.TestWait, o.TestWaitArgs, &SumsWaitArgs{Victim: 1 << 32, Elsewhere: 6})
	if dropped := variable(t, o.DelaysDroppedNs); dropped != 9 {
		t.Errorf("%d ns dropped, want 9", dropped)
	}
	var ns uint64
	if err := o.Delays.Lookup(SumsDelayKey{Victim: 1 << 32, Culprit: 1}, &ns); err != nil || ns != 11 {
		t.Errorf("%d ns kept, want 11; %v", ns, err)
	}
}
