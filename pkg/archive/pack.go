package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of a tar that is written: a container can make what it likes of its files.
const (
	// maxDepth is how deep directories may be nested: each level holds a descriptor open. A path of the longest kind that
	// programs can name has 2,048 levels.
	maxDepth = 1000
	// maxHardLinks is how many files with several names are remembered; others are written once for each name.
	maxHardLinks = 1 << 16
	// namesAtOnce is how many entries of a directory are read at once.
	namesAtOnce = 512
	copyBuffer  = 256 << 10 // bytes
)

// Pack writes a path as a tar, as docker cp has it: a directory with all below it under its own name ("." for "dir/."), or
// one file; a link is written as the link. begin is called before the first byte, when the path is known to exist.
func (v *View) Pack(ctx context.Context, name string, begin func(Stat) error, out io.Writer) error {
	name = written(name)
	st, err := v.Stat(name)
	if err != nil {
		return err
	}
	fd, err := v.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return &fs.PathError{Op: "open", Path: name, Err: err}
	}
	if err := begin(st); err != nil {
		unix.Close(fd)
		return err
	}
	as := baseName(name)
	if as == "/" {
		as = "" // so that all names begin with the slash
	}
	return v.pack(ctx, out, func(p *packer) error { return p.add(fd, as, 0) })
}

// Export writes all files of the root as a tar, with names that are relative to it.
func (v *View) Export(ctx context.Context, out io.Writer) error {
	return v.pack(ctx, out, func(p *packer) error {
		fd, err := unix.Openat(int(v.root.Fd()), ".", unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return p.children(fd, "", 0)
	})
}

func (v *View) pack(ctx context.Context, out io.Writer, fill func(*packer) error) error {
	p := &packer{view: v, ctx: ctx, tar: tar.NewWriter(out), links: map[inode]string{}, buf: make([]byte, copyBuffer)}
	if err := fill(p); err != nil {
		return fmt.Errorf("pack files of the container: %w", err)
	}
	return p.tar.Close()
}

// inode identifies a file.
type inode struct{ dev, ino uint64 }

// packer writes one tar.
type packer struct {
	view  *View
	ctx   context.Context //nolint:containedctx // of one call of pack
	tar   *tar.Writer
	links map[inode]string // names of files that have several
	buf   []byte
	// layer, if set, writes what an upper directory of an overlay means; true: the entry needs nothing more.
	layer func(fd int, name string, st *unix.Stat_t) (bool, error)
}

// add writes what an O_PATH descriptor stands for, and closes it. as is its name in the tar, without a slash at the end.
func (p *packer) add(fd int, as string, depth int) error {
	defer unix.Close(fd)
	if err := p.ctx.Err(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if p.layer != nil {
		if done, err := p.layer(fd, as, &st); done || err != nil {
			return err
		}
	}
	h, err := p.header(fd, &st, as)
	if err != nil || h == nil {
		return err
	}
	if h.Typeflag == tar.TypeReg {
		return p.file(fd, h)
	}
	if err := p.tar.WriteHeader(h); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		if p.layer != nil {
			if err := p.opaque(fd, as+"/"); err != nil {
				return err
			}
		}
		return p.children(fd, as+"/", depth)
	}
	return nil
}

// header describes a file as its container sees it; nil for sockets, which tars do not have.
func (p *packer) header(fd int, st *unix.Stat_t, as string) (*tar.Header, error) {
	h := &tar.Header{
		Name: as, Mode: int64(st.Mode & 0o7777), ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX,
		Uid: int(p.view.inner(st.Uid)), Gid: int(p.view.inner(st.Gid)),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		return nil, nil
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, as+"/"
	case unix.S_IFLNK:
		target, err := readLinkAt(fd)
		if err != nil {
			return nil, err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	default:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	}
	if first, ok := p.seen(st, as); ok {
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		return h, nil
	}
	return h, p.capability(fd, h)
}

// seen returns the name under which a file was written already.
func (p *packer) seen(st *unix.Stat_t, as string) (string, bool) {
	if st.Nlink < 2 || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return "", false
	}
	at := inode{uint64(st.Dev), st.Ino} //nolint:unconvert // Dev differs by architecture
	if first, ok := p.links[at]; ok {
		return first, true
	}
	if len(p.links) < maxHardLinks {
		p.links[at] = as
	}
	return "", false
}

// xattrRecord begins the names of extended attributes in a PAX header.
const xattrRecord = "SCHILY.xattr."

// capabilityXattr is the one that docker copies out of containers.
const capabilityXattr = "security.capability"

// capability adds a program's file capabilities.
func (p *packer) capability(fd int, h *tar.Header) error {
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	var b [64]byte
	n, err := unix.Getxattr(fdPath(fd), capabilityXattr, b[:])
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "getxattr", Path: h.Name, Err: err}
	}
	h.PAXRecords = map[string]string{xattrRecord + capabilityXattr: string(withoutRoot(b[:n]))}
	return nil
}

// file writes a file of the size that it has once it is open. One that grows meanwhile is cut there; one that shrinks makes
// the tar end in an error.
func (p *packer) file(fd int, h *tar.Header) error {
	f, err := os.Open(fdPath(fd)) // what was looked at, be its name another's by now
	if err != nil {
		return &fs.PathError{Op: "open", Path: h.Name, Err: errors.Unwrap(err)}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h.Size = info.Size()
	if err := p.tar.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.CopyBuffer(p.tar, cancellable{p.ctx, io.LimitReader(f, h.Size)}, p.buf)
	if err != nil {
		return err
	}
	if n < h.Size {
		return fmt.Errorf("%s became shorter while it was copied", h.Name)
	}
	return nil
}

// cancellable is a reader that ends with a context.
type cancellable struct {
	ctx context.Context //nolint:containedctx // of one copy
	r   io.Reader
}

func (c cancellable) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

// children writes what is in a directory. prefix comes before the names.
func (p *packer) children(fd int, prefix string, depth int) error {
	if depth >= maxDepth {
		return fmt.Errorf("%s: directories are nested deeper than %d", path.Dir(prefix), maxDepth)
	}
	return eachName(fd, func(name string) error {
		child, err := unix.Openat(fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			return nil // went meanwhile
		}
		if err != nil {
			return &fs.PathError{Op: "open", Path: prefix + name, Err: err}
		}
		return p.add(child, prefix+name, depth+1)
	})
}
