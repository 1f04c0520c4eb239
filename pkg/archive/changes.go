package archive

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// runtimePaths are made in every container for what is mounted there, as docker makes them below the layer it compares.
var runtimePaths = []string{
	"/dev", "/dev/console", "/dev/pts", "/dev/shm", "/dev/mqueue", "/proc", "/sys", "/etc", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf",
	MarkFile,
}

// MarkFile is in the root of every container, empty.
const MarkFile = "/.dockerenv"

// Changes lists what a container's upper directory changes of the layers below it, topmost first, by path.
func Changes(upper string, lower []string) ([]triton.FileChange, error) {
	below, err := openLayers(lower)
	defer closeAll(below)
	if err != nil {
		return nil, err
	}
	var list []triton.FileChange
	reported := map[string]bool{}
	add := func(kind triton.ChangeKind, name string) {
		if !reported[name] {
			reported[name] = true
			list = append(list, triton.FileChange{Kind: kind, Path: name})
		}
	}
	err = walk(upper, func(name string, st *unix.Stat_t) error {
		was, there, err := lookBelow(below, name)
		if err != nil {
			return err
		}
		dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		kind := triton.ChangeModify
		switch {
		case isWhiteout(st):
			kind = triton.ChangeDelete
		case slices.Contains(runtimePaths, name) && (dir || st.Size == 0):
			return nil
		case !there:
			kind = triton.ChangeAdd
		case dir && was.Mode == st.Mode && was.Mtim == st.Mtim:
			return nil // there for what is in it
		}
		if parent := path.Dir(name); kind != triton.ChangeModify && parent != "/" {
			add(triton.ChangeModify, parent) // unless it was reported as something else: parents come first
		}
		add(kind, name)
		return nil
	})
	slices.SortFunc(list, func(a, b triton.FileChange) int { return strings.Compare(a.Path, b.Path) })
	return list, err
}

// Size is the bytes of the files in an upper directory, a file with several names counted once.
func Size(upper string) (int64, error) {
	var total int64
	seen := map[inode]bool{}
	err := walk(upper, func(_ string, st *unix.Stat_t) error {
		if at := (inode{uint64(st.Dev), st.Ino}); st.Mode&unix.S_IFMT == unix.S_IFREG && !seen[at] { //nolint:unconvert // Dev differs by architecture
			if st.Nlink > 1 && len(seen) < maxHardLinks {
				seen[at] = true
			}
			total += st.Size
		}
		return nil
	})
	return total, err
}

// isWhiteout reports whether an entry is overlayfs' mark of a removed file: a character device 0:0.
func isWhiteout(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 }

// walk calls f for all below a directory, with paths that begin with a slash, parents first. It follows no link, and what
// goes meanwhile is left out: the container may be running.
func walk(root string, f func(name string, st *unix.Stat_t) error) error {
	top, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(top)
	return walkAt(top, "", 0, f)
}

func walkAt(fd int, prefix string, depth int, f func(name string, st *unix.Stat_t) error) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: directories are nested deeper than %d", prefix, maxDepth)
	}
	return eachName(fd, func(base string) error {
		child, err := unix.Openat(fd, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return err
		}
		defer unix.Close(child)
		var st unix.Stat_t
		if err := unix.Fstat(child, &st); err != nil {
			return err
		}
		name := prefix + "/" + base
		if err := f(name, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return err
		}
		return walkAt(child, name, depth+1, f)
	})
}

func openLayers(dirs []string) (fds []int, err error) {
	for _, dir := range dirs {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fds, &os.PathError{Op: "open", Path: dir, Err: err}
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// lookBelow finds what the layers show at a path.
func lookBelow(layers []int, name string) (st unix.Stat_t, there bool, err error) {
	how := unix.OpenHow{
		Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for _, layer := range layers {
		fd, err := unix.Openat2(layer, strings.TrimPrefix(name, "/"), &how)
		switch {
		case errors.Is(err, unix.ENOENT):
			continue
		case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP): // a parent is something else here, and hides what is below
			return st, false, nil
		case err != nil:
			return st, false, &os.PathError{Op: "open", Path: name, Err: err}
		}
		err = unix.Fstat(fd, &st)
		unix.Close(fd)
		return st, err == nil && !isWhiteout(&st), err
	}
	return st, false, nil
}
