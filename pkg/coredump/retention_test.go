package coredump

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

var testTime = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// kept is a store's dumps of a tenant, oldest first.
func dumpsOf(t *testing.T, s *Store, tenant triton.Tenant) []string {
	t.Helper()
	records, damaged, err := s.List(tenant, true)
	if err != nil || damaged > 0 {
		t.Fatalf("%d damaged, %v", damaged, err)
	}
	var ids []string
	for _, r := range records {
		ids = append(ids, r.ID)
	}
	slices.Reverse(ids)
	return ids
}

// put adds a dump of size bytes, number n by age.
func put(t *testing.T, s *Store, tenant triton.Tenant, n int, place string, size int64, files ...KeptFile) string {
	t.Helper()
	r := &Record{
		ID: fmt.Sprintf("%012x", n), Container: triton.ContainerKey{Tenant: tenant, ID: "c"}, At: testTime.Add(time.Duration(n) * time.Minute),
		Place: place, Kept: files,
	}
	dir, err := s.begin(r)
	if err != nil {
		t.Fatal(err)
	}
	allocated(t, filepath.Join(dir, bodyFile), size)
	if err := s.save(r); err != nil {
		t.Fatal(err)
	}
	if err := s.shelve(r); err != nil {
		t.Fatal(err)
	}
	return r.ID
}

// allocated makes a file that takes size bytes on disk.
func allocated(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := writeFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if size > 0 {
		if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
			t.Fatal(err)
		}
	}
}

// object makes a kept file of the tenant's, number n.
func object(t *testing.T, s *Store, tenant triton.Tenant, n int, size int64) KeptFile {
	t.Helper()
	k := KeptFile{Path: "/lib/x", Object: fmt.Sprintf("%064x", n), Size: size}
	path, err := s.objectPath(tenant, k.Object)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	allocated(t, path, size)
	return k
}

// TestKeptFilesCountOnce: the files beside dumps count towards the bound of bytes, those of several dumps once, and go
// with the last dump that names them.
func TestKeptFilesCountOnce(t *testing.T) {
	keep := Keep{Age: time.Hour, Bytes: 10 << 20, Dumps: 99, PerPlace: 99}
	s, err := OpenStore(t.TempDir(), keep, 0, func() time.Time { return testTime })
	if err != nil {
		t.Fatal(err)
	}
	libc, first, second := object(t, s, "acme", 1, 4<<20), object(t, s, "acme", 2, 3<<20), object(t, s, "acme", 3, 5<<20)
	a := put(t, s, "acme", 1, "", 0, libc, first)
	b := put(t, s, "acme", 2, "", 0, libc) // shares: 7 MiB and two records
	if got := dumpsOf(t, s, "acme"); !slices.Equal(got, []string{a, b}) {
		t.Fatalf("kept %q of what fits, want both", got)
	}
	c := put(t, s, "acme", 3, "", 0, libc, second) // 12 MiB: the oldest goes with the file that only it had
	if got := dumpsOf(t, s, "acme"); !slices.Equal(got, []string{b, c}) {
		t.Errorf("kept %q, want %q", got, []string{b, c})
	}
	if err := s.Prune(); err != nil {
		t.Fatal(err)
	}
	for _, k := range []KeptFile{libc, second} {
		f, err := s.OpenObject("acme", k.Object)
		if err != nil {
			t.Errorf("a file that a dump names is gone: %v", err)
			continue
		}
		f.Close()
	}
	if _, err := s.OpenObject("acme", first.Object); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file of the dump that went: %v", err)
	}
	again, err := OpenStore(s.dir, Keep{Age: time.Hour, Bytes: 9<<20 + 256<<10, Dumps: 99, PerPlace: 99}, 0, s.now)
	if err != nil {
		t.Fatal(err)
	}
	if got := dumpsOf(t, again, "acme"); !slices.Equal(got, []string{b, c}) {
		t.Errorf("kept %q after a restart, want %q: the shared file counts once", got, []string{b, c})
	}
}

