package jsonlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// put writes text as one read of output.
func put(t *testing.T, w *Writer, text string, at time.Time) {
	t.Helper()
	out, used, n := Encode(nil, []byte(text), "stdout", at, true)
	if err := w.Append(out, n, used, nil); err != nil {
		t.Fatal(err)
	}
}

func openWriter(t *testing.T, cfg Config) *Writer {
	t.Helper()
	w, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

var both = triton.LogOptions{Stdout: true, Stderr: true, Tail: -1}

// read returns the text of the records that opts select.
func read(t *testing.T, path string, opts triton.LogOptions) (text string, stats ReadStats) {
	t.Helper()
	var b strings.Builder
	stats, err := Read(context.Background(), path, opts, nil, func(rec triton.LogRecord) error {
		b.Write(rec.Line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), stats
}

func TestTailCountsLinesAcrossRotatedFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c-json.log")
	w := openWriter(t, Config{Path: path, MaxSize: 200, MaxFile: 9})
	var all []string
	for i := range 14 {
		line := fmt.Sprintf("line %d\n", i)
		put(t, w, line, testTime)
		all = append(all, line)
	}
	if _, err := os.Stat(path + ".3"); err != nil {
		t.Fatal("the test needs several files:", err)
	}
	for _, n := range []int{-1, 0, 1, 3, 4, 5, 9, 14, 100} {
		want := all
		if n >= 0 && n < len(all) {
			want = all[len(all)-n:]
		}
		opts := both
		opts.Tail = n
		got, stats := read(t, path, opts)
		if diff := cmp.Diff(strings.Join(want, ""), got); diff != "" || stats != (ReadStats{}) {
			t.Errorf("tail %d: %s %+v", n, diff, stats)
		}
	}
}

func TestRotationKeepsNoMoreThanItsFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c-json.log")
	w := openWriter(t, Config{Path: path, MaxSize: 100, MaxFile: 3})
	for i := range 50 {
		put(t, w, fmt.Sprintf("line %d\n", i), testTime)
	}
	names, err := filepath.Glob(path + "*")
	if err != nil || len(names) != 3 {
		t.Errorf("files %v, %v; want 3", names, err)
	}
	got, _ := read(t, path, both)
	if !strings.HasSuffix(got, "line 48\nline 49\n") {
		t.Errorf("the newest lines are not there: %q", got)
	}
	one := filepath.Join(dir, "one")
	w = openWriter(t, Config{Path: one, MaxSize: 100, MaxFile: 1})
	for i := range 50 {
		put(t, w, fmt.Sprintf("line %d\n", i), testTime)
	}
	if names, _ := filepath.Glob(one + "*"); len(names) != 1 {
		t.Errorf("files %v, want one", names)
	}
}

func TestReadSelectsByTimeAndStream(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := openWriter(t, Config{Path: path})
	for i := range 10 {
		put(t, w, fmt.Sprintf("%d\n", i), testTime.Add(time.Duration(i)*time.Second))
	}
	opts := both
	opts.Since, opts.Until = testTime.Add(3*time.Second), testTime.Add(5*time.Second)
	if got, _ := read(t, path, opts); got != "3\n4\n5\n" {
		t.Errorf("since, until: got %q", got)
	}
	if got, _ := read(t, path, triton.LogOptions{Stderr: true, Tail: -1}); got != "" {
		t.Errorf("stderr: got %q", got)
	}
	if got, _ := read(t, filepath.Join(t.TempDir(), "none"), both); got != "" {
		t.Errorf("no log: got %q", got)
	}
}

// A container that writes without end: reading ends where the log ended when it was opened, whatever is written and rotated
// with every record that is read, and --tail counts from there. A line whose end is being written is not one that is lost.
func TestReadingEndsThoughTheLogGoesOn(t *testing.T) {
	for _, maxSize := range []int64{0, 400} {
		for _, tail := range []int{-1, 3, 40} {
			path := filepath.Join(t.TempDir(), "log")
			w := openWriter(t, Config{Path: path, MaxSize: maxSize, MaxFile: 100})
			var all []string
			for i := range 40 {
				all = append(all, fmt.Sprintf("line %d\n", i))
				put(t, w, all[i], testTime)
			}
			half := []byte(`{"log":"be`)
			if _, err := w.file.Write(half); err != nil {
				t.Fatal(err)
			}
			opts, got := both, ""
			opts.Tail = tail
			stats, err := Read(t.Context(), path, opts, nil, func(rec triton.LogRecord) error {
				if got == "" {
					if _, err := w.file.WriteString("gun\"}\n"); err != nil {
						t.Fatal(err)
					}
				}
				got += string(rec.Line)
				put(t, w, strings.Repeat("later ", 20)+"\n", testTime)
				return nil
			})
			want := all
			if tail >= 0 {
				want = all[len(all)-tail:]
			}
			if diff := cmp.Diff(strings.Join(want, ""), got); diff != "" || err != nil || stats != (ReadStats{}) {
				t.Errorf("rotated at %d, tail %d: %s %v %+v", maxSize, tail, diff, err, stats)
			}
		}
	}
}

func TestTornAndCorruptLinesAreSkippedAndCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	good := `{"log":"a\n","stream":"stdout","time":"2024-05-06T07:08:09Z"}` + "\n"
	torn := `{"log":"lost`
	long := `{"log":"` + strings.Repeat("x", 2*maxRecord) + "\n"
	if err := os.WriteFile(path, []byte(good+"garbage\n"+long+good+torn), 0o600); err != nil {
		t.Fatal(err)
	}
	got, stats := read(t, path, both)
	if want := (ReadStats{Corrupt: 2, Torn: 1}); got != "a\na\n" || stats != want {
		t.Errorf("got %q, %+v, want %+v", got, stats, want)
	}
	// A writer that finds the torn line ends it, and loses nothing of its own.
	put(t, openWriter(t, Config{Path: path}), "next\n", testTime)
	got, stats = read(t, path, both)
	if want := (ReadStats{Corrupt: 3}); got != "a\na\nnext\n" || stats != want {
		t.Errorf("after repair: got %q, %+v, want %+v", got, stats, want)
	}
}

