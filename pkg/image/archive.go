package image

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Bounds of what an archive may make this process remember. Real archives are far below them.
const (
	maxEntries  = 32 << 10 // files, links and directories
	maxName     = 512      // bytes of an entry's name
	maxDocument = 8 << 20  // bytes of a manifest, index or config
	maxLayers   = 127      // layers of an image: docker's limit
	maxImages   = 1024     // images of an archive
	maxNames    = 1024     // tags of one image
)

// Documents of an archive that are not blobs.
const (
	dockerManifestFile = "manifest.json"
	repositoriesFile   = "repositories"
)

// shelf is where blobs go while an archive is read, for a tar stream is read once and its table of contents may come last.
type shelf interface {
	// Put stores size bytes.
	Put(ctx context.Context, r io.Reader, size int64) (digest.Digest, error)
	// Get returns a stored document of at most maxDocument bytes.
	Get(ctx context.Context, d digest.Digest) ([]byte, error)
}

// blob is one file of an archive, as it was stored.
type blob struct {
	digest digest.Digest
	size   int64
	packed compression
}

// archive is the table of contents of an image archive.
type archive struct {
	documents map[string][]byte
	blobs     map[string]blob
	links     map[string]string // of symbolic and hard links, both relative to the archive's root
}

// badArchive reports bytes that cannot be an image archive.
func badArchive(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage("invalid image archive: " + fmt.Sprintf(format, args...))
}

// readArchive reads a tar to its end marker and puts its files on the shelf. fits refuses sizes that no room is left for.
func readArchive(ctx context.Context, r io.Reader, to shelf, fits func(int64) error) (*archive, error) {
	a := &archive{documents: map[string][]byte{}, blobs: map[string]blob{}, links: map[string]string{}}
	tr := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			return nil, readError(err)
		}
		if n >= maxEntries {
			return nil, badArchive("more than %d entries", maxEntries)
		}
		name, err := entryName(h.Name)
		if err != nil {
			return nil, err
		}
		switch h.Typeflag {
		case tar.TypeDir, tar.TypeXGlobalHeader:
		case tar.TypeSymlink, tar.TypeLink:
			err = a.addLink(name, h)
		case tar.TypeReg:
			err = a.addFile(ctx, name, h.Size, tr, to, fits)
		default:
			err = badArchive("%q is neither file, link nor directory", name)
		}
		if err != nil {
			return nil, err
		}
	}
}

// readError says that bytes are damaged, unless the reader gave up for a reason of its own.
func readError(err error) error {
	switch {
	case errdefs.IsResourceExhausted(err), errdefs.IsNotImplemented(err), errdefs.IsInvalidArgument(err),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return badArchive("it is cut short")
	}
	return badArchive("%v", err)
}

// witness remembers why reading failed, to tell it from a failure to write.
type witness struct {
	r   io.Reader
	err error
}

func (w *witness) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// entryName gives the clean name of an entry and refuses one that points outside the archive.
func entryName(name string) (string, error) {
	if len(name) > maxName {
		return "", badArchive("an entry's name is longer than %d bytes", maxName)
	}
	clean := path.Clean(name)
	if path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") {
		return "", badArchive("%q is outside of the archive", name)
	}
	return clean, nil
}

// addLink notes a link: older archives store a layer that several images share once, and link to it.
func (a *archive) addLink(name string, h *tar.Header) error {
	target := h.Linkname
	if h.Typeflag == tar.TypeSymlink {
		if path.IsAbs(target) {
			return badArchive("link %q points to %q, outside of the archive", name, target)
		}
		target = path.Join(path.Dir(name), target)
	}
	target, err := entryName(target)
	if err != nil {
		return err
	}
	delete(a.blobs, name)
	a.links[name] = target
	return nil
}

// addFile keeps a document in memory and puts everything else on the shelf.
func (a *archive) addFile(ctx context.Context, name string, size int64, r io.Reader, to shelf, fits func(int64) error) error {
	switch name {
	case dockerManifestFile, ocispec.ImageIndexFile, ocispec.ImageLayoutFile:
		if size > maxDocument {
			return badArchive("%q is larger than %d bytes", name, maxDocument)
		}
		b, err := io.ReadAll(io.LimitReader(r, size))
		if err != nil {
			return readError(err)
		}
		a.documents[name] = b
		return nil
	}
	if legacyDocument(name) {
		return nil
	}
	if err := fits(size); err != nil {
		return fmt.Errorf("store %q: %w", name, err)
	}
	br := bufio.NewReaderSize(r, 64<<10)
	head, err := br.Peek(peekSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return readError(err)
	}
	src := &witness{r: br}
	d, err := to.Put(ctx, src, size)
	if src.err != nil {
		return readError(src.err)
	}
	if err != nil {
		return fmt.Errorf("store %q: %w", name, err)
	}
	if want, ok := blobDigest(name); ok && want != d {
		return badArchive("%q has the digest %s", name, d)
	}
	delete(a.links, name)
	a.blobs[name] = blob{digest: d, size: size, packed: sniff(head)}
	return nil
}

// legacyDocument tells the files that docker wrote for versions before 1.10. manifest.json says all that they do.
func legacyDocument(name string) bool {
	if name == repositoriesFile {
		return true
	}
	base := path.Base(name)
	return (base == "VERSION" || base == "json") && !strings.HasPrefix(name, ocispec.ImageBlobsDir+"/")
}

// blobDigest gives the digest that the name of a file in an OCI layout claims.
func blobDigest(name string) (digest.Digest, bool) {
	rest, ok := strings.CutPrefix(name, ocispec.ImageBlobsDir+"/")
	if !ok {
		return "", false
	}
	algorithm, hex, ok := strings.Cut(rest, "/")
	if !ok || digest.Algorithm(algorithm) != digest.SHA256 {
		return "", false
	}
	return digest.NewDigestFromEncoded(digest.SHA256, hex), true
}

// maxLinks is how many links in a row are followed; docker writes one.
const maxLinks = 8

// find returns the file that a manifest names.
func (a *archive) find(name string) (blob, error) {
	at := path.Clean(name)
	for range maxLinks {
		if b, ok := a.blobs[at]; ok {
			return b, nil
		}
		next, ok := a.links[at]
		if !ok {
			break
		}
		at = next
	}
	return blob{}, badArchive("%q is missing", name)
}
