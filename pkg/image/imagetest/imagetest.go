package imagetest

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// epoch is the time of everything, so that the same input makes the same digests.
var epoch = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// Entry is one member of a tar. Header.Size is set from Body; a zero Typeflag is a regular file.
type Entry struct {
	tar.Header
	Body []byte
}

// Tar writes entries in order. It panics on an entry that no tar can hold: that is a bug of the test.
func Tar(entries ...Entry) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if h.ModTime.IsZero() {
			h.ModTime = epoch
		}
		h.Size = int64(len(e.Body))
		must(w.WriteHeader(&h))
		_, err := w.Write(e.Body)
		must(err)
	}
	must(w.Close())
	return b.Bytes()
}

// Files makes a layer of regular files with mode 0755 and their directories, from path to content.
func Files(files map[string]string) []byte { return Tar(fileEntries(files)...) }

func fileEntries(files map[string]string) (entries []Entry) {
	dirs := map[string]bool{".": true, "/": true}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		entries = append(entries, dirEntries(path.Dir(name), dirs)...)
		entries = append(entries, Entry{Header: tar.Header{Name: name, Mode: 0o755}, Body: []byte(files[name])})
	}
	return entries
}

// dirEntries makes the directories down to dir that are not in made yet.
func dirEntries(dir string, made map[string]bool) []Entry {
	if made[dir] {
		return nil
	}
	made[dir] = true
	return append(dirEntries(path.Dir(dir), made), Entry{Header: tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755}})
}

// applets are the commands that tests use of busybox.
var applets = []string{
	"sh", "true", "false", "echo", "cat", "sleep", "ls", "seq", "id", "stat", "mkdir", "rm", "touch", "chown", "chmod", "ln",
	"cp", "mv", "env", "hostname", "ip", "ifconfig", "ping", "wget", "nc", "httpd", "ps", "kill", "mount", "umount", "dd", "head",
	"tail", "grep", "sed", "awk", "wc", "sort", "tr", "cut", "date", "stty", "tty", "test", "expr", "yes", "usleep", "timeout",
	"nslookup", "df", "du", "find", "xargs", "printf", "pwd", "readlink", "trap", "uname", "vi", "od", "md5sum", "sha256sum", "tar",
	"getty", "login", "su", "nproc", "free", "top", "uptime", "whoami", "groups", "sync", "tee", "unshare", "mknod", "route",
}

// Busybox makes the root file system that tests run: the host's static busybox with its commands, and /etc, /tmp and /root.
func Busybox() ([]byte, error) {
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return nil, fmt.Errorf("read busybox (Debian package busybox-static): %w", err)
	}
	entries := []Entry{
		{Header: tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755}},
		{Header: tar.Header{Name: "bin/busybox", Mode: 0o755}, Body: program},
	}
	for _, a := range applets {
		entries = append(entries, Entry{Header: tar.Header{Name: "bin/" + a, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}})
	}
	entries = append(entries, fileEntries(map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nuser:x:1000:1000::/home/user:/bin/sh\n",
		"etc/group":  "root:x:0:\nnogroup:x:65534:\nuser:x:1000:\n",
	})...)
	for name, mode := range map[string]int64{"tmp/": 0o1777, "root/": 0o700, "home/": 0o755, "var/": 0o755} {
		entries = append(entries, Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode}})
	}
	slices.SortStableFunc(entries[len(entries)-4:], func(a, b Entry) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	return Tar(entries...), nil
}

// BusyboxArchive is a docker archive of an image with Busybox as its one layer, PATH set, and sh as its command.
func BusyboxArchive(tags ...string) ([]byte, error) {
	layer, err := Busybox()
	if err != nil {
		return nil, err
	}
	im := Image{Tags: tags, Layers: []Layer{{Tar: layer}}}
	im.Config.Cmd = []string{"sh"}
	im.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	return Docker(im), nil
}

// Layer is a layer of an Image.
type Layer struct {
	Tar []byte
	// Pack compresses the tar for the archive; nil: plain.
	Pack func([]byte) []byte
}

// Image describes an image of an archive. Its zero value has no tags, no layers and an empty config.
type Image struct {
	Tags   []string
	Layers []Layer
	Config dockerspec.DockerOCIImageConfig
	// Edit, if set, changes the config after everything else was filled in.
	Edit func(*dockerspec.DockerOCIImage)
}

// ConfigJSON is the image's config blob. Its digest is the image's id.
func (im Image) ConfigJSON() []byte {
	created := epoch
	c := dockerspec.DockerOCIImage{Config: im.Config}
	c.Created, c.Architecture, c.OS = &created, "amd64", "linux"
	c.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	for _, l := range im.Layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest.FromBytes(l.Tar))
		c.History = append(c.History, ocispec.History{Created: &created, CreatedBy: "imagetest"})
	}
	if im.Edit != nil {
		im.Edit(&c)
	}
	return toJSON(c)
}

