package probes

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/containerd/errdefs"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/question"
	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
)

// askObject has the programs of a metric. Names of maps and variables that several have are those of AskSyscalls.
type askObject struct {
	load     func() (*ebpf.CollectionSpec, error)
	programs []program
}

var askObjects = map[question.Metric]askObject{
	question.Syscall: {bpf.LoadAskSyscalls, []program{ // the return first: what is in a call has no latency
		{names: []string{bpf.AskSyscallsProgAskExit}, always: true}, {names: []string{bpf.AskSyscallsProgAskExec}, always: true},
		{names: []string{bpf.AskSyscallsProgAskEnter}, always: true},
	}},
	question.Block:    {bpf.LoadAskBlock, []program{{names: []string{bpf.AskBlockProgAskRequest}, always: true}}},
	question.RunQueue: {bpf.LoadAskRunQueue, []program{{names: []string{bpf.AskRunQueueProgAskSwitch}, always: true}}},
	question.TCP: {bpf.LoadAskTCP, []program{
		{names: []string{bpf.AskTCPProgAskStates}, always: true}, {names: []string{bpf.AskTCPProgAskRetransmits}, always: true},
	}},
}

// loadAsked loads and attaches the programs of one question; it is about no container yet.
func (p *Probes) loadAsked(q *question.Question, who Asking) (_ *asked, err error) {
	a := &asked{
		loaded: newLoaded(), q: q, who: who, subjects: map[uint32]*subject{}, byKey: map[triton.ContainerKey]uint32{}, devices: map[uint64]string{},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.loaded.close())
		}
	}()
	object := askObjects[q.Metric]
	spec, err := object.load()
	if err != nil {
		return nil, err
	}
	first := p.kernel.maps[bpf.MeasureMapExits]
	spec.Maps[bpf.AskSyscallsMapExits].MaxEntries = first.MaxEntries()
	if a.maps[bpf.AskSyscallsMapExits], err = first.Clone(); err != nil {
		return nil, fmt.Errorf("share map of first processes: %w", err)
	}
	spec.Maps[bpf.AskSyscallsMapAsked].MaxEntries = uint32(p.cfg.MaxContainers)
	sizeAnswers(spec, q)
	if err := setQuestion(spec, q); err != nil {
		return nil, err
	}
	if err := a.loadAll(spec, object.programs); err != nil {
		return nil, fmt.Errorf("load: %w: %w", errdefs.ErrUnavailable, err)
	}
	return a, nil
}

// sizeAnswers cuts what is counted to what the question needs.
func sizeAnswers(spec *ebpf.CollectionSpec, q *question.Question) {
	value, rows := uint32(answerHead), uint32(rowsMax)
	if q.Has(question.Latency) {
		value, rows = uint32(answerFull), rowsWithLatency
	}
	cut := func(m *ebpf.MapSpec) {
		m.KeySize, m.ValueSize, m.MaxEntries = uint32(keySize(q)), value, rows
		m.Key, m.Value = nil, nil // types of other sizes
	}
	cut(spec.Maps[bpf.AskSyscallsMapAnswersA])
	cut(spec.Maps[bpf.AskSyscallsMapAnswersB])
	cut(spec.Maps[bpf.AskSyscallsMapAnswers].InnerMap)
	spec.Maps[bpf.AskSyscallsMapRest].ValueSize = value
	spec.Maps[bpf.AskSyscallsMapRest].Value = nil
}

// setQuestion sets the predicate and the decomposition in the programs' constants.
func setQuestion(spec *ebpf.CollectionSpec, q *question.Question) error {
	var leaves [question.LeavesMax]bpf.AskSyscallsLeaf
	for i, l := range q.Leaves {
		leaves[i] = leafOf(l)
	}
	var clauses [question.ClausesMax]bpf.AskSyscallsClause
	for i, c := range q.Clauses {
		clauses[i] = bpf.AskSyscallsClause{Must: c.Must, Not: c.Not}
	}
	var apart uint64
	for _, d := range q.By {
		if w := wordsOf[d.Field]; d.Field != question.Latency {
			apart |= (1<<w.n - 1) << w.at
		}
	}
	values := map[string]any{
		bpf.AskSyscallsVarLeaves: leaves, bpf.AskSyscallsVarLeafCount: uint32(len(q.Leaves)), bpf.AskSyscallsVarClauses: clauses,
		bpf.AskSyscallsVarClauseCount: uint32(len(q.Clauses)), bpf.AskSyscallsVarToldApart: apart, bpf.AskSyscallsVarWithLatency: q.Has(question.Latency),
	}
	if q.Metric == question.Syscall {
		var known [syscallNumbers]uint32
		var paths [syscallNumbers]uint8
		for nr := range known {
			for i, l := range q.Leaves {
				if l.Field == question.Call && slices.Contains(l.Calls, nr) {
					known[nr] |= 1 << i
				}
			}
			if q.Uses(question.Path) {
				paths[nr] = telemetry.PathArgument(nr)
			}
		}
		values[bpf.AskSyscallsVarWantedCalls] = [syscallNumbers / 64]uint64(q.Calls(syscallNumbers))
		values[bpf.AskSyscallsVarCallLeaves], values[bpf.AskSyscallsVarPathArgs] = known, paths
	}
	for name, v := range values {
		if err := spec.Variables[name].Set(v); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// noWord is the word of leaves that are known before an event is put together.
const noWord = 32

// leafOf puts a comparison into the form of bpf/predicate.h.
func leafOf(l question.Leaf) (out bpf.AskSyscallsLeaf) {
	out.Word = uint32(wordsOf[l.Field].at)
	switch l.Field {
	case question.Container, question.Image, question.Label, question.Call:
		out.Word = noWord
	case question.Comm, question.Path:
		mask := slices.Repeat([]byte{0xff}, len(l.Text))
		if !l.Prefix {
			mask = append(mask, 0xff) // its end
		}
		put(&out, []byte(l.Text), mask)
	case question.Remote:
		address := l.Net.Addr().As16()
		bits := l.Net.Bits()
		if l.Net.Addr().Is4() {
			bits += 96
		}
		var ones [16]byte
		for i := range bits {
			ones[i/8] |= 0x80 >> (i % 8)
		}
		put(&out, address[:], ones[:])
	default:
		out.First[0], out.Last[0] = l.Low, l.High
	}
	return out
}

// put makes a leaf a comparison of text under mask; what is beyond them is not compared.
func put(l *bpf.AskSyscallsLeaf, text, mask []byte) {
	var t, m [8 * len(l.First)]byte
	copy(t[:], text)
	copy(m[:], mask)
	l.Words = uint32(max(1, (len(mask)+7)/8))
	for i := range l.First {
		l.First[i], l.Last[i] = binary.NativeEndian.Uint64(t[8*i:]), binary.NativeEndian.Uint64(m[8*i:])
	}
}
