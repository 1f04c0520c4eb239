package crashgroup

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/durable"
	"github.com/tritond/triton/pkg/triton"
)

const (
	suffix = ".json"
	// maxFile bounds a group's file: four times maxTallies, and the digests.
	maxFile = 1 << 20
	// DefaultKeep is how many groups a daemon keeps of one tenant.
	DefaultKeep = 1000
)

// Store is the groups on disk: DIR/TENANT/ID.json. Safe for use by several goroutines.
type Store struct {
	dir  string
	keep int
	now  func() time.Time

	mu      sync.Mutex // held while files change
	known   map[triton.Tenant]map[string]short
	dropped uint64
}

// short is what is known of a group without its file.
type short struct {
	first, last         time.Time
	resolved, regressed bool
}

func shortOf(g *Group) short { return short{g.First, g.Last, g.Resolved != nil, g.Regressed != nil} }

func (s short) at(now time.Time) State {
	g := Group{First: s.first}
	if s.resolved {
		g.Resolved = &Resolution{}
	}
	if s.regressed {
		g.Regressed = &Regression{}
	}
	return g.at(now)
}

// Open makes dir if need be, removes what a kill left, and reads what there is. Of a tenant at most keep groups stay.
// damaged counts files that could not be read; they stay.
func Open(dir string, keep int, now func() time.Time) (s *Store, damaged int, err error) {
	if err := durable.OpenTree(dir); err != nil {
		return nil, 0, fmt.Errorf("crash groups: %w", err)
	}
	s = &Store{dir: dir, keep: keep, now: now, known: map[triton.Tenant]map[string]short{}}
	tenants, err := os.ReadDir(dir)
	if err != nil {
		return nil, 0, fmt.Errorf("crash groups: %w", err)
	}
	for _, t := range tenants {
		tenant := triton.Tenant(t.Name())
		if !t.IsDir() || tenant.Validate() != nil {
			continue
		}
		ids, err := s.ids(tenant)
		if err != nil {
			return nil, 0, err
		}
		for _, id := range ids {
			g, err := s.load(tenant, id)
			if err != nil {
				damaged++
				continue
			}
			s.note(g)
		}
	}
	return s, damaged, nil
}

// note remembers a group's summary. The caller holds s.mu, or nobody else has s.
func (s *Store) note(g *Group) {
	if s.known[g.Tenant] == nil {
		s.known[g.Tenant] = map[string]short{}
	}
	s.known[g.Tenant][g.ID] = shortOf(g)
}

func validID(id string) bool {
	return len(id) == idLength && strings.Trim(id, "0123456789abcdef") == ""
}

func noSuchGroup(ref string) error {
	return fmt.Errorf("no such crash group: %s: %w", ref, errdefs.ErrNotFound)
}

// path is the file of a group; the names are checked, so it is below the store.
func (s *Store) path(tenant triton.Tenant, id string) (string, error) {
	if err := tenant.Validate(); err != nil {
		return "", err
	}
	if !validID(id) {
		return "", noSuchGroup(id)
	}
	return filepath.Join(s.dir, string(tenant), id+suffix), nil
}

