package journal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

func openSet(t *testing.T, cfg Config) *Set {
	t.Helper()
	s, err := OpenSet(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// happen appends events of a tenant whose ids are first, first+1, and so on.
func happen(t *testing.T, s *Set, tenant triton.Tenant, first, n int) {
	t.Helper()
	for i := range n {
		_, err := s.Append(triton.Event{Time: at(first + i), Tenant: tenant, Type: triton.EventContainer, Action: "start", ID: strconv.Itoa(first + i)})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func idsOf(t *testing.T, s *Set, tenant triton.Tenant) []string {
	t.Helper()
	var ids []string
	err := s.Read(t.Context(), tenant, time.Time{}, time.Time{}, func(e triton.Event) error {
		ids = append(ids, e.ID)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// One tenant's events without end push out its own, none of another's, before and after the daemon was started anew.
func TestAFloodPushesOutNoOtherTenantsEvents(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), SegmentSize: 8 << 10, Segments: 2}
	s := openSet(t, cfg)
	quiet := []triton.Tenant{triton.DefaultTenant, "globex"}
	want := []string{"1", "2", "3"}
	for _, tenant := range quiet {
		happen(t, s, tenant, 1, 3)
	}
	happen(t, s, "acme", 1, 2000)
	check := func() {
		t.Helper()
		for _, tenant := range quiet {
			if diff := cmp.Diff(want, idsOf(t, s, tenant)); diff != "" {
				t.Errorf("events of %s (-want +got):\n%s", tenant, diff)
			}
		}
		if left := idsOf(t, s, "acme"); len(left) < 20 || len(left) > 200 || left[len(left)-1] != "2000" {
			t.Errorf("of the flood are left: %v", left)
		}
	}
	check()
	if stats := s.Stats(); stats["acme"].Last != 2000 || stats["globex"].Last != 3 {
		t.Errorf("stats %+v", stats)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openSet(t, cfg)
	check()
	happen(t, s, "globex", 4, 1)
	want = append(want, "4")
	happen(t, s, triton.DefaultTenant, 4, 1)
	check()
}

func TestAForgottenTenantLeavesNothingToItsNamesake(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	s := openSet(t, cfg)
	happen(t, s, "acme", 1, 3)
	happen(t, s, triton.DefaultTenant, 1, 1)
	follower := make(chan error, 1)
	seen := make(chan struct{}, 10)
	go func() {
		follower <- s.Stream(t.Context(), "acme", at(0), time.Time{}, func(triton.Event) error { seen <- struct{}{}; return nil })
	}()
	for range 3 {
		<-seen
	}
	if err := s.Forget("acme"); err != nil {
		t.Fatal(err)
	}
	if err := <-follower; !errdefs.IsUnavailable(err) {
		t.Errorf("the follower ends with %v", err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, "acme")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its files: %v", err)
	}
	if ids := idsOf(t, s, "acme"); len(ids) > 0 {
		t.Errorf("the next acme reads %v", ids)
	}
	happen(t, s, "acme", 7, 1)
	if diff := cmp.Diff([]string{"7"}, idsOf(t, s, "acme")); diff != "" {
		t.Errorf("events of the next acme (-want +got):\n%s", diff)
	}
	if err := s.Forget(triton.DefaultTenant); !errdefs.IsInvalidArgument(err) || len(idsOf(t, s, triton.DefaultTenant)) != 1 {
		t.Errorf("the default tenant: %v", err)
	}
}

func TestOnlyTenantsHaveAJournal(t *testing.T) {
	s := openSet(t, Config{Dir: filepath.Join(t.TempDir(), "journal")})
	for _, name := range []triton.Tenant{"", "..", "../x", "A", "a/b"} {
		if _, err := s.Append(triton.Event{Tenant: name}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: append: %v", name, err)
		}
		if err := s.Forget(name); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: forget: %v", name, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Stream(context.Background(), "acme", time.Time{}, time.Time{}, nil); !errdefs.IsUnavailable(err) {
		t.Errorf("stream of a closed set: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}
