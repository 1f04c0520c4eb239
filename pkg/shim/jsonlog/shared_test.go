package jsonlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// Fifty followers, each at another line, have a log of twenty files open when it is removed: each file is open once, and each
// follower gets every line.
func TestFollowersShareTheFilesOfARemovedLog(t *testing.T) {
	for name, compress := range map[string]bool{"plain": false, "compressed": true} {
		t.Run(name, func(t *testing.T) { testShared(t, compress) })
	}
}

func testShared(t *testing.T, compress bool) {
	const followers, rotations = 50, 19
	dir := filepath.Join(t.TempDir(), "container")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "c-json.log")
	w := openWriter(t, Config{Path: path, MaxSize: 200, MaxFile: rotations + 1, Compress: compress})
	var want []string
	for !thereRotated(path, rotations) {
		line := fmt.Sprintf("line %d\n", len(want))
		put(t, w, line, testTime)
		want = append(want, line)
		if w.packing != nil {
			await(t, w)
		}
	}
	log, opts := NewLog(path), both
	opts.Follow = true
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var all, there sync.WaitGroup
	ended, removed := make(chan struct{}), make(chan struct{})
	var readers []*Reader
	for i := range followers {
		r := log.NewReader(opts)
		readers = append(readers, r)
		there.Add(1)
		all.Go(func() {
			n, arrived := 0, sync.OnceFunc(there.Done)
			defer arrived()
			stats, err := r.Read(ctx, ended, func(rec triton.LogRecord) error {
				if n == len(want) || string(rec.Line) != want[n] {
					return fmt.Errorf("line %d is %q", n, rec.Line)
				}
				if n++; n == 1+i*len(want)/followers {
					arrived()
					<-removed
				}
				return nil
			})
			if err != nil || stats != (ReadStats{}) || n != len(want) {
				t.Errorf("follower %d: %d lines of %d, %+v (%v)", i, n, len(want), stats, err)
			}
		})
	}
	there.Wait()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	for _, r := range readers {
		if err := r.Hold(); err != nil {
			t.Error(err)
		}
	}
	most := rotations + 1
	if compress {
		most += rotations // the texts
	}
	if n := len(openBelow(t, dir)); n < rotations+1 || n > most {
		t.Errorf("%d files are open, want %d to %d", n, rotations+1, most)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
	close(ended)
	close(removed)
	all.Wait()
	if left := openBelow(t, dir); len(left) > 0 || len(log.open) > 0 {
		t.Errorf("still open: %v, %v", left, log.open)
	}
}

// openBelow are the files of a folder that this process has open.
func openBelow(t *testing.T, dir string) (names []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		name, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err != nil && !errors.Is(err, os.ErrNotExist) { // of the reading of this folder
			t.Fatal(err)
		}
		if strings.HasPrefix(name, dir+"/") {
			names = append(names, name)
		}
	}
	return names
}
