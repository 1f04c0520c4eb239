package image

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/errdefs"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// snapshotter is the name under which containerd's metadata knows the unpacked layers.
const snapshotter = "overlayfs"

// lockTimeout is how long Open waits for another process to let go of the database: long enough for a daemon that is
// just being replaced, short enough for a clear error.
const lockTimeout = 5 * time.Second

// engine is the embedded containerd: content, metadata, unpacked layers, leases.
type engine struct {
	bolt    *bolt.DB
	backing snapshots.Snapshotter

	blobs   content.Store // below all tenants; only for what is damaged
	db      *metadata.DB
	content content.Store
	layers  snapshots.Snapshotter
	images  images.Store
	leases  leases.Manager
}

// openEngine opens or makes the stores below root: content/, meta.db, snapshots/.
func openEngine(ctx context.Context, root string) (_ *engine, err error) {
	e := &engine{}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	if e.bolt, err = openBolt(filepath.Join(root, "meta.db")); err != nil {
		return nil, err
	}
	snapshotRoot := filepath.Join(root, "snapshots")
	if err := checkBolt(filepath.Join(snapshotRoot, "metadata.db")); err != nil {
		return nil, err
	}
	blobs, err := local.NewStore(filepath.Join(root, "content"))
	if err != nil {
		return nil, fmt.Errorf("open content store: %w", err)
	}
	e.blobs = blobs
	// The upper directory label is how a committed layer's path is learnt from Stat.
	if e.backing, err = overlay.NewSnapshotter(snapshotRoot, overlay.WithUpperdirLabel, overlay.AsynchronousRemove); err != nil {
		return nil, fmt.Errorf("open layers: %w", err)
	}
	// The snapshotter opens its database at its first use; this is it. In a new one there is nothing to be found.
	if err := e.backing.Walk(ctx, func(context.Context, snapshots.Info) error { return nil }); err != nil && !errdefs.IsNotFound(err) {
		return nil, fmt.Errorf("open layers: %w", err)
	}
	e.db = metadata.NewDB(e.bolt, blobs, map[string]snapshots.Snapshotter{snapshotter: e.backing}, metadata.WithPolicyIsolated)
	if err := e.db.Init(ctx); err != nil {
		return nil, fmt.Errorf("open image metadata: %w", err)
	}
	e.content, e.layers = e.db.ContentStore(), e.db.Snapshotter(snapshotter)
	e.images, e.leases = metadata.NewImageStore(e.db), metadata.NewLeaseManager(e.db)
	return e, nil
}

// Close closes the databases; a second call does nothing.
func (e *engine) Close() error {
	var errs []error
	if e.backing != nil {
		errs = append(errs, e.backing.Close())
		e.backing = nil
	}
	if e.bolt != nil {
		errs = append(errs, e.bolt.Close())
		e.bolt = nil
	}
	return errors.Join(errs...)
}

// dropLeases ends the leases of loads that a crash cut short, so that the collector takes what they had stored. Those of
// pulls stay until they expire: the next pull goes on with what is there.
// It may run only while no load does.
func (e *engine) dropLeases(ctx context.Context) error {
	names, err := e.namespaces(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		ctx := namespaces.WithNamespace(ctx, name)
		left, err := e.leases.List(ctx)
		if err != nil {
			return fmt.Errorf("list leases of %s: %w", name, err)
		}
		for _, l := range left {
			if strings.HasPrefix(l.ID, pullLease) {
				continue
			}
			if err := e.leases.Delete(ctx, l); err != nil {
				return fmt.Errorf("end lease %s of %s: %w", l.ID, name, err)
			}
		}
	}
	return nil
}

// namespaces lists all tenants' namespaces.
func (e *engine) namespaces(ctx context.Context) (names []string, err error) {
	err = e.db.View(func(tx *bolt.Tx) error {
		names, err = metadata.NewNamespaceStore(tx).List(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	return names, nil
}

// openBolt opens a bolt database for writing after looking at every page of it that is in use.
func openBolt(path string) (*bolt.DB, error) {
	if err := checkBolt(path); err != nil {
		return nil, err
	}
	// NoFreelistSync as containerd sets it: a free list that is not stored cannot be damaged.
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, NoFreelistSync: true, NoStatistics: true})
	if err != nil {
		return nil, boltError(path, err)
	}
	return db, nil
}

// checkBolt reads all of a bolt database, if there is one, so that damage is an error now and not a panic later.
func checkBolt(path string) (err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// bolt maps the file: pages that a truncated file does not have are a memory fault, other damage is a panic.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = errdefs.ErrDataLoss.WithMessage(fmt.Sprintf("database %s is damaged: %v", path, p))
		}
	}()
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, ReadOnly: true})
	if err != nil {
		return boltError(path, err)
	}
	// Not closed after a panic: Close would wait for the transaction that the panic left open.
	err = db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bolt.Bucket) error { return readBucket(b) })
	})
	if err != nil { // a key that is no bucket where there must be one
		err = errdefs.ErrDataLoss.WithMessage(fmt.Sprintf("database %s is damaged: %v", path, err))
	}
	if cerr := db.Close(); cerr != nil {
		err = errors.Join(err, boltError(path, cerr))
	}
	return err
}

// readBucket touches every key and value below b.
func readBucket(b *bolt.Bucket) error {
	return b.ForEach(func(k, v []byte) error {
		if v == nil {
			sub := b.Bucket(k)
			if sub == nil {
				return fmt.Errorf("bucket %q cannot be read", k)
			}
			return readBucket(sub)
		}
		crc32.ChecksumIEEE(v) // for its side effect: every byte is read
		return nil
	})
}

// boltError says what is wrong with a database file in words an operator can act on.
func boltError(path string, err error) error {
	if errors.Is(err, bolterrors.ErrTimeout) {
		return errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("database %s is in use by another process", path))
	}
	if errors.Is(err, bolterrors.ErrInvalid) || errors.Is(err, bolterrors.ErrChecksum) || errors.Is(err, bolterrors.ErrVersionMismatch) {
		return errdefs.ErrDataLoss.WithMessage(fmt.Sprintf("database %s is damaged: %v", path, err))
	}
	return fmt.Errorf("open database %s: %w", path, err)
}
