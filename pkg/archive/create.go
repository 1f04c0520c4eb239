package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// create makes one entry, with owner, mode, attributes and times. merge leaves out the directory itself, which is there.
func (u *unpacker) create(parent int, base string, h *tar.Header, content io.Reader, merge bool) error {
	if h.Typeflag == tar.TypeLink {
		return u.link(parent, base, h)
	}
	owner := Owner{h.Uid, h.Gid}
	if u.opt.Owner != nil {
		owner = *u.opt.Owner
	}
	uid, err := u.view.outer(owner.UID)
	if err != nil {
		return refused("%v", err)
	}
	gid, err := u.view.outer(owner.GID)
	if err != nil {
		return refused("%v", err)
	}
	if !merge {
		if err := u.make(parent, base, h, content); err != nil {
			return err
		}
	}
	// From here on a descriptor stands for what was made: its name may be another's by now.
	fd, err := unix.Openat(parent, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := sameKind(fd, h.Typeflag); err != nil {
		return err
	}
	// The owner comes first: a change of owner clears setuid, setgid and capabilities.
	if err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("chown: %w", err)
	}
	if h.Typeflag == tar.TypeSymlink {
		times := timesOf(h)
		return unix.UtimesNanoAt(parent, base, times[:], unix.AT_SYMLINK_NOFOLLOW)
	}
	if err := unix.Chmod(fdPath(fd), uint32(h.Mode)&0o7777); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	if err := u.attributes(fd, h); err != nil {
		return err
	}
	times := timesOf(h)
	return unix.UtimesNanoAt(unix.AT_FDCWD, fdPath(fd), times[:], 0)
}

// make makes the thing itself.
func (u *unpacker) make(parent int, base string, h *tar.Header, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		return unix.Mkdirat(parent, base, 0o700)
	case tar.TypeReg, tar.TypeRegA, tar.TypeCont, tar.TypeGNUSparse: //nolint:staticcheck // old tars have TypeRegA
		return u.file(parent, base, content)
	case tar.TypeSymlink:
		return unix.Symlinkat(h.Linkname, parent, base)
	case tar.TypeFifo:
		return unix.Mknodat(parent, base, unix.S_IFIFO|0o600, 0)
	case tar.TypeChar, tar.TypeBlock:
		if !u.view.ids.IsZero() {
			return refused("device nodes cannot be made in a user namespace")
		}
		kind := uint32(unix.S_IFCHR)
		if h.Typeflag == tar.TypeBlock {
			kind = unix.S_IFBLK
		}
		return unix.Mknodat(parent, base, kind|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	}
	return refused("an entry of type %q cannot be unpacked", string(h.Typeflag))
}

// file writes a file, or leaves none.
func (u *unpacker) file(parent int, base string, content io.Reader) error {
	fd, err := unix.Openat(parent, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	_, err = io.CopyBuffer(f, cancellable{u.ctx, content}, u.buf)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(tarError(err), unix.Unlinkat(parent, base, 0))
	}
	return nil
}

// link makes a further name of a file that the tar had before, or that was there.
func (u *unpacker) link(parent int, base string, h *tar.Header) error {
	target := path.Clean(h.Linkname)
	if target == ".." || strings.HasPrefix(target, "../") {
		return refused("invalid hardlink %q -> %q", h.Name, h.Linkname)
	}
	from, err := u.view.open(path.Join(u.dir, path.Dir(target)), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	return unix.Linkat(from, path.Base(target), parent, base, 0)
}

// sameKind makes sure that nobody has put something else in the place of what was made.
func sameKind(fd int, typeflag byte) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	want := map[byte]uint32{
		tar.TypeDir: unix.S_IFDIR, tar.TypeSymlink: unix.S_IFLNK, tar.TypeFifo: unix.S_IFIFO, tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK,
	}[typeflag]
	if want == 0 {
		want = unix.S_IFREG
	}
	if st.Mode&unix.S_IFMT != want {
		return errors.New("it was replaced while it was unpacked")
	}
	return nil
}

// attributes sets the extended attributes that a tar may bring: those of users and file capabilities.
func (u *unpacker) attributes(fd int, h *tar.Header) error {
	var names []string
	for record := range h.PAXRecords {
		if name, ok := strings.CutPrefix(record, xattrRecord); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		value := []byte(h.PAXRecords[xattrRecord+name])
		switch {
		case name == capabilityXattr:
			var err error
			if value, err = u.view.withRoot(value); err != nil {
				return refused("%v", err)
			}
		case !strings.HasPrefix(name, "user."):
			return refused("the extended attribute %s cannot be set", name)
		}
		if err := unix.Setxattr(fdPath(fd), name, value, 0); err != nil {
			return fmt.Errorf("set extended attribute %s: %w", name, err)
		}
	}
	return nil
}

// timesOf are the times of access and change of an entry. As in docker, an entry was not read before it was changed.
func timesOf(h *tar.Header) [2]unix.Timespec {
	accessed, changed := h.AccessTime, h.ModTime
	if accessed.Before(changed) {
		accessed = changed
	}
	return [2]unix.Timespec{timespec(accessed.Unix(), accessed.Nanosecond()), timespec(changed.Unix(), changed.Nanosecond())}
}

func timespec(seconds int64, nanoseconds int) unix.Timespec {
	return unix.Timespec{Sec: seconds, Nsec: int64(nanoseconds)}
}

// eachName calls f for the entries of an open directory.
func eachName(fd int, f func(name string) error) error {
	again, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(again), "directory")
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(namesAtOnce)
		for _, name := range names {
			if err := f(name); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