func TestSettleTellsWhetherAWriteWasDone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := openWriter(t, Config{Path: path})
	put(t, w, "before\n", testTime)
	var mark Mark
	out, used, n := Encode(nil, []byte("under way\n"), "stdout", testTime, true)
	if err := w.Append(out, n, used, func(m Mark) { mark = m }); err != nil {
		t.Fatal(err)
	}
	if done, err := Settle(path, mark); err != nil || !done {
		t.Errorf("whole write: %v, %v", done, err)
	}
	for _, cut := range []int64{1, mark.Size / 2, mark.Size} { // torn at several places, or not begun
		if err := os.Truncate(path, mark.Offset+mark.Size-cut); err != nil {
			t.Fatal(err)
		}
		if done, err := Settle(path, mark); err != nil || done {
			t.Errorf("write less %d bytes: %v, %v", cut, done, err)
		}
		if got, stats := read(t, path, both); got != "before\n" || stats != (ReadStats{}) {
			t.Errorf("after settling: %q, %+v", got, stats)
		}
		if _, err := w.file.Write(out); err != nil {
			t.Fatal(err)
		}
	}
	if done, err := Settle(filepath.Join(t.TempDir(), "other"), mark); err != nil || done {
		t.Errorf("missing file: %v, %v", done, err)
	}
}

func TestFollowSeesEveryLineAcrossRotations(t *testing.T) {
	for _, compress := range []bool{false, true} {
		t.Run(fmt.Sprintf("compress %v", compress), func(t *testing.T) { followAcrossRotations(t, compress) })
	}
}

