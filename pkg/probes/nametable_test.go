package probes

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/tritond/triton/bpf"
)

func questionOf(t testing.TB, name string, kind uint16) bpf.NamesQuestion {
	t.Helper()
	var wire [256]byte
	if _, err := dns.PackDomainName(name, wire[:], 0, nil, false); err != nil {
		t.Fatal(err)
	}
	q := bpf.NamesQuestion{Type: uint32(kind)}
	for i := range q.Name {
		q.Name[i] = binary.LittleEndian.Uint64(wire[8*i:])
	}
	return q
}

// Names that are asked for again stay, however many others come by; of those asked for once, the last ones do.
func TestNameTableKeepsTheMostAskedAndTheLast(t *testing.T) {
	table := nameTable{names: map[nameID]*nameEntry{}}
	at := time.Unix(1000, 0)
	add := func(name string, n uint64) {
		at = at.Add(time.Second)
		table.add(questionOf(t, name, dns.TypeA), bpf.NamesNameCounts{Asked: n, Answered: n, SumNs: n * 1000}, at)
	}
	var asked uint64
	for i := range 1000 {
		add("often.example.", 2)
		add(fmt.Sprintf("once-%d.example.", i), 1)
		asked += 3
	}
	list := table.list(asked)
	if len(list.Names) != namesKept || list.Names[0].Name != "often.example." || list.Names[0].Asked != 2000 || list.Names[0].Wait != 2*time.Millisecond {
		t.Fatalf("%d names, first %+v", len(list.Names), list.Names[0])
	}
	for _, n := range list.Names[1:] {
		var i int
		if _, err := fmt.Sscanf(n.Name, "once-%d.example.", &i); err != nil || i < 1000-namesKept+1 {
			t.Errorf("%s is kept though later ones were asked for: %v", n.Name, err)
		}
	}
	if want := asked - 2000 - (namesKept - 1); list.Other != want {
		t.Errorf("%d other questions, want %d", list.Other, want)
	}
}

// FuzzNameOfKey: whatever is in a key, its name is text without a control character.
func FuzzNameOfKey(f *testing.F) {
	f.Add([]byte("\x03www\x07example\x03org\x00"), uint16(1))
	f.Add([]byte("\xff"), uint16(65280))
	f.Fuzz(func(t *testing.T, wire []byte, kind uint16) {
		var padded [256]byte
		copy(padded[:], wire)
		q := bpf.NamesQuestion{Type: uint32(kind)}
		for i := range q.Name {
			q.Name[i] = binary.LittleEndian.Uint64(padded[8*i:])
		}
		id := idOf(q)
		for _, c := range id.text() + typeName(id.kind) {
			if c < ' ' || c > '~' {
				t.Fatalf("%q has %q", id.text(), c)
			}
		}
	})
}
