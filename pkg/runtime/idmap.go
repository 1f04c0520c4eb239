package runtime

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Idmappable reports whether the mount at path, and with recursive those below it, can be shown with the ids of the user
// namespace at userNS. It tries on a private copy of the mounts and changes nothing. The error names the file system.
func Idmappable(userNS, path string, recursive bool) error {
	ns, err := unix.Open(userNS, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open user namespace %s: %w", userNS, err)
	}
	defer unix.Close(ns)
	var below uint
	if recursive {
		below = unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|below)
	if err != nil {
		return fmt.Errorf("copy mount of %s: %w", path, err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns)}
	err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|below, &attr)
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EPERM), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("its file system (%s) cannot be mapped to the ids of a user namespace", fsName(path))
	case err != nil:
		return fmt.Errorf("map mount of %s: %w", path, err)
	}
	return nil
}

// fsName is the type of the file system that holds path, for messages.
func fsName(path string) string {
	if m, err := mountOf(path); err == nil {
		return m.FSType
	}
	return "unknown"
}

// mountOf finds the mount that holds path.
func mountOf(path string) (*mountinfo.Info, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("find mount of %s: %w", path, err)
	}
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(real))
	if err != nil {
		return nil, fmt.Errorf("find mount of %s: %w", path, err)
	}
	var best *mountinfo.Info
	for _, m := range mounts {
		if best == nil || len(m.Mountpoint) >= len(best.Mountpoint) { // of two at one place the later is on top
			best = m
		}
	}
	if best == nil {
		return nil, fmt.Errorf("find mount of %s: none", path)
	}
	return best, nil
}
