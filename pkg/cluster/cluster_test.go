package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

// openTest opens a store that is closed with the test. Without fsync it survives what the tests do to it.
func openTest(t *testing.T, cfg Config) *Cluster {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	cfg.NoFsync = true
	c, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

func mustCreate(t *testing.T, c *Cluster, key, value string) int64 {
	t.Helper()
	rev, err := c.Create(t.Context(), key, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func keysOf(kvs []KV) []string {
	var keys []string
	for _, kv := range kvs {
		keys = append(keys, kv.Key+"="+string(kv.Value))
	}
	return keys
}

func TestKeysLiveFromCreateToDelete(t *testing.T) {
	c, ctx := openTest(t, Config{}), t.Context()
	rev := mustCreate(t, c, "a/1", "one")

	if _, err := c.Create(ctx, "a/1", nil); !errdefs.IsAlreadyExists(err) {
		t.Errorf("second create: got %v, want already exists", err)
	}
	got, err := c.Get(ctx, "a/1")
	if want := (KV{"a/1", []byte("one"), rev}); err != nil || !cmp.Equal(got, want) {
		t.Errorf("get: got %v, %v, want %v", got, err, want)
	}
	next, err := c.Update(ctx, "a/1", []byte("two"), rev)
	if err != nil || next <= rev {
		t.Errorf("update: got revision %d after %d, %v", next, rev, err)
	}
	if _, err := c.Update(ctx, "a/1", []byte("lost"), rev); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("update of an old revision: got %v, want failed precondition", err)
	}
	if err := c.Delete(ctx, "a/1", rev); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("delete of an old revision: got %v, want failed precondition", err)
	}
	if err := c.Delete(ctx, "a/1", next); err != nil {
		t.Error(err)
	}
	if _, err := c.Get(ctx, "a/1"); !errdefs.IsNotFound(err) {
		t.Errorf("get after delete: got %v, want not found", err)
	}
	if _, err := c.Update(ctx, "a/1", nil, 0); !errdefs.IsNotFound(err) {
		t.Errorf("update after delete: got %v, want not found", err)
	}
	if err := c.Delete(ctx, "a/1", 0); !errdefs.IsNotFound(err) {
		t.Errorf("delete after delete: got %v, want not found", err)
	}
}

func TestListIsOfOnePrefixInOrder(t *testing.T) {
	c := openTest(t, Config{})
	for _, key := range []string{"t/b/2", "t/b/1", "t/a/9", "t/b0", "u"} {
		mustCreate(t, c, key, "")
	}
	kvs, rev, err := c.List(t.Context(), "t/b/")
	if diff := cmp.Diff([]string{"t/b/1=", "t/b/2="}, keysOf(kvs)); err != nil || diff != "" {
		t.Errorf("list: %v, -want +got\n%s", err, diff)
	}
	last, err := c.Get(t.Context(), "u")
	if err != nil || rev != last.Revision {
		t.Errorf("list's revision: got %d, want %d (%v)", rev, last.Revision, err)
	}
}

func TestTxnIsAllOrNothing(t *testing.T) {
	c, ctx := openTest(t, Config{}), t.Context()
	taken := mustCreate(t, c, "name/web", "id1")
	_, err := c.Txn(ctx, CreateOp("id/2", []byte("spec")), CreateOp("name/web", []byte("id2")))
	if !errdefs.IsAlreadyExists(err) || !strings.Contains(err.Error(), "name/web") {
		t.Errorf("taken name: got %v, want already exists naming the key", err)
	}
	if _, err := c.Get(ctx, "id/2"); !errdefs.IsNotFound(err) {
		t.Errorf("record of the refused transaction: got %v, want not found", err)
	}
	rev, err := c.Txn(ctx, DeleteOp("name/web", taken), CreateOp("name/db", []byte("id1")), CreateOp("id/2", nil))
	if err != nil {
		t.Fatal(err)
	}
	kvs, _, err := c.List(ctx, "")
	if diff := cmp.Diff([]KV{{"id/2", nil, rev}, {"name/db", []byte("id1"), rev}}, kvs); err != nil || diff != "" {
		t.Errorf("after: %v, -want +got\n%s", err, diff)
	}
}

func TestTxnRefusesWhatCannotBe(t *testing.T) {
	c := openTest(t, Config{})
	big := make([]byte, maxValue)
	for name, ops := range map[string][]Op{
		"none":       nil,
		"too many":   slices.Repeat([]Op{CreateOp("a", nil)}, maxOps+1),
		"no key":     {CreateOp("", nil)},
		"long key":   {CreateOp(strings.Repeat("k", maxKey+1), nil)},
		"long value": {CreateOp("a", make([]byte, maxValue+1))},
		"twice":      {CreateOp("a", nil), DeleteOp("a", 0)},
		"too large":  {CreateOp("a", big), CreateOp("b", big), CreateOp("c", big)},
		"zero op":    {{}},
	} {
		if _, err := c.Txn(t.Context(), ops...); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: got %v, want invalid argument", name, err)
		}
	}
	largest := []Op{CreateOp(strings.Repeat("a", maxKey), big), CreateOp(strings.Repeat("b", maxKey), big)}
	for i := range maxOps - 2 {
		largest = append(largest, CreateOp(fmt.Sprintf("%0*d", maxKey, i), nil))
	}
	if _, err := c.Txn(t.Context(), largest...); err != nil {
		t.Errorf("largest allowed transaction: %v", err)
	}
}

