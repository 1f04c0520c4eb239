package question

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

// names knows open, openat and close, and the disk sda.
var names = Names{
	Syscalls: func(p string) ([]int, error) {
		if n := map[string][]int{"open*": {2, 257}, "close": {3}, "openat": {257}}[p]; n != nil {
			return n, nil
		}
		return nil, errors.New("unknown")
	},
	Device: func(name string) (uint64, error) {
		if name != "sda" {
			return 0, errors.New("unknown")
		}
		return 8 << 20, nil
	},
}

// show writes a question so that a person can check it.
func show(q *Question) string {
	var b strings.Builder
	fmt.Fprintf(&b, "by %v\n", q.By)
	for i, l := range q.Leaves {
		fmt.Fprintf(&b, "%d %s", i, l.Field)
		switch {
		case l.Calls != nil:
			fmt.Fprintf(&b, " %v", l.Calls)
		case l.Net.IsValid():
			fmt.Fprintf(&b, " %s", l.Net)
		case slices.Contains([]Field{Container, Image, Label, Comm, Path}, l.Field):
			fmt.Fprintf(&b, " %s %q prefix=%v", l.Name, l.Text, l.Prefix)
		default:
			fmt.Fprintf(&b, " %d to %d", l.Low, l.High)
		}
		b.WriteByte('\n')
	}
	for i, c := range q.Clauses {
		if i > 0 {
			b.WriteString("or ")
		}
		for leaf := range q.Leaves {
			switch bit := uint32(1) << leaf; {
			case c.Must&bit != 0:
				fmt.Fprintf(&b, "+%d ", leaf)
			case c.Not&bit != 0:
				fmt.Fprintf(&b, "-%d ", leaf)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestScripts reads testdata/questions: a question as METRIC | WHERE | BY, and below it what is understood, or the mistake.
func TestScripts(t *testing.T) {
	b, err := os.ReadFile("testdata/questions")
	if err != nil {
		t.Fatal(err)
	}
	for block := range strings.SplitSeq(strings.TrimSpace(string(b)), "\n\n") {
		head, want, _ := strings.Cut(block, "\n")
		parts := strings.Split(head, " | ")
		if len(parts) != 3 {
			t.Fatalf("%q is no question", head)
		}
		q, err := Parse(Text{strings.TrimSpace(parts[0]), strings.TrimRight(parts[1], " "), strings.TrimSpace(parts[2])}, names)
		var got string
		if err != nil {
			got = err.Error()
		} else {
			got = strings.TrimSpace(show(q))
		}
		if strings.ReplaceAll(got, " \n", "\n") != strings.TrimSpace(want) {
			t.Errorf("%s\nis understood as\n%s\nwant\n%s", head, got, want)
		}
	}
}

// What the page offers is what there is: its tests read the same file.
func TestFieldsAreThoseOfThePage(t *testing.T) {
	b, err := os.ReadFile("testdata/fields.json")
	if err != nil {
		t.Fatal(err)
	}
	type fields struct{ Where, By []Field }
	var want map[Metric]fields
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	got := map[Metric]fields{}
	for _, m := range Metrics {
		got[m] = fields{FieldsOf(m), ApartBy(m)}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestBoundsAreKept(t *testing.T) {
	var many, wide []string
	for i := range LeavesMax + 1 {
		many = append(many, fmt.Sprintf("comm=c%d", i))
	}
	for i := range 5 {
		wide = append(wide, fmt.Sprintf("(errno=%d || comm=c%d)", i, i))
	}
	for where, want := range map[string]string{
		strings.Join(many, " || "):                          "more than 16 different comparisons",
		strings.Join(wide, " && "):                          "more than 16 alternatives",
		strings.Repeat("!", 40) + "comm=x":                  "within each other",
		strings.Repeat("(", 40) + "comm=x":                  "within each other",
		strings.Repeat(" ", textMax) + "comm=x":             "longer than",
		"comm=" + strings.Repeat("x", CommMax+1):            "more than 15 bytes",
		"path=/" + strings.Repeat("x", PathMax):             "more than 63 bytes",
		strings.Join(many[:16], " || ") + " && latency<5ms": "more than 16 different comparisons",
	} {
		_, err := Parse(Text{Metric: "syscall", Where: where}, names)
		if mistake, ok := IsError(err); !ok || !strings.Contains(mistake.Msg, want) {
			t.Errorf("%.60s…: %v, want %s", where, err, want)
		}
	}
	if _, err := Parse(Text{Metric: "syscall", Where: strings.Join(wide[:4], " && ")}, names); err != nil {
		t.Errorf("sixteen alternatives: %v", err)
	}
}

// What a container or a call cannot pass is known before.
func TestWhatCannotCountIsLeftOut(t *testing.T) {
	q, err := Parse(Text{Metric: "syscall", Where: "(container=web* && label:team=core && syscall=open*) || (image=pg && errno=EIO)"}, names)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		s     Subject
		facts uint32
		ok    bool
	}{
		{Subject{Name: "web-1", Labels: map[string]string{"team": "core"}}, 0b00011, true},
		{Subject{Name: "web-1", Labels: map[string]string{"team": "other"}}, 0b00001, false},
		{Subject{Name: "web-1"}, 0b00001, false},
		{Subject{Name: "x", Image: "pg"}, 0b01000, true},
	} {
		if facts, ok := q.Admits(c.s); facts != c.facts || ok != c.ok {
			t.Errorf("%+v: %b, %v", c.s, facts, ok)
		}
	}
	if calls := q.Calls(512); calls[0] != ^uint64(0) {
		t.Errorf("calls are %x: any can fail with EIO", calls)
	}
	q, err = Parse(Text{Metric: "syscall", Where: "syscall=open* && syscall!=openat && errno!=0"}, names)
	if err != nil {
		t.Fatal(err)
	}
	if calls := q.Calls(512); calls[0] != 1<<2 || calls[4] != 0 {
		t.Errorf("calls are %x", calls)
	}
	q, err = Parse(Text{Metric: "syscall", Where: "container=0123456789ab"}, names)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := q.Admits(Subject{ID: "0123456789abcdef", Name: "web"}); !ok {
		t.Error("a container is not found by its id")
	}
}

func TestPatternsOfContainers(t *testing.T) {
	for pattern, want := range map[string]bool{
		"registry/web:1": true, "*": true, "registry/*": true, "*:1": true, "reg*web*1": true, "web": false, "*web": false, "": false, "**web:*": true, "registry/web:1*1": false,
	} {
		if got := glob(pattern, "registry/web:1"); got != want {
			t.Errorf("%q: %v", pattern, got)
		}
	}
}

func TestCountedAddsHistogramsOfOtherSpans(t *testing.T) {
	a := Counted{Count: 1, Latency: &triton.Histogram{Schema: 2, First: 5, Counts: []uint64{1, 2}, SumNs: 7}}
	a.Add(Counted{Count: 2, Bytes: 3})
	a.Add(Counted{Count: 4, Latency: &triton.Histogram{Schema: 2, First: 2, Counts: []uint64{9}, SumNs: 1}})
	a.Add(Counted{Latency: &triton.Histogram{Schema: 2, First: -1}})
	want := Counted{Count: 7, Bytes: 3, Latency: &triton.Histogram{Schema: 2, First: 2, Counts: []uint64{9, 0, 0, 1, 2}, SumNs: 8}}
	if d := cmp.Diff(want, a); d != "" {
		t.Error(d)
	}
}

// FuzzParse: any text is understood within the bounds, or refused at a place in it. What is understood holds for the same
// events when it is evaluated as it is written and by its clauses.
func FuzzParse(f *testing.F) {
	b, err := os.ReadFile("testdata/questions")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if parts := strings.Split(line, " | "); len(parts) == 3 {
			f.Add(parts[0], parts[1], strings.TrimSpace(parts[2]), uint32(0x5a5a))
		}
	}
	f.Fuzz(func(t *testing.T, metric, where, by string, facts uint32) {
		q, err := Parse(Text{metric, where, by}, names)
		if err != nil {
			mistake, ok := IsError(err)
			if text := map[string]string{"where": where, "by": by}[mistake.In]; !ok || mistake.At < 0 || mistake.In != "metric" && mistake.At > max(len(text), len(Container)) {
				t.Errorf("%q by %q: %v", where, by, err)
			}
			return
		}
		if len(q.Leaves) > LeavesMax || len(q.Clauses) > ClausesMax || len(q.By) > byMax || len(q.By) == 0 {
			t.Errorf("%d leaves, %d clauses, %d dimensions", len(q.Leaves), len(q.Clauses), len(q.By))
		}
		written := parser{lexer: lexer{in: where}, names: names, q: &Question{Metric: q.Metric}}
		if written.next() != nil || written.tok.kind == end {
			return
		}
		root, err := written.either()
		if err != nil {
			t.Fatal(err)
		}
		// Latencies may have leaves for their opposites, which then must have the opposite value.
		for i, l := range q.Leaves {
			for j, o := range q.Leaves[:i] {
				if l.Field == Latency && o.Field == Latency && (l.Low == 0 && o.Low == l.High+1 || o.Low == 0 && l.Low == o.High+1) {
					facts = facts&^(1<<i) | (^facts>>j&1)<<i
				}
			}
		}
		byClauses := len(q.Clauses) == 0
		for _, c := range q.Clauses {
			byClauses = byClauses || c.Must&facts == c.Must && c.Not&facts == 0
		}
		if asWritten := evaluate(root, facts); asWritten != byClauses {
			t.Errorf("%q holds as written: %v, by its clauses: %v; facts %b\n%s", where, asWritten, byClauses, facts, show(q))
		}
	})
}

func evaluate(n *node, facts uint32) bool {
	switch n.kind {
	case '!':
		return !evaluate(n.kids[0], facts)
	case '&':
		return !slices.ContainsFunc(n.kids, func(k *node) bool { return !evaluate(k, facts) })
	case '|':
		return slices.ContainsFunc(n.kids, func(k *node) bool { return evaluate(k, facts) })
	}
	return facts>>n.leaf&1 == 1
}