// ID is the image's id, "sha256:…".
func (im Image) ID() string { return digest.FromBytes(im.ConfigJSON()).String() }

func (l Layer) packed() []byte {
	if l.Pack == nil {
		return l.Tar
	}
	return l.Pack(l.Tar)
}

// dockerItem is an entry of manifest.json.
type dockerItem struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// Docker writes an archive as docker before version 25 does: DIR/layer.tar, ID.json, manifest.json at the end.
func Docker(all ...Image) []byte {
	var (
		entries []Entry
		list    []dockerItem
		have    = map[string]bool{}
	)
	add := func(name string, body []byte) {
		if !have[name] {
			have[name] = true
			entries = append(entries, Entry{Header: tar.Header{Name: name}, Body: body})
		}
	}
	for _, im := range all {
		it := dockerItem{Config: digest.FromBytes(im.ConfigJSON()).Encoded() + ".json", RepoTags: im.Tags}
		for _, l := range im.Layers {
			name := digest.FromBytes(l.packed()).Encoded() + "/layer.tar"
			add(path.Dir(name)+"/VERSION", []byte("1.0"))
			add(path.Dir(name)+"/json", []byte("{}"))
			add(name, l.packed())
			it.Layers = append(it.Layers, name)
		}
		add(it.Config, im.ConfigJSON())
		list = append(list, it)
	}
	add("manifest.json", toJSON(list))
	return Tar(entries...)
}

// Layout writes an OCI layout, with names as containerd annotates them.
func Layout(all ...Image) []byte { return layout(false, all) }

// Hybrid writes an archive as docker 25 and newer does: an OCI layout with a manifest.json beside it.
func Hybrid(all ...Image) []byte { return layout(true, all) }

func layout(withDocker bool, all []Image) []byte {
	w := layoutWriter{have: map[digest.Digest]bool{}}
	var (
		named []ocispec.Descriptor
		list  []dockerItem
	)
	for _, im := range all {
		d := w.image(im)
		it := dockerItem{Config: blobName(digest.FromBytes(im.ConfigJSON())), RepoTags: im.Tags}
		for _, l := range im.Layers {
			it.Layers = append(it.Layers, blobName(digest.FromBytes(l.packed())))
		}
		list = append(list, it)
		if len(im.Tags) == 0 {
			named = append(named, d)
		}
		for _, t := range im.Tags {
			d.Annotations = map[string]string{images.AnnotationImageName: t}
			named = append(named, d)
		}
	}
	if !withDocker {
		list = nil
	}
	return w.finish(named, list)
}

// layoutWriter collects the blobs of an OCI layout.
type layoutWriter struct {
	entries []Entry
	have    map[digest.Digest]bool
}

func blobName(d digest.Digest) string { return "blobs/sha256/" + d.Encoded() }

func (w *layoutWriter) blob(mediaType string, b []byte) ocispec.Descriptor {
	d := digest.FromBytes(b)
	if !w.have[d] {
		w.have[d] = true
		w.entries = append(w.entries, Entry{Header: tar.Header{Name: blobName(d)}, Body: b})
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

// image adds an image's blobs and returns the descriptor of its manifest.
func (w *layoutWriter) image(im Image) ocispec.Descriptor {
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	m.Config = w.blob(ocispec.MediaTypeImageConfig, im.ConfigJSON())
	for _, l := range im.Layers {
		m.Layers = append(m.Layers, w.blob(ocispec.MediaTypeImageLayer, l.packed()))
	}
	return w.blob(ocispec.MediaTypeImageManifest, toJSON(m))
}

// finish adds the documents of a layout, and manifest.json if there is a list for it.
func (w *layoutWriter) finish(named []ocispec.Descriptor, list []dockerItem) []byte {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: named}
	entries := slices.Concat(w.entries, []Entry{
		{Header: tar.Header{Name: "oci-layout"}, Body: toJSON(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})},
		{Header: tar.Header{Name: "index.json"}, Body: toJSON(index)},
	})
	if list != nil {
		entries = append(entries, Entry{Header: tar.Header{Name: "manifest.json"}, Body: toJSON(list)})
	}
	return Tar(entries...)
}

// MultiPlatform writes an OCI layout with one name, whose index has an image for each platform ("linux/arm64").
func MultiPlatform(tag string, all map[string]Image) []byte {
	w := layoutWriter{have: map[digest.Digest]bool{}}
	inner := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, platform := range slices.Sorted(maps.Keys(all)) {
		d := w.image(all[platform])
		os, arch, _ := strings.Cut(platform, "/")
		d.Platform = &ocispec.Platform{OS: os, Architecture: arch}
		inner.Manifests = append(inner.Manifests, d)
	}
	d := w.blob(ocispec.MediaTypeImageIndex, toJSON(inner))
	d.Annotations = map[string]string{images.AnnotationImageName: tag}
	return w.finish([]ocispec.Descriptor{d}, nil)
}

func toJSON(v any) []byte {
	b, err := json.Marshal(v)
	must(err)
	return b
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
