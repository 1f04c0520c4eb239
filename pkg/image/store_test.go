package image_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/tritond/triton/pkg/image"
	"github.com/tritond/triton/pkg/image/imagetest"
	"github.com/tritond/triton/pkg/triton"
)

const tenant = triton.DefaultTenant

// open opens a store that is closed with the test.
func open(t testing.TB, cfg image.Config) *image.Store {
	t.Helper()
	if cfg.Root == "" {
		cfg.Root = t.TempDir()
	}
	s, err := image.Open(context.Background(), cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// load loads an archive that must load.
func load(t testing.TB, s *image.Store, archive []byte) []string {
	t.Helper()
	lines, err := s.Load(t.Context(), tenant, bytes.NewReader(archive), nil)
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return lines
}

func newKey() triton.ContainerKey { return triton.ContainerKey{Tenant: tenant, ID: triton.NewID()} }

func TestKernelPrepareGivesLayersTopmostFirst(t *testing.T) {
	s := open(t, image.Config{})
	im := imagetest.Image{Tags: []string{"two:1"}, Layers: []imagetest.Layer{
		{Tar: imagetest.Files(map[string]string{"a/low": "low"})},
		{Tar: imagetest.Files(map[string]string{"a/high": "high"})},
	}}
	if diff := cmp.Diff([]string{"Loaded image: two:1"}, load(t, s, imagetest.Docker(im))); diff != "" {
		t.Errorf("load's lines (-want +got):\n%s", diff)
	}
	key := newKey()
	ids := triton.IDRange{Base: 0x10000000, Size: 65536}
	fs, err := s.Prepare(t.Context(), key, im.ID(), ids)
	if err != nil {
		t.Fatalf("prepare: %v", err)
	}
	if len(fs.Lower) != 2 {
		t.Fatalf("got %d lower directories, want 2", len(fs.Lower))
	}
	for i, want := range []string{"high", "low"} {
		if got, err := os.ReadFile(filepath.Join(fs.Lower[i], "a", want)); err != nil || string(got) != want {
			t.Errorf("lower %d: got %q, %v, want %q", i, got, err, want)
		}
	}
	again, err := s.Rootfs(t.Context(), key)
	if diff := cmp.Diff(fs, again); err != nil || diff != "" {
		t.Errorf("rootfs: %v (-prepared +rootfs):\n%s", err, diff)
	}
	if _, err := s.Prepare(t.Context(), key, im.ID(), ids); !errdefs.IsAlreadyExists(err) {
		t.Errorf("second prepare: got %v, want already exists", err)
	}
	for range 2 {
		if err := s.Discard(t.Context(), key); err != nil {
			t.Errorf("discard: %v", err)
		}
	}
	if _, err := s.Rootfs(t.Context(), key); !errdefs.IsNotFound(err) {
		t.Errorf("rootfs after discard: got %v, want not found", err)
	}
}

// noIDs stands for a container without a user namespace.
var noIDs = triton.IDRange{}

// layerChain is the chain id of an image with one layer: the layer's digest.
func layerChain(tar []byte) string { return digest.FromBytes(tar).String() }
