package images

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
)

// Names of the images, as they are after `docker load`.
const (
	// Busybox holds /bin/busybox with a link per applet, and /etc/passwd and /etc/group. Its command is sh.
	Busybox = "busybox:latest"
	// True holds one file, /true, that makes no system call but exit_group.
	True = "true:latest"
	// Programs is Busybox and a second layer with the programs of src/ in /bin. Its command is sh.
	Programs = "programs:latest"
)

// Set is where the archives are.
type Set struct {
	Busybox, True, Programs string // docker-archive tars
	// Bin is a folder with the static programs themselves, for running them on the host.
	Bin string
}

// Archives lists the tars of the set.
func (s Set) Archives() []string { return []string{s.Busybox, s.True, s.Programs} }

//go:embed src/*.c
var sources embed.FS

// busyboxPath is where Debian's busybox-static puts its binary.
const busyboxPath = "/bin/busybox"

// layout is part of the cache key: raise it when the form of the archives changes.
const layout = "5"

// cflags make small static programs whose bytes do not depend on the folder they are built in.
var cflags = []string{"-O2", "-static", "-s", "-Wall", "-Werror", "-fno-ident", "-Wl,--build-id=sha1"}

// Build makes the archives below cache, or finds them there: the folder is named after all that goes into them
// (sources, busybox, compiler version). Callers may run at the same time.
func Build(ctx context.Context, cache string) (Set, error) {
	compiler, err := exec.CommandContext(ctx, "cc", "--version").Output()
	if err != nil {
		return Set{}, fmt.Errorf("find a C compiler: %w", err)
	}
	busybox, err := os.ReadFile(busyboxPath)
	if err != nil {
		return Set{}, fmt.Errorf("find busybox-static: %w", err)
	}
	dir := filepath.Join(cache, "images-"+key(busybox, compiler))
	set := Set{
		Busybox:  filepath.Join(dir, "busybox.tar"),
		True:     filepath.Join(dir, "true.tar"),
		Programs: filepath.Join(dir, "programs.tar"),
		Bin:      filepath.Join(dir, "bin"),
	}
	if _, err := os.Stat(dir); err == nil {
		return set, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return Set{}, err
	}
	tmp, err := os.MkdirTemp(cache, "building-")
	if err != nil {
		return Set{}, err
	}
	defer os.RemoveAll(tmp)
	if err := build(ctx, tmp, busybox); err != nil {
		return Set{}, err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return Set{}, err
	}
	// The rename publishes a complete folder; losing the race against another builder is as good as winning it.
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return Set{}, err
	}
	return set, nil
}

func key(busybox, compiler []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%x\n%s\n%q\n", layout, sha256.Sum256(busybox), compiler, cflags)
	for _, name := range sourceNames() {
		b, _ := sources.ReadFile("src/" + name)
		fmt.Fprintf(h, "%s %x\n", name, sha256.Sum256(b))
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

func sourceNames() []string {
	entries, _ := sources.ReadDir("src") // an embedded folder: cannot fail
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	sort.Strings(names)
	return names
}

// build puts the programs and the archives in dir.
func build(ctx context.Context, dir string, busybox []byte) error {
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		return err
	}
	for _, name := range sourceNames() {
		if err := compile(ctx, bin, name); err != nil {
			return err
		}
	}
	base, err := busyboxLayer(ctx, busybox)
	if err != nil {
		return err
	}
	programs, err := programLayer(bin)
	if err != nil {
		return err
	}
	only, err := trueLayer(bin)
	if err != nil {
		return err
	}
	path := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	for name, image := range map[string]archive{
		"busybox.tar":  {tag: Busybox, cmd: []string{"sh"}, env: path, layers: [][]byte{base}},
		"programs.tar": {tag: Programs, cmd: []string{"sh"}, env: path, layers: [][]byte{base, programs}},
		"true.tar":     {tag: True, cmd: []string{"/true"}, layers: [][]byte{only}},
	} {
		if err := writeFile(filepath.Join(dir, name), image.write); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

func compile(ctx context.Context, bin, source string) error {
	program := strings.TrimSuffix(source, ".c")
	text, err := sources.ReadFile("src/" + source)
	if err != nil {
		return err
	}
	args := append([]string{"-x", "c", "-o", filepath.Join(bin, program)}, cflags...)
	if program == "true" {
		args = append(args, "-nostdlib", "-ffreestanding")
	}
	cmd := exec.CommandContext(ctx, "cc", append(args, "-")...)
	cmd.Stdin = strings.NewReader(string(text))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile %s: %w\n%s", source, err, out)
	}
	return nil
}

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
