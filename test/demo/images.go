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

// page is what nginx serves.
const page = "<!doctype html><title>Triton</title><p>Served by nginx in a container that the kernel watches.\n"

// nginxConf is Debian's without what a container does not want: a daemon, files of logs.
const nginxConf = `user www-data;
daemon off;
worker_processes auto;
error_log stderr;
events { worker_connections 768; }
http {
	include mime.types;
	access_log off;
	sendfile on;
	server { listen 80; root /var/www/html; }
}
`

// demoImages describes the three images. The crasher is Debian's C library and one program that is built here, with
// what a debugger wants: symbols, and a stack that can be walked.
func demoImages(ctx context.Context, cache string) ([]images.Debian, error) {
	crasher, err := compileCrasher(ctx, cache)
	if err != nil {
		return nil, err
	}
	return []images.Debian{
		{
			Tag: redisImage, Packages: []string{"redis-server", "busybox-static"}, Dirs: []string{"var/lib/redis"},
			Cmd:   []string{"redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--dir", "/var/lib/redis"},
			Ports: []string{"6379/tcp"},
		},
		{
			Tag: nginxImage, Packages: []string{"nginx", "wrk", "netbase", "busybox-static"},
			Files: map[string][]byte{"var/www/html/index.html": []byte(page), "etc/nginx/nginx.conf": []byte(nginxConf)},
			Dirs:  []string{"var/www", "var/www/html", "var/log/nginx", "var/lib/nginx"},
			Cmd:   []string{"nginx"},
			Ports: []string{"80/tcp"},
		},
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
