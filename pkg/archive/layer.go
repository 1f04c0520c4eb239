package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// Marks of removed files in the tar of a layer (OCI image specification, "Image Layer Filesystem Changeset").
const (
	whiteoutPrefix = ".wh."
	opaqueMark     = ".wh..wh..opq"
)

// PackLayer writes a container's upper directory as the tar of an image's layer: what was removed is marked, owners are those
// that programs see. What the runtime made for its mounts is left out.
func PackLayer(ctx context.Context, upper string, lower []string, ids triton.IDRange, out io.Writer) error {
	below, err := openLayers(lower)
	defer closeAll(below)
	if err != nil {
		return err
	}
	root, err := os.OpenFile(upper, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	v := &View{root, ids}
	return v.pack(ctx, out, func(p *packer) error {
		p.layer = func(fd int, name string, st *unix.Stat_t) (bool, error) { return p.layerEntry(below, fd, name, st) }
		return p.children(int(root.Fd()), "", 0)
	})
}

// layerEntry writes what an upper directory says in the file system's own ways; true: that was all.
func (p *packer) layerEntry(below []int, fd int, name string, st *unix.Stat_t) (done bool, err error) {
	if isWhiteout(st) {
		dir, base := path.Split(name)
		return true, p.tar.WriteHeader(&tar.Header{Name: dir + whiteoutPrefix + base, Mode: 0o644, Typeflag: tar.TypeReg})
	}
	dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if slices.Contains(runtimePaths, "/"+name) && (dir || st.Size == 0) {
		if _, there, err := lookBelow(below, name); err != nil || !there {
			return true, err
		}
	}
	for _, attr := range []string{"trusted.overlay.redirect", "trusted.overlay.metacopy"} {
		if _, err := unix.Getxattr(fdPath(fd), attr, nil); err == nil {
			return true, fmt.Errorf("%s: the file system has it elsewhere (%s): it cannot be made part of an image", name, attr)
		} else if !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP) && st.Mode&unix.S_IFMT != unix.S_IFLNK {
			return true, fmt.Errorf("%s: %w", name, err)
		}
	}
	return false, nil
}

// opaque marks a directory that hides those of the layers below.
func (p *packer) opaque(fd int, prefix string) error {
	var b [1]byte
	if n, err := unix.Getxattr(fdPath(fd), "trusted.overlay.opaque", b[:]); err != nil || n != 1 || b[0] != 'y' {
		return nil //nolint:nilerr // no attribute: it hides nothing
	}
	return p.tar.WriteHeader(&tar.Header{Name: prefix + opaqueMark, Mode: 0o644, Typeflag: tar.TypeReg})
}
