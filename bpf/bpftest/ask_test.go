package bpftest

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
)

// Of enum word in bpf/predicate.h.
const (
	wordCall    = 1
	wordErrno   = 2
	keyWords    = len(AskEvent{}.Key)
	wordLatency = keyWords
	wordBytes   = keyWords + 1
)

// predicate is what the constants of a question are set to.
type predicate struct {
	leaves    [16]AskLeaf
	clauses   [16]AskClause
	leafCount uint32
	clauseN   uint32
	apart     uint64
	latency   bool
}

// asking loads the functions with a predicate and room for rows.
func asking(t *testing.T, p predicate, rows uint32) *AskObjects {
	t.Helper()
	spec, err := LoadAsk()
	if err != nil {
		t.Fatal(err)
	}
	spec.Maps[AskMapAnswersA].MaxEntries, spec.Maps[AskMapAnswersB].MaxEntries = rows, rows
	for name, v := range map[string]any{
		AskVarLeaves: p.leaves, AskVarClauses: p.clauses, AskVarLeafCount: p.leafCount, AskVarClauseCount: p.clauseN,
		AskVarToldApart: p.apart, AskVarWithLatency: p.latency,
	} {
		if err := spec.Variables[name].Set(v); err != nil {
			t.Fatal(err)
		}
	}
	var o AskObjects
	if err := spec.LoadAndAssign(&o, nil); err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { o.Close() })
	return &o
}

// count is how many events a question counted, under any key.
func (o *AskObjects) count(t *testing.T) (n uint64) {
	t.Helper()
	var key [8 * keyWords]byte
	var a AskAnswer
	all := o.AnswersA.Iterate()
	for all.Next(&key, &a) {
		n += a.Count
	}
	if err := all.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

// holds evaluates a predicate as bpf/predicate.h says it.
func (p *predicate) holds(a *AskAskArgs) bool {
	bits := uint32(a.Bits) | uint32(a.Entry>>32)
	for i, l := range p.leaves[:p.leafCount] {
		if l.Word >= uint32(len(a.Word)) {
			continue
		}
		is := l.First[0] <= a.Word[l.Word] && a.Word[l.Word] <= l.Last[0]
		if l.Words > 0 {
			is = true
			for k := range l.Words {
				is = is && (a.Word[l.Word+k]^l.First[k])&l.Last[k] == 0
			}
		}
		if is {
			bits |= 1 << i
		}
	}
	for _, c := range p.clauses[:p.clauseN] {
		if bits&c.Must == c.Must && bits&c.Not == 0 {
			return true
		}
	}
	return p.clauseN == 0
}

// Predicates of any leaves and clauses, the largest too, hold for the events that they hold for in another implementation.
// Numbers are few and at the ends of their range, so that they meet.
func TestKernelPredicatesHold(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 2))
	number := func() uint64 { return []uint64{0, 1, 2, 1<<63 - 1, 1 << 63, 1<<64 - 2, 1<<64 - 1}[r.IntN(7)] }
	held := 0
	for trial := range 24 {
		p := predicate{leafCount: uint32(r.IntN(17)), clauseN: uint32(r.IntN(17))}
		if trial == 0 {
			p.leafCount, p.clauseN = 16, 16
		}
		for i := range p.leaves {
			l := &p.leaves[i]
			l.Word = uint32(r.IntN(12))
			l.Words = uint32(r.IntN(3)) * uint32(r.IntN(5))
			if trial == 0 {
				l.Words = 8
			}
			for k := range l.First {
				l.First[k], l.Last[k] = number(), number()
			}
			if r.IntN(5) == 0 {
				l.Word = 32 // known before
			}
		}
		for i := range p.clauses {
			p.clauses[i] = AskClause{Must: uint32(1) << r.IntN(16), Not: uint32(1) << r.IntN(16)}
		}
		o := asking(t, p, 8)
		var want uint64
		for range 200 {
			a := AskAskArgs{Entry: uint64(r.Uint32())<<32 | 7, Bits: uint64(r.IntN(1 << 16))}
			if r.IntN(2) == 0 {
				a.Entry, a.Bits = 7, 0
			}
			for i := range a.Word {
				a.Word[i] = number()
			}
			if p.holds(&a) {
				want++
			}
			call(t, o.TestConsider, o.TestConsiderArgs, &a)
		}
		if got := o.count(t); got != want {
			t.Errorf("trial %d, %d leaves, %d clauses: %d held, want %d", trial, p.leafCount, p.clauseN, got, want)
		}
		held += int(want)
	}
	if held == 0 || held == 24*200 {
		t.Errorf("%d events held: nothing was told apart", held)
	}
}

