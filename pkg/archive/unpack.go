package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// UnpackOptions say how a tar is unpacked.
type UnpackOptions struct {
	// KeepKinds refuses to replace a directory by something else, or something else by a directory.
	KeepKinds bool
	// Owner owns all that is made, instead of who the tar names; nil: the tar counts.
	Owner *Owner
}

// Owner is who owns files, in ids that programs of the container see.
type Owner struct{ UID, GID int }

// refused is an error about what a caller sent, complete as it stands.
func refused(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

// Unpack unpacks a tar into a directory of the container; links on the way to it are followed. What the tar names is below
// that directory, or below where links of the container lead from there: never outside of its root. What was unpacked before
// an error stays, but for the file that was being written.
//
// Errors: *fs.PathError for the directory; ErrInvalidArgument for what is no directory, is read-only, and for the tar.
func (v *View) Unpack(ctx context.Context, dir string, in io.Reader, opt UnpackOptions) error {
	return onThread(func() error {
		if err := becomeRoot(v.ids); err != nil {
			return err
		}
		u, err := v.unpacker(ctx, dir, opt)
		if err != nil {
			return err
		}
		defer u.forget()
		return u.all(tar.NewReader(in))
	})
}

// unpacker unpacks one tar.
type unpacker struct {
	view *View
	ctx  context.Context //nolint:containedctx // of one call of Unpack
	dir  string          // where to, without links
	opt  UnpackOptions
	buf  []byte

	parent     int    // O_PATH descriptor of the directory of the last entry; -1: none
	parentName string // relative to dir
	dirs       []unpackedDir
}

// unpackedDir is a directory whose time is set when the tar has left it: what is made in it changes the time.
type unpackedDir struct {
	name  string // relative to dir
	times [2]unix.Timespec
}

// unpacker opens where to unpack.
func (v *View) unpacker(ctx context.Context, dir string, opt UnpackOptions) (*unpacker, error) {
	dir = written(dir)
	fd, err := v.open(dir, unix.O_PATH)
	if err != nil {
		return nil, &fs.PathError{Op: "lstat", Path: slashed(dir), Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, refused("extraction point is not a directory")
	}
	if err := v.writable(fd); err != nil {
		return nil, err
	}
	real, err := v.follow(dir)
	if err != nil {
		return nil, err
	}
	return &unpacker{view: v, ctx: ctx, dir: real, opt: opt, buf: make([]byte, copyBuffer), parent: -1}, nil
}

// writable refuses directories on what is mounted read-only, with docker's words.
func (v *View) writable(fd int) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return err
	}
	if st.Flags&unix.ST_RDONLY == 0 {
		return nil
	}
	var here, root unix.Statx_t
	if err := errors.Join(unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &here),
		unix.Statx(int(v.root.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &root)); err != nil {
		return err
	}
	if here.Mnt_id == root.Mnt_id {
		return refused("container rootfs is marked read-only")
	}
	return refused("mounted volume is marked read-only")
}

func (u *unpacker) forget() {
	if u.parent >= 0 {
		unix.Close(u.parent)
	}
	u.parent = -1
}

func (u *unpacker) all(tr *tar.Reader) error {
	for {
		if err := u.ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return u.leave("")
		}
		if err != nil {
			return tarError(err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := u.entry(h, tr); err != nil {
			return err
		}
	}
}

// tarError makes what is wrong with a tar the sender's fault.
func tarError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) || errors.Is(err, io.ErrUnexpectedEOF) {
		return refused("the archive cannot be read: %v", err)
	}
	return fmt.Errorf("read archive: %w", err)
}

// entry makes what one header of the tar describes.
func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	name := path.Clean(h.Name)
	if name == ".." || strings.HasPrefix(name, "../") || strings.ContainsRune(h.Name, 0) {
		return refused("%q is outside of %q", h.Name, u.dir)
	}
	if name = strings.TrimPrefix(name, "/"); name == "" || name == "." {
		return nil // the directory itself: it stays as it is
	}
	if err := u.leave(name); err != nil {
		return err
	}
	parent, err := u.enter(path.Dir(name))
	if err != nil {
		return u.failed(name, err)
	}
	base := path.Base(name)
	merge, err := u.makeWay(parent, base, name, h.Typeflag == tar.TypeDir)
	if err != nil {
		return err
	}
	if err := u.create(parent, base, h, content, merge); err != nil {
		return u.failed(name, err)
	}
	if h.Typeflag == tar.TypeDir {
		u.dirs = append(u.dirs, unpackedDir{name, timesOf(h)})
	}
	return nil
}

// failed names the file that an error is about.
func (u *unpacker) failed(name string, err error) error {
	return fmt.Errorf("unpack %s: %w", path.Join(u.dir, name), err)
}

// leave sets the times of the directories that name is not below. A tar has the files of a directory in one piece, so that
// no more than the directories on the way to the current one wait for it.
func (u *unpacker) leave(name string) error {
	for len(u.dirs) > 0 {
		last := u.dirs[len(u.dirs)-1]
		if strings.HasPrefix(name, last.name+"/") {
			return nil
		}
		u.dirs = u.dirs[:len(u.dirs)-1]
		fd, err := u.view.open(path.Join(u.dir, last.name), unix.O_PATH|unix.O_NOFOLLOW)
		if err != nil {
			continue // went meanwhile
		}
		err = unix.UtimesNanoAt(unix.AT_FDCWD, fdPath(fd), last.times[:], 0)
		unix.Close(fd)
		if err != nil {
			return u.failed(last.name, err)
		}
	}
	return nil
}

// enter opens the directory of an entry, and makes what is missing of it. The descriptor is good until the next call.
func (u *unpacker) enter(name string) (int, error) {
	if u.parent >= 0 && u.parentName == name {
		return u.parent, nil
	}
	u.forget()
	fd, err := u.view.makeDirs(path.Join(u.dir, name))
	if err != nil {
		return -1, err
	}
	u.parent, u.parentName = fd, name
	return fd, nil
}

// makeWay removes what is at an entry's place. merge: both are directories, and the one that is there stays.
func (u *unpacker) makeWay(parent int, base, name string, dir bool) (merge bool, err error) {
	var st unix.Stat_t
	err = unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, u.failed(name, err)
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if isDir && dir {
		return true, nil
	}
	if u.opt.KeepKinds && isDir {
		return false, refused("cannot overwrite directory %q with non-directory %q", path.Join(u.dir, name), u.dir)
	}
	if u.opt.KeepKinds && dir {
		return false, refused("cannot overwrite non-directory %q with directory %q", path.Join(u.dir, name), u.dir)
	}
	if err := removeAll(parent, base, 0); err != nil {
		return false, u.failed(name, err)
	}
	return false, nil
}

// removeAll removes a file, or a directory with all below it. It follows no link.
func removeAll(parent int, name string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("directories are nested deeper than %d", maxDepth)
	}
	err := unix.Unlinkat(parent, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) {
		return err
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = eachName(fd, func(child string) error { return removeAll(fd, child, depth+1) })
	unix.Close(fd)
	if err != nil {
		return err
	}
	return unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
}
