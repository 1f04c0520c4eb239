package coredump

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
func put(t *testing.T, s *Store, tenant triton.Tenant, n int, place string, size int64) string {
	t.Helper()
	r := &Record{ID: fmt.Sprintf("%012x", n), Container: triton.ContainerKey{Tenant: tenant, ID: "c"}, At: testTime.Add(time.Duration(n) * time.Minute), Place: place}
	dir, err := s.begin(r)
	if err != nil {
		t.Fatal(err)
	}
	f, err := writeFile(filepath.Join(dir, bodyFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if size > 0 {
		if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.save(r); err != nil {
		t.Fatal(err)
	}
	if err := s.shelve(r); err != nil {
		t.Fatal(err)
	}
	return r.ID
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

// TestKernelAFullVolumeTakesARecord: the reserve's room is for what explains most.
func TestKernelAFullVolumeTakesARecord(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=40m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
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
	r := &Record{ID: "00000000000f", Container: triton.ContainerKey{Tenant: "acme", ID: "c"}}
	if _, err := s.begin(r); err == nil {
		err = s.save(r)
		if err == nil {
			t.Error("a record on a volume without room")
		}
	}
	if err := s.makeRoom("acme"); err != nil {
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
