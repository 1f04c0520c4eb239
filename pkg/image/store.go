package image

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/moby/locker"

	"github.com/tritond/triton/pkg/triton"
)

// Config says where a Store keeps its data and whom it asks and tells.
type Config struct {
	// Root is the directory of everything that lasts. No other process may use it at the same time.
	Root string
	// State is the directory for what may vanish at a reboot. Nothing is kept there today.
	State string
	// MinFree, in bytes, is the free space below which loads, imports and new containers are refused with
	// errdefs.ErrResourceExhausted. Removing works always. 0: no floor.
	MinFree uint64
	// InUse gives the ids of all containers, running or not, that were made from an image. nil: none.
	InUse func(ctx context.Context, tenant triton.Tenant, imageID string) ([]string, error)
	// Running gives those of them that run, whose images not even force removes. nil: none.
	Running func(ctx context.Context, tenant triton.Tenant, imageID string) ([]string, error)
	// Events is told of load, import, tag, untag and delete, after the fact. It must not block. nil: nobody.
	Events func(triton.Event)
	// Registries says how registries are spoken to.
	Registries RegistryConfig
	// Log may be nil.
	Log *slog.Logger
}

// Validate lists everything wrong with c.
func (c Config) Validate() error {
	if !filepath.IsAbs(c.Root) {
		return fmt.Errorf("image root %q: must be an absolute path: %w", c.Root, errdefs.ErrInvalidArgument)
	}
	return c.Registries.Validate()
}

// Store is the images and container file systems of one machine. Its methods may be called by any goroutine.
type Store struct {
	cfg   Config
	log   *slog.Logger
	floor floor
	eng   *engine
	rw    *layers
	jan   *janitor

	// names guards what reads and then writes records of images: publish, Tag, Remove.
	names sync.Mutex
	// collecting lets one collection run at a time.
	collecting sync.Mutex
	// pulls are those under way.
	pulls flights
	// unpacking holds one lock per chain of layers that is being unpacked.
	unpacking locker.Locker
	// generation counts changes of records; indexes caches what was read of them, by namespace.
	generation atomic.Uint64
	indexes    sync.Map
	// configs caches what an immutable config blob says, by image id.
	configs sync.Map
}

// Open opens or makes the store below cfg.Root and removes what a crash left: half loaded images, half made and half
// removed container layers. A damaged database is errdefs.ErrDataLoss; a store in use is errdefs.ErrUnavailable.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, log: cfg.Log, floor: floor{path: cfg.Root, min: cfg.MinFree}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.Root, 0o700); err != nil {
		return nil, fmt.Errorf("make image root: %w", err)
	}
	eng, err := openEngine(ctx, cfg.Root)
	if err != nil {
		return nil, err
	}
	s.eng = eng
	if s.rw, err = openLayers(filepath.Join(cfg.Root, "rw")); err != nil {
		return nil, errors.Join(err, eng.Close())
	}
	eng.db.RegisterCollectibleResource(resourceContainerLayer, s.rw)
	if err := eng.dropLeases(ctx); err != nil {
		return nil, errors.Join(err, eng.Close())
	}
	s.jan = newJanitor(s)
	s.jan.collect()
	return s, nil
}

// Close waits for what runs in the background and closes the databases. Containers' file systems stay usable.
func (s *Store) Close() error {
	s.pulls.close()
	s.jan.close()
	return s.eng.Close()
}

// Collect removes, before it returns, everything that no image, container or running load needs.
func (s *Store) Collect(ctx context.Context) error {
	if err := s.rw.emptyTrash(ctx); err != nil {
		return err
	}
	return s.collectGarbage(ctx)
}

// collectGarbage runs one collection. A second one would find nothing to do and return while the first still removes files.
func (s *Store) collectGarbage(ctx context.Context) error {
	s.collecting.Lock()
	defer s.collecting.Unlock()
	if _, err := s.eng.db.GarbageCollect(ctx); err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	s.configs.Clear()
	return nil
}

// namespacePrefix comes before a tenant's name in the name of its containerd namespace.
const namespacePrefix = "triton-"

// namespaceOf is the name of a tenant's namespace. containerd allows no two dashes in a row and tenants have no capitals,
// so an X between them keeps names apart.
func namespaceOf(tenant triton.Tenant) string {
	name := namespacePrefix + string(tenant)
	for strings.Contains(name, "--") {
		name = strings.ReplaceAll(name, "--", "-X-")
	}
	return name
}

// inTenant checks the tenant's name and gives the context that containerd's stores find it by.
func inTenant(ctx context.Context, tenant triton.Tenant) (context.Context, error) {
	if err := tenant.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return namespaces.WithNamespace(ctx, namespaceOf(tenant)), nil
}
