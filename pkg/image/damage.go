package image

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// present says whether a blob's file is there and as long as it should be.
func (s *Store) present(ctx context.Context, d ocispec.Descriptor) bool {
	ra, err := s.eng.content.ReaderAt(ctx, d)
	if err != nil {
		return false
	}
	defer ra.Close()
	return ra.Size() == d.Size
}

// whole says whether all blobs of an image are present.
func (s *Store) whole(ctx context.Context, f *found) bool {
	m, err := s.manifestOf(ctx, f)
	if err != nil || !s.present(ctx, f.anchor.Target) || !s.present(ctx, m.Config) {
		return false
	}
	for _, l := range m.Layers {
		if !s.present(ctx, l) {
			return false
		}
	}
	return true
}

// damaged hashes a blob and says whether it is another than its name says, or not there at all.
func (s *Store) damaged(ctx context.Context, d ocispec.Descriptor) bool {
	ra, err := s.eng.content.ReaderAt(ctx, d)
	if err != nil {
		return errdefs.IsNotFound(err)
	}
	defer ra.Close()
	hash := digest.SHA256.Digester()
	if _, err := io.Copy(hash.Hash(), content.NewReader(ra)); err != nil {
		return false // the disk's trouble, not the content's
	}
	return hash.Digest() != d.Digest
}

// dropDamaged removes a blob's file, which other tenants may share: it is of no use to them either, and each is told so, and
// gets it again by its next pull.
func (s *Store) dropDamaged(ctx context.Context, d digest.Digest) {
	s.log.Error("damaged image content removed", "digest", d.String())
	if err := s.eng.content.Delete(ctx, d); err != nil && !errdefs.IsNotFound(err) {
		s.log.Error("forget damaged content", "digest", d.String(), "err", err)
	}
	if err := s.eng.blobs.Delete(ctx, d); err != nil && !errdefs.IsNotFound(err) {
		s.log.Error("remove damaged content", "digest", d.String(), "err", err)
	}
}

// damageError says what a user can do about content that is not there or not what it was.
func damageError(d digest.Digest) error {
	return errdefs.ErrDataLoss.WithMessage(fmt.Sprintf("content %s in the store is damaged or missing: pull or load the image again", d))
}

// openBlob opens a blob for reading; one that is not there, or too short, is errdefs.ErrDataLoss.
func (s *Store) openBlob(ctx context.Context, d ocispec.Descriptor) (content.ReaderAt, error) {
	ra, err := s.eng.content.ReaderAt(ctx, d)
	if errdefs.IsNotFound(err) {
		return nil, damageError(d.Digest)
	}
	if err != nil {
		return nil, fmt.Errorf("read content %s: %w", d.Digest, err)
	}
	if ra.Size() != d.Size {
		ra.Close()
		s.dropDamaged(ctx, d.Digest)
		return nil, damageError(d.Digest)
	}
	return ra, nil
}

// checkedReader reads a blob, from the start each time it is rewound, and tells at its end whether it is what its name says.
type checkedReader struct {
	*io.SectionReader
	desc   ocispec.Descriptor
	hash   digest.Digester
	at     int64
	tell   func(at int64)
	damage func()
}

// readBlob makes a reader that ends in errdefs.ErrDataLoss, instead of io.EOF, if the bytes were wrong.
func (s *Store) readBlob(ctx context.Context, ra content.ReaderAt, d ocispec.Descriptor, tell func(at int64)) *checkedReader {
	return &checkedReader{
		SectionReader: io.NewSectionReader(ra, 0, ra.Size()), desc: d, hash: digest.SHA256.Digester(), tell: tell,
		damage: func() { s.dropDamaged(ctx, d.Digest) },
	}
}

func (c *checkedReader) Read(b []byte) (int, error) {
	n, err := c.SectionReader.Read(b)
	c.hash.Hash().Write(b[:n]) // a hash's Write gives no error
	c.at += int64(n)
	c.tell(c.at)
	if err == io.EOF && c.at == c.desc.Size && c.hash.Digest() != c.desc.Digest {
		c.damage()
		return n, damageError(c.desc.Digest)
	}
	return n, err
}

// Seek implements io.Seeker for the beginning only: the hash needs all bytes.
func (c *checkedReader) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence != io.SeekStart {
		return 0, fmt.Errorf("seek to %d: %w", offset, errdefs.ErrNotImplemented)
	}
	c.hash, c.at = digest.SHA256.Digester(), 0
	return c.SectionReader.Seek(0, io.SeekStart)
}

// ReadAt hides the section's, which would go around the hash.
func (c *checkedReader) ReadAt([]byte, int64) (int, error) {
	return 0, errdefs.ErrNotImplemented
}

// WriteTo hides the section's, which would go around the hash.
func (c *checkedReader) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c})
}
