package images

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Debian is an image made of Debian packages, with all they depend on, by the machine's own apt: no registry, nothing
// installed on the machine, no maintainer script run.
type Debian struct {
	Tag      string
	Packages []string          // by name, as apt-get install takes them
	Files    map[string][]byte // more files, by path without the first slash; executable below usr/bin
	Dirs     []string          // more folders, which a maintainer script would have made
	Cmd      []string
	Ports    []string // EXPOSE: "80/tcp"
	Suite    string   // of Debian that the packages are of, "trixie"; "": the machine's own
}

// Built is a made image.
type Built struct {
	Tag      string
	Archive  string   // path of the docker-archive
	Packages []string // "name_version_arch.deb" of all that is in it
	Bytes    int64    // size of the archive
}

// unneeded packages serve maintainer scripts only, which do not run here.
var unneeded = []string{
	"adduser", "debconf", "dpkg", "init-system-helpers", "iproute2", "libcap2-bin", "libfile-find-rule-perl",
	"libnumber-compare-perl", "libpam-modules", "libpam-modules-bin", "libpam0g", "libperl5.36", "libsemanage-common",
	"libsemanage2", "libsepol2", "libtext-glob-perl", "lsb-base", "passwd", "perl", "perl-base", "perl-modules-5.36",
	"sysvinit-utils", "tar", "usrmerge",
}

// debianAccounts are those that base-passwd would write, as far as the packages name them.
var debianAccounts = map[string][]byte{
	"etc/passwd": []byte("root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n" +
		"redis:x:101:101::/var/lib/redis:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"),
	"etc/group": []byte("root:x:0:\nadm:x:4:\nwww-data:x:33:\nredis:x:101:\nnogroup:x:65534:\n"),
}

// Build makes the image's archive below cache, or finds it there: the folder is named after the packages' versions and
// all else that goes in.
func (d Debian) Build(ctx context.Context, cache string) (Built, error) {
	apt, err := aptOf(ctx, d.Suite, cache)
	if err != nil {
		return Built{}, fmt.Errorf("image %s: %w", d.Tag, err)
	}
	names, err := d.closure(ctx, apt)
	if err != nil {
		return Built{}, fmt.Errorf("image %s: %w", d.Tag, err)
	}
	files, err := download(ctx, apt, filepath.Join(cache, "debs"), names)
	if err != nil {
		return Built{}, fmt.Errorf("image %s: %w", d.Tag, err)
	}
	b := Built{Tag: d.Tag, Archive: filepath.Join(cache, "debian-"+d.key(files)+".tar")}
	for _, f := range files {
		b.Packages = append(b.Packages, filepath.Base(f))
	}
	if st, err := os.Stat(b.Archive); err == nil {
		b.Bytes = st.Size()
		return b, nil
	}
	layer, err := d.layer(ctx, files)
	if err != nil {
		return Built{}, fmt.Errorf("image %s: %w", d.Tag, err)
	}
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	a := archive{tag: d.Tag, cmd: d.Cmd, env: env, ports: d.Ports, layers: [][]byte{layer}}
	tmp := b.Archive + ".building"
	if err := writeFile(tmp, a.write); err != nil {
		return Built{}, fmt.Errorf("image %s: %w", d.Tag, err)
	}
	st, err := os.Stat(tmp)
	if err != nil {
		return Built{}, err
	}
	b.Bytes = st.Size()
	return b, os.Rename(tmp, b.Archive)
}

// key names what goes into the image.
func (d Debian) key(debs []string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%q %q %q %q\n", layout, d.Tag, d.Cmd, d.Ports, d.Dirs)
	for _, deb := range debs {
		fmt.Fprintln(h, filepath.Base(deb))
	}
	for _, name := range slices.Sorted(maps.Keys(d.Files)) {
		fmt.Fprintf(h, "%s %x\n", name, sha256.Sum256(d.Files[name]))
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// closure asks apt what an empty machine would need. A machine that has never fetched package lists fetches them.
func (d Debian) closure(ctx context.Context, apt []string) ([]string, error) {
	names, err := simulate(ctx, apt, d.Packages)
	if err != nil && d.Suite == "" {
		if out, err := exec.CommandContext(ctx, "apt-get", "-qq", "update").CombinedOutput(); err != nil {
			return nil, fmt.Errorf("update package lists: %w\n%s", err, out)
		}
		names, err = simulate(ctx, apt, d.Packages)
	}
	return names, err
}

func simulate(ctx context.Context, apt, packages []string) ([]string, error) {
	status, err := os.CreateTemp("", "dpkg-status-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(status.Name())
	defer status.Close()
	args := slices.Concat(apt, []string{"-qq", "-s", "-o", "Dir::State::status=" + status.Name(), "-o", "APT::Install-Recommends=false", "install"}, packages)
	var complaints bytes.Buffer
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("find packages %v: %w\n%s", packages, err, complaints.Bytes())
	}
	var names []string
	for sc := bufio.NewScanner(bytes.NewReader(out)); sc.Scan(); {
		// Inst libc6 (2.36-9+deb12u10 Debian:12.11/stable [amd64])
		if f := strings.Fields(sc.Text()); len(f) > 1 && f[0] == "Inst" && !slices.Contains(unneeded, f[1]) {
			names = append(names, f[1])
		}
	}
	slices.Sort(names)
	return names, nil
}

// download fetches the packages' newest versions into dir, those that are not there, and returns their paths in the order
// of names.
func download(ctx context.Context, apt []string, dir string, names []string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "apt-get", slices.Concat(apt, []string{"-qq", "--print-uris", "download"}, names)...)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("locate packages: %w", err)
	}
	var files, lacking []string
	for sc := bufio.NewScanner(bytes.NewReader(out)); sc.Scan(); {
		// 'URI' name_version_arch.deb size checksum; apt writes the file under the same name
		f := strings.Fields(sc.Text())
		if len(f) < 2 || f[1] != filepath.Base(f[1]) {
			return nil, fmt.Errorf("apt-get download printed %q", sc.Text())
		}
		file := filepath.Join(dir, f[1])
		files = append(files, file)
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			name, _, _ := strings.Cut(f[1], "_")
			lacking = append(lacking, name)
		}
	}
	slices.Sort(files)
	if len(lacking) == 0 {
		return files, nil
	}
	cmd = exec.CommandContext(ctx, "apt-get", slices.Concat(apt, []string{"-qq", "-o", "APT::Sandbox::User=root", "download"}, lacking)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("download packages: %w\n%s", err, out)
	}
	return files, nil
}

