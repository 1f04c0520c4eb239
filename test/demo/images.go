package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/tritond/triton/test/images"
)

// Tags of the images.
const (
	redisImage   = "triton-demo/redis:latest"
	nginxImage   = "triton-demo/nginx:latest"
	crasherImage = "triton-demo/crasher:latest"
)

//go:embed src/crasher.c
var crasherSource string

// demoImages describes the three images. The crasher is Debian's C library and one program that is built here, with
// what a debugger wants: symbols, and a stack that can be walked.
func demoImages(ctx context.Context, cache string) ([]images.Debian, error) {
	crasher, err := compileCrasher(ctx, cache)
	if err != nil {
		return nil, err
	}
	return []images.Debian{
		images.Redis(redisImage),
		images.Nginx(nginxImage),
		{
			Tag: crasherImage, Packages: []string{"libc6"}, Files: map[string][]byte{"usr/bin/crasher": crasher},
			Cmd: []string{"/usr/bin/crasher"},
		},
	}, nil
}

func compileCrasher(ctx context.Context, cache string) ([]byte, error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(cache, "crasher-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "crasher")
	cmd := exec.CommandContext(ctx, "cc", "-g", "-O1", "-pthread", "-ffile-prefix-map="+dir+"=.", "-x", "c", "-o", out, "-")
	cmd.Stdin = strings.NewReader(crasherSource)
	if b, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile crasher: %w\n%s", err, b)
	}
	return os.ReadFile(out)
}
