package probes

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/miekg/dns"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

// namesKept bounds a container's names; some 400 bytes each.
const namesKept = 64

// nameID is a question without whose it is.
type nameID struct {
	name string // as on the wire, without the padding
	kind uint16
}

type nameEntry struct {
	counts bpf.NamesNameCounts
	last   time.Time
}

// nameTable has the names that one container asks for: when it is full, of those asked for least the one that was not for
// the longest time makes room. So names that are asked for again and again stay, however many others there are.
type nameTable struct {
	names map[nameID]*nameEntry
}

// idOf takes a key of the programs apart. The name is no longer than its labels say, or than there is room.
func idOf(q bpf.NamesQuestion) nameID {
	wire := make([]byte, 0, 8*len(q.Name))
	for _, w := range q.Name {
		wire = binary.LittleEndian.AppendUint64(wire, w)
	}
	end := 0
	for end < len(wire) && wire[end] != 0 {
		end += int(wire[end]) + 1
	}
	return nameID{name: string(wire[:min(end+1, len(wire))]), kind: uint16(q.Type)}
}

func (t *nameTable) add(q bpf.NamesQuestion, c bpf.NamesNameCounts, now time.Time) {
	id := idOf(q)
	e := t.names[id]
	if e == nil {
		if len(t.names) >= namesKept {
			t.evict()
		}
		e = &nameEntry{}
		t.names[id] = e
	}
	e.last = now
	e.counts.Asked += c.Asked
	e.counts.Answered += c.Answered
	e.counts.Missing += c.Missing
	e.counts.Failed += c.Failed
	e.counts.Unanswered += c.Unanswered
	e.counts.SumNs += c.SumNs
}

// unanswered counts a question that was given up, if its name is still known.
func (t *nameTable) unanswered(q bpf.NamesQuestion) {
	if e := t.names[idOf(q)]; e != nil {
		e.counts.Unanswered++
	}
}

func (t *nameTable) evict() {
	var least nameID
	var found *nameEntry
	for id, e := range t.names {
		if found == nil || cmp.Or(cmp.Compare(e.counts.Asked, found.counts.Asked), e.last.Compare(found.last)) < 0 {
			least, found = id, e
		}
	}
	delete(t.names, least)
}

// list is the table, most asked first; asked are all questions of the container.
func (t *nameTable) list(asked uint64) triton.AskedNames {
	out := triton.AskedNames{Names: make([]triton.AskedName, 0, len(t.names)), Other: asked}
	for id, e := range t.names {
		out.Names = append(out.Names, triton.AskedName{
			Name: id.text(), Type: typeName(id.kind), Asked: e.counts.Asked, Answered: e.counts.Answered, Missing: e.counts.Missing,
			Failed: e.counts.Failed, Unanswered: e.counts.Unanswered, Wait: time.Duration(e.counts.SumNs), Last: e.last,
		})
		out.Other -= min(out.Other, e.counts.Asked)
	}
	slices.SortFunc(out.Names, func(a, b triton.AskedName) int {
		return cmp.Or(cmp.Compare(b.Asked, a.Asked), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Type, b.Type))
	})
	return out
}

// text is the name as people write it, with escapes for what is not printable; of bytes that are no name, they in hex.
func (id nameID) text() string {
	name, _, err := dns.UnpackDomainName([]byte(id.name), 0)
	if err != nil {
		return fmt.Sprintf("%x", id.name)
	}
	return name
}

// typeName is the name of a type of records; TYPE65280 of one without (RFC 3597, 5).
func typeName(kind uint16) string {
	if name := dns.TypeToString[kind]; name != "" {
		return name
	}
	return "TYPE" + strconv.Itoa(int(kind))
}
