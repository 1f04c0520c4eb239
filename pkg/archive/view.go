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
	Flat           bool // without the mounts below Source
	// Unmapped files are owned by the container's ids on disk already.
	Unmapped bool
}

// Stopped says what a container that does not run is made of.
type Stopped struct {
	// At is a directory to mount at; nothing is seen there from elsewhere.
	At     string
	Rootfs shim.Rootfs
	// UserNS is the user namespace whose ids files are shown with, IDs what it maps to; both zero: those on disk.
	UserNS   string
	IDs      triton.IDRange
	ReadOnly bool // the root; not the binds
	Binds    []Bind
}

// Assemble makes the view of a container that does not run. The caller sees to it that it does not begin to meanwhile: the
// kernel knows no two overlays with one upper directory. Binds that lead nowhere are an error.
func Assemble(s Stopped) (*View, error) {
	return newView(s.IDs, func() (int, error) {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return -1, fmt.Errorf("unshare mounts: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return -1, fmt.Errorf("make mounts private: %w", err)
		}
		if err := unix.Mount("view", s.At, "tmpfs", 0, "mode=700,size=1m"); err != nil {
			return -1, fmt.Errorf("mount at %s: %w", s.At, err)
		}
		target := filepath.Join(s.At, "root")
		if err := os.Mkdir(target, 0o700); err != nil {
			return -1, err
		}
		if err := shim.MountRootfs(target, s.Rootfs, s.UserNS, s.IDs); err != nil {
			return -1, err
		}
		if err := bindAll(target, &s); err != nil {
			return -1, err
		}
		if s.ReadOnly {
			attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
			if err := unix.MountSetattr(unix.AT_FDCWD, target, 0, &attr); err != nil {
				return -1, fmt.Errorf("make root read-only: %w", err)
			}
		}
		return cloneTree(target, true)
	})
}

// Enter makes the view of a container that runs, by its first process. whole false leaves out all that is mounted in it.
// stillIt is called when the view is made: the process may have ended, and another have its number.
func Enter(pid int, ids triton.IDRange, whole bool, stillIt func() error) (*View, error) {
	v, err := newView(ids, func() (int, error) {
		ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, fmt.Errorf("open mount namespace: %w", err)
		}
		defer unix.Close(ns)
		if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
			return -1, fmt.Errorf("enter mount namespace: %w", err)
		}
		return cloneTree("/", whole)
	})
	if err != nil {
		return nil, err
	}
	if err := stillIt(); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
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

// newView calls open on a thread with a root and working directory of its own, which ends afterwards.
func newView(ids triton.IDRange, open func() (int, error)) (*View, error) {
	var fd int
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("unshare working directory: %w", err)
		}
		fd, err = open()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look into the container: %w", err)
	}
	return &View{os.NewFile(uintptr(fd), "container root"), ids}, nil
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
func bindAll(target string, s *Stopped) error {
	binds := slices.Clone(s.Binds)
	slices.SortStableFunc(binds, func(a, b Bind) int { return strings.Count(a.Target, "/") - strings.Count(b.Target, "/") })
	top, err := os.OpenFile(target, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer top.Close()
	root := &View{top, s.IDs}
	for _, b := range binds {
		if err := root.bind(b, s.UserNS); err != nil {
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
