package coredump

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/durable"
	"github.com/tritond/triton/pkg/triton"
)

// A dump is a directory DIR/TENANT/ID: record.json, which makes it visible; head, the core's header and notes as one
// core without memory; mini.core; body. All are readable by root only.
const (
	recordFile = "record.json"
	headFile   = "head"
	miniFile   = "mini.core"
	bodyFile   = "body"
	idLength   = 12
	maxRecord  = 32 << 20
)

// Store is the dumps on disk. Safe for use by several goroutines.
type Store struct {
	dir     string
	bounds  Keep
	minFree uint64
	now     func() time.Time
	shelf   shelf
	objects objects
}

// OpenStore makes dir if need be, and removes what a kill left without a record and what keep does not allow.
// minFree bytes stay free on the volume: dumps of the tenant that wants room go for it.
func OpenStore(dir string, keep Keep, minFree uint64, now func() time.Time) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("dump store: %w", err)
	}
	s := &Store{dir: dir, bounds: keep, minFree: minFree, now: now, shelf: shelf{dumps: map[triton.Tenant][]kept{}}}
	s.objects.unknown = map[triton.Tenant]bool{}
	tenants, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("dump store: %w", err)
	}
	for _, t := range tenants {
		if !t.IsDir() {
			continue
		}
		tenant := triton.Tenant(t.Name())
		if tenant.Validate() != nil {
			continue
		}
		if err := errors.Join(s.fill(tenant), s.sweep(tenant)); err != nil {
			return nil, fmt.Errorf("dump store: %w", err)
		}
	}
	return s, s.Prune()
}

// fill puts a tenant's dumps on the shelf, and removes those that have no record. Each record is read once.
func (s *Store) fill(tenant triton.Tenant) error {
	ids, err := s.ids(tenant)
	if err != nil {
		return err
	}
	var dumps []kept
	for _, id := range ids {
		r, err := s.load(tenant, id)
		switch {
		case errors.Is(err, os.ErrNotExist):
			if err := os.RemoveAll(filepath.Join(s.dir, string(tenant), id)); err != nil {
				return err
			}
			continue
		case err != nil:
			s.objects.unknown[tenant] = true
			continue
		}
		k, err := s.weighed(r)
		if err != nil {
			return err
		}
		dumps = append(dumps, k)
	}
	sortKept(dumps)
	s.shelf.dumps[tenant] = dumps
	return nil
}

func validID(id string) bool {
	return len(id) == idLength && strings.Trim(id, "0123456789abcdef") == ""
}

// path is the directory of a dump; the names are checked, so it is below the store.
func (s *Store) path(tenant triton.Tenant, id string) (string, error) {
	if err := tenant.Validate(); err != nil {
		return "", err
	}
	if !validID(id) {
		return "", noSuchDump(id)
	}
	return filepath.Join(s.dir, string(tenant), id), nil
}

func noSuchDump(id string) error {
	return fmt.Errorf("no such dump: %s: %w", id, errdefs.ErrNotFound)
}

// begin makes the directory of a new dump, with room for its records.
func (s *Store) begin(r *Record) (string, error) {
	dir, err := s.path(r.Container.Tenant, r.ID)
	if err != nil {
		return "", err
	}
	err = s.insist(r.Container.Tenant, func() error {
		if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
			return err
		}
		return os.Mkdir(dir, 0o700)
	})
	if err == nil {
		err = s.insist(r.Container.Tenant, func() error { return setAside(dir) })
		if full(err) { // a short record finds its place perhaps
			err = giveBack(dir, roomFiles)
		}
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("new dump: %w", err), os.RemoveAll(dir))
	}
	return dir, nil
}

// save writes the record, all or nothing, and onto the disk.
func (s *Store) save(r *Record) error {
	dir, err := s.path(r.Container.Tenant, r.ID)
	if err != nil {
		return err
	}
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode dump record: %w", err)
	}
	if err := giveBack(dir, 1); err != nil {
		return err
	}
	return s.insist(r.Container.Tenant, func() error {
		return durable.WriteFile(filepath.Join(dir, recordFile), func(w io.Writer) error {
			_, err := w.Write(b)
			return err
		})
	})
}

