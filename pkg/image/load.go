package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// Load reads an archive of `docker save` or an OCI layout in a tar, plain or compressed, and returns what `docker load`
// prints, a line each. Either all images of the archive appear, at once, or none. Bad archives are ErrInvalidArgument.
// emit, if not nil, is told of the layers as they are unpacked, from this goroutine.
func (s *Store) Load(ctx context.Context, tenant triton.Tenant, in io.Reader, emit func(triton.ImageProgress) error) ([]string, error) {
	ctx, err := inTenant(ctx, tenant)
	if err != nil {
		return nil, err
	}
	var lines []string
	err = s.leased(ctx, func(ctx context.Context) error {
		all, err := s.readBundles(ctx, in)
		if err != nil {
			return err
		}
		ready := make([]prepared, len(all))
		for i := range all {
			if ready[i], err = s.prepare(ctx, tenant, &all[i], loadSteps(&all[i], emit)); err != nil {
				return fmt.Errorf("image %s: %w", all[i].id, err)
			}
		}
		if err := s.sync(); err != nil {
			return err
		}
		lines, err = s.publish(ctx, ready, func() {
			for _, b := range all {
				s.emit(tenant, actionLoad, b.id.String(), b.id.String(), b.config.Config.Labels)
			}
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("load: %w", fullDisk(err))
	}
	return lines, nil
}

// readBundles stores what is in an archive and finds the images in it.
func (s *Store) readBundles(ctx context.Context, in io.Reader) ([]bundle, error) {
	z, err := Decompress(in)
	if err != nil {
		return nil, readError(err)
	}
	defer z.Close()
	m, err := newMeter(ctx, z, s.floor)
	if err != nil {
		return nil, err
	}
	to := contentShelf{s.eng.content}
	a, err := readArchive(ctx, m, to, s.floor.check)
	if err != nil {
		return nil, err
	}
	return a.bundles(ctx, to)
}

// prepared is an image whose content and layers are stored, and which only lacks its names.
type prepared struct {
	*bundle
	chain string
	size  int64
}

// prepare unpacks a bundle's layers and stores its manifest.
func (s *Store) prepare(ctx context.Context, tenant triton.Tenant, b *bundle, steps unpackSteps) (prepared, error) {
	chain, size, err := s.unpackBy(ctx, tenant, b, steps)
	if err != nil {
		return prepared{}, err
	}
	if err := s.putDocument(ctx, b.manifest, b.manifestJSON); err != nil {
		return prepared{}, err
	}
	return prepared{bundle: b, chain: chain, size: size}, nil
}

// loadSteps tells emit how unpacking goes on, as often as docker does.
func loadSteps(b *bundle, emit func(triton.ImageProgress) error) unpackSteps {
	if emit == nil {
		return unpackSteps{}
	}
	var last time.Time
	tell := func(i int, n int64) {
		// A client that is gone ends the context; what cannot be written is nothing more.
		_ = emit(triton.ImageProgress{ID: shortDigest(b.config.RootFS.DiffIDs[i]), Status: "Loading layer", Current: n, Total: b.layers[i].Size})
	}
	return unpackSteps{
		read: func(i int, n int64) {
			if now := time.Now(); now.Sub(last) >= barEvery {
				last = now
				tell(i, n)
			}
		},
		after: func(i int, existed bool) {
			if !existed {
				tell(i, b.layers[i].Size)
			}
		},
	}
}

// leased runs fn with a lease: what fn stores stays while fn runs, and only what images refer to stays afterwards.
func (s *Store) leased(ctx context.Context, fn func(context.Context) error) (err error) {
	l, err := s.eng.leases.Create(ctx, leases.WithID("load-"+triton.NewID()))
	if err != nil {
		return fmt.Errorf("make lease: %w", err)
	}
	defer func() {
		// Also when ctx ended. A crash before this leaves the lease to the next Open.
		err = errors.Join(err, s.eng.leases.Delete(context.WithoutCancel(ctx), l))
		s.jan.collect()
	}()
	return fn(leases.WithLease(ctx, l.ID))
}

// sync makes the unpacked layers last. The records that follow are synced by bolt; without this a power loss could leave an
// image with empty files in it.
func (s *Store) sync() error {
	d, err := os.Open(s.cfg.Root)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync layers: %w", err)
	}
	return nil
}

// contentShelf is containerd's content store as the shelf of an archive.
type contentShelf struct{ store content.Store }

// Put implements shelf.
func (c contentShelf) Put(ctx context.Context, r io.Reader, size int64) (digest.Digest, error) {
	d, _, err := c.put(ctx, r, size)
	return d, err
}

// unknownSize stands for the size of a stream that ends when it ends.
const unknownSize = -1

// put stores size bytes and returns their number. What an unfinished put wrote is removed.
func (c contentShelf) put(ctx context.Context, r io.Reader, size int64) (_ digest.Digest, n int64, err error) {
	ref := "load-" + triton.NewID()
	w, err := content.OpenWriter(ctx, c.store, content.WithRef(ref))
	if err != nil {
		return "", 0, fmt.Errorf("open content: %w", err)
	}
	defer func() {
		err = errors.Join(err, w.Close())
		if err != nil {
			err = errors.Join(err, c.abort(ctx, ref))
		}
	}()
	if n, err = io.CopyBuffer(w, struct{ io.Reader }{r}, make([]byte, 256<<10)); err != nil {
		return "", 0, err
	}
	if size != unknownSize && n != size {
		return "", 0, fmt.Errorf("got %d bytes, want %d: %w", n, size, io.ErrUnexpectedEOF)
	}
	d := w.Digest()
	if err := w.Commit(ctx, n, d); err != nil && !errdefs.IsAlreadyExists(err) {
		return "", 0, fmt.Errorf("commit content: %w", err)
	}
	return d, n, nil
}

// abort removes what was written under ref.
func (c contentShelf) abort(ctx context.Context, ref string) error {
	if err := c.store.Abort(context.WithoutCancel(ctx), ref); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("abort content: %w", err)
	}
	return nil
}

// Get implements shelf.
func (c contentShelf) Get(ctx context.Context, d digest.Digest) ([]byte, error) {
	info, err := c.store.Info(ctx, d)
	if err != nil {
		return nil, err
	}
	if info.Size > maxDocument {
		return nil, badArchive("document %s is larger than %d bytes", d, maxDocument)
	}
	return content.ReadBlob(ctx, c.store, ocispec.Descriptor{Digest: d, Size: info.Size})
}

// putDocument stores bytes whose digest is known.
func (s *Store) putDocument(ctx context.Context, d ocispec.Descriptor, b []byte) error {
	got, err := contentShelf{s.eng.content}.Put(ctx, bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return fmt.Errorf("store %s: %w", d.MediaType, err)
	}
	if got != d.Digest {
		return fmt.Errorf("store %s: digest %s, want %s", d.MediaType, got, d.Digest)
	}
	return nil
}

// loadedLines is what docker prints for an image.
func loadedLines(id digest.Digest, tags []reference.NamedTagged) (lines []string) {
	for _, t := range tags {
		lines = append(lines, "Loaded image: "+reference.FamiliarString(t))
	}
	if len(tags) == 0 {
		lines = append(lines, "Loaded image ID: "+id.String())
	}
	return lines
}

// emit tells the events callback what happened to an image.
func (s *Store) emit(tenant triton.Tenant, action, id, name string, labels map[string]string) {
	if s.cfg.Events == nil {
		return
	}
	attributes := map[string]string{}
	for k, v := range labels {
		attributes[k] = v
	}
	attributes["name"] = name
	s.cfg.Events(triton.Event{Time: time.Now(), Tenant: tenant, Type: triton.EventImage, Action: action, ID: id, Attributes: attributes})
}

// Docker's names for what happens to an image.
const (
	actionLoad   = "load"
	actionImport = "import"
	actionTag    = "tag"
	actionUntag  = "untag"
	actionDelete = "delete"
	actionPull   = "pull"
	actionPush   = "push"
)
