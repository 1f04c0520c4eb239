package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/docker/go-units"
)

// label marks what the demo runs, so that it can be taken back.
const label = "triton.demo"

// demo is one run of it.
type demo struct {
	host  string // of the daemon: unix:///PATH
	cache string // where packages and archives are kept
	bin   string // folder of triton
	redis string // host address and port of redis
	nginx string // of nginx
	out   io.Writer
}

func main() {
	d := demo{out: os.Stdout}
	flag.StringVar(&d.host, "H", "unix:///run/tritond/docker.sock", "address of the daemon")
	flag.StringVar(&d.cache, "cache", ".cache/demo", "folder for packages and images")
	flag.StringVar(&d.bin, "bin", "bin", "folder of the triton client")
	flag.StringVar(&d.redis, "redis", "127.0.0.1:16379", "host address that redis is published at")
	flag.StringVar(&d.nginx, "nginx", "127.0.0.1:18080", "host address that nginx is published at")
	stop := flag.Bool("stop", false, "remove the demo's containers and images")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	run := d.run
	if *stop {
		run = d.stop
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run makes, loads, starts, and shows.
func (d demo) run(ctx context.Context) error {
	if _, err := d.docker(ctx, "version", "--format", "{{.Server.Version}}"); err != nil {
		return fmt.Errorf("no daemon answers at %s: start one by `make run`\n%w", d.host, err)
	}
	d.say("images, made of Debian packages without a registry")
	if err := d.load(ctx); err != nil {
		return err
	}
	if err := d.remove(ctx); err != nil {
		return err
	}
	d.say("containers")
	if err := d.start(ctx); err != nil {
		return err
	}
	return d.show(ctx)
}

// load makes the images and gives them to the daemon.
func (d demo) load(ctx context.Context) error {
	all, err := demoImages(ctx, d.cache)
	if err != nil {
		return err
	}
	for _, img := range all {
		built, err := img.Build(ctx, d.cache)
		if err != nil {
			return err
		}
		if _, err := d.docker(ctx, "load", "-q", "-i", built.Archive); err != nil {
			return err
		}
		fmt.Fprintf(d.out, "  %-28s  %2d packages, %s\n", built.Tag, len(built.Packages), units.HumanSize(float64(built.Bytes)))
	}
	return nil
}

// start runs the services, then their load from containers of their own, then the program that crashes.
func (d demo) start(ctx context.Context) error {
	run := func(name string, args ...string) error {
		_, err := d.docker(ctx, append([]string{"run", "-d", "--name", name, "--label", label}, args...)...)
		if err == nil {
			fmt.Fprintf(d.out, "  %-16s  %s\n", name, strings.Join(args, " "))
		}
		return err
	}
	if err := run("demo-redis", "-p", d.redis+":6379", redisImage); err != nil {
		return err
	}
	if err := run("demo-nginx", "-p", d.nginx+":80", nginxImage); err != nil {
		return err
	}
	redis, err := d.address(ctx, "demo-redis")
	if err != nil {
		return err
	}
	nginx, err := d.address(ctx, "demo-nginx")
	if err != nil {
		return err
	}
	// Half a CPU each: the demo shows a machine at work, not one on its knees.
	if err := run("demo-redis-load", "--cpus", "0.5", redisImage, "redis-benchmark", "-h", redis, "-q", "-l", "-c", "8", "-t", "get,set,lpush,incr"); err != nil {
		return err
	}
	if err := run("demo-nginx-load", "--cpus", "0.5", nginxImage, "wrk", "-t", "1", "-c", "8", "-d", "24h", "http://"+nginx+"/"); err != nil {
		return err
	}
	return run("demo-crasher", crasherImage)
}

func (d demo) address(ctx context.Context, name string) (string, error) {
	return d.docker(ctx, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)
}

// settle is how long the load runs before something is shown: the windows of the statistics are seconds.
const settle = 5 * time.Second

// show prints what is to be seen after a moment, each with the command that shows it.
func (d demo) show(ctx context.Context) error {
	code, err := d.docker(ctx, "wait", "demo-crasher")
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settle):
	}
	d.say("docker ps -a --filter label=%s --format 'table {{.Names}}\\t{{.Status}}\\t{{.Ports}}'", label)
	if err := d.print(ctx, 0, "docker", "ps", "-a", "--filter", "label="+label, "--format", "table {{.Names}}\t{{.Status}}\t{{.Ports}}"); err != nil {
		return err
	}
	if code != "139" {
		return fmt.Errorf("demo-crasher ended with %s instead of 139 (128 + SIGSEGV)", code)
	}
	d.say("docker stats --no-stream demo-redis demo-nginx")
	if err := d.print(ctx, 0, "docker", "stats", "--no-stream", "demo-redis", "demo-nginx"); err != nil {
		return err
	}
	d.say("triton syscalls demo-redis")
	if err := d.print(ctx, 8, d.bin+"/triton", "syscalls", "demo-redis"); err != nil {
		return err
	}
	page, err := d.command(ctx, d.bin+"/triton", "login")
	if err != nil {
		return err
	}
	d.say("go on with")
	fmt.Fprintf(d.out, "  page: %s (good for one login)\n", strings.TrimSpace(page))
	fmt.Fprintf(d.out, "  export DOCKER_HOST=%s\n  docker logs demo-crasher; docker exec -it demo-redis redis-cli info\n"+
		"  curl http://%s/\n  make demo-stop\n", d.host, d.nginx)
	return nil
}

// print runs a command and shows its output, at most lines of it (0: all).
func (d demo) print(ctx context.Context, lines int, name string, args ...string) error {
	out, err := d.command(ctx, name, args...)
	if err != nil {
		return err
	}
	all := strings.Split(strings.TrimRight(out, "\n"), "\n")
	for i, line := range all {
		if lines > 0 && i == lines {
			fmt.Fprintf(d.out, "  … %d lines more\n", len(all)-lines)
			break
		}
		fmt.Fprintf(d.out, "  %s\n", line)
	}
	return nil
}

// stop removes what run made.
func (d demo) stop(ctx context.Context) error {
	if err := d.remove(ctx); err != nil {
		return err
	}
	for _, tag := range []string{redisImage, nginxImage, crasherImage} {
		if _, err := d.docker(ctx, "rmi", tag); err != nil && !strings.Contains(err.Error(), "No such image") {
			return err
		}
	}
	d.say("containers and images removed")
	return nil
}

// remove ends the containers of an earlier run.
func (d demo) remove(ctx context.Context) error {
	ids, err := d.docker(ctx, "ps", "-aq", "--filter", "label="+label)
	if err != nil || ids == "" {
		return err
	}
	_, err = d.docker(ctx, append([]string{"rm", "-f"}, strings.Fields(ids)...)...)
	return err
}

func (d demo) say(format string, args ...any) { fmt.Fprintf(d.out, "demo: "+format+"\n", args...) }

// docker runs the docker client and returns what it printed.
func (d demo) docker(ctx context.Context, args ...string) (string, error) {
	out, err := d.command(ctx, "docker", args...)
	return strings.TrimSpace(out), err
}

// command runs a client of the daemon.
func (d demo) command(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+d.host)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}
