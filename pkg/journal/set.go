package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// Set is the record of a node with tenants: a Journal for each, so that what one makes happen pushes out nothing of another's, and who
// follows one does not read the others'. Each has numbers of its own. The default tenant's files are in Config.Dir, another's in a
// folder of its name there, with segments of half the size. Its methods may be called from any goroutine.
type Set struct {
	cfg Config

	mu       sync.Mutex
	journals map[triton.Tenant]*Journal // those that somebody wrote or read; nil after Close
}

// OpenSet opens the default tenant's journal; another's is opened by the first call that names it.
func OpenSet(cfg Config) (*Set, error) {
	j, err := Open(cfg)
	if err != nil {
		return nil, err
	}
	cfg.SegmentSize = j.cfg.SegmentSize / 2 // there may be many tenants
	return &Set{cfg: cfg, journals: map[triton.Tenant]*Journal{triton.DefaultTenant: j}}, nil
}

// of returns a tenant's journal. ErrInvalidArgument: no tenant can have that name; ErrUnavailable: the set is closed.
func (s *Set) of(tenant triton.Tenant) (*Journal, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journals == nil {
		return nil, fmt.Errorf("journal is closed: %w", errdefs.ErrUnavailable)
	}
	if j := s.journals[tenant]; j != nil {
		return j, nil
	}
	if err := tenant.Validate(); err != nil { // its name becomes a path
		return nil, fmt.Errorf("journal: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	cfg := s.cfg
	cfg.Dir = s.dir(tenant)
	j, err := Open(cfg)
	if err != nil {
		return nil, err
	}
	s.journals[tenant] = j
	return j, nil
}

func (s *Set) dir(tenant triton.Tenant) string { return filepath.Join(s.cfg.Dir, string(tenant)) }

// Append is Journal.Append for the event's tenant.
func (s *Set) Append(e triton.Event) (triton.Event, error) {
	j, err := s.of(e.Tenant)
	if err != nil {
		return e, err
	}
	return j.Append(e)
}

// Read is Journal.Read of one tenant.
func (s *Set) Read(ctx context.Context, tenant triton.Tenant, since, until time.Time, emit func(triton.Event) error) error {
	j, err := s.of(tenant)
	if err != nil {
		return err
	}
	return j.Read(ctx, tenant, since, until, emit)
}

// Stream is Journal.Stream of one tenant.
func (s *Set) Stream(ctx context.Context, tenant triton.Tenant, since, until time.Time, emit func(triton.Event) error) error {
	j, err := s.of(tenant)
	if err != nil {
		return err
	}
	return j.Stream(ctx, tenant, since, until, emit)
}

// Forget removes what is kept of a tenant that is no more, so that a later one of the same name does not read it. Its followers end.
func (s *Set) Forget(tenant triton.Tenant) error {
	if tenant == triton.DefaultTenant || tenant.Validate() != nil {
		return fmt.Errorf("forget the journal of %q: %w", tenant, errdefs.ErrInvalidArgument)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if j := s.journals[tenant]; j != nil {
		delete(s.journals, tenant)
		err = j.Close()
	}
	return errors.Join(err, os.RemoveAll(s.dir(tenant)))
}

// Stats returns the numbers of each tenant whose journal is open.
func (s *Set) Stats() map[triton.Tenant]Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[triton.Tenant]Stats, len(s.journals))
	for tenant, j := range s.journals {
		all[tenant] = j.Stats()
	}
	return all
}

// Close closes all of them. It may be called twice.
func (s *Set) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, j := range s.journals {
		errs = append(errs, j.Close())
	}
	s.journals = nil
	return errors.Join(errs...)
}
