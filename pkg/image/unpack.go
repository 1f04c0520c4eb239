package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	tararchive "github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// Labels of snapshots.
const (
	// labelUpper is the overlayfs snapshotter's label for the directory of a layer.
	labelUpper = "containerd.io/snapshot/overlay.upperdir"
	// labelSize is the sum of the sizes of a layer's files, in bytes.
	labelSize = "triton.io/size"
)

// Bounds of what one layer may make this process remember: containerd's apply keeps every path, and every directory's header.
const (
	maxLayerMemory = 256 << 20 // bytes, by the estimate of layerFilter
	entryMemory    = 200       // bytes of a map entry and its strings' headers
)

// unpackSteps lets a pull take part in unpacking; i counts layers. Each may be nil.
type unpackSteps struct {
	before  func(i int) error         // waits until the layer is stored
	read    func(i int, n int64)      // is told how many of the blob's bytes were read
	refetch func(i int) error         // stores the layer again, after its blob was damaged
	after   func(i int, existed bool) // existed: it was unpacked already
}

// unpackBy makes snapshots of a bundle's layers, as far as they are missing, and returns the chain's id and the size of
// all files in it. Every layer's bytes are hashed, also where the snapshot exists: who names a diff id must have the layer.
// The context carries tenant and lease.
func (s *Store) unpackBy(
	ctx context.Context, tenant triton.Tenant, b *bundle, steps unpackSteps,
) (chain string, size int64, err error) {
	chains := identity.ChainIDs(append([]digest.Digest(nil), b.config.RootFS.DiffIDs...))
	for i, l := range b.layers {
		if steps.before != nil {
			if err := steps.before(i); err != nil {
				return "", 0, err
			}
		}
		one := layer{blob: l, diffID: b.config.RootFS.DiffIDs[i], parent: chain, chain: chains[i].String()}
		if steps.read != nil {
			one.read = func(n int64) { steps.read(i, n) }
		}
		n, existed, err := s.unpackLayer(ctx, tenant, one)
		if err != nil && steps.refetch != nil && ctx.Err() == nil && s.damaged(ctx, l) {
			s.dropDamaged(ctx, l.Digest)
			if err = steps.refetch(i); err == nil {
				n, existed, err = s.unpackLayer(ctx, tenant, one)
			}
		}
		if err != nil {
			return "", 0, fmt.Errorf("layer %d: %w", i, err)
		}
		if steps.after != nil {
			steps.after(i, existed)
		}
		chain = one.chain
		size += n
	}
	return chain, size, nil
}

// layer is one layer of an image and where it belongs.
type layer struct {
	blob   ocispec.Descriptor
	diffID digest.Digest
	parent string        // chain below; empty for the lowest layer
	chain  string        // chain with this layer on top
	read   func(n int64) // is told how many bytes of the blob were read; may be nil
}

// unpackLayer returns the size of the layer's files, and whether it was there. Loads that need the same layer wait for the first.
func (s *Store) unpackLayer(ctx context.Context, tenant triton.Tenant, l layer) (size int64, existed bool, err error) {
	chain := string(tenant) + "/" + l.chain
	s.unpacking.Lock(chain)
	defer func() { _ = s.unpacking.Unlock(chain) }() // held, so it cannot fail
	key := "unpack-" + triton.NewID()
	// With this label Prepare finds a chain that exists, and takes it into the lease in the same transaction.
	target := snapshots.WithLabels(map[string]string{snapshots.LabelSnapshotRef: l.chain})
	mounts, err := s.eng.layers.Prepare(ctx, key, l.parent, target)
	if errdefs.IsAlreadyExists(err) {
		if err := s.verify(ctx, l); err != nil {
			return 0, true, err
		}
		info, err := s.eng.layers.Stat(ctx, l.chain)
		if err != nil {
			return 0, true, fmt.Errorf("look at unpacked layer: %w", err)
		}
		size, err = strconv.ParseInt(info.Labels[labelSize], 10, 64)
		return size, true, err
	}
	if err != nil {
		return 0, false, fmt.Errorf("prepare directory: %w", err)
	}
	size, err = s.apply(ctx, l, mounts)
	if err == nil {
		err = s.eng.layers.Commit(ctx, l.chain, key, target, snapshots.WithLabels(map[string]string{
			snapshots.LabelSnapshotRef: l.chain,
			labelSize:                  strconv.FormatInt(size, 10),
		}))
	}
	if err == nil {
		err = s.markVerified(ctx, l)
	}
	if err != nil {
		// Removed with the lease at the latest; now, so that a failed load leaves nothing while others go on.
		if e := s.eng.layers.Remove(context.WithoutCancel(ctx), key); e != nil && !errdefs.IsNotFound(e) {
			err = errors.Join(err, e)
		}
		return 0, false, err
	}
	return size, false, nil
}

// verify hashes a layer that is unpacked already, unless that was done before.
func (s *Store) verify(ctx context.Context, l layer) error {
	if l.blob.Digest == l.diffID {
		return nil
	}
	info, err := s.eng.content.Info(ctx, l.blob.Digest)
	if err != nil {
		return fmt.Errorf("look at layer: %w", err)
	}
	if info.Labels[labels.LabelUncompressed] == l.diffID.String() {
		return nil
	}
	if err := s.readLayer(ctx, l, func(r io.Reader) error { return nil }); err != nil {
		return err
	}
	return s.markVerified(ctx, l)
}

// markVerified notes at a packed blob what it unpacks to.
func (s *Store) markVerified(ctx context.Context, l layer) error {
	if l.blob.Digest == l.diffID {
		return nil
	}
	info := content.Info{Digest: l.blob.Digest, Labels: map[string]string{labels.LabelUncompressed: l.diffID.String()}}
	if _, err := s.eng.content.Update(ctx, info, "labels."+labels.LabelUncompressed); err != nil {
		return fmt.Errorf("note the diff id of a layer: %w", err)
	}
	return nil
}

