package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// badRemote reports what a registry sent and no registry should.
func badRemote(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage("invalid image in the registry: " + fmt.Sprintf(format, args...))
}

// asRemote rewords what checkBundle says about archives.
func asRemote(err error) error {
	if errdefs.IsInvalidArgument(err) {
		return badRemote("%v", err)
	}
	return err
}

func decodeRemote(d ocispec.Descriptor, raw []byte, v any) error {
	if err := json.Unmarshal(raw, v); err != nil {
		return badRemote("%s: %v", d.Digest, err)
	}
	return nil
}

// statusError makes an answer that is none an error, with the registry's own words.
func statusError(resp *http.Response) error {
	err := remoteerrors.NewUnexpectedStatusErr(resp)
	var status remoteerrors.ErrUnexpectedStatus
	var codes docker.Errors
	if errors.As(err, &status) && json.Unmarshal(status.Body, &codes) == nil && codes.Len() > 0 {
		return errors.Join(err, codes)
	}
	return err
}

// checkDescriptor refuses digests that cannot be stored and sizes that cannot be.
func checkDescriptor(d ocispec.Descriptor) error {
	if err := checkDigest(d.Digest); err != nil {
		return badRemote("%v", err)
	}
	if d.Size < 0 {
		return badRemote("%s has %d bytes", d.Digest, d.Size)
	}
	return nil
}

// fetchDocument reads a manifest, index or config without storing it.
func fetchDocument(ctx context.Context, from remotes.Fetcher, d ocispec.Descriptor) ([]byte, error) {
	if err := checkDescriptor(d); err != nil {
		return nil, err
	}
	if d.Size > maxDocument {
		return nil, badRemote("document %s has %d bytes, at most %d are read", d.Digest, d.Size, maxDocument)
	}
	d.URLs, d.Data = nil, nil
	r, err := from.Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, d.Size+1))
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", d.Digest, err)
	}
	if digest.FromBytes(raw) != d.Digest {
		return nil, wrongContent(d)
	}
	return raw, nil
}

// wrongContent is docker's error for bytes that are not what they should be.
func wrongContent(d ocispec.Descriptor) error {
	return errdefs.ErrDataLoss.WithMessage(fmt.Sprintf("filesystem layer verification failed for digest %s: the registry sent other content", d.Digest))
}

// document fetches a manifest, index or config into the store, or reads the one that is there if it is whole.
func (p *pull) document(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	shelf := contentShelf{p.store.eng.content}
	if raw, err := shelf.Get(ctx, d.Digest); err == nil && digest.FromBytes(raw) == d.Digest {
		return raw, p.store.putDocument(ctx, d, raw) // for the lease
	} else if err == nil {
		p.store.dropDamaged(ctx, d.Digest)
	}
	raw, err := fetchDocument(ctx, p.from, d)
	if err != nil {
		return nil, registryError("pull", p.ref, err)
	}
	return raw, p.store.putDocument(ctx, d, raw)
}

// downloadAttempts is docker's default for --max-download-attempts.
const downloadAttempts = 5

// download fetches a layer into the store. It goes on where an earlier attempt, of this process or of one that was killed, ended.
func (p *pull) download(ctx context.Context, d ocispec.Descriptor) error {
	id := shortDigest(d.Digest)
	d.URLs, d.Data = nil, nil // bytes come from the registry that was asked, and from nowhere else
	for attempt := 1; ; attempt++ {
		resumed, err := p.downloadOnce(ctx, id, d)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errdefs.IsDataLoss(err) && resumed:
			continue // what an earlier attempt left was bad, and is removed
		case attempt >= downloadAttempts || !temporary(err):
			return registryError("pull", p.ref, err)
		}
		for left := attempt; left > 0; left-- {
			p.out.say(id, fmt.Sprintf("Retrying in %d second%s", left, map[bool]string{true: "s"}[left > 1]))
			if err := pause(ctx, time.Second); err != nil {
				return err
			}
		}
	}
}