// TestFilesOfADamagedRecordStay: what it names is not known, so nothing is removed.
func TestFilesOfADamagedRecordStay(t *testing.T) {
	keep := Keep{Age: time.Hour, Bytes: 1 << 40, Dumps: 99, PerPlace: 99}
	s, err := OpenStore(t.TempDir(), keep, 0, func() time.Time { return testTime })
	if err != nil {
		t.Fatal(err)
	}
	file := object(t, s, "acme", 1, 1<<20)
	damaged, other := put(t, s, "acme", 1, "", 0, file), put(t, s, "acme", 2, "", 0)
	if err := os.WriteFile(filepath.Join(s.dir, "acme", damaged, recordFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := OpenStore(s.dir, keep, 0, s.now)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Remove("acme", other, true); err != nil {
		t.Fatal(err)
	}
	f, err := again.OpenObject("acme", file.Object)
	if err != nil {
		t.Fatalf("its file: %v", err)
	}
	f.Close()
}

// TestWhatIsAddedToADumpCounts: its stacks come when it is on the shelf already.
func TestWhatIsAddedToADumpCounts(t *testing.T) {
	s, err := OpenStore(t.TempDir(), Keep{Age: time.Hour, Bytes: 4 << 20, Dumps: 99, PerPlace: 99}, 0, func() time.Time { return testTime })
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "acme", 1, "", 1<<20)
	last := put(t, s, "acme", 2, "", 1<<20)
	allocated(t, filepath.Join(s.dir, "acme", last, backtraceFile), 3<<20)
	r, err := s.load("acme", last)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.weigh(r); err != nil {
		t.Fatal(err)
	}
	if got := dumpsOf(t, s, "acme"); !slices.Equal(got, []string{last}) {
		t.Errorf("kept %q, want %q", got, last)
	}
}

// TestDumpsGrowOldWhileTheDaemonRuns: without a crash that makes it look, too.
func TestDumpsGrowOldWhileTheDaemonRuns(t *testing.T) {
	var later atomic.Int64
	s, err := OpenStore(t.TempDir(), Keep{Age: time.Hour, Bytes: 1 << 40, Dumps: 99, PerPlace: 99}, 0, func() time.Time { return testTime.Add(time.Duration(later.Load())) })
	if err != nil {
		t.Fatal(err)
	}
	lib := object(t, s, "acme", 1, 1<<20)
	put(t, s, "acme", 0, "", 0, lib)
	put(t, s, "other", 0, "", 0)
	young := put(t, s, "acme", 30, "", 0)
	service := &Service{cfg: Config{Now: s.now}, store: s, log: slog.New(slog.NewTextHandler(t.Output(), nil)), spent: newAccounts(0)}
	ticks, done := make(chan time.Time), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { service.pruneAt(ctx, ticks); close(done) }()
	ticks <- testTime
	later.Store(int64(61 * time.Minute))
	ticks <- testTime
	cancel() // the tick is seen to its end
	<-done
	if got := dumpsOf(t, s, "acme"); !slices.Equal(got, []string{young}) {
		t.Errorf("kept %q, want %q", got, young)
	}
	if got := dumpsOf(t, s, "other"); len(got) > 0 {
		t.Errorf("another tenant's %q are too old as well", got)
	}
	if _, err := s.OpenObject("acme", lib.Object); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file of the dump that went: %v", err)
	}
}

func TestOldDumpsGoFirst(t *testing.T) {
	for name, tt := range map[string]struct {
		keep Keep
		left int // of 6, two of each of three places
	}{
		"number": {Keep{Age: time.Hour, Bytes: 1 << 40, Dumps: 4, PerPlace: 9}, 4},
		"bytes":  {Keep{Age: time.Hour, Bytes: 3 << 20, Dumps: 99, PerPlace: 9}, 2},
		"place":  {Keep{Age: time.Hour, Bytes: 1 << 40, Dumps: 99, PerPlace: 1}, 3},
		"age":    {Keep{Age: 150 * time.Second, Bytes: 1 << 40, Dumps: 99, PerPlace: 9}, 3},
		"all":    {Keep{Age: time.Hour, Bytes: 1 << 40, Dumps: 99, PerPlace: 9}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			now := testTime
			s, err := OpenStore(t.TempDir(), tt.keep, 0, func() time.Time { return now })
			if err != nil {
				t.Fatal(err)
			}
			others := put(t, s, "other", 5, "x", 1<<20)
			var all []string
			for i := range 6 {
				now = testTime.Add(time.Duration(i) * time.Minute)
				all = append(all, put(t, s, "acme", i, fmt.Sprint(i%3), 1<<20))
			}
			want := all[6-tt.left:]
			if got := dumpsOf(t, s, "acme"); !slices.Equal(got, want) {
				t.Errorf("kept %q, want %q", got, want)
			}
			again, err := OpenStore(s.dir, tt.keep, 0, s.now)
			if err != nil {
				t.Fatal(err)
			}
			if got := dumpsOf(t, again, "acme"); !slices.Equal(got, want) {
				t.Errorf("kept %q after a restart, want %q", got, want)
			}
			if got := dumpsOf(t, s, "other"); !slices.Equal(got, []string{others}) {
				t.Errorf("another tenant has %q", got)
			}
		})
	}
}

