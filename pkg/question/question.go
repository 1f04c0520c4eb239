package question

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
)

// Metric is what is counted.
type Metric string

// The metrics: system calls, by their returns; requests of block devices, by their completions; waits for a CPU, by their ends;
// and what happens to TCP connections.
const (
	Syscall  Metric = "syscall"
	Block    Metric = "block"
	RunQueue Metric = "runqueue"
	TCP      Metric = "tcp"
)

// Metrics are all of them.
var Metrics = []Metric{Syscall, Block, RunQueue, TCP}

// Field is what a predicate compares and a decomposition tells apart.
type Field string

// The fields. Container, Image and Label are of every metric; Latency is how long it took, and as a decomposition a histogram.
const (
	Container Field = "container" // name, or id of 12 or more digits
	Image     Field = "image"
	Label     Field = "label"
	Comm      Field = "comm"    // of the thread
	Call      Field = "syscall" // name
	Errno     Field = "errno"   // 0: none
	Path      Field = "path"    // the first argument that is one; empty: none is
	Device    Field = "device"
	Op        Field = "op"
	Bytes     Field = "bytes"
	Remote    Field = "remote" // address
	Port      Field = "port"   // of the service: the remote one of what was opened, its own of what was accepted
	Event     Field = "event"
	Latency   Field = "latency"
)

// fieldsOf lists what a metric's events have beside what every container has, in the order of their documents.
var fieldsOf = map[Metric][]Field{
	Syscall:  {Call, Errno, Comm, Path, Latency},
	Block:    {Device, Op, Bytes, Latency},
	RunQueue: {Comm, Latency},
	TCP:      {Event, Remote, Port, Errno, Bytes, Latency},
}

// containerFields are those that a container has, whatever it does.
var containerFields = []Field{Container, Image, Label}

// FieldsOf lists what a metric's predicates compare.
func FieldsOf(m Metric) []Field { return slices.Concat(containerFields, fieldsOf[m]) }

// ApartBy lists what its decompositions tell apart.
func ApartBy(m Metric) []Field {
	return slices.DeleteFunc(FieldsOf(m), func(f Field) bool { return f == Bytes })
}

// Operations and TCPEvents name numbers of the fields Op and Event: enum req_op of include/linux/blk_types.h, and enum tcp_event
// of bpf/asktcp.bpf.c.
var (
	Operations = map[string]uint64{"read": 0, "write": 1, "discard": 3, "write-zeroes": 9}
	TCPEvents  = map[string]uint64{"connect": 1, "accept": 2, "fail": 3, "close": 4, "retransmit": 5}
)

// LatencyMax is the largest latency that is one: beyond are bpf/calls.h's marks of events without.
const LatencyMax = math.MaxUint64 - 2

// Bounds of a question. What is beyond them is refused.
const (
	LeavesMax  = 16 // different comparisons
	ClausesMax = 16 // alternatives, once && is within ||
	textMax    = 1024
	depthMax   = 32
	byMax      = 4
	// CommMax and PathMax bound what is compared: TASK_COMM_LEN less its end, and eight words of bpf/ask.h less the end.
	CommMax = 15
	PathMax = 63
)

// Leaf is one comparison, without its negation.
type Leaf struct {
	Field Field
	Name  string // of a label
	// Text is a pattern of path.Match for a container's fields; of Comm and Path it is all of the text, or its beginning if Prefix.
	Text   string
	Prefix bool
	// Low and High are both within: Errno, Latency (ns), Device, Op, Bytes, Port, Event.
	Low, High uint64
	Calls     []int        // Call: numbers, ascending
	Net       netip.Prefix // Remote, IPv4 as such
}

func (l Leaf) equal(o Leaf) bool {
	return l.Field == o.Field && l.Name == o.Name && l.Text == o.Text && l.Prefix == o.Prefix && l.Low == o.Low && l.High == o.High &&
		l.Net == o.Net && slices.Equal(l.Calls, o.Calls)
}

