package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// smallDisk mounts a tmpfs of its own.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("triton-test", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size="+size); err != nil {
		t.Fatalf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// fill takes every byte that is left.
func fill(t *testing.T, dir string) (undo func()) {
	t.Helper()
	path := filepath.Join(dir, "hog")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return func() { os.Remove(path) }
}

func TestKernelFullDiskRefusesAdditionsAndKeepsDeleting(t *testing.T) {
	disk := smallDisk(t, "64m")
	cfg := Config{Dir: filepath.Join(disk, "etcd"), MinFree: 4 << 20}
	c := openTest(t, cfg)
	const keys = 2000
	for i := range keys {
		mustCreate(t, c, fmt.Sprintf("k/%d", i), strings.Repeat("v", 500))
	}
	rev := mustCreate(t, c, "u", "")
	undo := fill(t, disk)

	_, err := c.Create(t.Context(), "more", nil)
	if !errdefs.IsResourceExhausted(err) || !strings.Contains(err.Error(), "floor") {
		t.Errorf("create on a full disk: got %v, want resource exhausted that tells of the floor", err)
	}
	if _, err := c.Update(t.Context(), "u", []byte("more"), rev); !errdefs.IsResourceExhausted(err) {
		t.Errorf("update on a full disk: got %v, want resource exhausted", err)
	}
	for i := range keys {
		if err := c.Delete(t.Context(), fmt.Sprintf("k/%d", i), 0); err != nil {
			t.Fatalf("delete %d on a full disk: %v", i, err)
		}
		if i == keys/2 { // a restart on the full disk
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			c = openTest(t, cfg)
		}
	}
	undo()
	mustCreate(t, c, "more", "")
}

// TestKernelFullDiskSurvivesSnapshots deletes so much on a full disk that etcd writes snapshots and new log segments.
func TestKernelFullDiskSurvivesSnapshots(t *testing.T) {
	disk := smallDisk(t, "80m")
	c := openTest(t, Config{Dir: filepath.Join(disk, "etcd"), MinFree: 1 << 20})
	const writers, each = 64, 400 // more than twice the entries between two snapshots
	inParallel(t, writers, func(w int) error {
		for i := 0; i < each; i += 100 {
			var ops []Op
			for j := range 100 {
				ops = append(ops, CreateOp(fmt.Sprintf("k/%d/%d", w, i+j), nil))
			}
			if _, err := c.Txn(t.Context(), ops...); err != nil {
				return err
			}
		}
		return nil
	})
	undo := fill(t, disk)
	inParallel(t, writers, func(w int) error {
		for i := range each {
			if err := c.Delete(t.Context(), fmt.Sprintf("k/%d/%d", w, i), 0); err != nil {
				return err
			}
		}
		return nil
	})
	select {
	case <-c.Failed():
		t.Fatalf("etcd died: %s", c.death.reason())
	default:
	}
	undo()
	mustCreate(t, c, "more", "")
}

// inParallel runs n writers and waits for all of them.
func inParallel(t *testing.T, n int, write func(writer int) error) {
	t.Helper()
	var group errgroup.Group
	for w := range n {
		group.Go(func() error { return write(w) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestStoreAtItsSizeLimitRecoversByDeletes(t *testing.T) {
	c := openTest(t, Config{MaxSize: 4 << 20, upkeep: 10 * time.Millisecond, history: 100})
	value := []byte(strings.Repeat("v", 100<<10))
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		_, err = c.Create(t.Context(), fmt.Sprintf("k/%d", n), value)
	}
	if !errdefs.IsResourceExhausted(err) || n < 20 {
		t.Fatalf("after %d creates: got %v, want resource exhausted", n, err)
	}
	for i := range n - 1 {
		if err := c.Delete(t.Context(), fmt.Sprintf("k/%d", i), 0); err != nil {
			t.Fatalf("delete of a store at its limit: %v", err)
		}
	}
	waitFor(t, "room after deletes", func() bool {
		_, err := c.Create(t.Context(), "again", value)
		return err == nil
	})
}

func TestOverwritesDoNotGrowTheStore(t *testing.T) {
	c := openTest(t, Config{MaxSize: 8 << 20, upkeep: 10 * time.Millisecond, history: 10})
	value := []byte(strings.Repeat("v", 64<<10))
	rev := mustCreate(t, c, "k", "")
	for i := range 1000 { // 64 MB through a store of 8 MiB
		var err error
		if rev, err = c.Update(t.Context(), "k", value, rev); err == nil {
			continue
		}
		if !errdefs.IsResourceExhausted(err) {
			t.Fatalf("update %d: %v", i, err)
		}
		waitFor(t, "compaction", func() bool {
			next, err := c.Update(t.Context(), "k", value, 0)
			rev = next
			return err == nil
		})
	}
}

// TestDeadEtcdIsReportedNotFatal logs what etcd logs before it would end the process.
func TestDeadEtcdIsReportedNotFatal(t *testing.T) {
	c := openTest(t, Config{})
	mustCreate(t, c, "k", "")
	zapLog := newZap(c.log, c.death)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		zapLog.Fatal("no disk any more")
	}()
	receive(t, ended)
	receive(t, c.Failed())
	if _, err := c.Create(t.Context(), "l", nil); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "no disk any more") {
		t.Errorf("got %v, want unavailable with the reason", err)
	}
}
