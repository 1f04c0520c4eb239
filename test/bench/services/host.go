package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

// root is an image's files, for its programs to run from as processes of the host.
type root struct {
	dir     string
	account *engine.Account
}

// unpack makes a root below dir.
func unpack(ctx context.Context, built images.Built, dir string, account *engine.Account) (root, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return root{}, err
	}
	if err := built.Unpack(ctx, dir); err != nil {
		return root{}, err
	}
	null := filepath.Join(dir, "dev", "null")
	if err := unix.Mknod(null, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		return root{}, fmt.Errorf("make %s: %w", null, err)
	}
	return root{dir, account}, os.Chmod(null, 0o666) // whatever the umask
}

// command prepares one of the root's programs.
func (r root) command(ctx context.Context, argv []string) *exec.Cmd {
	argv = r.account.Wrap(append([]string{"chroot", r.dir}, argv...))
	return exec.CommandContext(ctx, argv[0], argv[1:]...)
}

// output runs a program to its end.
func (r root) output(ctx context.Context, argv []string) (string, error) {
	cmd := r.command(ctx, argv)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, stderr.Bytes())
	}
	return string(out), nil
}

// serve starts a server and waits until it listens; stop ends it.
func (r root) serve(ctx context.Context, argv []string, port string) (stop func() error, err error) {
	cmd := r.command(ctx, argv)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
			return err
		}
		return nil
	}
	if err := listens(ctx, "127.0.0.1:"+port); err != nil {
		return nil, errors.Join(err, stop(), errors.New(stderr.String()))
	}
	return stop, nil
}

// listens waits until something accepts connections at address.
func listens(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nothing listens at %s: %w", address, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