// pause waits, or returns why not.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// temporary tells errors that another attempt may not meet.
func temporary(err error) bool {
	var status remoteerrors.ErrUnexpectedStatus
	if errors.As(err, &status) {
		return status.StatusCode >= http.StatusInternalServerError || status.StatusCode == http.StatusTooManyRequests
	}
	return !errdefs.IsDataLoss(err) && !errdefs.IsNotFound(err) && !errdefs.IsInvalidArgument(err) && !errdefs.IsResourceExhausted(err) &&
		!errors.Is(err, docker.ErrInvalidAuthorization)
}

// downloadOnce says whether it went on where another attempt ended.
func (p *pull) downloadOnce(ctx context.Context, id string, d ocispec.Descriptor) (resumed bool, err error) {
	store := p.store.eng.content
	ref := remotes.MakeRefKey(ctx, d)
	w, err := content.OpenWriter(ctx, store, content.WithRef(ref), content.WithDescriptor(d))
	if errdefs.IsAlreadyExists(err) {
		if p.store.present(ctx, d) {
			return false, nil
		}
		p.store.dropDamaged(ctx, d.Digest)
		w, err = content.OpenWriter(ctx, store, content.WithRef(ref), content.WithDescriptor(d))
	}
	if err != nil {
		return false, fmt.Errorf("open content: %w", err)
	}
	defer w.Close()
	if st, err := w.Status(); err == nil {
		resumed = st.Offset > 0
	}
	r, err := p.from.Fetch(ctx, d)
	if err != nil {
		return resumed, err
	}
	defer r.Close()
	m, err := newMeter(ctx, r, p.store.floor)
	if err != nil {
		return resumed, err
	}
	src := &tracked{r: m, seek: r, tell: func(at int64) { p.out.move(id, "Downloading", at, d.Size) }}
	err = content.Copy(ctx, w, src, d.Size, d.Digest)
	if errdefs.IsFailedPrecondition(err) { // another digest or more bytes than there should be
		w.Close()
		return resumed, errors.Join(wrongContent(d), contentShelf{store}.abort(ctx, ref))
	}
	if err != nil {
		return resumed, err
	}
	p.out.say(id, "Download complete")
	return resumed, nil
}

// tracked is a reader that tells where it is.
type tracked struct {
	r    io.Reader
	seek any // the io.Seeker below r, if it is one
	at   int64
	tell func(at int64)
}

func (t *tracked) Read(b []byte) (int, error) {
	n, err := t.r.Read(b)
	t.at += int64(n)
	t.tell(t.at)
	return n, err
}

// Seek implements io.Seeker, to resume.
func (t *tracked) Seek(offset int64, whence int) (int64, error) {
	s, ok := t.seek.(io.Seeker)
	if !ok {
		return 0, fmt.Errorf("resume: %w", errdefs.ErrNotImplemented)
	}
	n, err := s.Seek(offset, whence)
	t.at = n
	return n, err
}

// keepPartial is how long what an unfinished pull downloaded stays for the next attempt.
const keepPartial = 24 * time.Hour

// pullLease begins the names of leases that outlive a crash.
const pullLease = "pull-"

// resumable is leased for work that is to go on where it ended: the lease stays when fn fails, for keepPartial, unless the
// disk is full. The next one of the same name takes it over.
func (s *Store) resumable(ctx context.Context, name string, fn func(context.Context) error) error {
	until := time.Now().Add(keepPartial).UTC().Format(time.RFC3339)
	l, err := s.eng.leases.Create(ctx, leases.WithID(name), leases.WithLabel("containerd.io/gc.expire", until))
	if errdefs.IsAlreadyExists(err) {
		l, err = leases.Lease{ID: name}, nil
	}
	if err != nil {
		return fmt.Errorf("make lease: %w", err)
	}
	defer s.jan.collect()
	err = fn(leases.WithLease(ctx, l.ID))
	if err != nil && !errdefs.IsResourceExhausted(fullDisk(err)) {
		return err
	}
	return errors.Join(err, s.eng.leases.Delete(context.WithoutCancel(ctx), l))
}
