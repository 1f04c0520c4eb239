package jsonlog

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

// rotatedLog has ten lines in a file each, but for the oldest, which are gone. It returns the lines that are there.
func rotatedLog(t *testing.T, path string, maxFile int) []string {
	t.Helper()
	w := openWriter(t, Config{Path: path, MaxFile: maxFile, Compress: true})
	var all []string
	for i := range 10 {
		line := fmt.Sprintf("line %d %s\n", i, strings.Repeat("x", 2000))
		put(t, w, line, testTime)
		all = append(all, line)
		if i < 9 {
			if err := w.Rotate(); err != nil {
				t.Fatal(err)
			}
		}
	}
	await(t, w)
	return all[10-maxFile:]
}

func await(t *testing.T, w *Writer) {
	t.Helper()
	if err := w.packing.wait(); err != nil {
		t.Fatal(err)
	}
}

func namesOf(t *testing.T, path string) []string {
	t.Helper()
	names, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for i := range names {
		names[i] = filepath.Base(names[i])
	}
	return names
}

func TestRotatedFilesAreCompressedAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	lines := rotatedLog(t, path, 4)
	if diff := cmp.Diff([]string{"log", "log.1.gz", "log.2.gz", "log.3.gz"}, namesOf(t, path)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(path + ".2.gz"); err != nil || info.Size() > 500 {
		t.Errorf("a compressed file of 2,000 equal letters: %v, %v", info, err)
	}
	for _, tail := range []int{-1, 0, 1, 2, 4, 9} {
		want := lines
		if tail >= 0 && tail < len(lines) {
			want = lines[len(lines)-tail:]
		}
		opts := both
		opts.Tail = tail
		if got, stats := read(t, path, opts); got != strings.Join(want, "") || stats != (ReadStats{}) {
			t.Errorf("tail %d: %d bytes, %+v", tail, len(got), stats)
		}
	}
	if diff := cmp.Diff([]string{"log", "log.1.gz", "log.2.gz", "log.3.gz"}, namesOf(t, path)); diff != "" {
		t.Errorf("files after reading (-want +got):\n%s", diff)
	}
}

// A shim that is killed leaves half a compressed file, or one beside what it was made of.
func TestACompressionThatWasCutOffLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	lines := rotatedLog(t, path, 3)
	restore := func() {
		t.Helper()
		f, err := NewLog(path).openRotated(1)
		if err != nil {
			t.Fatal(err)
		}
		defer f.close()
		if err := f.unpack(); err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+".1", text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	restore()
	check := func(what string) {
		t.Helper()
		if got, stats := read(t, path, both); got != strings.Join(lines, "") || stats != (ReadStats{}) {
			t.Errorf("%s: %d bytes, %+v", what, len(got), stats)
		}
	}
	check("both are there")
	openWriter(t, Config{Path: path, MaxFile: 3, Compress: true})
	check("the next writer")
	if diff := cmp.Diff([]string{"log", "log.1.gz", "log.2.gz"}, namesOf(t, path)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}

	restore()
	if err := os.Rename(path+".1.gz", path+".1.gz.tmp"); err != nil {
		t.Fatal(err)
	}
	w := openWriter(t, Config{Path: path, MaxFile: 3, Compress: true})
	check("half of one")
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	await(t, w)
	lines = lines[1:]
	check("after the next rotation")
	if diff := cmp.Diff([]string{"log", "log.1.gz", "log.2"}, namesOf(t, path)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestCompressionEndsWithItsWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	stop := make(chan struct{})
	close(stop)
	if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := pack(path, stop); err == nil {
		t.Error("a compression that was stopped has ended well")
	}
	if diff := cmp.Diff([]string{"log"}, namesOf(t, path)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestABrokenCompressedFileIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	rotatedLog(t, path, 3)
	if err := os.Truncate(path+".1.gz", 40); err != nil {
		t.Fatal(err)
	}
	_, err := Read(context.Background(), path, both, nil, func(triton.LogRecord) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "log.1.gz") {
		t.Errorf("got %v, want an error that names the file", err)
	}
}

// A place leads to the file that it was in, however often the file system has given the inode number of a file that was compressed
// to a newer one of the same log. Files of older versions have the number only.
func TestAPlaceKeepsItsFileWhenInodesAreUsedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := openWriter(t, Config{Path: path, MaxFile: 100, Compress: true})
	var before strings.Builder
	want := map[triton.LogPlace]string{}
	numbers := map[uint64]bool{}
	for i := range 20 {
		line := fmt.Sprintf("line %d\n", i)
		put(t, w, line, testTime)
		before.WriteString(line)
		end, err := w.End()
		if err != nil {
			t.Fatal(err)
		}
		want[end] = before.String()
		numbers[end.Ino] = true
		put(t, w, "behind it\n", testTime)
		before.WriteString("behind it\n")
		if err := w.Rotate(); err != nil {
			t.Fatal(err)
		}
		await(t, w)
	}
	t.Logf("20 files had %d inode numbers", len(numbers))
	if len(want) != 20 {
		t.Errorf("20 places are %d", len(want))
	}
	for place, text := range want {
		opts := both
		opts.UpTo = &place
		if got, stats := read(t, path, opts); got != text || stats != (ReadStats{}) {
			t.Errorf("up to %+v: %+v (-want +got):\n%s", place, stats, cmp.Diff(text, got))
		}
	}
}

func TestIdentitiesOfOlderVersionsAreOfAnyGeneration(t *testing.T) {
	now := identity{7, 9}
	if got := unpackIdentity(now.packed()); got != now {
		t.Errorf("%+v became %+v", now, got)
	}
	old := unpackIdentity([]byte{7, 0, 0, 0, 0, 0, 0, 0})
	if !now.is(old) || !old.is(now) || now.is(identity{7, 8}) || now.is(identity{6, 9}) || unpackIdentity([]byte{7}) != (identity{}) {
		t.Errorf("an older one is %+v", old)
	}
}
