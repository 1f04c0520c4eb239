package jsonlog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

// A follower that is slow has read one line when the log is rotated, ended and removed.
func TestASlowFollowerReadsARemovedLogToItsEnd(t *testing.T) {
	for name, compress := range map[string]bool{"plain": false, "compressed": true} {
		for _, moment := range []string{"in the first file", "before the first", "at the end"} {
			t.Run(name+", "+moment, func(t *testing.T) { testRemovedWhileRead(t, compress, moment) })
		}
	}
}

func testRemovedWhileRead(t *testing.T, compress bool, moment string) {
	dir := filepath.Join(t.TempDir(), "container")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "c-json.log")
	w := openWriter(t, Config{Path: path, MaxSize: 200, MaxFile: 9, Compress: compress})
	var want []string
	write := func(n int) {
		for range n {
			line := fmt.Sprintf("line %d\n", len(want))
			put(t, w, line, testTime)
			want = append(want, line)
		}
		if w.packing != nil {
			await(t, w)
		}
	}
	opts := both
	opts.Follow = true
	r := NewLog(path).NewReader(opts)
	remove := func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if err := r.Hold(); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}
	const early, late = 2, 14
	write(early)
	ended := make(chan struct{})
	if moment == "before the first" {
		write(late)
		remove()
		close(ended)
		os.Mkdir(dir, 0o700) // what it watches
	}
	var got []string
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stats, err := r.Read(ctx, ended, func(rec triton.LogRecord) error {
		got = append(got, string(rec.Line))
		switch {
		case moment == "in the first file" && len(got) == 1, moment == "at the end" && len(got) == early:
			write(late)
			close(ended)
			remove()
		}
		return nil
	})
	if err != nil || stats != (ReadStats{}) {
		t.Errorf("got %+v (%v), want no gaps", stats, err)
	}
	if diff := cmp.Diff(strings.Join(want, ""), strings.Join(got, "")); diff != "" {
		t.Error("lines (-want +got):", diff)
	}
}

func TestNothingIsHeldForWhoHasRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c-json.log")
	put(t, openWriter(t, Config{Path: path}), "line\n", testTime)
	r := NewLog(path).NewReader(both)
	if _, err := r.Read(t.Context(), nil, func(triton.LogRecord) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := r.Hold(); err != nil || r.held.files != nil {
		t.Errorf("held %v (%v), want nothing", r.held.files, err)
	}
}
