package probes

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
	"golang.org/x/sys/unix"
)

// recorder keeps the events it is handed.
type recorder struct {
	mu     sync.Mutex
	events []Event
}

func (r *recorder) add(ev Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, ev)
}

func (r *recorder) of(kind EventKind) []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var evs []Event
	for _, ev := range r.events {
		if ev.Kind == kind {
			evs = append(evs, ev)
		}
	}
	return evs
}

var everyKind = []EventKind{EventExec, EventExit, EventSignal, EventOOM}

// record subscribes until the test ends.
func record(t *testing.T, p *Probes) *recorder {
	t.Helper()
	r := &recorder{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Events(ctx, everyKind, 4096, r.add) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("events: %v", err)
		}
	})
	eventually(t, "subscribed", func() bool {
		p.events.mu.Lock()
		defer p.events.mu.Unlock()
		return len(p.events.subs) > 0
	})
	return r
}

// Execs, forks, threads, exits and deaths by signal are counted once each.
func TestKernelLifeOfProcessesIsCounted(t *testing.T) {
	p := open(t, Config{})
	key, cg := watch(t, p)
	for _, argv := range [][]string{{"calls"}, {"segv"}, {"term"}, {"thread-exit"}, {"forks", "5"}} {
		start(t, cg, append([]string{actorBinary(t)}, argv...)...).wait(t)
	}
	s := snapshot(t, p, key)
	got := map[string]uint64{
		"execs": s.Execs, "exits": s.Exits, "forks": s.Forks, "threads": s.Threads, "fatal": s.FatalSignals, "oom": s.OOMKills,
	}
	// The five first processes were forked by this one, outside the container, but born in it: 5 + 10 + 5 forks.
	want := map[string]uint64{"execs": 5, "exits": 20, "forks": 20, "threads": 5, "fatal": 2, "oom": 0}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("counts (-want +got):\n%s", d)
	}
}

// Records say who, when and how; they still find their container after Unwatch.
func TestKernelRecordsTellExecSignalAndExit(t *testing.T) {
	p := open(t, Config{})
	run(t, p)
	r := record(t, p)
	key, cg := watch(t, p)
	began := time.Now()
	proc := start(t, cg, actorBinary(t), "segv")
	status := proc.wait(t)
	if _, err := p.Unwatch(key); err != nil {
		t.Fatal(err)
	}
	eventually(t, "exit record", func() bool { return len(r.of(EventExit)) == 1 })
	pid := proc.cmd.Process.Pid
	base := Event{Key: key, CgroupID: cg.id, Pid: pid, Tid: pid, Parent: os.Getpid(), Comm: "actor"}
	execs, signals, exits := base, base, base
	execs.Kind = EventExec
	signals.Kind, signals.Signal, signals.Code, signals.Address = EventSignal, 11, 1 /* SEGV_MAPERR */, 0x1234
	exits.Kind, exits.WaitStatus = EventExit, status
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, ev := range r.events {
		if ev.At.Before(began.Add(-time.Millisecond)) || ev.At.After(time.Now().Add(time.Millisecond)) {
			t.Errorf("record %d is of %s", i, ev.At)
		}
		r.events[i].At = time.Time{}
	}
	if d := cmp.Diff([]Event{execs, signals, exits}, r.events); d != "" {
		t.Errorf("records (-want +got):\n%s", d)
	}
}

// The OOM killer's victim is charged to its own container.
func TestKernelOOMKillIsCounted(t *testing.T) {
	p := open(t, Config{})
	run(t, p)
	r := record(t, p)
	key, cg := watch(t, p)
	proc := start(t, cg, actorBinary(t), "hog")
	proc.paused(t)
	limitMemory(t, cg, proc.cmd.Process.Pid)
	proc.release(t)
	if st := proc.wait(t); st&0x7f != 9 {
		t.Fatalf("hog ended with status %#x", st)
	}
	s := snapshot(t, p, key)
	if s.OOMKills != 1 || s.FatalSignals != 1 {
		t.Errorf("OOM kills %d, fatal signals %d, want 1 each", s.OOMKills, s.FatalSignals)
	}
	eventually(t, "OOM record", func() bool { return len(r.of(EventOOM)) == 1 })
	if ev := r.of(EventOOM)[0]; ev.Key != key || ev.Pid != proc.cmd.Process.Pid {
		t.Errorf("record %+v, want pid %d of %s", ev, proc.cmd.Process.Pid, key)
	}
}

