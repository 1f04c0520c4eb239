package images

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"time"
)

// epoch is every file's time: archives of the same content have the same bytes.
var epoch = time.Unix(1700000000, 0).UTC()

// archive is an image in the form of `docker save` since version 1.10: manifest.json names the configuration and the
// layers, topmost last.
type archive struct {
	tag      string
	cmd, env []string
	ports    []string // "80/tcp"
	layers   [][]byte // uncompressed tars
}

func (a archive) write(w io.Writer) error {
	tw := tar.NewWriter(w)
	var names, diffs []string
	for _, layer := range a.layers {
		digest := hexDigest(layer)
		names = append(names, digest+".tar")
		diffs = append(diffs, "sha256:"+digest)
		if err := addFile(tw, digest+".tar", 0o644, layer); err != nil {
			return err
		}
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"created":      epoch,
		"config":       a.config(),
		"rootfs":       map[string]any{"type": "layers", "diff_ids": diffs},
		"history":      history(len(a.layers)),
	})
	if err != nil {
		return err
	}
	configName := hexDigest(config) + ".json"
	manifest, err := json.Marshal([]map[string]any{{"Config": configName, "RepoTags": []string{a.tag}, "Layers": names}})
	if err != nil {
		return err
	}
	if err := addFile(tw, configName, 0o644, config); err != nil {
		return err
	}
	if err := addFile(tw, "manifest.json", 0o644, manifest); err != nil {
		return err
	}
	return tw.Close()
}

func (a archive) config() map[string]any {
	config := map[string]any{"Cmd": a.cmd, "Env": a.env}
	if len(a.ports) > 0 {
		ports := map[string]struct{}{}
		for _, p := range a.ports {
			ports[p] = struct{}{}
		}
		config["ExposedPorts"] = ports
	}
	return config
}

func history(layers int) []map[string]any {
	var h []map[string]any
	for i := range layers {
		h = append(h, map[string]any{"created": epoch, "created_by": fmt.Sprintf("test/images layer %d", i)})
	}
	return h
}

// busyboxLayer is a small root file system: the folders a container wants, the accounts, busybox and its applets.
func busyboxLayer(ctx context.Context, busybox []byte) ([]byte, error) {
	list, err := exec.CommandContext(ctx, busyboxPath, "--list-full").Output()
	if err != nil {
		return nil, fmt.Errorf("list busybox applets: %w", err)
	}
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, dir := range []string{"bin", "dev", "etc", "home", "mnt", "proc", "root", "sbin", "sys", "tmp", "usr", "usr/bin", "usr/sbin", "var", "var/tmp"} {
		mode := int64(0o755)
		if strings.HasSuffix(dir, "tmp") {
			mode = 0o1777
		}
		h := &tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: mode, ModTime: epoch}
		if err := tw.WriteHeader(h); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(accounts)) {
		if err := addFile(tw, name, 0o644, []byte(accounts[name])); err != nil {
			return nil, err
		}
	}
	if err := addFile(tw, "bin/busybox", 0o755, busybox); err != nil {
		return nil, err
	}
	applets := strings.Fields(string(list))
	sort.Strings(applets)
	for _, path := range applets {
		if path == "bin/busybox" {
			continue
		}
		h := &tar.Header{Typeflag: tar.TypeSymlink, Name: path, Linkname: "/bin/busybox", Mode: 0o777, ModTime: epoch}
		if err := tw.WriteHeader(h); err != nil {
			return nil, err
		}
	}
	return closeTar(tw, &buf)
}

// accounts are the names that tests use with --user.
var accounts = map[string]string{
	"etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nworker:x:1000:1000:worker:/home:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
	"etc/group":  "root:x:0:\ndaemon:x:1:\nstaff:x:50:worker\nworker:x:1000:\nnogroup:x:65534:\n",
}

// programLayer holds the compiled programs, /true left out: busybox has its own. It also holds a file that cannot be
// executed, for exit code 126.
func programLayer(bin string) ([]byte, error) {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, source := range sourceNames() {
		name := strings.TrimSuffix(source, ".c")
		if name == "true" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(bin, name))
		if err != nil {
			return nil, err
		}
		if err := addFile(tw, "bin/"+name, 0o755, b); err != nil {
			return nil, err
		}
	}
	if err := addFile(tw, "etc/not-a-program", 0o644, []byte("text\n")); err != nil {
		return nil, err
	}
	return closeTar(tw, &buf)
}

func trueLayer(bin string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(bin, "true"))
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	if err := addFile(tw, "true", 0o755, b); err != nil {
		return nil, err
	}
	return closeTar(tw, &buf)
}

// closeTar finishes tw and returns what it wrote to buf.
func closeTar(tw *tar.Writer, buf *bytes.Buffer) ([]byte, error) {
	if err := tw.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func addFile(tw *tar.Writer, name string, mode int64, content []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)), ModTime: epoch}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err := tw.Write(content)
	return err
}

func hexDigest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
