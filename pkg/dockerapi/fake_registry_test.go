package dockerapi

import (
	"context"
	"io"
	"strings"
	"sync"

	"github.com/tritond/triton/pkg/triton"
)

// fakeRegistries answers for the endpoints that speak to registries, and remembers what it was asked.
type fakeRegistries struct {
	mu    sync.Mutex
	pulls []triton.PullRequest
	push  []triton.PushRequest
	auth  []triton.RegistryAuth
	lines []triton.ImageProgress // what a pull or push says
	err   error                  // what it ends with
	token string

	saveErr error // after the first bytes of an archive
}

func (f *fakeRegistries) PullImage(_ context.Context, _ triton.Tenant, req triton.PullRequest, emit func(triton.ImageProgress) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pulls = append(f.pulls, req)
	if strings.Contains(req.Ref, "nosuch") {
		return notFound("pull access denied for nosuch, repository does not exist or may require 'docker login'")
	}
	return f.say(emit)
}

func (f *fakeRegistries) PushImage(_ context.Context, _ triton.Tenant, req triton.PushRequest, emit func(triton.ImageProgress) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.push = append(f.push, req)
	return f.say(emit)
}

func (f *fakeRegistries) say(emit func(triton.ImageProgress) error) error {
	for _, l := range f.lines {
		if err := emit(l); err != nil {
			return err
		}
	}
	return f.err
}

func (f *fakeRegistries) Login(_ context.Context, auth triton.RegistryAuth) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.auth = append(f.auth, auth)
	return f.token, f.err
}

func (f *fakeRegistries) InspectRemote(_ context.Context, ref string, auth triton.RegistryAuth) (triton.RegistryImage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.auth = append(f.auth, auth)
	return triton.RegistryImage{
		MediaType: "application/vnd.oci.image.index.v1+json", Digest: "sha256:" + ref, Size: 7,
		Platforms: []triton.Platform{{OS: "linux", Architecture: "arm64", Variant: "v8"}},
	}, f.err
}

// PushImage looks the image up first, as the store does: only the tenant's own can be pushed.
func (b *fakeBackend) PushImage(ctx context.Context, tenant triton.Tenant, req triton.PushRequest, emit func(triton.ImageProgress) error) error {
	if _, err := b.InspectImage(ctx, tenant, req.Ref); err != nil {
		return err
	}
	return b.fakeRegistries.PushImage(ctx, tenant, req, emit)
}

func (b *fakeBackend) SaveImages(ctx context.Context, tenant triton.Tenant, refs []string, _ string, begin func() error, out io.Writer) error {
	for _, ref := range refs {
		if _, err := b.InspectImage(ctx, tenant, ref); err != nil {
			return err
		}
	}
	if err := begin(); err != nil {
		return err
	}
	if _, err := io.WriteString(out, "archive of "+strings.Join(refs, "+")); err != nil {
		return err
	}
	return b.saveErr
}

func (b *fakeBackend) ImageHistory(ctx context.Context, tenant triton.Tenant, ref string) ([]triton.ImageStep, error) {
	img, err := b.InspectImage(ctx, tenant, ref)
	return []triton.ImageStep{{ID: img.ID, Tags: img.RepoTags, CreatedBy: "CMD", Created: img.Created}, {Size: 5}}, err
}

func (b *fakeBackend) PruneImages(ctx context.Context, tenant triton.Tenant, all bool, pick func(*triton.Image) bool) (gone []ImageRemoval, freed int64, err error) {
	list, err := b.ListImages(ctx, tenant)
	for i := range list {
		if (all || len(list[i].RepoTags) == 0) && pick(&list[i]) {
			gone, freed = append(gone, ImageRemoval{Deleted: list[i].ID}), freed+list[i].Size
		}
	}
	return gone, freed, err
}
