package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// Rootfs is what a container's overlay is mounted from.
type Rootfs struct {
	Lower []string // directories, topmost first; at least one
	Upper string   // owned by the container's shifted ids
	Work  string
}

// Prepare makes the writable layer of a container on top of an image, and says what to mount. Nothing is copied, whatever
// the size of the image. The top directory gets the image's owner, shifted by ids.Base.
//
// Errors: ErrNotFound for the image, ErrAlreadyExists for the container, ErrResourceExhausted below the floor.
func (s *Store) Prepare(ctx context.Context, key triton.ContainerKey, imageID string, ids triton.IDRange) (Rootfs, error) {
	ctx, err := s.checkKey(ctx, key)
	if err != nil {
		return Rootfs{}, err
	}
	if _, err := s.floor.room(); err != nil {
		return Rootfs{}, err
	}
	rec, err := s.eng.images.Get(ctx, imageID)
	if errdefs.IsNotFound(err) || err == nil && !isAnchor(rec) {
		return Rootfs{}, noSuchImage(imageID)
	}
	if err != nil {
		return Rootfs{}, fmt.Errorf("prepare %s: %w", key, err)
	}
	chain := rec.Labels[labelChain]

	// From here on the collector keeps the chain; what it took before shows as a chain that is not there.
	if err := s.rw.use(key, chain); err != nil {
		return Rootfs{}, err
	}
	below, err := s.chainDirs(ctx, key.Tenant, chain)
	if err == nil {
		err = s.rw.create(key, chain, below.root, ids)
	}
	if err != nil {
		s.rw.unuse(key)
		return Rootfs{}, fmt.Errorf("prepare %s: %w", key, fullDisk(err))
	}
	return s.rw.rootfs(key, below), nil
}

// Rootfs says what to mount for a container that Prepare was called for, in this process or an earlier one.
func (s *Store) Rootfs(ctx context.Context, key triton.ContainerKey) (Rootfs, error) {
	ctx, err := s.checkKey(ctx, key)
	if err != nil {
		return Rootfs{}, err
	}
	chain, ok := s.rw.chainOf(key)
	if !ok {
		return Rootfs{}, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("container %s has no file system", key))
	}
	below, err := s.chainDirs(ctx, key.Tenant, chain)
	if err != nil {
		return Rootfs{}, fmt.Errorf("file system of %s: %w", key, err)
	}
	return s.rw.rootfs(key, below), nil
}

// Discard gives up a container's writable layer; where there is none it does nothing. The files go in the background,
// and so do the image's layers, if the image was removed meanwhile and this was the last container on them.
func (s *Store) Discard(ctx context.Context, key triton.ContainerKey) error {
	if _, err := s.checkKey(ctx, key); err != nil {
		return err
	}
	chain, ok := s.rw.chainOf(key)
	if !ok {
		return nil
	}
	if err := s.rw.trash(key); err != nil {
		return err
	}
	s.jan.discarded(key.Tenant, chain)
	return nil
}

// Snapshots lists all containers that have a writable layer, of all tenants.
func (s *Store) Snapshots(context.Context) ([]triton.ContainerKey, error) {
	return s.rw.keys(), nil
}

// checkKey refuses keys that must not become part of a path.
func (s *Store) checkKey(ctx context.Context, key triton.ContainerKey) (context.Context, error) {
	if !triton.ValidID(key.ID) {
		return nil, fmt.Errorf("container id %q: %w", key.ID, errdefs.ErrInvalidArgument)
	}
	return inTenant(ctx, key.Tenant)
}

// owner is who owns a directory, and how it may be used.
type owner struct {
	uid, gid uint32
	mode     uint32 // permission bits with setuid, setgid and sticky
}

// ownerOf reads the owner of a directory without following a link.
func ownerOf(dir string) (owner, error) {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return owner{}, fmt.Errorf("look at %s: %w", dir, err)
	}
	return owner{uid: st.Uid, gid: st.Gid, mode: st.Mode & 0o7777}, nil
}

// give makes dir belong to o, its ids shifted by base.
func (o owner) give(dir string, base uint32) error {
	// The owner comes first: a change of owner clears setuid and setgid.
	if err := os.Lchown(dir, int(o.uid+base), int(o.gid+base)); err != nil {
		return err
	}
	return unix.Chmod(dir, o.mode)
}

// chainDirs are the directories of an unpacked chain of layers.
type chainDirs struct {
	dirs []string // topmost first
	root owner    // of the topmost layer's top directory: that of the image's /
}

// tenantChain names a chain of layers of a tenant.
type tenantChain struct {
	tenant triton.Tenant
	chain  string
}

// chainDirs finds the directories of a chain that is in use, so that it stays. containerd is asked once.
func (s *Store) chainDirs(ctx context.Context, tenant triton.Tenant, chain string) (chainDirs, error) {
	if c, ok := s.rw.dirs.Load(tenantChain{tenant, chain}); ok {
		return c.(chainDirs), nil
	}
	var c chainDirs
	for at := chain; at != ""; {
		info, err := s.eng.layers.Stat(ctx, at)
		if err != nil {
			return chainDirs{}, fmt.Errorf("find layer %s: %w", at, err)
		}
		c.dirs = append(c.dirs, info.Labels[labelUpper])
		at = info.Parent
	}
	if len(c.dirs) == 0 {
		// An image without layers: an overlay needs something below it all the same.
		c.dirs = []string{filepath.Join(s.rw.root, emptyDir)}
	}
	var err error
	if c.root, err = ownerOf(c.dirs[0]); err != nil {
		return chainDirs{}, err
	}
	s.rw.dirs.Store(tenantChain{tenant, chain}, c)
	return c, nil
}