// Get returns a dump's record, by id or a unique prefix of one: errdefs.ErrNotFound. operator says whether the caller may
// see dumps of setuid programs; to others they do not exist.
func (s *Store) Get(tenant triton.Tenant, ref string, operator bool) (*Record, error) {
	ids, err := s.ids(tenant)
	if err != nil {
		return nil, err
	}
	var found *Record
	for _, id := range ids {
		if ref == "" || !strings.HasPrefix(id, ref) {
			continue
		}
		r, err := s.load(tenant, id)
		if err != nil || r.OperatorOnly && !operator {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("several dumps begin with %s: %w", ref, errdefs.ErrInvalidArgument)
		}
		found = r
	}
	if found == nil {
		return nil, noSuchDump(ref)
	}
	return found, nil
}

// List returns a tenant's records, newest first. Records that cannot be read are counted.
func (s *Store) List(tenant triton.Tenant, operator bool) (records []*Record, damaged int, err error) {
	ids, err := s.ids(tenant)
	if err != nil {
		return nil, 0, err
	}
	for _, id := range ids {
		r, err := s.load(tenant, id)
		switch {
		case errors.Is(err, os.ErrNotExist): // being written
		case err != nil:
			damaged++
		case !r.OperatorOnly || operator:
			records = append(records, r)
		}
	}
	slices.SortFunc(records, func(a, b *Record) int { return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.ID, b.ID)) })
	return records, damaged, nil
}

func (s *Store) ids(tenant triton.Tenant) ([]string, error) {
	if err := tenant.Validate(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, string(tenant)))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list dumps: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if validID(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

func (s *Store) load(tenant triton.Tenant, id string) (*Record, error) {
	var r Record
	if err := s.readDocument(tenant, id, recordFile, maxRecord, &r); err != nil {
		return nil, err
	}
	if r.ID != id || r.Container.Tenant != tenant {
		return nil, fmt.Errorf("record of dump %s is another's", id)
	}
	return &r, nil
}

// readDocument decodes a JSON file of a dump, of at most limit bytes.
func (s *Store) readDocument(tenant triton.Tenant, id, name string, limit int64, into any) error {
	dir, err := s.path(tenant, id)
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := json.NewDecoder(io.LimitReader(f, limit)).Decode(into); err != nil {
		return fmt.Errorf("%s of dump %s: %w", name, id, err)
	}
	return nil
}

// Remove deletes a dump.
func (s *Store) Remove(tenant triton.Tenant, ref string, operator bool) error {
	r, err := s.Get(tenant, ref, operator)
	if err != nil {
		return err
	}
	if err := s.drop(tenant, r.ID); err != nil {
		return err
	}
	s.forget(tenant, r.ID) // not before it is gone: what it names would count as nobody's
	return s.sweep(tenant)
}

// OpenMini opens the mini core.
func (s *Store) OpenMini(r *Record) (*os.File, error) {
	dir, err := s.path(r.Container.Tenant, r.ID)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(dir, miniFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("dump %s has no mini core: %w", r.ID, errdefs.ErrNotFound)
	}
	return f, err
}

// OpenCore opens the core with all that was saved; errdefs.ErrNotFound where there is no body.
func (s *Store) OpenCore(r *Record) (*Core, error) {
	dir, err := s.path(r.Container.Tenant, r.ID)
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(filepath.Join(dir, headFile))
	if err != nil {
		return nil, ignoreNoBody(r, err)
	}
	h, err := ReadHead(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	body, err := os.Open(filepath.Join(dir, bodyFile))
	if err != nil {
		return nil, ignoreNoBody(r, err)
	}
	c, err := openCore(h, body)
	if err != nil {
		body.Close()
		return nil, err
	}
	return c, nil
}

func ignoreNoBody(r *Record, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("dump %s has only a mini core: %w", r.ID, errdefs.ErrNotFound)
	}
	return err
}

// free returns how many bytes the store's volume can take.
func (s *Store) free() uint64 {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return 0
	}
	return st.Bavail * uint64(st.Bsize)
}
