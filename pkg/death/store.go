package death

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/durable"
	"github.com/tritond/triton/pkg/triton"
)

const (
	idLength  = 12
	maxRecord = 8 << 20 // bytes of a record's file
)

// Keep bounds what a store holds. The oldest go first.
type Keep struct {
	PerContainer int           // records of one container: a loop of restarts takes no more
	PerTenant    int           // records of one tenant
	Bytes        int64         // of one tenant's records
	Age          time.Duration // since the end
}

// DefaultKeep is what a daemon keeps.
var DefaultKeep = Keep{PerContainer: 16, PerTenant: 256, Bytes: 64 << 20, Age: 30 * 24 * time.Hour}

// Store is the records on disk: DIR/TENANT/TIME-CONTAINER-ID.json, so that a listing of names is in order of time and says
// whose a record is. Safe for use by several goroutines.
type Store struct {
	dir  string
	keep Keep
	now  func() time.Time

	mu sync.Mutex // held while files come and go
}

// OpenStore makes dir if need be, and removes what a kill left.
func OpenStore(dir string, keep Keep, now func() time.Time) (*Store, error) {
	if err := durable.OpenTree(dir); err != nil {
		return nil, fmt.Errorf("death records: %w", err)
	}
	return &Store{dir: dir, keep: keep, now: now}, nil
}

// entry is what a record's file name says.
type entry struct {
	name      string
	ms        int64 // of the end, since 1970
	container string
	id        string
	size      int64
}

// shortID is how much of a container's id is in a name.
const shortID = 12

func nameOf(r *Record) string {
	return fmt.Sprintf("%013d-%s-%s.json", max(0, r.At.UnixMilli()), r.Container.ID[:shortID], r.ID)
}

func parseName(name string) (entry, bool) {
	base, ok := strings.CutSuffix(name, ".json")
	f := strings.Split(base, "-")
	if !ok || len(f) != 3 || len(f[1]) != shortID || len(f[2]) != idLength {
		return entry{}, false
	}
	ms, err := strconv.ParseInt(f[0], 10, 64)
	return entry{name: name, ms: ms, container: f[1], id: f[2]}, err == nil
}

// Put keeps a record; one of the same end that is there already stays. Then what is too old or too much is removed.
func (s *Store) Put(r *Record) error { return s.put(r, false) }

// Complete replaces a record that is there by one of the same end that says more; one that is not there stays away.
func (s *Store) Complete(r *Record) error { return s.put(r, true) }

func (s *Store) put(r *Record, there bool) error {
	if err := r.Container.Tenant.Validate(); err != nil {
		return err
	}
	if !triton.ValidID(r.Container.ID) || r.ID != ID(r.Container, r.Run) {
		return fmt.Errorf("death record %q of %s: %w", r.ID, r.Container, errdefs.ErrInvalidArgument)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode death record: %w", err)
	}
	if len(b) > maxRecord {
		return fmt.Errorf("death record of %s has %d bytes: %w", r.Container, len(b), errdefs.ErrInvalidArgument)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known, err := s.entries(r.Container.Tenant)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(known, func(e entry) bool { return e.id == r.ID }) != there {
		return nil
	}
	dir := filepath.Join(s.dir, string(r.Container.Tenant))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("death records: %w", err)
	}
	err = durable.WriteFile(filepath.Join(dir, nameOf(r)), func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
	if err != nil {
		return err
	}
	return s.prune(r.Container.Tenant)
}

// prune removes what Keep does not allow, but never the newest record. The caller holds s.mu.
func (s *Store) prune(tenant triton.Tenant) error {
	entries, err := s.entries(tenant)
	if err != nil {
		return err
	}
	oldest := s.now().Add(-s.keep.Age).UnixMilli()
	perContainer := map[string]int{}
	var kept int
	var bytes int64
	var errs []error
	for i, e := range entries { // newest first
		perContainer[e.container]++
		kept, bytes = kept+1, bytes+e.size
		over := e.ms < oldest || kept > s.keep.PerTenant || bytes > s.keep.Bytes || perContainer[e.container] > s.keep.PerContainer
		if i == 0 || !over {
			continue
		}
		kept, bytes = kept-1, bytes-e.size
		errs = append(errs, durable.Remove(filepath.Join(s.dir, string(tenant), e.name)))
	}
	return errors.Join(errs...)
}

// entries lists a tenant's records, newest first.
func (s *Store) entries(tenant triton.Tenant) ([]entry, error) {
	if err := tenant.Validate(); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(filepath.Join(s.dir, string(tenant)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list death records: %w", err)
	}
	var out []entry
	for _, f := range files {
		e, ok := parseName(f.Name())
		if !ok {
			continue
		}
		info, err := f.Info()
		if err != nil {
			continue // pruned meanwhile
		}
		e.size = info.Size()
		out = append(out, e)
	}
	slices.Reverse(out)
	return out, nil
}

// List returns a tenant's records, newest first. Records that cannot be read are counted.
func (s *Store) List(tenant triton.Tenant) (records []*Record, damaged int, err error) {
	entries, err := s.entries(tenant)
	if err != nil {
		return nil, 0, err
	}
	for _, e := range entries {
		r, err := s.load(tenant, e)
		switch {
		case errors.Is(err, fs.ErrNotExist): // pruned meanwhile
		case err != nil:
			damaged++
		default:
			records = append(records, r)
		}
	}
	return records, damaged, nil
}

// Get returns the record with an id or a unique prefix of one, or else the newest of the container with that name, id or
// prefix of an id. errdefs.ErrNotFound.
func (s *Store) Get(tenant triton.Tenant, ref string) (*Record, error) {
	entries, err := s.entries(tenant)
	if err != nil {
		return nil, err
	}
	var byID []entry
	for _, e := range entries {
		if ref != "" && strings.HasPrefix(e.id, ref) {
			byID = append(byID, e)
		}
	}
	if len(byID) == 1 {
		return s.load(tenant, byID[0])
	}
	for _, e := range entries {
		r, err := s.load(tenant, e)
		if err == nil && ref != "" && (r.Name == ref || strings.HasPrefix(r.Container.ID, ref)) {
			return r, nil
		}
	}
	if len(byID) > 1 {
		return nil, fmt.Errorf("several death records begin with %s: %w", ref, errdefs.ErrInvalidArgument)
	}
	return nil, fmt.Errorf("no such death record: %s: %w", ref, errdefs.ErrNotFound)
}

func (s *Store) load(tenant triton.Tenant, e entry) (*Record, error) {
	f, err := os.Open(filepath.Join(s.dir, string(tenant), e.name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r Record
	if err := json.NewDecoder(io.LimitReader(f, maxRecord)).Decode(&r); err != nil {
		return nil, fmt.Errorf("death record %s: %w", e.id, err)
	}
	if r.ID != e.id || r.Container.Tenant != tenant {
		return nil, fmt.Errorf("death record %s is another's", e.id)
	}
	return &r, nil
}
