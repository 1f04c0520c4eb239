package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/image"
	"github.com/tritond/triton/pkg/image/imagetest"
	"github.com/tritond/triton/pkg/triton"
)

// blobDirs are made with a tenant's first blob and stay.
var blobDirs = []string{"content/blobs", "content/blobs/sha256", "content/ingest"}

// leftovers lists everything below a store's root once its garbage is collected.
func leftovers(t testing.TB, s *image.Store, root string) (paths []string) {
	t.Helper()
	if err := s.Collect(context.Background()); err != nil {
		t.Fatalf("collect: %v", err)
	}
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(root, p); !slices.Contains(blobDirs, rel) {
			paths = append(paths, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// file makes a regular entry.
func file(name, body string) imagetest.Entry {
	return imagetest.Entry{Header: tar.Header{Name: name}, Body: []byte(body)}
}

// dockerOf makes an archive of one image out of its parts.
func dockerOf(config []byte, manifest string, more ...imagetest.Entry) []byte {
	return imagetest.Tar(append(more, file("c.json", string(config)), file("manifest.json", manifest))...)
}

// hostileArchives are archives that must be refused as invalid, by what is wrong with them.
func hostileArchives() map[string][]byte {
	im := small("a", "good:1")
	layer := string(im.Layers[0].Tar)
	const one = `[{"Config":"c.json","RepoTags":["x:1"],"Layers":["l.tar"]}]`
	header := func(h tar.Header) []byte {
		return imagetest.Tar(imagetest.Entry{Header: h}, file("manifest.json", one))
	}
	edit := func(change func(*dockerspec.DockerOCIImage)) []byte {
		im := im
		im.Edit = change
		return imagetest.Docker(im)
	}
	whole := imagetest.Docker(im)
	layout := imagetest.Layout(im)
	manyLayers := `[{"Config":"c.json","Layers":[` + strings.TrimSuffix(strings.Repeat(`"",`, 1_000_000), ",") + `]}]`

	const pathDigest = `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",` +
		`"digest":"sha256:../../../../etc/passwd","size":1}]}`
	bad := func([]byte) []byte { return []byte("bad") }

	return map[string][]byte{
		"nothing":                   nil,
		"no tar":                    []byte(strings.Repeat("no tar ", 1000)),
		"an empty tar":              imagetest.Tar(),
		"gzip of garbage":           gzipped([]byte(strings.Repeat("x", 2000))),
		"cut gzip":                  gzipped(whole)[:len(gzipped(whole))/2],
		"cut gzip header":           gzipped(whole)[:5],
		"cut zstd":                  zstandard(whole)[:20],
		"cut in a file":             whole[:512+100],
		"cut in a header":           whole[:100],
		"path traversal":            header(tar.Header{Name: "../../etc/passwd"}),
		"absolute path":             header(tar.Header{Name: "/etc/passwd"}),
		"absolute symlink":          header(tar.Header{Name: "l.tar", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}),
		"symlink out":               header(tar.Header{Name: "a/l.tar", Typeflag: tar.TypeSymlink, Linkname: "../../etc/passwd"}),
		"hard link out":             header(tar.Header{Name: "l.tar", Typeflag: tar.TypeLink, Linkname: "../etc/passwd"}),
		"absolute hard link":        header(tar.Header{Name: "l.tar", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}),
		"links in a circle":         dockerOf(im.ConfigJSON(), one, imagetest.Entry{Header: tar.Header{Name: "l.tar", Typeflag: tar.TypeSymlink, Linkname: "l.tar"}}),
		"device node":               header(tar.Header{Name: "l.tar", Typeflag: tar.TypeBlock, Devmajor: 254}),
		"fifo":                      header(tar.Header{Name: "l.tar", Typeflag: tar.TypeFifo}),
		"long name":                 header(tar.Header{Name: strings.Repeat("n", 5000)}),
		"manifest is no JSON":       dockerOf(im.ConfigJSON(), "{["),
		"manifest of a wrong type":  dockerOf(im.ConfigJSON(), `{"Config":1}`),
		"manifest with more behind": dockerOf(im.ConfigJSON(), one+"x", file("l.tar", layer)),
		"manifest is empty":         dockerOf(im.ConfigJSON(), `[]`),
		"manifest is null":          dockerOf(im.ConfigJSON(), `null`),
		"no config":                 dockerOf(im.ConfigJSON(), `[{"Config":"other.json","Layers":["l.tar"]}]`, file("l.tar", layer)),
		"config is no JSON":         dockerOf([]byte("}"), one, file("l.tar", layer)),
		"config of a wrong type":    dockerOf([]byte(`{"rootfs":{"diff_ids":"sha256:0"}}`), one, file("l.tar", layer)),
		"config is an array":        dockerOf([]byte(`[]`), one, file("l.tar", layer)),
		"config too large":          dockerOf(bytes.Repeat([]byte(" "), 9<<20), one, file("l.tar", layer)),
		"no layer":                  dockerOf(im.ConfigJSON(), one),
		"a layer too few":           dockerOf(im.ConfigJSON(), `[{"Config":"c.json","Layers":[]}]`),
		"a million layers":          dockerOf(im.ConfigJSON(), manyLayers),
		"other diff id":             dockerOf(im.ConfigJSON(), one, file("l.tar", string(imagetest.Files(map[string]string{"b": "b"})))),
		"bytes behind the layer":    dockerOf(im.ConfigJSON(), one, file("l.tar", layer+strings.Repeat("\x00", 512))),
		"diff id is no digest":      edit(func(c *dockerspec.DockerOCIImage) { c.RootFS.DiffIDs[0] = "../../x" }),
		"diff id in sha512":         edit(func(c *dockerspec.DockerOCIImage) { c.RootFS.DiffIDs[0] = digest.SHA512.FromString("") }),
		"windows":                   edit(func(c *dockerspec.DockerOCIImage) { c.OS = "windows" }),
		"bad tag":                   dockerOf(im.ConfigJSON(), `[{"Config":"c.json","RepoTags":["UPPER:x y"],"Layers":["l.tar"]}]`, file("l.tar", layer)),
		"name without tag":          dockerOf(im.ConfigJSON(), `[{"Config":"c.json","RepoTags":["x"],"Layers":["l.tar"]}]`, file("l.tar", layer)),
		"blob with another name":    imagetest.Tar(file("blobs/sha256/"+strings.Repeat("0", 64), "x")),
		"index is no JSON":          imagetest.Tar(file("oci-layout", `{"imageLayoutVersion":"1.0.0"}`), file("index.json", "nope")),
		"layout of the future":      bytes.Replace(layout, []byte(`"1.0.0"`), []byte(`"2.0.0"`), 1),
		"layout with a wrong size":  bytes.ReplaceAll(layout, []byte(`"size":`), []byte(`"size":9`)),
		"digest is a path":          imagetest.Tar(file("index.json", pathDigest)),
		"index of itself":           selfIndex(),
		"good image, then a bad":    imagetest.Docker(im, imagetest.Image{Layers: []imagetest.Layer{{Tar: im.Layers[0].Tar, Pack: bad}}}),
	}
}

func TestKernelHostileArchivesAreRefusedAndLeaveNothing(t *testing.T) {
	for name, archive := range hostileArchives() {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			s := open(t, image.Config{Root: root})
			before := leftovers(t, s, root)
			lines, err := s.Load(t.Context(), tenant, bytes.NewReader(archive), nil)
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("got %q, %v, want an invalid argument", lines, err)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			if list, err := s.List(t.Context(), tenant); err != nil || len(list) != 0 {
				t.Errorf("list: got %v, %v, want nothing", list, err)
			}
			if diff := cmp.Diff(before, leftovers(t, s, root)); diff != "" {
				t.Errorf("left behind (-before +after):\n%s", diff)
			}
		})
	}
}

// selfIndex nests indexes deeper than any image does; one that contains itself is beyond sha256.
func selfIndex() []byte {
	var entries []imagetest.Entry
	child := `{"manifests":[]}`
	for range 10 {
		d := digest.FromString(child)
		entries = append(entries, file("blobs/sha256/"+d.Encoded(), child))
		child = fmt.Sprintf(`{"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":%q,"size":%d}]}`, d, len(child))
	}
	return imagetest.Tar(append(entries, file("index.json", child))...)
}

// hostileLayers are layers that must not get out of their directory, or that must be refused.
func TestKernelHostileLayersStayInTheirDirectory(t *testing.T) {
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 20)
	for name, entries := range map[string][]imagetest.Entry{
		"traversal":         {file(up+victim, "theirs")},
		"absolute":          {file(victim, "theirs")},
		"through a symlink": {{Header: tar.Header{Name: "d", Typeflag: tar.TypeSymlink, Linkname: outside}}, file("d/victim", "theirs")},
		"relative symlink":  {{Header: tar.Header{Name: "d", Typeflag: tar.TypeSymlink, Linkname: up + outside}}, file("d/victim", "theirs")},
		"hard link":         {{Header: tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: victim}}, file("h", "theirs")},
		"hard link up":      {{Header: tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: up + victim}}, file("h", "theirs")},
		"link by a symlink": {
			{Header: tar.Header{Name: "d", Typeflag: tar.TypeSymlink, Linkname: outside}},
			{Header: tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "d/victim"}},
			file("h", "theirs"),
		},
		"whiteout":           {file(up+outside+"/.wh.victim", "")},
		"whiteout by a link": {{Header: tar.Header{Name: "d", Typeflag: tar.TypeSymlink, Linkname: outside}}, file("d/.wh.victim", "")},
		"opaque by a link":   {{Header: tar.Header{Name: "d", Typeflag: tar.TypeSymlink, Linkname: outside}}, file("d/.wh..wh..opq", "")},
		"whiteout of dot":    {file("d/.wh..", "")},
		"whiteout of dots":   {file("d/.wh...", "")},
		"name too long":      {file(strings.Repeat("n", 300), "")},
		"file below a file":  {file("f", ""), file("f/g", "")},
	} {
		t.Run(name, func(t *testing.T) {
			for _, below := range []int{0, 1} { // the lowest layer and others are unpacked in different ways
				im := imagetest.Image{Layers: []imagetest.Layer{{Tar: imagetest.Tar(entries...)}}}
				if below == 1 {
					im.Layers = append([]imagetest.Layer{{Tar: imagetest.Files(map[string]string{"low": "low"})}}, im.Layers...)
				}
				s := open(t, image.Config{})
				_, err := s.Load(t.Context(), tenant, bytes.NewReader(imagetest.Docker(im)), nil)
				if err != nil && !errdefs.IsInvalidArgument(err) {
					t.Errorf("got %v, want success or an invalid argument", err)
				}
				if b, err := os.ReadFile(victim); err != nil || string(b) != "mine" {
					t.Fatalf("the file outside became %q, %v", b, err)
				}
				var st unix.Stat_t
				if err := unix.Stat(victim, &st); err != nil || st.Nlink != 1 {
					t.Errorf("the file outside has %d links, %v", st.Nlink, err)
				}
				if names, err := os.ReadDir(outside); err != nil || len(names) != 1 {
					t.Errorf("the directory outside has %v, %v", names, err)
				}
			}
		})
	}
}

