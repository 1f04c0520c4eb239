package main

import (
	"strings"
	"testing"
)

func TestTraceSaysWhatWasLostAndWhyItEnded(t *testing.T) {
	in := `{"pid":7,"tid":8,"comm":"a\u001b","at":"2026-01-02T03:04:05Z","name":"close","text":"close(-1)","result":-9,"error":"EBADF","duration":1230}
{"lost":12}
{"ended":"the container's run ended"}
`
	var out, notes strings.Builder
	if err := printTrace(strings.NewReader(in), false, &out, &notes); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), "a.[8] ") || !strings.HasSuffix(out.String(), "  close(-1) = -1 EBADF <1.23µs>\n") {
		t.Errorf("shown is %q", out.String())
	}
	if notes.String() != "12 calls lost\nthe container's run ended\n" {
		t.Errorf("notes are %q", notes.String())
	}
	out.Reset()
	if err := printTrace(strings.NewReader(in), true, &out, &notes); err != nil || out.String() != in {
		t.Errorf("raw is %q, %v", out.String(), err)
	}
	if err := printTrace(strings.NewReader(`{"lost":`), false, &out, &notes); err == nil {
		t.Error("a line that ends early is no error")
	}
}
