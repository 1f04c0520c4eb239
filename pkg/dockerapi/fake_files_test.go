package dockerapi

import (
	"context"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"github.com/tritond/triton/pkg/triton"
)

// The fake's containers have the directory / and the file /file.

func (b *fakeBackend) StatPath(_ context.Context, key triton.ContainerKey, path string) (triton.PathStat, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := b.get(key); err != nil {
		return triton.PathStat{}, err
	}
	switch path {
	case "/":
		return triton.PathStat{Name: "/", Mode: fs.ModeDir | 0o755}, nil
	case "/file":
		return triton.PathStat{Name: "file", Size: 7, Mode: 0o644}, nil
	}
	return triton.PathStat{}, &fs.PathError{Op: "lstat", Path: path, Err: syscall.ENOENT}
}

func (b *fakeBackend) ReadFiles(ctx context.Context, key triton.ContainerKey, path string, begin func(triton.PathStat) error, out io.Writer) error {
	st, err := b.StatPath(ctx, key, path)
	if err != nil {
		return err
	}
	if err := begin(st); err != nil {
		return err
	}
	_, err = io.WriteString(out, "a tar of "+path)
	if path == "/" && err == nil {
		err = io.ErrUnexpectedEOF // a file became shorter
	}
	return err
}

func (b *fakeBackend) WriteFiles(ctx context.Context, key triton.ContainerKey, req triton.UnpackRequest, tar io.Reader) error {
	if _, err := b.StatPath(ctx, key, req.Path); err != nil {
		return err
	}
	raw, err := io.ReadAll(tar)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unpacked, b.loaded = req, raw
	return err
}

func (b *fakeBackend) ExportFiles(ctx context.Context, key triton.ContainerKey, begin func() error, out io.Writer) error {
	if _, err := b.StatPath(ctx, key, "/"); err != nil {
		return err
	}
	if err := begin(); err != nil {
		return err
	}
	_, err := io.Copy(out, strings.NewReader("all files"))
	return err
}

func (b *fakeBackend) ContainerChanges(ctx context.Context, key triton.ContainerKey) ([]triton.FileChange, error) {
	_, err := b.StatPath(ctx, key, "/")
	return []triton.FileChange{{Kind: triton.ChangeAdd, Path: "/new"}}, err
}

func (b *fakeBackend) ContainerSize(ctx context.Context, key triton.ContainerKey) (int64, error) {
	_, err := b.StatPath(ctx, key, "/")
	return 5, err
}

func (b *fakeBackend) PruneContainers(_ context.Context, tenant triton.Tenant, want func(*triton.Container) bool) ([]string, int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var gone []string
	for key, c := range b.containers {
		if key.Tenant == tenant && !c.removed && c.c.State.Status != triton.StatusRunning && want(&c.c) {
			c.removed = true
			gone = append(gone, key.ID)
		}
	}
	return gone, int64(len(gone)) * 5, nil
}

func (b *fakeBackend) CommitContainer(ctx context.Context, key triton.ContainerKey, req triton.CommitRequest) (string, error) {
	b.mu.Lock()
	b.committed = req
	b.mu.Unlock()
	_, err := b.StatPath(ctx, key, "/")
	return "sha256:" + strings.Repeat("cd", 32), err
}
