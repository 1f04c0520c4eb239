package journal

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

// FuzzParse: whatever lies in a file, a line that parses must be one that encode could have written.
func FuzzParse(f *testing.F) {
	for _, e := range []triton.Event{
		{Seq: 1},
		{Seq: 1<<64 - 1, Time: time.Unix(0, -1), Tenant: "a", Attributes: map[string]string{"k": "v\n"}},
	} {
		raw, err := encode(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.TrimSuffix(raw, []byte("\n")))
	}
	f.Add([]byte("00000000 0 0 {}"))
	f.Add([]byte("00000000 "))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := parse(raw)
		if err != nil {
			return
		}
		if l.seq == 0 || len(l.json) > len(raw) {
			t.Fatalf("%q parsed to number %d, %d bytes", raw, l.seq, len(l.json))
		}
		e, err := l.event()
		if err != nil {
			return
		}
		again, err := encode(e)
		if err != nil {
			t.Fatalf("%q decodes to what cannot be encoded: %v", raw, err)
		}
		l2, err := parse(bytes.TrimSuffix(again, []byte("\n")))
		if err != nil {
			t.Fatalf("%q encodes to what cannot be parsed: %v", raw, err)
		}
		if e2, err := l2.event(); err != nil || !cmp.Equal(e, e2) {
			t.Fatalf("%q: %v, %s", raw, err, cmp.Diff(e, e2))
		}
	})
}

// FuzzOpen: any content of a segment can be opened, read and added to, and the added event is read back.
func FuzzOpen(f *testing.F) {
	one, err := encode(triton.Event{Seq: 7, ID: "one"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(nil))
	f.Add(one)
	f.Add(append(bytes.Clone(one), one[:20]...))
	f.Add(append([]byte("x\n\n"), one...))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg := Config{Dir: t.TempDir(), SegmentSize: 1 << 10, Segments: 4}
		path := (&Journal{cfg: cfg}).path(5)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		added, err := j.Append(triton.Event{ID: "added"})
		if err != nil || added.Seq < 5 {
			t.Fatalf("append after damage: number %d, %v", added.Seq, err)
		}
		last := triton.Event{}
		if err := j.Read(t.Context(), "", time.Time{}, time.Time{}, func(e triton.Event) error { last = e; return nil }); err != nil {
			t.Fatal(err)
		}
		if last.ID != "added" || last.Seq != added.Seq {
			t.Fatalf("last event read: %v, want %v", last, added)
		}
	})
}
