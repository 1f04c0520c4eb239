package web

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
	"github.com/tritond/triton/test/tap"
)

// TestPage runs browser/page.test.ts against a daemon of its own; each of its tests is one here.
func TestPage(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	set, err := images.Build(ctx, filepath.Join(root, ".cache"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := engine.NewTritond(filepath.Join(root, "bin"), "--metrics-dns", "--metrics-network")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { finish(t, d) })
	if err := d.Start(ctx); err != nil {
		t.Fatal(err)
	}
	cli := engine.CLI{Host: d.Host, ConfigDir: t.TempDir()}
	if res, err := cli.Run(ctx, nil, "load", "-i", set.Programs); err != nil || res.Code != 0 {
		t.Fatalf("load: %+v, %v", res, err)
	}
	login := exec.CommandContext(ctx, filepath.Join(root, "bin", "triton"), "login")
	login.Env = append(os.Environ(), "DOCKER_HOST="+d.Host)
	link, err := login.Output()
	if err != nil {
		t.Fatalf("triton login: %v", err)
	}
	control := httptest.NewServer(hands(ctx, d))
	defer control.Close()
	run(ctx, t, root, "DOCKER_HOST="+d.Host, "DOCKER_CONFIG="+cli.ConfigDir, "PAGE_LINK="+strings.TrimSpace(string(link)), "PAGE_CONTROL="+control.URL,
		"PAGE_CGROUP="+d.Cgroup(), "PAGE_PID="+strconv.Itoa(d.Pid()), "PAGE_FLEET="+fleet(ctx, t, root), "PAGE_SHOTS="+os.Getenv("PAGE_SHOTS"))
}

// finish removes what the browser's test ran, also when it failed half-way.
func finish(t *testing.T, d *engine.Tritond) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cli := engine.CLI{Host: d.Host, ConfigDir: os.TempDir()}
	if res, err := cli.Run(ctx, nil, "ps", "-aq"); err == nil {
		if ids := strings.Fields(res.Stdout); len(ids) > 0 {
			if res, err := cli.Run(ctx, nil, append([]string{"rm", "-f"}, ids...)...); err != nil || res.Code != 0 {
				t.Errorf("remove containers: %+v, %v", res, err)
			}
		}
	}
	if t.Failed() {
		t.Logf("daemon:\n%s", d.Log())
	}
	if err := d.Close(ctx); err != nil {
		t.Error(err)
	}
}

// hands let the test in the browser kill and start the daemon.
func hands(ctx context.Context, d *engine.Tritond) http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}
	mux.HandleFunc("POST /kill", func(w http.ResponseWriter, _ *http.Request) { answer(w, d.Kill()) })
	mux.HandleFunc("POST /start", func(w http.ResponseWriter, _ *http.Request) { answer(w, d.Start(ctx)) })
	mux.HandleFunc("POST /plain", func(w http.ResponseWriter, _ *http.Request) { // again, without the flags that let it watch more
		d.Extra = nil
		err := d.Stop()
		if err == nil {
			err = d.Start(ctx)
		}
		answer(w, err)
	})
	return mux
}

// fleet starts the daemon of made-up containers with two tenants, and returns its address.
func fleet(ctx context.Context, t *testing.T, root string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "fleet")
	build := exec.CommandContext(ctx, "go", "build", "-tags", "seccomp", "-o", bin, "./test/web/fleet")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build fleet: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	cmd := exec.CommandContext(ctx, bin, "-listen", address, "-containers", "300")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return "http://" + address
}

// run builds and runs the tests, and reports each by its name.
func run(ctx context.Context, t *testing.T, root string, env ...string) {
	t.Helper()
	web := filepath.Join(root, "web")
	build := exec.CommandContext(ctx, "node", "build.mjs", "browser")
	build.Dir = web
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the tests (make web/node_modules?): %v\n%s", err, out)
	}
	cmd := exec.CommandContext(ctx, "node", "--test-reporter", "tap", "--test", ".cache/browser/page.test.mjs")
	cmd.Dir, cmd.Env = web, append(os.Environ(), env...)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	n, about := tap.Report(t, out)
	if err != nil || n < 10 {
		t.Errorf("%d tests, %v:\n%s", n, err, about)
	}
}