// Count counts a crash, once however often it is told of it, and returns its group with its state. It is on the disk then.
func (s *Store) Count(c *Crash) (*Group, error) {
	id := c.ID()
	path, err := s.path(c.Container.Tenant, id)
	if err != nil {
		return nil, fmt.Errorf("count crash %s: %w", c.Dump, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.load(c.Container.Tenant, id)
	if errors.Is(err, fs.ErrNotExist) {
		g, err = &Group{ID: id, Tenant: c.Container.Tenant, OperatorOnly: c.OperatorOnly}, os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("count crash %s: %w", c.Dump, err)
	}
	if g.add(c) {
		if err := s.save(g); err != nil {
			return nil, fmt.Errorf("count crash %s: %w", c.Dump, err)
		}
	}
	return s.shown(g), s.prune(g)
}

// CountOnly counts n crashes more that are like one of a group, the last of them at c.At: c.Dump is that one's, and says nothing of
// itself. It is not idempotent. errdefs.ErrNotFound: the group is there no more.
func (s *Store) CountOnly(id string, c *Crash, n uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.load(c.Container.Tenant, id)
	if errors.Is(err, fs.ErrNotExist) {
		err = noSuchGroup(id)
	}
	if err != nil {
		return fmt.Errorf("count crashes like %s: %w", c.Dump, err)
	}
	g.tally(c, n)
	g.CountedOnly += n
	return s.save(g)
}

// prune removes the groups that have not been seen for longest, but never spared. The caller holds s.mu.
func (s *Store) prune(spared *Group) error {
	known := s.known[spared.Tenant]
	var errs []error
	for len(known) > s.keep {
		oldest := ""
		for id, k := range known {
			if id != spared.ID && (oldest == "" || k.last.Before(known[oldest].last)) {
				oldest = id
			}
		}
		if oldest == "" {
			break
		}
		path, err := s.path(spared.Tenant, oldest)
		errs = append(errs, err, durable.Remove(path))
		delete(known, oldest)
		s.dropped++
	}
	return errors.Join(errs...)
}

// save writes a group, all or nothing, and onto the disk. The caller holds s.mu.
func (s *Store) save(g *Group) error {
	path, err := s.path(g.Tenant, g.ID)
	if err != nil {
		return err
	}
	kept := *g
	kept.State = ""
	err = durable.WriteFile(path, func(w io.Writer) error { return json.NewEncoder(w).Encode(kept) })
	if err == nil {
		s.note(g)
	}
	return err
}

// shown fills in what is not kept.
func (s *Store) shown(g *Group) *Group {
	g.State = g.at(s.now())
	return g
}

func (s *Store) load(tenant triton.Tenant, id string) (*Group, error) {
	path, err := s.path(tenant, id)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var g Group
	if err := json.NewDecoder(io.LimitReader(f, maxFile)).Decode(&g); err != nil {
		return nil, fmt.Errorf("crash group %s: %w", id, err)
	}
	if g.ID != id || g.Tenant != tenant {
		return nil, fmt.Errorf("crash group %s is another's", id)
	}
	return &g, nil
}

func (s *Store) ids(tenant triton.Tenant) ([]string, error) {
	if err := tenant.Validate(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, string(tenant)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list crash groups: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), suffix); ok && validID(id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// List returns a tenant's groups, the one that crashed last first. Groups that cannot be read are counted. operator says
// whether the caller may see those of setuid programs.
func (s *Store) List(tenant triton.Tenant, operator bool) (groups []*Group, damaged int, err error) {
	ids, err := s.ids(tenant)
	if err != nil {
		return nil, 0, err
	}
	for _, id := range ids {
		g, err := s.load(tenant, id)
		switch {
		case errors.Is(err, fs.ErrNotExist): // pruned meanwhile
		case err != nil:
			damaged++
		case !g.OperatorOnly || operator:
			groups = append(groups, s.shown(g))
		}
	}
	slices.SortFunc(groups, func(a, b *Group) int { return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.ID, b.ID)) })
	return groups, damaged, nil
}

// Get returns a group by its id or a unique prefix of one: errdefs.ErrNotFound.
func (s *Store) Get(tenant triton.Tenant, ref string, operator bool) (*Group, error) {
	ids, err := s.ids(tenant)
	if err != nil {
		return nil, err
	}
	var found *Group
	for _, id := range ids {
		if ref == "" || !strings.HasPrefix(id, ref) {
			continue
		}
		g, err := s.load(tenant, id)
		if err != nil || g.OperatorOnly && !operator {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("several crash groups begin with %s: %w", ref, errdefs.ErrInvalidArgument)
		}
		found = g
	}
	if found == nil {
		return nil, noSuchGroup(ref)
	}
	return s.shown(found), nil
}

// Resolve notes that by says that a group's bug is no more, in images beyond those that crashed so far. One that is
// resolved already, or has regressed, is resolved anew.
func (s *Store) Resolve(tenant triton.Tenant, ref, by string, operator bool) (*Group, error) {
	return s.change(tenant, ref, operator, func(g *Group) { g.resolve(by, s.now()) })
}

// Reopen takes a Resolve back.
func (s *Store) Reopen(tenant triton.Tenant, ref string, operator bool) (*Group, error) {
	return s.change(tenant, ref, operator, func(g *Group) { g.Resolved, g.Regressed = nil, nil })
}

func (s *Store) change(tenant triton.Tenant, ref string, operator bool, how func(*Group)) (*Group, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.Get(tenant, ref, operator)
	if err != nil {
		return nil, err
	}
	how(g)
	if err := s.save(g); err != nil {
		return nil, fmt.Errorf("crash group %s: %w", g.ID, err)
	}
	return s.shown(g), nil
}

// Counts returns how many groups each tenant has in each state, and how many were dropped since Open for want of room.
func (s *Store) Counts() (groups map[triton.Tenant]map[State]int, dropped uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	groups, now := map[triton.Tenant]map[State]int{}, s.now()
	for tenant, known := range s.known {
		groups[tenant] = map[State]int{}
		for _, k := range known {
			groups[tenant][k.at(now)]++
		}
	}
	return groups, s.dropped
}