// Clause holds when all leaves of Must hold and none of Not; bit i is Leaves[i].
type Clause struct{ Must, Not uint32 }

// Dimension is one of a decomposition.
type Dimension struct {
	Field Field
	Name  string // of a label
}

// String is the dimension as it is asked for, and the key of its values in an answer.
func (d Dimension) String() string {
	if d.Field == Label {
		return "label:" + d.Name
	}
	return string(d.Field)
}

// Question is one that was understood.
type Question struct {
	Metric Metric
	Leaves []Leaf
	// Clauses are alternatives; none: everything is counted.
	Clauses []Clause
	By      []Dimension // each once
}

// Has reports whether the decomposition has a field.
func (q *Question) Has(f Field) bool {
	return slices.ContainsFunc(q.By, func(d Dimension) bool { return d.Field == f })
}

// Uses reports whether an answer needs a field.
func (q *Question) Uses(f Field) bool {
	return q.Has(f) || slices.ContainsFunc(q.Leaves, func(l Leaf) bool { return l.Field == f })
}

// Subject is a container as predicates see it.
type Subject struct {
	ID, Name, Image string
	Labels          map[string]string
}

// value is what a dimension tells of it.
func (s Subject) value(d Dimension) (string, bool) {
	switch d.Field {
	case Container:
		return s.Name, true
	case Image:
		return s.Image, true
	case Label:
		return s.Labels[d.Name], true
	}
	return "", false
}

// Of returns the subject's value of a dimension; false: it is none of a container's.
func (d Dimension) Of(s Subject) (string, bool) { return s.value(d) }

// Admits tells which leaves hold for a container, whatever it does, and whether any of it can count.
func (q *Question) Admits(s Subject) (facts uint32, ok bool) {
	var known uint32
	for i, l := range q.Leaves {
		if !slices.Contains(containerFields, l.Field) {
			continue
		}
		known |= 1 << i
		if l.holds(s) {
			facts |= 1 << i
		}
	}
	if len(q.Clauses) == 0 {
		return facts, true
	}
	return facts, slices.ContainsFunc(q.Clauses, func(c Clause) bool { return c.Must&known&^facts == 0 && c.Not&facts == 0 })
}

func (l Leaf) holds(s Subject) bool {
	if l.Field == Container && len(l.Text) >= 12 && strings.HasPrefix(s.ID, l.Text) {
		return true
	}
	v, _ := s.value(Dimension{l.Field, l.Name})
	if _, there := s.Labels[l.Name]; l.Field == Label && !there {
		return false
	}
	return glob(l.Text, v)
}

// Calls tells which system calls can count: the bit of each number below n.
func (q *Question) Calls(n int) []uint64 {
	bits := make([]uint64, (n+63)/64)
	for nr := range n {
		var known, facts uint32
		for i, l := range q.Leaves {
			if l.Field != Call {
				continue
			}
			known |= 1 << i
			if slices.Contains(l.Calls, nr) {
				facts |= 1 << i
			}
		}
		if len(q.Clauses) == 0 || slices.ContainsFunc(q.Clauses, func(c Clause) bool { return c.Must&known&^facts == 0 && c.Not&facts == 0 }) {
			bits[nr/64] |= 1 << (nr % 64)
		}
	}
	return bits
}

// glob is path.Match where * passes over / too, and nothing else is special: names of images have slashes.
func glob(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(s, part)
		if at < 0 {
			return false
		}
		s = s[at+len(part):]
	}
	return strings.HasSuffix(s, parts[len(parts)-1])
}

// Error is a mistake in a question.
type Error struct {
	In  string // metric, where or by
	At  int    // bytes before it
	Msg string
}

// Error tells where it is, counting columns from 1.
func (e *Error) Error() string { return fmt.Sprintf("%s, column %d: %s", e.In, e.At+1, e.Msg) }
