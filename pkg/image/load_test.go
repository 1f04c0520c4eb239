package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/tritond/triton/pkg/image"
	"github.com/tritond/triton/pkg/image/imagetest"
	"github.com/tritond/triton/pkg/triton"
)

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	z.Write(b)
	z.Close()
	return out.Bytes()
}

func zstandard(b []byte) []byte {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return z.EncodeAll(b, nil)
}

// small is an image of one file.
func small(file string, tags ...string) imagetest.Image {
	return imagetest.Image{Tags: tags, Layers: []imagetest.Layer{{Tar: imagetest.Files(map[string]string{file: file})}}}
}

func TestKernelLoadReadsEveryKindOfArchive(t *testing.T) {
	im := small("a", "busy/box:1", "other:latest")
	packed := small("a", "busy/box:1", "other:latest")
	packed.Layers[0].Pack = gzipped
	zpacked := small("a", "busy/box:1", "other:latest")
	zpacked.Layers[0].Pack = zstandard
	for name, archive := range map[string][]byte{
		"docker":                imagetest.Docker(im),
		"docker, gzip":          gzipped(imagetest.Docker(im)),
		"docker, zstd":          zstandard(imagetest.Docker(im)),
		"docker, gzip layers":   imagetest.Docker(packed),
		"layout":                imagetest.Layout(im),
		"layout, gzip layers":   imagetest.Layout(packed),
		"layout, zstd layers":   imagetest.Layout(zpacked),
		"hybrid":                imagetest.Hybrid(im),
		"hybrid, all gzip":      gzipped(imagetest.Hybrid(packed)),
		"docker, legacy inside": imagetest.Docker(im, small("a", "third:1")),
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, image.Config{})
			lines := load(t, s, archive)
			if diff := cmp.Diff([]string{"Loaded image: busy/box:1", "Loaded image: other:latest"}, lines[:2]); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
			got, err := s.Inspect(t.Context(), tenant, "other")
			if err != nil {
				t.Fatalf("inspect: %v", err)
			}
			if got.ID != im.ID() || got.Size != 1 || got.OS != "linux" || got.Architecture != "amd64" {
				t.Errorf("got id %s size %d %s/%s, want %s 1 linux/amd64", got.ID, got.Size, got.OS, got.Architecture, im.ID())
			}
			fs, err := s.Prepare(t.Context(), newKey(), got.ID, triton.IDRange{})
			if err != nil {
				t.Fatalf("prepare: %v", err)
			}
			if b, err := os.ReadFile(filepath.Join(fs.Lower[0], "a")); err != nil || string(b) != "a" {
				t.Errorf("file of the image: got %q, %v", b, err)
			}
		})
	}
}

func TestKernelLoadWithoutTagGivesADanglingImage(t *testing.T) {
	s := open(t, image.Config{})
	im := small("a")
	want := []string{"Loaded image ID: " + im.ID()}
	if diff := cmp.Diff(want, load(t, s, imagetest.Docker(im))); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	list, err := s.List(t.Context(), tenant)
	if err != nil || len(list) != 1 || list[0].ID != im.ID() || len(list[0].RepoTags) != 0 {
		t.Errorf("list: got %+v, %v, want the image without tags", list, err)
	}
}

func TestKernelLoadMovesATagAndKeepsTheOldImage(t *testing.T) {
	s := open(t, image.Config{})
	before, after := small("old", "web:1"), small("new", "web:1")
	load(t, s, imagetest.Docker(before))
	want := []string{
		"The image web:1 already exists, renaming the old one with ID " + before.ID() + " to empty string",
		"Loaded image: web:1",
	}
	if diff := cmp.Diff(want, load(t, s, imagetest.Docker(after))); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	for ref, tags := range map[string][]string{after.ID(): {"web:1"}, before.ID(): nil} {
		got, err := s.Inspect(t.Context(), tenant, ref)
		if diff := cmp.Diff(tags, got.RepoTags); err != nil || diff != "" {
			t.Errorf("tags of %s: %v (-want +got):\n%s", ref, err, diff)
		}
	}
}

func TestKernelLoadFollowsLinksBetweenLayers(t *testing.T) {
	for _, kind := range []byte{tar.TypeSymlink, tar.TypeLink} {
		s := open(t, image.Config{})
		im := small("a", "linked:1")
		config := im.ConfigJSON()
		target := map[byte]string{tar.TypeSymlink: "../one/layer.tar", tar.TypeLink: "one/layer.tar"}[kind]
		load(t, s, imagetest.Tar(
			imagetest.Entry{Header: tar.Header{Name: "two/layer.tar", Typeflag: kind, Linkname: target}},
			imagetest.Entry{Header: tar.Header{Name: "one/layer.tar"}, Body: im.Layers[0].Tar},
			imagetest.Entry{Header: tar.Header{Name: "c.json"}, Body: config},
			imagetest.Entry{Header: tar.Header{Name: "./manifest.json"}, Body: []byte(`[{"Config":"c.json","RepoTags":["linked:1"],"Layers":["two/layer.tar"]}]`)},
		))
		if got, err := s.Inspect(t.Context(), tenant, "linked:1"); err != nil || got.ID != im.ID() {
			t.Errorf("type %c: got %s, %v", kind, got.ID, err)
		}
	}
}

func TestKernelLoadTakesThePlatformOfThisMachine(t *testing.T) {
	s := open(t, image.Config{})
	here, there := small("here"), small("there")
	other := map[string]string{"amd64": "arm64"}[runtime.GOARCH]
	if other == "" {
		other = "amd64"
	}
	load(t, s, imagetest.MultiPlatform("multi:1", map[string]imagetest.Image{"linux/" + other: there, "linux/" + runtime.GOARCH: here}))
	if got, err := s.Inspect(t.Context(), tenant, "multi:1"); err != nil || got.ID != here.ID() {
		t.Errorf("got %s, %v, want %s", got.ID, err, here.ID())
	}
}

