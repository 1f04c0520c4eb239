package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// pullCore writes a core file or a bundle; one that did not come whole is removed.
func pullCore(ctx context.Context, c *client, args []string, out io.Writer) (err error) {
	fs := newFlags("cores pull")
	name := fs.String("o", "", "")
	mini := fs.Bool("mini", false, "")
	bundle := fs.Bool("bundle", false, "")
	ref, err := oneBetween(fs, args)
	if err != nil || *mini && *bundle {
		return usageError("cores pull [-mini|-bundle] [-o FILE] DUMP")
	}
	kind := "core"
	plain := strings.ReplaceAll(ref, "/", "")
	standard := "core." + plain
	switch {
	case *mini:
		kind = "mini"
	case *bundle:
		kind, standard = "bundle", "bundle."+plain+".tar.zst"
	}
	resp, err := c.send(ctx, http.MethodGet, wire.CorePath(ref, kind), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if *name == "-" {
		_, err := io.Copy(out, resp.Body)
		return err
	}
	if *name == "" {
		*name = standard
	}
	f, err := os.OpenFile(*name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if strings.HasSuffix(*name, ".zst") {
		err = compress(f, resp.Body)
	} else {
		_, err = io.Copy(f, resp.Body)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(*name))
	}
	fmt.Fprintln(out, *name)
	return nil
}

func compress(w io.Writer, r io.Reader) error {
	z, err := zstd.NewWriter(w)
	if err != nil {
		return err
	}
	_, err = io.Copy(z, r)
	return errors.Join(err, z.Close())
}

// debugCore opens a dump's bundle in a debugger, from a folder that is removed after.
func debugCore(ctx context.Context, c *client, ref string, args []string) (err error) {
	dir, err := os.MkdirTemp("", "triton-core-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	resp, err := c.send(ctx, http.MethodGet, wire.CorePath(ref, "bundle"), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	top, err := extract(dir, resp.Body)
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	cmd := exec.CommandContext(ctx, "sh", append([]string{path.Join(dir, top, "open.sh")}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}

// extract unpacks a bundle below dir, and nowhere else whatever its names say, and returns the folder that all is in.
func extract(dir string, r io.Reader) (top string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return top, nil
		}
		if err != nil {
			return "", err
		}
		if top, _, _ = strings.Cut(h.Name, "/"); top == "" || top == ".." || strings.HasPrefix(top, "-") {
			return "", fmt.Errorf("member %q", h.Name)
		}
		if err := root.MkdirAll(path.Dir(h.Name), 0o700); err != nil {
			return "", err
		}
		if h.Typeflag == tar.TypeSymlink {
			if err := root.Symlink(path.Base(h.Linkname), h.Name); err != nil {
				return "", err
			}
			continue
		}
		f, err := root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, h.FileInfo().Mode().Perm())
		if err != nil {
			return "", err
		}
		if _, err := io.Copy(f, t); err != nil {
			return "", errors.Join(err, f.Close())
		}
		if err := f.Close(); err != nil {
			return "", err
		}
	}
}