func TestWatchSeesEveryChangeFromARevision(t *testing.T) {
	c := openTest(t, Config{})
	first := mustCreate(t, c, "w/a", "1")
	mustCreate(t, c, "other", "")
	if err := c.Delete(t.Context(), "w/a", first); err != nil {
		t.Fatal(err)
	}
	got, done := make(chan string, 10), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		done <- c.Watch(ctx, "w/", first, func(ch Change) error {
			got <- fmt.Sprintf("%s=%s deleted=%t", ch.Key, ch.Value, ch.Deleted)
			return nil
		})
	}()
	want := []string{"w/a=1 deleted=false", "w/a= deleted=true"}
	for _, w := range want {
		if g := receive(t, got); g != w {
			t.Errorf("got %q, want %q", g, w)
		}
	}
	mustCreate(t, c, "w/b", "2")
	if g := receive(t, got); g != "w/b=2 deleted=false" {
		t.Errorf("change after the watch began: got %q", g)
	}
	cancel()
	if err := receive(t, done); !errors.Is(err, context.Canceled) {
		t.Errorf("end of the watch: got %v, want canceled", err)
	}
}

func TestWatchEndsWithItsReadersError(t *testing.T) {
	c, stop := openTest(t, Config{}), errors.New("enough")
	rev := mustCreate(t, c, "w", "")
	if err := c.Watch(t.Context(), "w", rev, func(Change) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want %v", err, stop)
	}
}

// receive takes one value, or fails the test after ten seconds.
func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came within 10 s")
		panic("unreachable")
	}
}

func TestWatchOfCompactedHistoryNamesTheOldestRevision(t *testing.T) {
	c := openTest(t, Config{history: 10, upkeep: time.Millisecond})
	first := mustCreate(t, c, "k", "")
	for rev := first; rev < first+50; {
		var err error
		if rev, err = c.Update(t.Context(), "k", []byte("x"), rev); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "compaction", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := c.Watch(ctx, "k", first, func(Change) error { return nil })
		var gone *CompactedError
		return errors.As(err, &gone) && gone.Revision > first && errors.Is(err, errdefs.ErrOutOfRange)
	})
}

// waitFor polls until the condition holds, or fails the test after 30 seconds.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("%s did not come within 30 s", what)
		case <-tick.C:
		}
	}
}

func TestReopenKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	c := openTest(t, Config{Dir: dir})
	rev := mustCreate(t, c, "k", "v")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	again := openTest(t, Config{Dir: dir})
	got, err := again.Get(t.Context(), "k")
	if diff := cmp.Diff(KV{"k", []byte("v"), rev}, got); err != nil || diff != "" {
		t.Errorf("%v, -want +got\n%s", err, diff)
	}
	if next := mustCreate(t, again, "l", ""); next <= rev {
		t.Errorf("revision went back: %d after %d", next, rev)
	}
}

func TestSecondOpenerIsRefused(t *testing.T) {
	dir := t.TempDir()
	openTest(t, Config{Dir: dir})
	_, err := Open(t.Context(), Config{Dir: dir})
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "another daemon") {
		t.Errorf("got %v, want failed precondition that tells of another daemon", err)
	}
}

func TestNothingListens(t *testing.T) {
	before := listeners(t)
	openTest(t, Config{})
	openTest(t, Config{}) // a second one must not collide with the first
	if got := listeners(t) - before; got != 0 {
		t.Errorf("%d sockets listen because of the store, want 0", got)
	}
}

// listeners counts this process's listening sockets.
func listeners(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, fd := range fds {
		target, _ := os.Readlink(filepath.Join("/proc/self/fd", fd.Name()))
		if strings.HasPrefix(target, "socket:") && listening(t, target) {
			count++
		}
	}
	return count
}

func listening(t *testing.T, socket string) bool {
	inode := strings.Trim(strings.TrimPrefix(socket, "socket:"), "[]")
	for _, table := range []string{"tcp", "tcp6"} {
		data, err := os.ReadFile("/proc/self/net/" + table)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if f := strings.Fields(line); len(f) > 9 && f[9] == inode && f[3] == "0A" {
				return true
			}
		}
	}
	return false
}

func TestListenersAreSeenAtAll(t *testing.T) {
	before := listeners(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := listeners(t) - before; got != 1 {
		t.Errorf("a listener of this test counts %d, want 1", got)
	}
}

func TestDamagedDirectoryIsAClearError(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"database cut off": func(t *testing.T, dir string) {
			if err := os.Truncate(databasePath(dir), 12<<10); err != nil {
				t.Fatal(err)
			}
		},
		"database of zeros":    func(t *testing.T, dir string) { overwrite(t, databasePath(dir), 0, 64<<10, 0) },
		"database of garbage":  func(t *testing.T, dir string) { overwrite(t, databasePath(dir), 8<<10, 256<<10, 0xa5) },
		"log header garbage":   func(t *testing.T, dir string) { overwrite(t, walPath(t, dir), 0, 4<<10, 0xa5) },
		"log middle corrupted": func(t *testing.T, dir string) { overwrite(t, walPath(t, dir), 20<<10, 64, 0xa5) },
		"log gone": func(t *testing.T, dir string) {
			if err := os.Remove(walPath(t, dir)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "etcd")
			c := openTest(t, Config{Dir: dir})
			for i := range 100 {
				mustCreate(t, c, fmt.Sprintf("k/%d", i), strings.Repeat("v", 1000))
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			damage(t, dir)
			again, err := Open(t.Context(), Config{Dir: dir, NoFsync: true})
			if err == nil {
				again.Close()
			}
			if !errdefs.IsDataLoss(err) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v, want data loss that names the directory", err)
			}
			// A start that failed leaves etcd allocating a log segment for a moment.
			waitFor(t, "removal of the directory", func() bool { return os.RemoveAll(dir) == nil })
		})
	}
}

func overwrite(t *testing.T, path string, at int64, length int, with byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(strings.Repeat(string(rune(with)), length))[:length], at); err != nil {
		t.Fatal(err)
	}
}

func walPath(t *testing.T, dir string) string {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no log under %s: %v", dir, err)
	}
	return logs[0]
}