// Events are told apart by the words that they are to be, add up, and what finds no room is the rest.
func TestKernelAnswersAddUp(t *testing.T) {
	o := asking(t, predicate{apart: 1<<0 | 1<<wordErrno, latency: true}, 2)
	for _, e := range []struct{ errno, ns, bytes, subject uint64 }{{2, 1000, 5, 1}, {2, 1024, 5, 1}, {2, ^uint64(0), 1, 1}, {3, 7, 0, 1}, {2, 9, 2, 2}, {4, 1 << 40, 1, 3}} {
		a := AskAskArgs{Entry: e.subject}
		a.Word[wordCall], a.Word[wordErrno], a.Word[wordLatency], a.Word[wordBytes] = e.ns, e.errno, e.ns, e.bytes
		call(t, o.TestConsider, o.TestConsiderArgs, &a)
	}
	key := func(subject, errno uint64) (k [keyWords]uint64) {
		k[0], k[wordErrno] = subject, errno
		return k
	}
	var a AskAnswer
	if err := o.AnswersA.Lookup(key(1, 2), &a); err != nil || a.Count != 3 || a.Timed != 2 || a.Ns != 2024 || a.Bytes != 11 {
		t.Errorf("%+v, %v", a, err)
	}
	var timed uint64
	for _, n := range a.Latency {
		timed += n
	}
	if timed != 2 {
		t.Errorf("the histogram has %d", timed)
	}
	if err := o.AnswersA.Lookup(key(1, 3), &a); err != nil || a.Count != 1 {
		t.Errorf("%+v, %v", a, err)
	}
	if err := o.AnswersA.Lookup(key(2, 2), &a); !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Errorf("a third row: %+v, %v", a, err)
	}
	var rest [3]AskAnswer
	for i := range rest {
		if err := o.Rest.Lookup(uint32(i), &rest[i]); err != nil {
			t.Fatal(err)
		}
	}
	if r := rest[0]; r.Count != 2 || r.Timed != 2 || r.Bytes != 3 || r.Ns != 1<<40+9 {
		t.Errorf("the rest is %+v", r)
	}
	if d := cmp.Diff([]AskAnswer{{}, {}}, rest[1:]); d != "" {
		t.Errorf("the other side, or what new answers begin as: %s", d)
	}
	if err := o.Side.Set(uint32(1)); err != nil {
		t.Fatal(err)
	}
	call(t, o.TestConsider, o.TestConsiderArgs, &AskAskArgs{Entry: 1})
	if err := o.AnswersB.Lookup(key(1, 0), &a); err != nil || a.Count != 1 || a.Timed != 1 || a.Ns != 0 {
		t.Errorf("the other side has %+v, %v", a, err)
	}
}

// A wait is what the kernel's sum grew by since the task left a CPU, or else since it came on this one.
func TestKernelWaitsOfQuestionsAreGrowth(t *testing.T) {
	o := asking(t, predicate{}, 1)
	for tid, total := range map[uint32]uint64{7: 1000, 8: 5000} {
		if err := o.Left.Put(tid, total); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		args AskWaitOfArgs
		want uint64
	}{
		"since it left":          {AskWaitOfArgs{Tid: 7, Total: 1600, Runs: 9, On: AskOnCpu{Pid: 7, RunDelayNs: 1500}}, 600},
		"on this CPU":            {AskWaitOfArgs{Tid: 9, Total: 1600, Runs: 9, On: AskOnCpu{Pid: 9, RunDelayNs: 1500}}, 100},
		"nobody knows":           {AskWaitOfArgs{Tid: 9, Total: 1600, Runs: 9, On: AskOnCpu{Pid: 3, RunDelayNs: 1500}}, 0},
		"of one of another time": {AskWaitOfArgs{Tid: 8, Total: 1600, Runs: 9, On: AskOnCpu{Pid: 8, RunDelayNs: 1500}}, 100},
		"the first since birth":  {AskWaitOfArgs{Tid: 8, Total: 70, Runs: 1, On: AskOnCpu{Pid: 8, RunDelayNs: 50}}, 70},
	} {
		call(t, o.TestWaited, o.TestWaitedArgs, &c.args)
		if c.args.Ns != c.want {
			t.Errorf("%s: %d, want %d", name, c.args.Ns, c.want)
		}
	}
}
