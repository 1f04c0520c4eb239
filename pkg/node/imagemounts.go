package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/shim"
	"github.com/tritond/triton/pkg/triton"
)

// An image that a container mounts (--mount type=image) has a layer of its own above it, as a container's root has: it keeps
// the image's layers on disk while the container is there, and an overlay needs one. It is mounted read-only in the
// container, and stays empty. On the machine it is mounted only until the container is made, or read.

// imageRoot is where an image is mounted, in a directory of its own: the shim's way of older kernels needs one beside it.
const imageRoot = "root"

// imageMountKey names the layer of a container's mount of an image.
func imageMountKey(k triton.ContainerKey, target string) triton.ContainerKey {
	sum := sha256.Sum256([]byte("image mount\x00" + k.ID + "\x00" + target))
	return triton.ContainerKey{Tenant: k.Tenant, ID: hex.EncodeToString(sum[:])}
}

// usesImage reports whether a container was made from an image or mounts it.
func usesImage(s *triton.Spec, imageID string) bool {
	return s.ImageID == imageID || slices.ContainsFunc(s.Mounts, func(m triton.Mount) bool {
		return m.Type == triton.MountImage && m.ImageID == imageID
	})
}

// imageMounts are the keys of the layers of a container's mounts of images.
func (c *container) imageMounts() map[triton.ContainerKey]triton.Mount {
	var keys map[triton.ContainerKey]triton.Mount
	for _, m := range c.rec.Spec.Mounts {
		if m.Type == triton.MountImage {
			if keys == nil {
				keys = map[triton.ContainerKey]triton.Mount{}
			}
			keys[imageMountKey(c.key, m.Target)] = m
		}
	}
	return keys
}

// prepareImages makes the layers of a container's mounts of images; discardImages undoes it, also in part.
func (n *Node) prepareImages(ctx context.Context, c *container) error {
	for k, m := range c.imageMounts() {
		if _, err := n.cfg.Images.Prepare(ctx, k, m.ImageID, c.rec.IDs); err != nil {
			return fmt.Errorf("mount image %s at %s: %w", m.Source, m.Target, err)
		}
	}
	return nil
}

func (n *Node) discardImages(ctx context.Context, c *container) error {
	var errs []error
	for k := range c.imageMounts() {
		errs = append(errs, n.cfg.Images.Discard(ctx, k))
	}
	return errors.Join(errs...)
}

// imageMountKeys are those of all containers.
func (n *Node) imageMountKeys() map[triton.ContainerKey]bool {
	keys := map[triton.ContainerKey]bool{}
	for _, c := range n.all() {
		for k := range c.imageMounts() {
			keys[k] = true
		}
	}
	return keys
}

// imageMountsDir is the directory below which images are mounted.
func (n *Node) imageMountsDir() string { return filepath.Join(n.cfg.RunRoot, "images") }

// openImageMounts makes the directory, and unmounts what a killed daemon left there.
func (n *Node) openImageMounts() error {
	if err := os.MkdirAll(n.imageMountsDir(), 0o711); err != nil { // searchable for containers' roots
		return fmt.Errorf("make directory of mounted images: %w", err)
	}
	entries, err := os.ReadDir(n.imageMountsDir())
	errs := []error{err}
	for _, e := range entries {
		errs = append(errs, unmountImage(filepath.Join(n.imageMountsDir(), e.Name())))
	}
	return errors.Join(errs...)
}

// mountImage mounts the image that a container has at target, with the owners that the container is to see, in the
// directory imageRoot of the one that it returns, until unmountImage.
func (n *Node) mountImage(ctx context.Context, c *container, target string) (string, error) {
	rootfs, err := n.rootfs(ctx, imageMountKey(c.key, target))
	if err != nil {
		return "", err
	}
	userNS, err := n.userNSOf(c)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(n.imageMountsDir(), c.key.ID+"-"+triton.NewID())
	if err := errors.Join(os.Mkdir(dir, 0o711), os.Mkdir(filepath.Join(dir, imageRoot), 0o711)); err != nil {
		return "", fmt.Errorf("make directory of a mounted image: %w", err)
	}
	err = shim.MountRootfs(filepath.Join(dir, imageRoot), shim.Rootfs{Lower: rootfs.Lower, Upper: rootfs.Upper, Work: rootfs.Work}, userNS, c.rec.IDs)
	if err != nil {
		return "", errors.Join(fmt.Errorf("mount the image at %s: %w", target, err), unmountImage(dir))
	}
	return dir, nil
}

// unmountImage undoes mountImage. Whoever mounted it from there keeps it.
func unmountImage(dir string) error {
	root := filepath.Join(dir, imageRoot)
	err := unix.Unmount(root, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount image at %s: %w", root, err)
	}
	for _, d := range []string{root, dir} { // one by one, never recursively: what is still mounted is an image
		if err := os.Remove(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove mount point of an image: %w", err)
		}
	}
	return nil
}

// useImage makes the image of the mount number i ready for a run.
func (n *Node) useImage(ctx context.Context, c *container, v *mountedVolumes, i int) error {
	m := &v.mounts[i]
	dir, err := n.mountImage(ctx, c, m.Target)
	if err != nil {
		return err
	}
	v.images = append(v.images, dir)
	m.Source = filepath.Join(dir, imageRoot)
	if m.Subpath != "" {
		part, err := n.cfg.Volumes.Expose(m.Source, m.Subpath, c.key.ID, i)
		if err != nil {
			return err
		}
		v.parts = append(v.parts, part)
		m.Source = part.Path
	}
	return nil
}
