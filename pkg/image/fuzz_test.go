package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"

	"github.com/tritond/triton/pkg/image/imagetest"
)

// memoryShelf is a shelf that keeps at most room bytes.
type memoryShelf struct {
	blobs map[digest.Digest][]byte
	room  int64
}

func (m *memoryShelf) Put(_ context.Context, r io.Reader, size int64) (digest.Digest, error) {
	b, err := io.ReadAll(io.LimitReader(r, m.room+1))
	if err != nil {
		return "", err
	}
	if m.room -= int64(len(b)); m.room < 0 {
		return "", errdefs.ErrResourceExhausted
	}
	if int64(len(b)) != size {
		return "", fmt.Errorf("%d bytes, want %d", len(b), size)
	}
	d := digest.FromBytes(b)
	m.blobs[d] = b
	return d, nil
}

func (m *memoryShelf) Get(_ context.Context, d digest.Digest) ([]byte, error) {
	b, ok := m.blobs[d]
	if !ok {
		return nil, errdefs.ErrNotFound
	}
	if len(b) > maxDocument {
		return nil, badArchive("document %s is too large", d)
	}
	return b, nil
}

// fuzzRoom is how many bytes a fuzzed archive may unpack to.
const fuzzRoom = 4 << 20

// FuzzLoad decodes archives and what they say. Whatever comes out has to be consistent, as the rest relies on it.
func FuzzLoad(f *testing.F) {
	im := imagetest.Image{Tags: []string{"a:1", "b:2"}, Layers: []imagetest.Layer{{Tar: imagetest.Files(map[string]string{"a": "a"})}}}
	f.Add(imagetest.Docker(im))
	f.Add(imagetest.Layout(im))
	f.Add(imagetest.Hybrid(im, imagetest.Image{}))
	f.Add(imagetest.MultiPlatform("m:1", map[string]imagetest.Image{"linux/amd64": im, "linux/arm64": im}))
	f.Add(imagetest.Tar(
		imagetest.Entry{Header: tar.Header{Name: "a/layer.tar", Typeflag: tar.TypeSymlink, Linkname: "../b/layer.tar"}},
		imagetest.Entry{Header: tar.Header{Name: "manifest.json"}, Body: []byte(`[{"Config":"c","RepoTags":["x:1"],"Layers":["a/layer.tar"]}]`)},
	))
	f.Add([]byte("\x1f\x8b\x08"))
	f.Add([]byte("\x28\xb5\x2f\xfd"))
	f.Fuzz(func(t *testing.T, archive []byte) {
		shelf := &memoryShelf{blobs: map[digest.Digest][]byte{}, room: fuzzRoom}
		all, err := fuzzDecode(t.Context(), archive, shelf)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) && !errdefs.IsResourceExhausted(err) && !errdefs.IsNotImplemented(err) {
				t.Errorf("an error of no kind: %v", err)
			}
			return
		}
		if len(all) == 0 {
			t.Error("no image and no error")
		}
		for _, b := range all {
			if len(b.layers) != len(b.config.RootFS.DiffIDs) || len(b.layers) > maxLayers {
				t.Errorf("%d layers, %d diff ids", len(b.layers), len(b.config.RootFS.DiffIDs))
			}
			for _, d := range append([]digest.Digest{b.id}, descriptorsDigests(b)...) {
				if _, ok := shelf.blobs[d]; !ok {
					t.Errorf("blob %s was never stored", d)
				}
			}
			if digest.FromBytes(b.manifestJSON) != b.manifest.Digest {
				t.Error("the manifest has another digest")
			}
			for _, tag := range b.tags {
				if _, err := parseTarget(tag.String()); err != nil {
					t.Errorf("tag %s: %v", tag, err)
				}
			}
		}
	})
}

func descriptorsDigests(b bundle) (all []digest.Digest) {
	for _, l := range b.layers {
		all = append(all, l.Digest)
	}
	return all
}

// fuzzDecode is readBundles with memory for a disk.
func fuzzDecode(ctx context.Context, b []byte, shelf *memoryShelf) ([]bundle, error) {
	z, err := Decompress(bytes.NewReader(b))
	if err != nil {
		return nil, readError(err)
	}
	defer z.Close()
	fits := func(n int64) error {
		if n > shelf.room {
			return errdefs.ErrResourceExhausted
		}
		return nil
	}
	a, err := readArchive(ctx, io.LimitReader(z, fuzzRoom), shelf, fits)
	if err != nil {
		return nil, err
	}
	return a.bundles(ctx, shelf)
}

// FuzzChanges applies Dockerfile lines.
func FuzzChanges(f *testing.F) {
	for _, s := range []string{
		`CMD ["a"]`, "ENV a=b c='d e' f=\"$a\\\"\"", "ENV a b c", "EXPOSE 80-90/udp", "LABEL x=${y}", "VOLUME [\"/a\", \"/b\"]",
		"WORKDIR ..\nWORKDIR /a/../../b", "# only a comment", "USER \\\nroot", "STOPSIGNAL 9",
		"HEALTHCHECK --retries=3 --interval=1s CMD [\"a\"]", "HEALTHCHECK NONE", "ONBUILD RUN x", "CMD a\nENTRYPOINT b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		var c dockerspec.DockerOCIImageConfig
		if err := applyChanges(&c, []string{line}); err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("an error of no kind: %v", err)
			}
			return
		}
		for _, e := range c.Env {
			if k, _, ok := strings.Cut(e, "="); !ok || k == "" {
				t.Errorf("environment has %q", e)
			}
		}
		if c.WorkingDir != "" && c.WorkingDir[0] != '/' {
			t.Errorf("working directory is %q", c.WorkingDir)
		}
	})
}

func TestDecodeBoundsTheNumberOfEntries(t *testing.T) {
	r, w := io.Pipe()
	go func() {
		tw := tar.NewWriter(w)
		for i := 0; tw.WriteHeader(&tar.Header{Name: fmt.Sprint(i), Typeflag: tar.TypeDir}) == nil; i++ {
		}
	}()
	defer r.Close()
	_, err := readArchive(t.Context(), r, &memoryShelf{}, func(int64) error { return nil })
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "entries") {
		t.Errorf("got %v, want an invalid argument about entries", err)
	}
}

func TestLayerFilterBoundsWhatALayerMakesUsRemember(t *testing.T) {
	f := &layerFilter{fits: func(int64) error { return nil }}
	h := &tar.Header{Name: "d", Typeflag: tar.TypeDir, PAXRecords: map[string]string{"SCHILY.xattr.user.x": strings.Repeat("x", 1<<20)}}
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		_, err = f.accept(h)
	}
	if !errdefs.IsInvalidArgument(err) || n > 300 {
		t.Errorf("after %d headers of 1 MiB: %v, want an invalid argument after 256", n, err)
	}
}

func TestMeterStopsWhenItsContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m, err := newMeter(ctx, strings.NewReader("abc"), floor{path: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := m.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
}