func followAcrossRotations(t *testing.T, compress bool) {
	const lines = 3000
	path := filepath.Join(t.TempDir(), "log")
	w := openWriter(t, Config{Path: path, MaxSize: 4096, MaxFile: 100, Compress: compress})
	put(t, w, "line 0\n", testTime)
	ended := make(chan struct{})
	type result struct {
		text  string
		stats ReadStats
		err   error
	}
	results := make(chan result, 1)
	go func() {
		var b strings.Builder
		opts := both
		opts.Follow = true
		stats, err := Read(context.Background(), path, opts, ended, func(rec triton.LogRecord) error {
			b.Write(rec.Line)
			return nil
		})
		results <- result{b.String(), stats, err}
	}()
	want := "line 0\n"
	for i := 1; i < lines; i++ {
		line := fmt.Sprintf("line %d\n", i)
		put(t, w, line, testTime)
		want += line
	}
	close(ended)
	got := <-results
	if got.err != nil || got.stats != (ReadStats{}) || got.text != want {
		t.Errorf("%d bytes, want %d; %+v, %v", len(got.text), len(want), got.stats, got.err)
	}
}

func TestFollowStopsWithItsContextAndItsCaller(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	put(t, openWriter(t, Config{Path: path}), "a\n", testTime)
	opts := both
	opts.Follow = true
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := Read(ctx, path, opts, nil, func(triton.LogRecord) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	stop := fmt.Errorf("enough")
	if _, err := Read(context.Background(), path, opts, nil, func(triton.LogRecord) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

func TestKernelFullDiskCountsAndRecovers(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	path, filler := filepath.Join(dir, "log"), filepath.Join(dir, "filler")
	w := openWriter(t, Config{Path: path})
	put(t, w, "first\n", testTime)
	_ = os.WriteFile(filler, make([]byte, 1<<20), 0o600) // fills what there is
	text := strings.Repeat("x", 8000) + "\n"
	out, used, n := Encode(nil, []byte(text), "stdout", testTime, true)
	if err := w.Append(out, n, used, nil); err == nil {
		t.Fatal("the disk is not full")
	}
	if s := w.Stats(); s.DroppedBytes != uint64(len(text)) || s.LastError == "" || s.Records != 1 {
		t.Errorf("stats %+v", s)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	put(t, w, "again\n", testTime)
	if got, stats := read(t, path, both); got != "first\nagain\n" || stats != (ReadStats{}) {
		t.Errorf("log %q, %+v: a write that failed must leave no torn line", got, stats)
	}
}

// FuzzRead feeds a log that is none; every complete line is delivered or counted.
func FuzzRead(f *testing.F) {
	f.Add([]byte("x\n\n{\"log\":\"a\",\"stream\":\"stdout\",\"time\":\"2024-05-06T07:08:09Z\"}\n{"), 2)
	f.Fuzz(func(t *testing.T, data []byte, tail int) {
		fd, err := unix.MemfdCreate("log", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		path := fmt.Sprintf("/proc/self/fd/%d", fd) // no disk, which would be all that is measured
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		opts := both
		opts.Tail = max(tail, -1)
		delivered := 0
		stats, err := Read(context.Background(), path, opts, nil, func(triton.LogRecord) error { delivered++; return nil })
		if err != nil {
			t.Fatal(err)
		}
		lines := 0
		for _, l := range strings.SplitAfter(string(data), "\n") {
			if strings.HasSuffix(l, "\n") && l != "\n" {
				lines++
			}
		}
		got := delivered + stats.Corrupt
		if opts.Tail < 0 && got != lines || got > lines {
			t.Fatalf("%d of %d lines accounted for", got, lines)
		}
	})
}

func BenchmarkEncodeLines(b *testing.B) {
	data := []byte(strings.Repeat("1234567\n", 8192))
	var out []byte
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		out, _, _ = Encode(out[:0], data, "stdout", testTime, false)
	}
}

func TestPortionsFitTheFilesThatAreRotated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w, err := Open(Config{Path: path, MaxSize: 1000, MaxFile: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	data := []byte(strings.Repeat("line\n", 500))
	for len(data) > 0 {
		out, used, n := EncodeUpTo(w.Room(), nil, data, "stdout", testTime, true)
		if err := w.Append(out, n, used, nil); err != nil {
			t.Fatal(err)
		}
		data = data[used:]
	}
	for i := range 3 {
		info, err := os.Stat(rotated(path, i))
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() == 0 || info.Size() > 1100 { // the size, and the record that reached it
			t.Errorf("file %d has %d bytes, want about 1000", i, info.Size())
		}
	}
}