func TestKernelOverlayAttributesOfALayerAreDropped(t *testing.T) {
	s := open(t, image.Config{})
	im := imagetest.Image{Layers: []imagetest.Layer{
		{Tar: imagetest.Files(map[string]string{"d/secret": "x"})},
		{Tar: imagetest.Tar(imagetest.Entry{Header: tar.Header{Name: "e/", Typeflag: tar.TypeDir, Mode: 0o755, PAXRecords: map[string]string{
			"SCHILY.xattr.trusted.overlay.redirect": "/d", "SCHILY.xattr.user.kept": "yes",
		}}})},
	}}
	load(t, s, imagetest.Docker(im))
	fs, err := s.Prepare(t.Context(), newKey(), im.ID(), noIDs)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	if n, err := unix.Getxattr(filepath.Join(fs.Lower[0], "e"), "trusted.overlay.redirect", b); !errors.Is(err, unix.ENODATA) {
		t.Errorf("redirect: got %q, %v, want no data", b[:max(n, 0)], err)
	}
	if n, err := unix.Getxattr(filepath.Join(fs.Lower[0], "e"), "user.kept", b); err != nil || string(b[:n]) != "yes" {
		t.Errorf("other attribute: got %q, %v", b[:max(n, 0)], err)
	}
}

// endless is a reader that never ends.
type endless struct{ written int64 }