// TestCrashesAreReadBeforeTheyAreTooMany: of a place that crashes faster than stacks are read, none goes uncounted.
func TestCrashesAreReadBeforeTheyAreTooMany(t *testing.T) {
	keep := Keep{Age: time.Hour, Bytes: 1 << 40, Dumps: 5, PerPlace: 1, untilRead: true}
	s, err := OpenStore(t.TempDir(), keep, 0, func() time.Time { return testTime })
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for i := range 6 {
		all = append(all, put(t, s, "acme", i, "x", 0))
	}
	if got := dumpsOf(t, s, "acme"); !slices.Equal(got, all[1:]) {
		t.Errorf("kept %q unread, want %q: other bounds hold", got, all[1:])
	}
	again, err := OpenStore(s.dir, keep, 0, s.now)
	if err != nil {
		t.Fatal(err)
	}
	if got := dumpsOf(t, again, "acme"); !slices.Equal(got, all[1:]) {
		t.Errorf("kept %q after a restart, want %q", got, all[1:])
	}
	for _, id := range all[1:] {
		r, err := again.load("acme", id)
		if err != nil {
			t.Fatal(err)
		}
		r.Analysis = &Analysis{}
		if err := again.weigh(r); err != nil {
			t.Fatal(err)
		}
	}
	if got := dumpsOf(t, again, "acme"); !slices.Equal(got, all[5:]) {
		t.Errorf("kept %q when all were read, want %q", got, all[5:])
	}
}

// small mounts a volume of so many MiB.
func small(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestKernelARecordIsWrittenTwiceOnAFullVolume: what fills it after a dump has begun takes nothing from its records.
func TestKernelARecordIsWrittenTwiceOnAFullVolume(t *testing.T) {
	dir := small(t, 8)
	s, err := OpenStore(dir, DefaultKeep, 0, func() time.Time { return testTime })
	if err != nil {
		t.Fatal(err)
	}
	r := &Record{ID: "00000000000a", Container: triton.ContainerKey{Tenant: "acme", ID: "c"}, At: testTime}
	at, err := s.begin(r)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, filepath.Join(dir, "full"))
	r.Log = []string{strings.Repeat("x", roomSize/2)}
	for _, body := range []string{BodyNone, BodyMini} {
		r.Body = body
		if err := s.save(r); err != nil {
			t.Fatalf("the record of body %s: %v", body, err)
		}
	}
	if err := s.shelve(r); err != nil {
		t.Fatal(err)
	}
	back, err := s.load("acme", r.ID)
	if err != nil || back.Body != BodyMini || len(back.Log[0]) != roomSize/2 {
		t.Errorf("%+v, %v", back, err)
	}
	if left, err := filepath.Glob(filepath.Join(at, "room*")); err != nil || len(left) > 0 {
		t.Errorf("left are %q, %v", left, err)
	}
}

// TestKernelAFullVolumeTakesARecord: the reserve's room is for what explains most.
func TestKernelAFullVolumeTakesARecord(t *testing.T) {
	dir := small(t, 40)
	s, err := OpenStore(dir, Keep{Age: time.Hour, Bytes: 1 << 40, Dumps: 99, PerPlace: 9}, 0, func() time.Time { return testTime })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Prune(); err != nil {
		t.Fatal(err)
	}
	fill(t, filepath.Join(dir, "full"))
	id := put(t, s, "acme", 1, "", 0)
	if got := dumpsOf(t, s, "acme"); !slices.Equal(got, []string{id}) {
		t.Errorf("kept %q", got)
	}
	fill(t, filepath.Join(dir, "full2"))
	newer := put(t, s, "acme", 2, "", 0) // in the place of the oldest
	if got := dumpsOf(t, s, "acme"); !slices.Equal(got, []string{newer}) {
		t.Errorf("kept %q, want %q", got, newer)
	}
	fill(t, filepath.Join(dir, "full3"))
	r := &Record{ID: "00000000000f", Container: triton.ContainerKey{Tenant: "other", ID: "c"}}
	if _, err := s.begin(r); err == nil {
		err = s.save(r)
		if err == nil {
			t.Error("a record on a volume without room, and without a dump of the tenant's")
		}
	}
	if got := dumpsOf(t, s, "acme"); !slices.Equal(got, []string{newer}) {
		t.Errorf("another tenant's dump took the place of %q: %q are left", newer, got)
	}
	if err := s.makeRoom("acme", 1); err != nil {
		t.Error(err)
	}
}

func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, fs.FileMode(0o600))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for {
		if _, err := f.Write(block); err != nil {
			return
		}
	}
}

func TestRepeatsAreBounded(t *testing.T) {
	a := rate{seen: map[string][]time.Time{}}
	for i := range 5 {
		if got := a.allow("p", testTime, 3); got != (i < 3) {
			t.Errorf("crash %d: %v", i, got)
		}
	}
	if !a.allow("q", testTime, 3) || !a.allow("p", testTime.Add(ratePeriod+1), 3) {
		t.Error("another place, or an hour later, is refused")
	}
}
