package dockerapi

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

func (b *fakeBackend) CreateVolume(_ context.Context, tenant triton.Tenant, name string, spec triton.VolumeSpec) (triton.VolumeInfo, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if name == "" {
		name = triton.NewID()
		spec.MarkAnonymous()
	}
	v := triton.VolumeInfo{Key: triton.VolumeKey{Tenant: tenant, Name: name}, Spec: spec, Mountpoint: "/volumes/" + name}
	if i := b.volume(v.Key); i >= 0 {
		return b.vols[i], nil
	}
	b.vols = append(b.vols, v)
	return v, nil
}

// volume is the place of a volume in b.vols, -1: none. The caller holds b.mu.
func (b *fakeBackend) volume(key triton.VolumeKey) int {
	return slices.IndexFunc(b.vols, func(v triton.VolumeInfo) bool { return v.Key == key })
}

func (b *fakeBackend) ListVolumes(_ context.Context, tenant triton.Tenant) ([]triton.VolumeInfo, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(b.vols), func(v triton.VolumeInfo) bool { return v.Key.Tenant != tenant }), nil
}

func (b *fakeBackend) InspectVolume(_ context.Context, key triton.VolumeKey) (triton.VolumeInfo, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := b.volume(key); i >= 0 {
		return b.vols[i], nil
	}
	return triton.VolumeInfo{}, fmt.Errorf("get %s: no such volume: %w", key.Name, errdefs.ErrNotFound)
}

func (b *fakeBackend) VolumeSize(context.Context, triton.VolumeKey) (int64, error) { return 7, nil }

func (b *fakeBackend) RemoveVolume(_ context.Context, key triton.VolumeKey) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := b.volume(key)
	if i < 0 {
		return fmt.Errorf("get %s: no such volume: %w", key.Name, errdefs.ErrNotFound)
	}
	b.vols = slices.Delete(b.vols, i, i+1)
	return nil
}

func (b *fakeBackend) PruneVolumes(_ context.Context, tenant triton.Tenant, want func(*triton.VolumeInfo) bool) ([]string, int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var gone []string
	b.vols = slices.DeleteFunc(b.vols, func(v triton.VolumeInfo) bool {
		if v.Key.Tenant != tenant || len(v.Users) > 0 || !want(&v) {
			return false
		}
		gone = append(gone, v.Key.Name)
		return true
	})
	return gone, int64(len(gone)) * 7, nil
}
