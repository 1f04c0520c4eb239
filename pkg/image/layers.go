package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/pkg/gc"
	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// Names below the directory of writable layers. They begin with a dot, as no tenant does.
const (
	newDir   = ".new"   // layers being made
	trashDir = ".trash" // layers being removed
	emptyDir = ".empty" // what lies below a container whose image has no layers
)

// Names in a writable layer.
const (
	upperName = "fs"
	workName  = "work"
	// lowerPrefix comes before the digits of the chain, in the name of an empty file.
	lowerPrefix = "lower-"
	// chainAlgorithm is left out of that name.
	chainAlgorithm = "sha256:"
)

// layers are the writable layers of containers: directories below root, and an index of them.
type layers struct {
	root string

	// collecting is held for reading while a layer comes into use, and for writing while the collector decides what is
	// garbage: so that it either sees the use, or has removed the chain before its user looks for it.
	collecting sync.RWMutex

	mu   sync.Mutex
	uses map[triton.ContainerKey]string // chain; guarded by mu

	// dirs caches the directories of chains in use: tenantChain -> chainDirs. A collection empties it.
	dirs sync.Map
}

// openLayers reads the directories that exist and removes what was left half made.
func openLayers(root string) (*layers, error) {
	l := &layers{root: root, uses: map[triton.ContainerKey]string{}}
	if err := os.RemoveAll(filepath.Join(root, newDir)); err != nil {
		return nil, fmt.Errorf("remove half made container layers: %w", err)
	}
	for _, d := range []string{newDir, trashDir, emptyDir} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o700); err != nil {
			return nil, fmt.Errorf("make directory of container layers: %w", err)
		}
	}
	if err := os.Chmod(filepath.Join(root, emptyDir), 0o755); err != nil {
		return nil, err
	}
	tenants, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("list container layers: %w", err)
	}
	for _, t := range tenants {
		if triton.Tenant(t.Name()).Validate() != nil {
			continue
		}
		if err := l.readTenant(triton.Tenant(t.Name())); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// readTenant takes the layers of one tenant into the index.
func (l *layers) readTenant(t triton.Tenant) error {
	ids, err := os.ReadDir(filepath.Join(l.root, string(t)))
	if err != nil {
		return fmt.Errorf("list container layers of %s: %w", t, err)
	}
	for _, id := range ids {
		key := triton.ContainerKey{Tenant: t, ID: id.Name()}
		if !triton.ValidID(key.ID) {
			continue
		}
		chain, err := readChain(l.dir(key))
		if err != nil {
			return fmt.Errorf("layer of %s: %w", key, err)
		}
		l.uses[key] = chain
	}
	return nil
}

// readChain finds out what lies below the writable layer in dir.
func readChain(dir string) (string, error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, n := range names {
		if digits, ok := strings.CutPrefix(n.Name(), lowerPrefix); ok {
			if digits == "" {
				return "", nil
			}
			return chainAlgorithm + digits, nil
		}
	}
	return "", errdefs.ErrDataLoss.WithMessage(fmt.Sprintf("%s has no %sCHAIN file: it is not known what lies below it", dir, lowerPrefix))
}

func (l *layers) dir(key triton.ContainerKey) string {
	return filepath.Join(l.root, string(key.Tenant), key.ID)
}

func (l *layers) rootfs(key triton.ContainerKey, below chainDirs) Rootfs {
	d := l.dir(key)
	return Rootfs{Lower: below.dirs, Upper: filepath.Join(d, upperName), Work: filepath.Join(d, workName)}
}

// use notes that a container needs a chain. The caller looks for the chain afterwards, never before.
func (l *layers) use(key triton.ContainerKey, chain string) error {
	l.collecting.RLock()
	defer l.collecting.RUnlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.uses[key]; ok {
		return errdefs.ErrAlreadyExists.WithMessage(fmt.Sprintf("container %s has a file system already", key))
	}
	l.uses[key] = chain
	return nil
}

func (l *layers) unuse(key triton.ContainerKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.uses, key)
}

func (l *layers) chainOf(key triton.ContainerKey) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	chain, ok := l.uses[key]
	return chain, ok
}

