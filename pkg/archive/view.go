package archive

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/shim"
	"github.com/tritond/triton/pkg/triton"
)

// View is the root of a container's files. It may be used by several goroutines.
type View struct {
	root *os.File
	ids  triton.IDRange
}

// Bind is a file or directory of this machine that a container mounts.
type Bind struct {
	Source, Target string
	ReadOnly       bool
	ReadOnlyTop    bool // ReadOnly is not for the mounts below Source
	Flat           bool // without the mounts below Source
	// Unmapped files are owned by the container's ids on disk already.
	Unmapped bool
}

// Layout says what a container's files are made of.
type Layout struct {
	// At is a directory to mount at; nothing is seen there from elsewhere.
	At string
	// Mounted is where the root of a container that runs is mounted; empty: Rootfs is mounted for the view.
	Mounted string
	Rootfs  shim.Rootfs
	// UserNS is the user namespace whose ids files are shown with, IDs what it maps to; both zero: those on disk.
	UserNS   string
	IDs      triton.IDRange
	ReadOnly bool // the root; not the binds
	Binds    []Bind
}

// Assemble makes the view of a container. The caller sees to it that the container does not begin or end meanwhile, and
// where Mounted is empty that it does not begin before Close: the kernel knows no two overlays with one upper directory.
// Binds that lead nowhere are an error.
func Assemble(l Layout) (*View, error) {
	var fd int
	err := onThread(func() (err error) {
		fd, err = assemble(&l)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look into the container: %w", err)
	}
	return &View{os.NewFile(uintptr(fd), "container root"), l.IDs}, nil
}

// assemble gives its thread mounts of its own and returns a copy of those that make up the container.
func assemble(l *Layout) (int, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return -1, fmt.Errorf("unshare mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("view", l.At, "tmpfs", 0, "mode=700,size=1m"); err != nil {
		return -1, fmt.Errorf("mount at %s: %w", l.At, err)
	}
	target := filepath.Join(l.At, "root")
	if err := os.Mkdir(target, 0o700); err != nil {
		return -1, err
	}
	if l.Mounted == "" {
		if err := shim.MountRootfs(target, l.Rootfs, l.UserNS, l.IDs); err != nil {
			return -1, err
		}
	} else if err := unix.Mount(l.Mounted, target, "", unix.MS_BIND, ""); err != nil {
		return -1, fmt.Errorf("mount %s: %w", l.Mounted, err)
	}
	if err := bindAll(target, l); err != nil {
		return -1, err
	}
	if l.ReadOnly {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(unix.AT_FDCWD, target, 0, &attr); err != nil {
			return -1, fmt.Errorf("make root read-only: %w", err)
		}
	}
	return cloneTree(target, true)
}

// Close gives up the view, and with it all its mounts.
func (v *View) Close() error { return v.root.Close() }

func cloneTree(path string, whole bool) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if whole {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, flags)
	if err != nil {
		return -1, fmt.Errorf("copy mounts of %s: %w", path, err)
	}
	return fd, nil
}

// onThread calls f on a thread that is used for nothing else and ends with it. Go's first thread never ends, so it is
// passed over.
func onThread(f func() error) error {
	done := make(chan error, 1)
	var try func()
	try = func() {
		runtime.LockOSThread() // never unlocked
		if unix.Gettid() == unix.Getpid() {
			taken := make(chan struct{})
			go func() { defer close(taken); try() }()
			<-taken // until then this goroutine keeps the thread from the other one
			runtime.UnlockOSThread()
			return
		}
		done <- f()
	}
	go try()
	return <-done
}

// bindAll attaches the binds, parents first, and makes what is missing of their mount points.
func bindAll(target string, l *Layout) error {
	binds := slices.Clone(l.Binds)
	slices.SortStableFunc(binds, func(a, b Bind) int { return strings.Count(a.Target, "/") - strings.Count(b.Target, "/") })
	top, err := os.OpenFile(target, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer top.Close()
	root := &View{top, l.IDs}
	for _, b := range binds {
		if err := root.bind(b, l.UserNS); err != nil {
			return fmt.Errorf("mount %s at %s: %w", b.Source, b.Target, err)
		}
	}
	return nil
}

func (v *View) bind(b Bind, userNS string) error {
	tree, err := cloneTree(b.Source, !b.Flat)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if err := v.restrict(tree, b, userNS); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		return err
	}
	at, err := v.mountPoint(b.Target, st.Mode&unix.S_IFMT == unix.S_IFDIR)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	return unix.MoveMount(tree, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// restrict gives a copy of a mount the ids of the container, and takes away what the container may not do with it.
func (v *View) restrict(tree int, b Bind, userNS string) error {
	below := uint(unix.AT_EMPTY_PATH | unix.AT_RECURSIVE)
	if userNS != "" && !b.Unmapped {
		ns, err := unix.Open(userNS, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open user namespace: %w", err)
		}
		defer unix.Close(ns)
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns)}
		err = unix.MountSetattr(tree, "", below, &attr)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) { // something below cannot be mapped
			err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr)
		}
		if err != nil {
			return fmt.Errorf("map ids: %w", err)
		}
	}
	if !b.ReadOnly {
		return nil
	}
	if b.ReadOnlyTop {
		below = unix.AT_EMPTY_PATH
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	return unix.MountSetattr(tree, "", below, &attr)
}

// mountPoint opens where to mount, and makes it as the container's root where it is missing.
func (v *View) mountPoint(target string, dir bool) (int, error) {
	if fd, err := v.open(target, unix.O_PATH); err == nil || !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	parent, err := v.makeDirs(filepath.Dir(target))
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	base := filepath.Base(target)
	if dir {
		err = v.makeDir(parent, base)
	} else {
		err = v.makeFile(parent, base)
	}
	if err != nil {
		return -1, err
	}
	return v.open(target, unix.O_PATH)
}
