package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// MountRootfs mounts the overlay r at target, in the mount namespace of the caller, which is the host's for a container: one of
// its own would not see network namespaces and volumes that are mounted later. With an id range each lower layer is
// shown through an id-mapped mount, while the upper directory is owned by shifted ids on disk: the kernel takes neither
// an id-mapped upper (its work directory fails with EOVERFLOW) nor an id map on the overlay itself.
func MountRootfs(target string, r Rootfs, userNS string, ids triton.IDRange) error {
	if len(r.Lower) == 0 {
		return &Error{Kind: KindInvalid, Message: "rootfs has no layers"}
	}
	layers, err := openLayers(r.Lower, userNS)
	if err != nil {
		return err
	}
	defer closeFDs(layers)
	if userNS != "" {
		if err := shiftOwner(r.Upper, ids); err != nil {
			return err
		}
	}
	err = mountByFD(target, r, layers, userNS != "")
	if !errors.Is(err, errLayersByFD) {
		return err
	}
	return mountByPath(target, r, layers, userNS != "")
}

// errLayersByFD says that this kernel does not take overlay layers as descriptors of detached mounts: they came with
// 6.13 to 6.15, depending on the kind.
var errLayersByFD = errors.New("overlay takes no layers by descriptor")

// openLayers returns a descriptor for each directory, of an id-mapped detached mount where userNS is set.
func openLayers(dirs []string, userNS string) ([]int, error) {
	if userNS == "" {
		return openPlainLayers(dirs)
	}
	ns, err := os.Open(userNS)
	if err != nil {
		return nil, fmt.Errorf("open user namespace: %w", err)
	}
	defer ns.Close()
	fds := make([]int, 0, len(dirs))
	for _, dir := range dirs {
		fd, err := openMappedLayer(dir, ns)
		if err != nil {
			closeFDs(fds)
			return nil, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func openMappedLayer(dir string, ns *os.File) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("layer %s: open_tree: %w", dir, err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(rawFD(ns))}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		unix.Close(fd)
		return -1, &Error{Kind: KindUnsupported, Message: fmt.Sprintf("layer %s: its file system cannot be id-mapped: %v", dir, err)}
	}
	return fd, nil
}

func openPlainLayers(dirs []string) ([]int, error) {
	fds := make([]int, 0, len(dirs))
	for _, dir := range dirs {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			closeFDs(fds)
			return nil, fmt.Errorf("layer %s: %w", dir, err)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// shiftOwner gives an upper directory that the host's root made to the container's root; the merged root takes its
// owner from it.
func shiftOwner(upper string, ids triton.IDRange) error {
	info, err := os.Stat(upper)
	if err != nil {
		return fmt.Errorf("upper directory: %w", err)
	}
	st := info.Sys().(*syscall.Stat_t)
	if ids.IsZero() || st.Uid >= ids.Base {
		return nil
	}
	if err := os.Lchown(upper, int(ids.Base+st.Uid), int(ids.Base+st.Gid)); err != nil {
		return fmt.Errorf("shift owner of upper directory: %w", err)
	}
	return nil
}

// mountByFD builds the overlay with the new mount API. The layers' descriptors must stay open until the superblock
// exists.
func mountByFD(target string, r Rootfs, layers []int, mapped bool) error {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return errLayersByFD
	}
	defer unix.Close(fs)
	for _, fd := range layers {
		if err := unix.FsconfigSetFd(fs, "lowerdir+", fd); err != nil {
			return errLayersByFD
		}
	}
	for _, opt := range [][2]string{{"upperdir", r.Upper}, {"workdir", r.Work}, {"index", "off"}} {
		if err := unix.FsconfigSetString(fs, opt[0], opt[1]); err != nil {
			return fmt.Errorf("overlay %s=%s: %w%s", opt[0], opt[1], err, fsLog(fs))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		if mapped && errors.Is(err, unix.EINVAL) {
			return errLayersByFD // refuses detached mounts only here
		}
		return fmt.Errorf("make overlay: %w%s", err, fsLog(fs))
	}
	flags := 0
	if mapped {
		flags = unix.MOUNT_ATTR_NODEV
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, flags)
	if err != nil {
		return fmt.Errorf("fsmount overlay: %w", err)
	}
	defer unix.Close(mnt)
	if err := unix.MoveMount(mnt, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount overlay at %s: %w", target, err)
	}
	return nil
}

// fsLog returns what the kernel says about a failed fsconfig: each read of the context yields one message.
func fsLog(fs int) string {
	buf := make([]byte, 512)
	n, err := unix.Read(fs, buf)
	if err != nil || n == 0 {
		return ""
	}
	return " (" + strings.TrimSpace(string(buf[:n])) + ")"
}

// mountByPath is the way of older kernels: the id-mapped layers are attached to directories beside target for as long
// as mount(2) needs their paths; the overlay clones them. The paths go through a descriptor of that folder, so that a
// long list fits into the one page that mount(2) takes.
func mountByPath(target string, r Rootfs, layers []int, mapped bool) (err error) {
	dir := filepath.Join(filepath.Dir(target), "layers")
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("folder for layers: %w", err)
	}
	defer func() { err = errors.Join(err, detachLayers(dir, len(layers))) }()
	folder, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("folder for layers: %w", err)
	}
	defer folder.Close()
	paths := make([]string, len(layers))
	for i, fd := range layers {
		if !mapped {
			paths[i] = "/proc/self/fd/" + strconv.Itoa(fd)
			continue
		}
		at := filepath.Join(dir, strconv.Itoa(i))
		if err := os.Mkdir(at, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("folder for layer: %w", err)
		}
		if err := unix.MoveMount(fd, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("attach layer %d: %w", i, err)
		}
		paths[i] = fmt.Sprintf("/proc/self/fd/%d/%d", rawFD(folder), i)
	}
	options := "index=off,lowerdir=" + strings.Join(paths, ":") + ",upperdir=" + r.Upper + ",workdir=" + r.Work
	if len(options) >= os.Getpagesize() {
		return &Error{Kind: KindUnsupported, Message: fmt.Sprintf("%d layers are more than this kernel's mount(2) takes", len(layers))}
	}
	flags := uintptr(0)
	if mapped {
		flags = unix.MS_NODEV
	}
	if err := unix.Mount("overlay", target, "overlay", flags, options); err != nil {
		return fmt.Errorf("mount overlay at %s: %w", target, err)
	}
	return nil
}

func detachLayers(dir string, n int) error {
	for i := range n {
		at := filepath.Join(dir, strconv.Itoa(i))
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("detach layer: %w", err)
		}
	}
	for i := range n { // one by one, never recursively: a layer that is still attached must not be emptied
		os.Remove(filepath.Join(dir, strconv.Itoa(i)))
	}
	return os.Remove(dir)
}

// unmountRootfs undoes MountRootfs and removes the mount point; a target that is not mounted, or not there, is fine.
func unmountRootfs(target string) error {
	for {
		err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break // nothing is mounted there any more
		}
		if err != nil {
			return fmt.Errorf("unmount rootfs: %w", err)
		}
	}
	// Not recursively: what could still be in there is the image.
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove rootfs mount point: %w", err)
	}
	return nil
}
