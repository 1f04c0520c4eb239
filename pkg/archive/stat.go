package archive

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Stat is what docker tells of a path before it is copied.
type Stat struct {
	Name  string // the last part of the path as it was asked for
	Size  int64
	Mode  os.FileMode
	Mtime time.Time
	// LinkTarget is where a link leads in the end, as a path of the container; empty for all else.
	LinkTarget string
}

// Stat looks at a path without following a link at its end, unless a slash or "/." follows. Errors are *fs.PathError.
func (v *View) Stat(name string) (Stat, error) {
	name = written(name)
	fd, err := v.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return Stat{}, &fs.PathError{Op: "lstat", Path: slashed(name), Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Stat{}, &fs.PathError{Op: "lstat", Path: slashed(name), Err: err}
	}
	s := Stat{Name: baseName(name), Size: st.Size, Mode: fileMode(st.Mode), Mtime: time.Unix(st.Mtim.Unix())}
	if s.Mode&os.ModeSymlink != 0 {
		s.LinkTarget, err = v.follow(name)
	}
	return s, err
}

// baseName is filepath.Base of a path as it was asked for: "." for "/dir/.".
func baseName(name string) string { return path.Base(slashed(name)) }

// maxLinks is the kernel's limit of symbolic links in one look-up (include/linux/namei.h, MAXSYMLINKS).
const maxLinks = 40

// follow returns the path that a path leads to, without links. What does not exist is taken as it is written.
func (v *View) follow(name string) (string, error) {
	rest := strings.Split(name, "/")
	at := "/"
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		if part == "" || part == "." || part == ".." {
			at = path.Join(at, part)
			continue
		}
		target, err := v.readLink(path.Join(at, part))
		switch {
		case err != nil:
			return "", &fs.PathError{Op: "readlink", Path: path.Join(at, part), Err: err}
		case target == "":
			at = path.Join(at, part)
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "readlink", Path: name, Err: unix.ELOOP}
		}
		if path.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, nil
}

// readLink returns what a link says; "" for all else and for what is not there.
func (v *View) readLink(name string) (string, error) {
	fd, err := v.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", err
	}
	return readLinkAt(fd)
}

// readLinkAt returns what the link that a descriptor stands for says.
func readLinkAt(fd int) (string, error) {
	var b [unix.PathMax]byte
	n, err := unix.Readlinkat(fd, "", b[:])
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

// fileMode translates a mode of the kernel.
func fileMode(mode uint32) os.FileMode {
	m := os.FileMode(mode & 0o777)
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		m |= os.ModeDir
	case unix.S_IFLNK:
		m |= os.ModeSymlink
	case unix.S_IFIFO:
		m |= os.ModeNamedPipe
	case unix.S_IFSOCK:
		m |= os.ModeSocket
	case unix.S_IFCHR:
		m |= os.ModeDevice | os.ModeCharDevice
	case unix.S_IFBLK:
		m |= os.ModeDevice
	}
	for bit, flag := range map[uint32]os.FileMode{unix.S_ISUID: os.ModeSetuid, unix.S_ISGID: os.ModeSetgid, unix.S_ISVTX: os.ModeSticky} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	return m
}