// readLayer gives the unpacked bytes of a layer to fn, reads what fn left, and checks the whole against the diff id.
func (s *Store) readLayer(ctx context.Context, l layer, fn func(io.Reader) error) error {
	ra, err := s.eng.content.ReaderAt(ctx, l.blob)
	if err != nil {
		return fmt.Errorf("read layer: %w", err)
	}
	defer ra.Close()
	packed := content.NewReader(ra)
	if l.read != nil {
		packed = &tracked{r: packed, tell: l.read}
	}
	z, err := Decompress(packed)
	if err != nil {
		return err
	}
	defer z.Close()
	m, err := newMeter(ctx, z, s.floor)
	if err != nil {
		return err
	}
	src := &witness{r: m}
	hash := digest.SHA256.Digester()
	all := io.TeeReader(src, hash.Hash())
	if err := fn(all); err != nil {
		if src.err != nil {
			return readError(src.err)
		}
		return err
	}
	if _, err := io.Copy(io.Discard, all); err != nil {
		return readError(err)
	}
	if got := hash.Digest(); got != l.diffID {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid diffID: expected %q, got %q", l.diffID, got))
	}
	return nil
}

// apply writes a layer's files into the directory of a new snapshot and returns the sum of their sizes.
//
// It calls containerd's archive.Apply on the directory itself, where its diff service would mount: that needs a place to
// mount at outside of Root for the lowest layer, and offers nothing in between to stop a bomb.
func (s *Store) apply(ctx context.Context, l layer, mounts []mount.Mount) (size int64, err error) {
	dir, below, err := layerDirs(mounts)
	if err != nil {
		return 0, err
	}
	f := &layerFilter{fits: s.floor.check}
	opts := []tararchive.ApplyOpt{tararchive.WithFilter(f.accept)}
	if len(below) > 0 {
		opts = append(opts, tararchive.WithConvertWhiteout(tararchive.OverlayConvertWhiteout), tararchive.WithParents(below))
	}
	err = s.readLayer(ctx, l, func(r io.Reader) error {
		size, err = tararchive.Apply(ctx, dir, r, opts...)
		return applyError(err)
	})
	if err != nil {
		return 0, err
	}
	return size, s.giveRoot(dir, below, f.root)
}

// applyError tells whose fault it is that a layer cannot be unpacked. Paths that cannot be, such as a file below a file,
// fail in the kernel like everything else, so what is not the machine's fault is the layer's.
func applyError(err error) error {
	switch {
	case err == nil, errdefs.IsInvalidArgument(err), errdefs.IsResourceExhausted(err),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EIO), errors.Is(err, unix.EROFS),
		errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("unpack: %w", err)
	}
	return fmt.Errorf("unpack: %w: %w", err, errdefs.ErrInvalidArgument)
}

// giveRoot sets the owner of a layer's top directory, which Apply leaves alone: as the layer says, or as below it.
// An overlay shows the top directory of its upper layer, so each layer must repeat it.
func (s *Store) giveRoot(dir string, below []string, said *owner) error {
	if said == nil && len(below) > 0 {
		o, err := ownerOf(below[0])
		if err != nil {
			return err
		}
		said = &o
	}
	if said == nil {
		return nil
	}
	return said.give(dir, 0)
}

// layerDirs reads the directories out of a snapshot's mounts: an overlay, or a bind mount where nothing is below.
func layerDirs(mounts []mount.Mount) (dir string, below []string, err error) {
	if len(mounts) != 1 {
		return "", nil, fmt.Errorf("snapshot has %d mounts, want 1", len(mounts))
	}
	m := mounts[0]
	if m.Type == "bind" {
		return m.Source, nil, nil
	}
	for _, o := range m.Options {
		if v, ok := strings.CutPrefix(o, "upperdir="); ok {
			dir = v
		}
		if v, ok := strings.CutPrefix(o, "lowerdir="); ok {
			below = filepath.SplitList(v)
		}
	}
	if dir == "" {
		return "", nil, fmt.Errorf("snapshot's %s mount has no upperdir", m.Type)
	}
	return dir, below, nil
}

// layerFilter looks at every entry of a layer before it is written.
type layerFilter struct {
	fits   func(int64) error
	memory int64
	root   *owner // of the entry for the top directory
}

// accept implements archive.Filter.
func (f *layerFilter) accept(h *tar.Header) (bool, error) {
	f.memory += entryMemory + int64(len(h.Name)+len(h.Linkname))
	for k, v := range h.PAXRecords {
		f.memory += int64(len(k) + len(v))
	}
	if f.memory > maxLayerMemory {
		return false, errdefs.ErrInvalidArgument.WithMessage("the layer has too many files")
	}
	// A sparse file is small in the stream and as large as it says on disk.
	if h.Size > checkEvery {
		if err := f.fits(h.Size); err != nil {
			return false, err
		}
	}
	dropOverlayAttributes(h)
	if h.Typeflag == tar.TypeDir && h.Name == "." {
		f.root = &owner{uid: uint32(h.Uid), gid: uint32(h.Gid), mode: uint32(h.Mode) & 0o7777}
	}
	return true, nil
}

// dropOverlayAttributes removes the extended attributes by which overlayfs stores its own state: in a layer they could
// redirect a directory into another one. Layers say such things with whiteout files.
func dropOverlayAttributes(h *tar.Header) {
	for k := range h.PAXRecords {
		name, ok := strings.CutPrefix(k, "SCHILY.xattr.")
		if ok && (strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")) {
			delete(h.PAXRecords, k)
		}
	}
}