// merged are the folders that Debian has as links into usr.
var merged = []string{"bin", "lib", "lib32", "lib64", "libx32", "sbin"}

// layer is a root file system of the packages' files, one after the other.
func (d Debian) layer(ctx context.Context, debs []string) ([]byte, error) {
	var buf bytes.Buffer
	l := layerWriter{tw: tar.NewWriter(&buf), seen: map[string]bool{}}
	for _, dir := range append([]string{"dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "usr/bin", "usr/lib", "usr/lib64", "usr/sbin", "var", "var/lib", "var/log"}, d.Dirs...) {
		mode := int64(0o755)
		if dir == "tmp" {
			mode = 0o1777
		}
		if err := l.add(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: mode}, nil); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"bin", "lib", "lib64", "sbin"} {
		if err := l.add(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: "usr/" + name, Mode: 0o777}, nil); err != nil {
			return nil, err
		}
	}
	for _, files := range []map[string][]byte{debianAccounts, d.Files} {
		for _, name := range slices.Sorted(maps.Keys(files)) {
			mode := int64(0o644)
			if strings.HasPrefix(name, "usr/bin/") {
				mode = 0o755
			}
			h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(files[name]))}
			if err := l.add(h, bytes.NewReader(files[name])); err != nil {
				return nil, err
			}
		}
	}
	for _, deb := range debs {
		if err := l.addPackage(ctx, deb); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(deb), err)
		}
	}
	return closeTar(l.tw, &buf)
}

// layerWriter writes each path once: the first that has it wins, so that given files come before packages' files.
type layerWriter struct {
	tw   *tar.Writer
	seen map[string]bool
}

func (l *layerWriter) add(h *tar.Header, content io.Reader) error {
	h.Name = mergedPath(h.Name)
	if h.Name == "" || l.seen[h.Name] {
		return nil
	}
	l.seen[h.Name] = true
	if h.Typeflag == tar.TypeDir {
		h.Name += "/"
	}
	h.ModTime, h.Format = epoch, tar.FormatPAX
	if err := l.tw.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	_, err := io.Copy(l.tw, content)
	return err
}

// left out of packages: a container has no use for them.
var leftOut = []string{"usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/lintian/", "usr/share/info/"}

// addPackage copies a package's files.
func (l *layerWriter) addPackage(ctx context.Context, deb string) error {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = l.copy(tar.NewReader(out))
	_, drained := io.Copy(io.Discard, out) // the padding: dpkg-deb ends when all is read
	return errors.Join(err, drained, cmd.Wait())
}

func (l *layerWriter) copy(tr *tar.Reader) error {
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(h.Name, "./")
		if slices.ContainsFunc(leftOut, func(p string) bool { return strings.HasPrefix(name, p) }) {
			continue
		}
		if h.Typeflag == tar.TypeLink {
			h.Linkname = mergedPath(h.Linkname)
		}
		if err := l.add(h, tr); err != nil {
			return err
		}
	}
}

// mergedPath is where a path of a package ends up.
func mergedPath(name string) string {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if first, _, below := strings.Cut(name, "/"); below && slices.Contains(merged, first) {
		return "usr/" + name
	}
	return name
}

// Unpack writes the image's files below dir, as root, for programs that run without a container.
func (b Built) Unpack(ctx context.Context, dir string) error {
	f, err := os.Open(b.Archive)
	if err != nil {
		return err
	}
	defer f.Close()
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", b.Archive, err)
		}
		if path.Ext(h.Name) != ".tar" {
			continue
		}
		cmd := exec.CommandContext(ctx, "tar", "-x", "--numeric-owner", "-C", dir)
		cmd.Stdin = tr
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w\n%s", b.Tag, err, out)
		}
	}
}