// limitMemory puts pid under a limit of 16 MiB, in the v1 memory hierarchy or in cg itself.
func limitMemory(t *testing.T, cg cgroup, pid int) {
	t.Helper()
	const v1 = "/sys/fs/cgroup/memory"
	write := func(path, s string) {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(v1); err != nil {
		write(filepath.Join(filepath.Dir(cg.dir), "cgroup.subtree_control"), "+memory")
		write(filepath.Join(cg.dir, "memory.max"), "16777216")
		return
	}
	dir := filepath.Join(v1, "t"+randomHex())
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, "memory cgroup removed", func() bool { return os.Remove(dir) == nil })
	})
	write(dir+"/memory.limit_in_bytes", "16777216")
	write(dir+"/cgroup.procs", strconv.Itoa(pid))
}

// Waiting and running time are the kernel's own sums, to the nanosecond.
func TestKernelRunQueueEqualsSchedstat(t *testing.T) {
	p := open(t, Config{})
	key, cg := watch(t, p)
	var procs []*process
	for range 2 {
		proc := start(t, cg, actorBinary(t), "gate", actorBinary(t), "churn", "300000")
		defer proc.cmd.Process.Kill()
		proc.paused(t)
		one := unix.CPUSet{}
		one.Set(0)
		if err := unix.SchedSetaffinity(proc.cmd.Process.Pid, &one); err != nil {
			t.Fatal(err)
		}
		procs = append(procs, proc)
	}
	for _, proc := range procs {
		proc.release(t)
	}
	var cpu, wait uint64
	for _, proc := range procs {
		eventually(t, "actor ended", func() bool { return procState(proc.cmd.Process.Pid) == "Z" })
		f := strings.Fields(readFile(t, fmt.Sprintf("/proc/%d/schedstat", proc.cmd.Process.Pid)))
		cpu += parse(t, f[0])
		wait += parse(t, f[1])
	}
	s := snapshot(t, p, key)
	if s.RunQueue.SumNs != wait || wait == 0 {
		t.Errorf("waited %d ns, schedstat says %d", s.RunQueue.SumNs, wait)
	}
	if s.CPUNs != cpu {
		t.Errorf("ran %d ns, schedstat says %d", s.CPUNs, cpu)
	}
	if s.RunQueue.Count() == 0 {
		t.Error("no wait was counted")
	}
}

