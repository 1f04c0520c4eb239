package runtime

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"
)

// tree makes a layer: "path=text" is a file, "path->target" a link, "path/" a directory, "-path" a whiteout, "!path/" an
// opaque directory, "|path" a pipe.
func tree(t *testing.T, entries ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, e := range entries {
		if err := plant(dir, e); err != nil {
			t.Fatalf("%s: %v", e, err)
		}
	}
	return dir
}

func plant(dir, e string) error {
	at := func(name string) string {
		path := filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		return path
	}
	if link, target, ok := strings.Cut(e, "->"); ok {
		return os.Symlink(target, at(link))
	}
	if file, text, ok := strings.Cut(e, "="); ok {
		return os.WriteFile(at(file), []byte(text), 0o644)
	}
	switch e[0] {
	case '-':
		return unix.Mknod(at(e[1:]), unix.S_IFCHR, 0)
	case '|':
		return unix.Mkfifo(at(e[1:]), 0o600)
	case '!':
		path := at(e[1:])
		return errors.Join(os.MkdirAll(path, 0o755), unix.Setxattr(path, "trusted.overlay.opaque", []byte("y"), 0))
	}
	return os.MkdirAll(at(e), 0o755)
}

func TestKernelLayersShowWhatAnOverlayShows(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		layers [][]string // topmost first
		want   string
	}{
		"topmost wins":              {[][]string{{"etc/passwd=new"}, {"etc/passwd=old"}}, "new"},
		"lower shows through":       {[][]string{{"etc/"}, {"etc/passwd=old"}}, "old"},
		"whiteout of the file":      {[][]string{{"-etc/passwd"}, {"etc/passwd=old"}}, "none"},
		"whiteout of the directory": {[][]string{{"-etc"}, {"etc/passwd=old"}}, "none"},
		"opaque directory":          {[][]string{{"!etc"}, {"etc/passwd=old"}}, "none"},
		"opaque with the file":      {[][]string{{"!etc", "etc/passwd=new"}, {"etc/passwd=old"}}, "new"},
		"file in place of a dir":    {[][]string{{"etc=x"}, {"etc/passwd=old"}}, "none"},
		"relative link":             {[][]string{{"etc/passwd->../lib/p"}, {"lib/p=here"}}, "here"},
		"absolute link":             {[][]string{{"etc/passwd->/lib/p"}, {"lib/p=here"}}, "here"},
		"linked directory":          {[][]string{{"etc->usr/etc"}, {"usr/etc/passwd=here", "etc/passwd=hidden"}}, "here"},
		"link up and out":           {[][]string{{"etc/passwd->../../../../../.." + secret}}, "none"},
		"absolute link out":         {[][]string{{"etc/passwd->" + secret}}, "none"},
		"link in a lower layer":     {[][]string{{"x/"}, {"etc->../../../../.." + filepath.Dir(secret)}}, "none"},
		"loop":                      {[][]string{{"etc/passwd->passwd"}}, "error"},
		"pipe":                      {[][]string{{"|etc/passwd"}}, "error"},
		"directory":                 {[][]string{{"etc/passwd/"}}, "error"},
		"nothing":                   {[][]string{{"x/"}, {"y/"}}, "none"},
	} {
		t.Run(name, func(t *testing.T) {
			var l Layers
			for _, entries := range c.layers {
				l = append(l, tree(t, entries...))
			}
			if d := cmp.Diff(c.want, readLayers(l, "etc/passwd")); d != "" {
				t.Errorf("content (-want +got):\n%s", d)
			}
		})
	}
}

func readLayers(l Layers, name string) string {
	f, err := l.Open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "none"
	case err != nil:
		return "error"
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return "error"
	}
	return string(b)
}

func FuzzLayersStayInside(f *testing.F) {
	f.Add("../x", "etc/passwd")
	f.Add("/", "a/../etc/../../passwd")
	f.Fuzz(func(t *testing.T, target, name string) {
		if target == "" || len(target) > 200 || strings.ContainsRune(target, 0) {
			return
		}
		dir := t.TempDir()
		outside := filepath.Join(dir, "outside")
		root := filepath.Join(dir, "root")
		if err := errors.Join(os.Mkdir(root, 0o755), os.WriteFile(outside, []byte("outside"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(root, "a")); err != nil {
			return
		}
		for _, n := range []string{name, "a", "a/outside", "a/a/" + name} {
			if got := readLayers(Layers{root}, n); got == "outside" {
				t.Errorf("link %q, path %q: read a file outside", target, n)
			}
		}
	})
}
