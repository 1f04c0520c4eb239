package probes

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/question"
	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
)

// answer takes what was counted since the last one.
func (a *asked) answer(p *Probes) (question.Answer, error) {
	if err := a.look(p); err != nil {
		return question.Answer{}, err
	}
	from := a.read
	a.read = time.Now()
	out := question.Answer{At: a.read, Seconds: a.read.Sub(from).Seconds(), Rows: []question.Row{}}
	entries, rest, err := a.drain()
	if err != nil {
		return out, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	out.Containers = len(a.byKey)
	rows := map[string]int{}
	for _, e := range entries {
		counted, err := decodeCounted(e.value)
		if err != nil {
			return out, err
		}
		key, id, err := a.decodeKey(e.key)
		if err != nil {
			return out, err
		}
		if i, ok := rows[id]; ok { // containers that are told apart by what they share
			out.Rows[i].Add(counted)
			continue
		}
		rows[id] = len(out.Rows)
		out.Rows = append(out.Rows, question.Row{Key: key, Counted: counted})
	}
	slices.SortStableFunc(out.Rows, func(x, y question.Row) int { return cmp.Compare(y.Count, x.Count) })
	counted, err := decodeCounted(rest)
	if err != nil {
		return out, err
	}
	if counted.Count > 0 {
		out.Rest = &counted
	}
	lost := a.lostNow()
	out.Lost, a.lost = lost-a.lost, lost
	if price := a.price.Load(); price != nil {
		out.Price = *price
	}
	return out, nil
}

// lostNow is what was lost since the question began: events to which the kernel gave no memory, and runs of programs that
// it skipped because one was running on that CPU.
func (a *asked) lostNow() uint64 {
	var n uint64
	if err := a.variables[bpf.AskSyscallsVarLostRoom].Get(&n); err != nil {
		return 0 // impossible: a variable of a loaded program can be read
	}
	for _, prog := range a.resident {
		if st, err := prog.Stats(); err == nil {
			n += st.RecursionMisses
		}
	}
	return n
}

// drain changes sides and empties the one that was counted on.
func (a *asked) drain() (entries []entry[[]byte, []byte], rest []byte, err error) {
	old := a.side
	if err := a.variables[bpf.AskSyscallsVarSide].Set(1 - old); err != nil {
		return nil, nil, fmt.Errorf("change sides: %w", err)
	}
	a.side = 1 - old
	if err := waitForPrograms(); err != nil {
		return nil, nil, err
	}
	m := a.maps[[]string{bpf.AskSyscallsMapAnswersA, bpf.AskSyscallsMapAnswersB}[old]]
	var e entry[[]byte, []byte]
	all := m.Iterate()
	for all.Next(&e.key, &e.value) {
		entries = append(entries, e)
		e = entry[[]byte, []byte]{} // the next ones would be put into the same memory
	}
	if err := all.Err(); err != nil {
		return nil, nil, fmt.Errorf("read answers: %w", err)
	}
	for _, e := range entries {
		if err := m.Delete(e.key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, nil, fmt.Errorf("forget an answer: %w", err)
		}
	}
	m = a.maps[bpf.AskSyscallsMapRest]
	if err := m.Lookup(old, &rest); err != nil {
		return nil, nil, fmt.Errorf("read the rest: %w", err)
	}
	if err := m.Put(old, make([]byte, len(rest))); err != nil {
		return nil, nil, fmt.Errorf("forget the rest: %w", err)
	}
	return entries, rest, nil
}

// Layout of struct answer of bpf/ask.h; the histogram is there if it was asked for.
const (
	answerHead = 4 * 8
	answerFull = answerHead + 8*len(bpf.AskSyscallsAnswer{}.Latency)
)

func decodeCounted(b []byte) (question.Counted, error) {
	if len(b) != answerHead && len(b) != answerFull {
		return question.Counted{}, fmt.Errorf("answer of %d bytes", len(b))
	}
	e := binary.NativeEndian
	c := question.Counted{Count: e.Uint64(b), Timed: e.Uint64(b[8:]), Ns: e.Uint64(b[16:]), Bytes: e.Uint64(b[24:])}
	if len(b) == answerFull {
		h := triton.Histogram{Schema: 2, First: firstSchema2, SumNs: c.Ns, Counts: make([]uint64, len(bpf.AskSyscallsAnswer{}.Latency))}
		for i := range h.Counts {
			h.Counts[i] = e.Uint64(b[answerHead+8*i:])
		}
		h = h.Trim()
		c.Latency = &h
	}
	return c, nil
}

// The words of a key: enum word of bpf/predicate.h.
const (
	wordSubject = 0
	wordCall    = 1
	wordErrno   = 2
	wordDevice  = 3
	wordOp      = 4
	wordPort    = 5
	wordComm    = 6
	wordRemote  = 8
	wordPath    = 10
	keyWords    = len(bpf.AskSyscallsEvent{}.Key)
	wordLatency = keyWords
	wordBytes   = keyWords + 1
)

// wordsOf are where a field is in an event, and how many words it has.
var wordsOf = map[question.Field]struct{ at, n int }{
	question.Container: {wordSubject, 1}, question.Image: {wordSubject, 1}, question.Label: {wordSubject, 1},
	question.Call: {wordCall, 1}, question.Errno: {wordErrno, 1}, question.Device: {wordDevice, 1}, question.Op: {wordOp, 1},
	question.Event: {wordOp, 1}, question.Port: {wordPort, 1}, question.Comm: {wordComm, 2}, question.Remote: {wordRemote, 2},
	question.Path: {wordPath, keyWords - wordPath}, question.Latency: {wordLatency, 1}, question.Bytes: {wordBytes, 1},
}

// keySize is how many bytes of a key a question needs.
func keySize(q *question.Question) int {
	end := 1
	for _, d := range q.By {
		if w := wordsOf[d.Field]; d.Field != question.Latency {
			end = max(end, w.at+w.n)
		}
	}
	return 8 * end
}

// decodeKey gives the values of a key, and all of them in one text. The caller holds mu.
func (a *asked) decodeKey(b []byte) (values map[string]string, id string, err error) {
	if len(b) != keySize(a.q) {
		return nil, "", fmt.Errorf("key of %d bytes", len(b))
	}
	values = make(map[string]string, len(a.q.By))
	var all strings.Builder
	for _, d := range a.q.By {
		if d.Field == question.Latency {
			continue
		}
		v := a.decodeField(d, b[8*wordsOf[d.Field].at:])
		values[d.String()] = v
		all.WriteString(strconv.Quote(v))
	}
	return values, all.String(), nil
}

// decodeField reads one field of a key that begins there.
func (a *asked) decodeField(d question.Dimension, b []byte) string {
	n := binary.NativeEndian.Uint64(b)
	switch d.Field {
	case question.Call:
		return telemetry.SyscallName(int(n % uint64(syscallNumbers)))
	case question.Errno:
		return errnoName(n)
	case question.Device:
		return a.deviceName(n)
	case question.Op:
		return nameOf(question.Operations, n)
	case question.Event:
		return nameOf(question.TCPEvents, n)
	case question.Comm, question.Path:
		size := 8 * wordsOf[d.Field].n
		text, _, whole := bytes.Cut(b[:size], []byte{0})
		if len(text) >= size-1 && d.Field == question.Path || !whole {
			return strings.ToValidUTF8(string(text), "\uFFFD") + "…"
		}
		return strings.ToValidUTF8(string(text), "\uFFFD")
	case question.Remote:
		address := netip.AddrFrom16([16]byte(b[:16])).Unmap()
		if a.who.Remote != nil {
			if name := a.who.Remote(address); name != "" {
				return name
			}
		}
		return address.String()
	case question.Port:
		return strconv.FormatUint(n, 10)
	}
	s := a.subjects[uint32(n)]
	if s == nil {
		return "" // impossible: one that is counted is kept for an answer longer
	}
	v, _ := d.Of(s.Subject)
	return v
}

func errnoName(n uint64) string {
	if name := unix.ErrnoName(unix.Errno(n)); name != "" && n > 0 {
		return name
	}
	return strconv.FormatUint(n, 10)
}

func nameOf(all map[string]uint64, n uint64) string {
	for name, v := range all {
		if v == n {
			return name
		}
	}
	return strconv.FormatUint(n, 10)
}