func (e *endless) Read(p []byte) (int, error) {
	clear(p)
	e.written += int64(len(p))
	return len(p), nil
}

// nearlyFull is a floor that leaves room for 64 MiB.
func nearlyFull(t *testing.T, dir string) uint64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return st.Bavail*uint64(st.Bsize) - 64<<20
}

// Streams that would fill the disk: each is stopped at the floor, by an error that says so, and leaves nothing.
func TestKernelBombsStopAtTheFloor(t *testing.T) {
	bomb := func(head []byte) io.Reader {
		r, w := io.Pipe()
		go func() {
			z := gzip.NewWriter(w)
			z.Write(head)
			zeros := make([]byte, 1<<20)
			for {
				if _, err := z.Write(zeros); err != nil {
					return
				}
			}
		}()
		t.Cleanup(func() { r.Close() })
		return r
	}
	endlessFile := func(name string, size int64) []byte {
		var b bytes.Buffer
		if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	huge := endlessFile("l.tar", 1<<60)
	// A layer of 4 KiB that unpacks to a file of 1 TiB, by being sparse.
	sparse := imagetest.Image{Layers: []imagetest.Layer{{Tar: sparseTar(t, 1<<40)}}}
	zeros := gzipped(make([]byte, 256<<20))
	packed := imagetest.Image{Layers: []imagetest.Layer{{Pack: func([]byte) []byte { return zeros }}}}

	for name, in := range map[string]func() io.Reader{
		"endless gzip of one file":  func() io.Reader { return bomb(endlessFile("l.tar", 1<<50)) },
		"endless gzip of documents": func() io.Reader { return bomb(endlessFile("index.json", 1<<50)) },
		"huge declared size":        func() io.Reader { return bytes.NewReader(huge) },
		"sparse file in a layer":    func() io.Reader { return bytes.NewReader(imagetest.Docker(sparse)) },
		"zeros in a packed layer":   func() io.Reader { return bytes.NewReader(imagetest.Docker(packed)) },
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			s := open(t, image.Config{Root: root, MinFree: nearlyFull(t, root)})
			before := leftovers(t, s, root)
			_, err := s.Load(t.Context(), tenant, in(), nil)
			if !errdefs.IsResourceExhausted(err) && !errdefs.IsInvalidArgument(err) {
				t.Errorf("got %v, want resource exhausted", err)
			}
			if name != "endless gzip of documents" && !errdefs.IsResourceExhausted(err) {
				t.Errorf("got %v, want resource exhausted", err)
			}
			if diff := cmp.Diff(before, leftovers(t, s, root)); diff != "" {
				t.Errorf("left behind (-before +after):\n%s", diff)
			}
		})
	}
	t.Run("endless import", func(t *testing.T) {
		root := t.TempDir()
		s := open(t, image.Config{Root: root, MinFree: nearlyFull(t, root)})
		before := leftovers(t, s, root)
		e := &endless{}
		if _, err := s.Import(t.Context(), tenant, e, triton.ImportRequest{}); !errdefs.IsResourceExhausted(err) {
			t.Errorf("got %v, want resource exhausted", err)
		}
		if e.written > 80<<20 {
			t.Errorf("%d MiB were read of an endless stream", e.written>>20)
		}
		if diff := cmp.Diff(before, leftovers(t, s, root)); diff != "" {
			t.Errorf("left behind (-before +after):\n%s", diff)
		}
	})
}

// sparseTar is a layer with one file of which only the last byte exists, in the PAX 1.0 sparse format.
func sparseTar(t *testing.T, size int64) []byte {
	t.Helper()
	data := make([]byte, 512) // the map: one region, at the end, of length 0
	copy(data, fmt.Sprintf("1\n%d\n0\n", size))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	// The writer refuses sparse records; they are put in under names of the same length.
	err := w.WriteHeader(&tar.Header{Name: "sparse", Size: int64(len(data)), Mode: 0o600, Format: tar.FormatPAX, PAXRecords: map[string]string{
		"XXX.sparse.major": "1", "XXX.sparse.minor": "0", "XXX.sparse.realsize": fmt.Sprint(size), "XXX.sparse.name": "sparse",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	out := bytes.ReplaceAll(b.Bytes(), []byte("XXX.sparse."), []byte("GNU.sparse."))
	h, err := tar.NewReader(bytes.NewReader(out)).Next()
	if err != nil || h.Size != size {
		got, _ := json.Marshal(h)
		t.Fatalf("the sparse tar reads as %s, %v", got, err)
	}
	return out
}
