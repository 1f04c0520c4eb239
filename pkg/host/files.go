package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"
)

func files(_ context.Context, cfg Config) []Finding {
	const group = "files"
	dir := existing(cfg.DataRoot)
	_, err := os.ReadDir(dir)
	if err == nil {
		err = unix.Access(dir, unix.W_OK)
	}
	data := grade(group, "data root", err, cfg.DataRoot, Missing, cfg.DataRoot+" cannot be written")
	return []Finding{data, idmapped(dir), attributes(dir)}
}

// existing is path or its nearest parent that exists.
func existing(path string) string {
	for path != "/" {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return path
		}
		path = filepath.Dir(path)
	}
	return path
}

// triedIDs maps container ids to ids far above any account, in containerd's form: container, host, size.
const triedIDs = "0:1048576:65536"

// idmapped maps a detached copy of the mount that holds dir: containers in user namespaces share image layers by that.
func idmapped(dir string) Finding {
	const group, name = "files", "idmapped mounts"
	without := "containers with a user namespace cannot share image layers on this file system"
	ns, err := mount.GetUsernsFD(triedIDs, triedIDs)
	if err != nil {
		return Finding{group, name, Missing, fmt.Sprintf("no user namespaces: %v", err)}
	}
	defer ns.Close()
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err == nil {
		err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())})
		unix.Close(tree)
	}
	return grade(group, name, err, "for layers and volumes below "+dir, Missing, without)
}

// attributes tries an extended attribute, which overlayfs marks deleted and replaced folders with.
func attributes(dir string) Finding {
	f, err := os.CreateTemp(dir, ".triton-check-")
	if err == nil {
		defer os.Remove(f.Name())
		defer f.Close()
		err = unix.Fsetxattr(int(f.Fd()), "trusted.triton.check", []byte("x"), 0)
	}
	return grade("files", "trusted attributes", err, "below "+dir, Missing, "overlayfs cannot work here")
}