func parse(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The hooks that slow every system call of the machine are attached only while something is watched.
func TestKernelHooksAreAttachedOnlyWhileWatching(t *testing.T) {
	p := open(t, Config{Linger: -1})
	if n := hotLinks(t, p); n != 0 || p.Armed() {
		t.Errorf("before: %d hooks", n)
	}
	key, _ := watch(t, p)
	other, _ := watch(t, p)
	if n := hotLinks(t, p); n != len(hotPrograms) || !p.Armed() {
		t.Errorf("watching: %d hooks, want %d", n, len(hotPrograms))
	}
	for i, k := range []triton.ContainerKey{key, other} {
		if _, err := p.Unwatch(k); err != nil {
			t.Fatal(err)
		}
		if want := 1 - i; p.Armed() != (want > 0) {
			t.Errorf("after unwatch %d: armed %t", i, p.Armed())
		}
	}
	eventually(t, "hooks detached", func() bool { return hotLinks(t, p) == 0 })
	key, cg := watch(t, p)
	start(t, cg, actorBinary(t), "churn", "42").wait(t)
	if n := snapshot(t, p, key).Syscalls[unix.SYS_GETPPID].Count; n != 42 {
		t.Errorf("attached again: counted %d, want 42", n)
	}
}

// Each level attaches what it says, and what it leaves out is told, with the reason.
func TestKernelLevelsLeaveOutWhatTheySay(t *testing.T) {
	for level, want := range map[Level]struct {
		hooks   int
		calls   bool
		missing []string
	}{
		Detail:   {3, true, nil},
		Counters: {1, false, []string{bpf.MeasureProgSysExit, bpf.MeasureProgSysEnter}},
		Off:      {0, false, hotPrograms},
	} {
		p := open(t, Config{Level: level})
		key, cg := watch(t, p)
		if n := hotLinks(t, p); n != want.hooks || p.Armed() != want.calls {
			t.Errorf("%s: %d hooks, armed %t, want %d", level, n, p.Armed(), want.hooks)
		}
		start(t, cg, actorBinary(t), "churn", "42").wait(t)
		s := snapshot(t, p, key)
		if got := s.Syscalls[unix.SYS_GETPPID].Count == 42; got != want.calls {
			t.Errorf("%s: calls counted: %t", level, got)
		}
		if s.Exits != 1 || s.Execs == 0 {
			t.Errorf("%s: %d execs, %d exits: births and deaths are counted at every level", level, s.Execs, s.Exits)
		}
		var missing []string
		for _, m := range p.Missing() {
			missing = append(missing, m.Program)
			if !strings.Contains(m.Reason.Error(), string(level)) {
				t.Errorf("%s: %s is missing because %v", level, m.Program, m.Reason)
			}
		}
		if !slices.Equal(missing, want.missing) {
			t.Errorf("%s: missing %v, want %v", level, missing, want.missing)
		}
		if _, err := p.Unwatch(key); err != nil {
			t.Fatal(err)
		}
	}
}

// hotLinks asks the kernel which links of the system call programs there are.
func hotLinks(t *testing.T, p *Probes) int {
	t.Helper()
	ids := map[uint32]bool{}
	for _, prog := range p.kernel.programs {
		info, err := prog.Info()
		if err != nil {
			t.Fatal(err)
		}
		id, _ := info.ID()
		ids[uint32(id)] = true
	}
	n := 0
	it := new(link.Iterator)
	defer it.Close()
	for it.Next() {
		if info, err := it.Link.Info(); err == nil && ids[uint32(info.Program)] {
			n++
		}
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

// After the last container the hooks stay for a while, for the next one to find.
func TestKernelHooksLinger(t *testing.T) {
	p := open(t, Config{Linger: 50 * time.Millisecond})
	run(t, p)
	key, _ := watch(t, p)
	if _, err := p.Unwatch(key); err != nil {
		t.Fatal(err)
	}
	if !p.Armed() {
		t.Error("detached at once")
	}
	eventually(t, "hooks detached", func() bool { return !p.Armed() })
}

// A ring that nobody reads loses records, counts each of them, and the counters stay exact.
func TestKernelFullRingIsCounted(t *testing.T) {
	p := open(t, Config{})
	record(t, p) // without Run
	key, cg := watch(t, p)
	start(t, cg, actorBinary(t), "forks", "3400").wait(t)
	s := snapshot(t, p, key)
	if s.Exits != 3401 || s.Forks != 3401 {
		t.Errorf("exits %d, forks %d, want 3401 each", s.Exits, s.Forks)
	}
	if _, err := p.Unwatch(key); err != nil {
		t.Fatal(err)
	}
	if err := p.reap(); err != nil {
		t.Fatal(err)
	}
	held := uint64(256 * 1024 / 80) // a record takes 72 bytes and a header of 8
	if want := 3402 - held; s.Dropped.Ring < want-1 || s.Dropped.Ring > want+1 || p.Drops()["ring"] != s.Dropped.Ring {
		t.Errorf("dropped %d, in all %d, want about %d", s.Dropped.Ring, p.Drops()["ring"], want)
	}
}

// Kinds that nobody reads are counted and not recorded: nothing is lost of them, however many there are.
func TestKernelNothingIsRecordedForNobody(t *testing.T) {
	p := open(t, Config{})
	run(t, p)
	key, cg := watch(t, p)
	forks := func() { start(t, cg, actorBinary(t), "forks", "3400").wait(t) }
	forks()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	seen := &recorder{}
	go func() { ended <- p.Events(ctx, []EventKind{EventExec}, 16, seen.add) }()
	eventually(t, "subscribed", func() bool {
		p.events.mu.Lock()
		defer p.events.mu.Unlock()
		return len(p.events.subs) > 0
	})
	forks()
	eventually(t, "the exec is told", func() bool { return len(seen.of(EventExec)) == 1 })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	forks()
	s := snapshot(t, p, key)
	if drops := p.Drops(); s.Exits != 3*3401 || s.Dropped.Ring+drops["ring"]+drops["queue"] != 0 {
		t.Errorf("%d exits, %d records lost by the container, all: %v", s.Exits, s.Dropped.Ring, drops)
	}
	if n := len(seen.of(EventExit)) + len(seen.of(EventExec)); n != 1 {
		t.Errorf("%d records of what was not asked for", n-1)
	}
}

// A subscriber that does not keep up loses records of its own queue only.
func TestSlowSubscriberLosesAndCounts(t *testing.T) {
	p := &Probes{closed: true} // without programs
	block := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	entered := make(chan struct{}, 100)
	go func() {
		done <- p.Events(ctx, everyKind, 2, func(Event) { entered <- struct{}{}; <-block })
	}()
	eventually(t, "subscribed", func() bool {
		p.events.mu.Lock()
		defer p.events.mu.Unlock()
		return len(p.events.subs) == 1
	})
	p.events.publish(Event{Kind: EventOOM})
	<-entered // the callback holds one, the queue is empty
	for range 5 {
		p.events.publish(Event{Kind: EventOOM})
	}
	if n := p.events.droppedQueue.Load(); n != 3 {
		t.Errorf("dropped %d, want 3 of 5 in a queue of 2", n)
	}
	cancel()
	close(block)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if p.Events(t.Context(), everyKind, 0, nil) == nil || p.Events(t.Context(), nil, 1, nil) == nil {
		t.Error("a queue of none, or of nothing, was accepted")
	}
}

func TestKernelWatchRefusesWhatItCannotDo(t *testing.T) {
	p := open(t, Config{MaxContainers: 1})
	key, cg := watch(t, p)
	again, err := p.Watch(key, CgroupIDs{V2: cg.id})
	if err != nil || again.Generation != 1 {
		t.Errorf("watching again gave %+v, %v", again, err)
	}
	if _, err := p.Watch(key, CgroupIDs{V2: cg.id + 1}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("other cgroup: %v", err)
	}
	if _, err := p.Watch(newKey(), CgroupIDs{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no cgroup: %v", err)
	}
	if _, err := p.Watch(newKey(), CgroupIDs{V2: 1 << 40}); !errdefs.IsResourceExhausted(err) {
		t.Errorf("no slot: %v", err)
	}
	for _, err := range []error{
		func() error { _, err := p.Unwatch(newKey()); return err }(),
		func() error { _, err := p.Snapshot(newKey()); return err }(),
	} {
		if !errdefs.IsNotFound(err) {
			t.Errorf("unknown container: %v", err)
		}
	}
	if _, err := p.Unwatch(key); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Watch(newKey(), CgroupIDs{V2: cg.id}); err != nil {
		t.Errorf("the slot given back is not used: %v", err)
	}
}

func TestConfigListsAllMistakes(t *testing.T) {
	err := Config{MaxContainers: -1, MaxExits: -1, CellsPerContainer: -1, Level: "loud"}.Validate()
	if !errdefs.IsInvalidArgument(err) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"pin directory", "max containers", "max exits", "cells per container", `level "loud"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not mentioned in %v", want, err)
		}
	}
}

// encode is the record as the kernel writes it.
func encode(t testing.TB, e bpf.MeasureEvent) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := binary.Write(&b, binary.NativeEndian, e); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDecodeReadsEveryField(t *testing.T) {
	e := bpf.MeasureEvent{
		AtNs: 5, Owner: 7<<32 | 3, CgroupId: 11, Address: 13, Kind: uint32(EventSignal),
		Pid: 17, Tid: 19, Parent: 23, Status: 29, Code: -6, Comm: [16]int8{'a', 'b'},
	}
	boot := time.Unix(100, 0)
	got, owner, err := decodeRecord(encode(t, e), boot)
	if err != nil || owner != e.Owner {
		t.Fatalf("owner %#x, %v", owner, err)
	}
	want := Event{
		Kind: EventSignal, At: boot.Add(5), CgroupID: 11, Pid: 17, Tid: 19, Parent: 23, Comm: "ab", Signal: 29, Code: -6, Address: 13,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	for kind := range uint32(6) {
		f.Add(encode(f, bpf.MeasureEvent{Kind: kind, Comm: [16]int8{1, 2, 3}}))
	}
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, recordSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		ev, _, err := decodeRecord(b, time.Time{})
		if err != nil {
			if !cmp.Equal(ev, Event{}) {
				t.Errorf("an error and %+v", ev)
			}
			return
		}
		if len(b) != recordSize || len(ev.Comm) > 16 || strings.Contains(ev.Kind.String(), " ") {
			t.Errorf("accepted %d bytes as %+v", len(b), ev)
		}
	})
}

// Foreign bytes and owners that nobody has are counted, not published.
func TestUndecodableRecordsAreCounted(t *testing.T) {
	p := &Probes{table: newSlotTable(2)}
	p.handle([]byte("short"))
	p.handle(encode(t, bpf.MeasureEvent{Kind: 1, Owner: 1<<32 | 1}))
	p.handle(encode(t, bpf.MeasureEvent{Kind: 1, Owner: 1<<32 | 77}))
	if m, u := p.events.malformed.Load(), p.events.droppedUnowned.Load(); m != 1 || u != 2 {
		t.Errorf("malformed %d, unowned %d, want 1 and 2", m, u)
	}
}