func TestKernelConcurrentLoadsOfTheSameImage(t *testing.T) {
	s := open(t, image.Config{})
	im := small("a", "same:1")
	im.Layers = append(im.Layers, imagetest.Layer{Tar: imagetest.Files(map[string]string{"b": strings.Repeat("b", 1<<20)}), Pack: gzipped})
	archive := imagetest.Docker(im)
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for range cap(errs) {
		wg.Go(func() {
			_, err := s.Load(context.Background(), tenant, bytes.NewReader(archive), nil)
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Errorf("load: %v", err)
		}
	}
	if err := s.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	fs, err := s.Prepare(t.Context(), newKey(), im.ID(), triton.IDRange{})
	if err != nil || len(fs.Lower) != 2 {
		t.Fatalf("prepare: got %v, %v", fs.Lower, err)
	}
	if fi, err := os.Stat(filepath.Join(fs.Lower[0], "b")); err != nil || fi.Size() != 1<<20 {
		t.Errorf("file of the upper layer: %v, %v", fi, err)
	}
}

func TestKernelImagesSharingLayersUnpackThemOnce(t *testing.T) {
	root := t.TempDir()
	s := open(t, image.Config{Root: root})
	base := imagetest.Layer{Tar: imagetest.Files(map[string]string{"base": "base"})}
	var lower []string
	for i := range 3 {
		im := imagetest.Image{Layers: []imagetest.Layer{base, {Tar: imagetest.Files(map[string]string{fmt.Sprint(i): "x"})}}}
		load(t, s, imagetest.Docker(im))
		fs, err := s.Prepare(t.Context(), newKey(), im.ID(), triton.IDRange{})
		if err != nil {
			t.Fatal(err)
		}
		lower = append(lower, fs.Lower[1])
	}
	if lower[0] != lower[1] || lower[1] != lower[2] {
		t.Errorf("the shared layer is at %v, want one place", lower)
	}
	if err := s.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if dirs, err := os.ReadDir(filepath.Join(root, "snapshots", "snapshots")); err != nil || len(dirs) != 4 {
		t.Errorf("got %d layers on disk, %v, want 4", len(dirs), err)
	}
}

func TestKernelTenantsDoNotSeeEachOther(t *testing.T) {
	s := open(t, image.Config{})
	im := small("secret", "mine:1")
	load(t, s, imagetest.Docker(im))
	const stranger = triton.Tenant("stranger")
	for _, ref := range []string{"mine:1", im.ID(), im.ID()[7:19]} {
		if _, err := s.Inspect(t.Context(), stranger, ref); !errdefs.IsNotFound(err) {
			t.Errorf("inspect %s: got %v, want not found", ref, err)
		}
		if _, err := s.Remove(t.Context(), stranger, ref, true); !errdefs.IsNotFound(err) {
			t.Errorf("remove %s: got %v, want not found", ref, err)
		}
	}
	key := triton.ContainerKey{Tenant: stranger, ID: triton.NewID()}
	if _, err := s.Prepare(t.Context(), key, im.ID(), triton.IDRange{}); !errdefs.IsNotFound(err) {
		t.Errorf("prepare: got %v, want not found", err)
	}
	if list, err := s.List(t.Context(), stranger); err != nil || len(list) != 0 {
		t.Errorf("list: got %v, %v, want nothing", list, err)
	}
	// The same name and the same layers, but a config of its own.
	theirs := small("secret", "mine:1")
	theirs.Config.User = "stranger"
	if _, err := s.Load(t.Context(), stranger, bytes.NewReader(imagetest.Docker(theirs)), nil); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Inspect(t.Context(), tenant, "mine:1"); err != nil || got.ID != im.ID() {
		t.Errorf("after a stranger's load: got %s, %v", got.ID, err)
	}
}

func TestKernelTenantsWithDashesAreKeptApart(t *testing.T) {
	s := open(t, image.Config{})
	im := small("a", "a:1")
	all := []triton.Tenant{"a-b", "a--b", "a---b", "ab"}
	for i, tenant := range all {
		if _, err := s.Load(t.Context(), tenant, bytes.NewReader(imagetest.Docker(im)), nil); err != nil {
			t.Fatalf("%s: %v", tenant, err)
		}
		if _, err := s.Prepare(t.Context(), triton.ContainerKey{Tenant: tenant, ID: triton.NewID()}, im.ID(), noIDs); err != nil {
			t.Errorf("%s: %v", tenant, err)
		}
		for _, later := range all[i+1:] {
			if _, err := s.Inspect(t.Context(), later, "a:1"); !errdefs.IsNotFound(err) {
				t.Errorf("%s sees the image of %s: %v", later, tenant, err)
			}
		}
	}
}

// Who knows a layer's diff id, but has not got the layer, must not get at the one that is unpacked.
func TestKernelKnowingADiffIDIsNotHavingTheLayer(t *testing.T) {
	s := open(t, image.Config{})
	victim := small("secret", "mine:1")
	load(t, s, imagetest.Docker(victim))
	for name, tar := range map[string][]byte{"plain": []byte("not the layer"), "packed": gzipped([]byte("not the layer"))} {
		thief := imagetest.Image{Layers: []imagetest.Layer{{Tar: victim.Layers[0].Tar, Pack: func([]byte) []byte { return tar }}}}
		if _, err := s.Load(t.Context(), tenant, bytes.NewReader(imagetest.Docker(thief)), nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: got %v, want invalid argument", name, err)
		}
	}
}
