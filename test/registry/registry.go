package registry

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Options say how a registry is served. The zero value: plain HTTP on a free port of 127.0.0.1, open to all.
type Options struct {
	// Listen is the address; empty: 127.0.0.1:0.
	Listen string
	// User and Password are required of clients; empty: none are.
	User, Password string
	// CertFile and KeyFile make it speak TLS.
	CertFile, KeyFile string
	// Root is where blobs are stored, which is left to the caller; empty: in a folder of the registry's own.
	Root string
	// NetNS is the path of the network namespace to listen in; empty: this process's.
	NetNS string
}

// Registry is a running registry.
type Registry struct {
	// Addr is HOST:PORT, the beginning of the names of images in it.
	Addr string
	// Root has the stored blobs, below docker/registry/v2/blobs.
	Root string

	cmd *exec.Cmd
	dir string
}

// startTimeout is how long a registry may take to listen on a busy machine.
const startTimeout = 30 * time.Second

// Start starts the registry program that `make registry` puts into bin, a directory. Close stops it and removes what it stored.
func Start(ctx context.Context, bin string, opt Options) (_ *Registry, err error) {
	dir, err := os.MkdirTemp("", "registry-")
	if err != nil {
		return nil, err
	}
	r := &Registry{Root: filepath.Join(dir, "data"), dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if opt.Root != "" {
		r.Root = opt.Root
	}
	args := []string{filepath.Join(bin, "registry"), "-root", r.Root, "-stdin"}
	if opt.NetNS != "" {
		args = append([]string{"nsenter", "--net=" + opt.NetNS}, args...)
	}
	if opt.Listen != "" {
		args = append(args, "-listen", opt.Listen)
	}
	if opt.CertFile != "" {
		args = append(args, "-cert", opt.CertFile, "-key", opt.KeyFile)
	}
	if opt.User != "" {
		path := filepath.Join(dir, "htpasswd")
		if err := writePassword(path, opt.User, opt.Password); err != nil {
			return nil, err
		}
		args = append(args, "-htpasswd", path)
	}
	r.cmd = exec.Command(args[0], args[1:]...)
	r.cmd.Stderr = os.Stderr
	// The registry ends with this pipe, so that none is left when a test is killed.
	if _, err := r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start registry (make registry builds it): %w", err)
	}
	type answer struct {
		line string
		err  error
	}
	said := make(chan answer, 1)
	go func() {
		line, err := bufio.NewReader(out).ReadString('\n')
		said <- answer{strings.TrimSpace(line), err}
	}()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	select {
	case a := <-said:
		r.Addr = a.line
		if a.err != nil {
			return nil, fmt.Errorf("registry does not listen: %w", a.err)
		}
		return r, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("registry does not listen: %w", ctx.Err())
	}
}

// writePassword makes a file for basic auth. The cost is bcrypt's lowest: what it guards is a test.
func writePassword(path, user, password string) error {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		return err
	}
	return os.WriteFile(path, fmt.Appendf(nil, "%s:%s\n", user, hash), 0o600)
}

// Close kills the registry and removes its data. A second call does nothing.
func (r *Registry) Close() error {
	if r.cmd != nil && r.cmd.Process != nil {
		if err := r.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		_ = r.cmd.Wait() // killed
		r.cmd = nil
	}
	return os.RemoveAll(r.dir)
}

// Blob is the path of a stored blob's file.
func (r *Registry) Blob(digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	return filepath.Join(r.Root, "docker/registry/v2/blobs/sha256", hex[:2], hex, "data")
}
