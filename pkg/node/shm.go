package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/runtime"
	"github.com/tritond/triton/pkg/triton"
)

// shmDir is where the /dev/shm of a container that shares it is mounted on the host.
func (n *Node) shmDir(k triton.ContainerKey) string { return filepath.Join(n.cfg.RunRoot, "shm", k.ID) }

// mountShm makes the /dev/shm that others may join. It stays until the container ends.
func (n *Node) mountShm(c *container, rec *Record) error {
	if rec.Spec.IpcMode != triton.ModeShareable {
		return nil
	}
	dir := n.shmDir(c.key)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("make shm of %s: %w", c.key, err)
	}
	root := strconv.FormatUint(uint64(rec.IDs.Base), 10)
	opts := "mode=1777,size=" + strconv.FormatInt(runtime.ShmSize(&rec.Spec), 10) + ",uid=" + root + ",gid=" + root
	if err := unix.Mount("shm", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, opts); err != nil {
		return fmt.Errorf("mount shm of %s: %w", c.key, err)
	}
	return nil
}

// unmountShm removes it; a container without one has nothing to remove.
func (n *Node) unmountShm(k triton.ContainerKey) error {
	dir := n.shmDir(k)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: not mounted
		return fmt.Errorf("unmount shm of %s: %w", k, err)
	}
	return os.Remove(dir)
}

// removeOrphanShm unmounts what belongs to no running container.
func (n *Node) removeOrphanShm() error {
	entries, err := os.ReadDir(filepath.Join(n.cfg.RunRoot, "shm"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list shm: %w", err)
	}
	running := map[string]bool{}
	for _, c := range n.all() {
		c.mu.Lock()
		running[c.key.ID] = c.running()
		c.mu.Unlock()
	}
	var errs []error
	for _, e := range entries {
		if !running[e.Name()] {
			errs = append(errs, n.unmountShm(triton.ContainerKey{ID: e.Name()}))
		}
	}
	return errors.Join(errs...)
}
