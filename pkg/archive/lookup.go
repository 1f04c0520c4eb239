package archive

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// open opens a path as the container sees it, following links within its root only. Links of /proc lead nowhere.
func (v *View) open(name string, flags int) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(int(v.root.Fd()), slashed(name), &how)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue // something was renamed meanwhile; see openat2(2)
		}
		return fd, err
	}
}

// slashed makes a path one of the container's; the empty one is its root.
func slashed(name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	return "/" + name
}

// written is a path as docker takes it: ".." goes back in what is written, wherever a link before it leads, and be it there or
// not. A slash or "/." at the end keeps its meaning.
func written(name string) string {
	clean := path.Clean(slashed(name))
	switch {
	case name == "." || strings.HasSuffix(name, "/."):
		return strings.TrimSuffix(clean, "/") + "/."
	case strings.HasSuffix(name, "/") && clean != "/":
		return clean + "/"
	}
	return clean
}

// makeDirs opens a directory and makes what is missing of the path to it.
func (v *View) makeDirs(dir string) (int, error) {
	fd, err := v.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err == nil || !errors.Is(err, unix.ENOENT) || path.Clean(slashed(dir)) == "/" {
		return fd, err
	}
	parent, err := v.makeDirs(path.Dir(path.Clean(slashed(dir))))
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	if err := v.makeDir(parent, path.Base(dir)); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, err
	}
	return v.open(dir, unix.O_PATH|unix.O_DIRECTORY)
}

// makeDir makes a directory that belongs to the container's root.
func (v *View) makeDir(parent int, name string) error {
	if err := unix.Mkdirat(parent, name, 0o755); err != nil {
		return err
	}
	return unix.Fchownat(parent, name, int(v.ids.Base), int(v.ids.Base), unix.AT_SYMLINK_NOFOLLOW)
}

// makeFile makes an empty file that belongs to the container's root.
func (v *View) makeFile(parent int, name string) error {
	fd, err := unix.Openat(parent, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fchown(fd, int(v.ids.Base), int(v.ids.Base))
}

// Dir opens a directory of the container. Its path, "/proc/self/fd/N", is good for this process while it is open. Errors
// wrap fs.ErrNotExist and syscall.ENOTDIR.
func (v *View) Dir(name string) (*os.File, error) {
	fd, err := v.open(name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), fdPath(fd)), nil
}

// fdPath is a path to what a descriptor of this process stands for.
func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// Path is a path to the root, good for this process until Close. What is opened by it does not stay within the root where
// links lead out: it is for who follows none.
func (v *View) Path() string { return fdPath(int(v.root.Fd())) }
