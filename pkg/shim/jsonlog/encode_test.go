package jsonlog

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var testTime = time.Date(2024, 5, 6, 7, 8, 9, 123456000, time.UTC)

func TestEncodeWritesDockersForm(t *testing.T) {
	out, used, n := Encode(nil, []byte("hello <b>\n\"two\"\npart"), "stdout", testTime, false)
	want := `{"log":"hello \u003cb\u003e\n","stream":"stdout","time":"2024-05-06T07:08:09.123456Z"}` + "\n" +
		`{"log":"\"two\"\n","stream":"stdout","time":"2024-05-06T07:08:09.123456Z"}` + "\n"
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Error(diff)
	}
	if used != len("hello <b>\n\"two\"\n") || n != 2 {
		t.Errorf("used %d bytes for %d records", used, n)
	}
	out, used, _ = Encode(nil, []byte("part"), "stderr", testTime, true)
	if want := `{"log":"part","stream":"stderr","time":"2024-05-06T07:08:09.123456Z"}` + "\n"; string(out) != want || used != 4 {
		t.Errorf("final part: got %q, used %d", out, used)
	}
}

func TestEncodeCutsLongLinesBetweenRunes(t *testing.T) {
	line := strings.Repeat("x", MaxLine-1) + strings.Repeat("€", MaxLine) + "\n" // the first cut would fall into a rune
	logs := texts(t, []byte(line))
	if got := strings.Join(logs, ""); got != line {
		t.Error("the pieces do not make up the line")
	}
	for i, piece := range logs {
		if !utf8.ValidString(piece) || len(piece) > MaxLine {
			t.Errorf("piece %d: %d bytes, valid %v", i, len(piece), utf8.ValidString(piece))
		}
		if end := strings.HasSuffix(piece, "\n"); end != (i == len(logs)-1) {
			t.Errorf("piece %d ends with newline: %v", i, end)
		}
	}
	// Bytes that are no UTF-8 are cut where they are: they must not hold the log up.
	if _, used, n := Encode(nil, bytes.Repeat([]byte{0xbf}, MaxLine), "stdout", testTime, false); used != MaxLine || n != 1 {
		t.Errorf("continuation bytes: used %d in %d records", used, n)
	}
}

// texts encodes all of data and decodes it by encoding/json.
func texts(t *testing.T, data []byte) []string {
	t.Helper()
	out, used, n := Encode(nil, data, "stdout", testTime, true)
	if used != len(data) {
		t.Fatalf("used %d of %d bytes", used, len(data))
	}
	var logs []string
	for line := range bytes.Lines(out) {
		var rec struct{ Log string }
		if err := json.Unmarshal(line, &rec); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		logs = append(logs, rec.Log)
	}
	if len(logs) != n {
		t.Fatalf("%d records, %d announced", len(logs), n)
	}
	return logs
}

// FuzzEncode holds the hand-written escape against encoding/json, and the decoder against both.
func FuzzEncode(f *testing.F) {
	for _, s := range []string{"", "a\n", "\x00\b\f\t\r\n\"\\<>&\x7f", "\xff\xfe\n\xe2\x82", "€\u2028\u2029\ufffd", "a\nb", "\xed\xa0\x80"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		want, err := json.Marshal(string(data))
		if err != nil {
			t.Fatal(err)
		}
		if got := `"` + string(appendEscaped(nil, data)) + `"`; got != string(want) {
			t.Fatalf("escape of %q:\n got %s\nwant %s", data, got, want)
		}
		out, used, _ := Encode(nil, data, "stderr", testTime, true)
		if used != len(data) {
			t.Fatalf("used %d of %d", used, len(data))
		}
		var text []byte
		var d decoder
		for line := range bytes.Lines(out) {
			rec, err := d.decode(bytes.TrimSuffix(line, []byte("\n")))
			if err != nil || rec.Stream != "stderr" || !rec.Time.Equal(testTime) {
				t.Fatalf("decode %q: %+v, %v", line, rec, err)
			}
			text = append(text, rec.Line...)
		}
		if want := strings.ToValidUTF8(string(data), "\ufffd"); len(want) > 0 && !utf8.Valid(data) {
			return // one \ufffd per byte, where ToValidUTF8 joins runs: the check above covered it
		} else if string(text) != want {
			t.Fatalf("round trip: got %q, want %q", text, want)
		}
	})
}

// FuzzDecode holds the fast decoder against encoding/json: where it answers at all, it answers the same.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"log":"a\n","stream":"stdout","time":"2024-05-06T07:08:09.123456Z"}`,
		`{"log":"a\u00e9\/","stream":"stderr","time":"2024-05-06T07:08:09Z"}`,
		`{"log":"a","stream":"stdout","attrs":{"x":"y"},"time":"2024-05-06T07:08:09Z"}`,
		`{"log":"a`, `{}`, `null`, `{"log":"a","stream":"stdout","time":"x"}`,
		`{"log":"a","stream":"stdout","time":"2024-05-06T07:08:09Z"}"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var d decoder
		rec, ok := d.fast(raw)
		if !ok {
			_, _ = d.decode(raw) // must not panic
			return
		}
		var v struct {
			Log, Stream string
			Time        time.Time
		}
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatalf("fast accepts what is no JSON: %q: %v", raw, err)
		}
		if v.Log != string(rec.Line) || v.Stream != rec.Stream || !v.Time.Equal(rec.Time) {
			t.Fatalf("fast %+v, encoding/json %+v", rec, v)
		}
	})
}
