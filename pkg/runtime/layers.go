package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Layers are the directories of an overlay, topmost first, read as the overlay would show them but without mounting it:
// whiteouts hide, opaque directories cut off, links are followed within the layers only. One mounted directory is a
// Layers of one.
type Layers []string

// maxLinks is the kernel's limit of symbolic links in one look-up (include/linux/namei.h, MAXSYMLINKS).
const maxLinks = 40

// Open opens a regular file. A path that does not exist, or runs through something else than directories, gives an error
// that wraps fs.ErrNotExist; no path and no link leads out of the layers.
func (l Layers) Open(name string) (*os.File, error) {
	rest := strings.Split(name, "/")
	var at []string // resolved, without links
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = at[:max(0, len(at)-1)]
			continue
		}
		fd, st, err := l.find(append(at[:len(at):len(at)], part))
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFLNK:
			target, err := readlinkFD(fd)
			unix.Close(fd)
			if links++; err == nil && links > maxLinks {
				err = unix.ELOOP
			}
			if err != nil {
				return nil, &fs.PathError{Op: "open", Path: name, Err: err}
			}
			if path.IsAbs(target) {
				at = nil
			}
			rest = append(strings.Split(target, "/"), rest...)
		case len(rest) == 0:
			return reopen(fd, st, name)
		default:
			unix.Close(fd)
			at = append(at, part)
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("is a directory")}
}

// find looks a path without links up in the layers and returns an O_PATH descriptor of what the overlay would show.
func (l Layers) find(parts []string) (int, unix.Stat_t, error) {
	for _, dir := range l {
		fd, st, hidden, err := findIn(dir, parts)
		if err != nil || fd >= 0 {
			return fd, st, err
		}
		if hidden {
			break
		}
	}
	return -1, unix.Stat_t{}, fs.ErrNotExist
}

// findIn looks the path up in one layer, one name at a time. fd is -1 when it is not there; hidden then tells that no
// layer below counts: a whiteout, an opaque directory or a file where a directory would be.
func findIn(dir string, parts []string) (fd int, st unix.Stat_t, hidden bool, err error) {
	fd, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, st, false, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	for _, part := range parts {
		hidden = hidden || opaque(fd)
		next, err := unix.Openat(fd, part, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		switch {
		case errors.Is(err, unix.ENOENT):
			return -1, st, hidden, nil
		case errors.Is(err, unix.ENOTDIR):
			return -1, st, true, nil
		case err != nil:
			return -1, st, false, &fs.PathError{Op: "open", Path: dir + "/" + strings.Join(parts, "/"), Err: err}
		}
		fd = next
		if err := unix.Fstat(fd, &st); err != nil {
			unix.Close(fd)
			return -1, st, false, err
		}
		// A character device 0:0 is overlayfs' whiteout.
		if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
			unix.Close(fd)
			return -1, st, true, nil
		}
	}
	return fd, st, false, nil
}

// opaque reports whether a directory hides those of the layers below.
func opaque(fd int) bool {
	var b [1]byte
	// O_PATH descriptors take no fgetxattr; their /proc link does.
	n, err := unix.Getxattr(fmt.Sprintf("/proc/self/fd/%d", fd), "trusted.overlay.opaque", b[:])
	return err == nil && n == 1 && b[0] == 'y'
}

func readlinkFD(fd int) (string, error) {
	var b [unix.PathMax]byte
	n, err := unix.Readlinkat(fd, "", b[:])
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

// reopen turns the O_PATH descriptor of a regular file into a readable one. Anything else is refused before it is opened:
// opening a pipe or device of a stranger's image can block or act.
func reopen(fd int, st unix.Stat_t, name string) (*os.File, error) {
	defer unix.Close(fd)
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EINVAL}
	}
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, err
	}
	return f, nil
}