func (l *layers) keys() []triton.ContainerKey {
	l.mu.Lock()
	defer l.mu.Unlock()
	keys := make([]triton.ContainerKey, 0, len(l.uses))
	for k := range l.uses {
		keys = append(keys, k)
	}
	return keys
}

// chains lists the chains that containers are on.
func (l *layers) chains() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	chains := make([]string, 0, len(l.uses))
	for _, c := range l.uses {
		chains = append(chains, c)
	}
	return chains
}

// create makes a writable layer aside and renames it to its place.
func (l *layers) create(key triton.ContainerKey, chain string, root owner, ids triton.IDRange) (err error) {
	tmp, err := os.MkdirTemp(filepath.Join(l.root, newDir), "")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	upper := filepath.Join(tmp, upperName)
	if err := os.Mkdir(upper, 0o755); err != nil {
		return err
	}
	if err := root.give(upper, ids.Base); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(tmp, workName), 0o711); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(tmp, lowerPrefix+strings.TrimPrefix(chain, chainAlgorithm)))
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	err = os.Rename(tmp, l.dir(key))
	if errors.Is(err, fs.ErrNotExist) { // the tenant's first container
		if err := os.Mkdir(filepath.Dir(l.dir(key)), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		err = os.Rename(tmp, l.dir(key))
	}
	return err
}

// trash takes a writable layer out of use; its files stay until emptyTrash.
func (l *layers) trash(key triton.ContainerKey) error {
	// A random name: the id may be trashed again, by a later container that was restored under it.
	err := os.Rename(l.dir(key), filepath.Join(l.root, trashDir, triton.NewID()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("discard layer of %s: %w", key, err)
	}
	l.unuse(key)
	return nil
}

// emptyTrash removes the files of discarded layers, until ctx ends.
func (l *layers) emptyTrash(ctx context.Context) error {
	trash := filepath.Join(l.root, trashDir)
	entries, err := os.ReadDir(trash)
	if err != nil {
		return fmt.Errorf("list discarded layers: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := os.RemoveAll(filepath.Join(trash, e.Name())); err != nil {
			errs = append(errs, fmt.Errorf("remove discarded layer: %w", err))
		}
	}
	return errors.Join(errs...)
}

// resourceContainerLayer is this package's kind of object for containerd's collector. containerd's own kinds end below
// 12; the collector uses the upper three bits of the byte itself.
const resourceContainerLayer gc.ResourceType = 0x18

// ReferenceLabel implements metadata.Collector: no label of containerd's refers to a container's layer.
func (l *layers) ReferenceLabel() string { return "" }

// StartCollection implements metadata.Collector. It is called with the metadata locked, and a Cancel or a Finish follows.
func (l *layers) StartCollection(context.Context) (metadata.CollectionContext, error) {
	l.collecting.Lock()
	return &layerCollection{layers: l}, nil
}

// layerCollection tells one run of the collector which chains containers use.
type layerCollection struct{ layers *layers }

// Active sends the chains of a tenant's containers as roots.
func (c *layerCollection) Active(namespace string, fn func(gc.Node)) {
	c.layers.mu.Lock()
	defer c.layers.mu.Unlock()
	for key, chain := range c.layers.uses {
		if namespaceOf(key.Tenant) == namespace && chain != "" {
			fn(gc.Node{Type: metadata.ResourceSnapshot, Namespace: namespace, Key: snapshotter + "/" + chain})
		}
	}
}

// All lists none: containers' layers themselves are not garbage collected, Discard removes them.
func (c *layerCollection) All(func(gc.Node)) {}

// Leased lists none: no lease refers to a container's layer.
func (c *layerCollection) Leased(string, string, func(gc.Node)) {}

// Remove is never called, because All lists nothing.
func (c *layerCollection) Remove(gc.Node) {}

// Cancel ends a run that failed.
func (c *layerCollection) Cancel() error { return c.Finish() }

// Finish ends a run whose decisions are made and stored. A chain that is loaded again later has other directories.
func (c *layerCollection) Finish() error {
	c.layers.dirs.Clear()
	c.layers.collecting.Unlock()
	return nil
}
