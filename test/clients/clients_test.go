package clients

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
	"github.com/tritond/triton/test/registry"
	"github.com/tritond/triton/test/tap"
)

// reaper is the image of the stand-in for testcontainers' reaper.
const reaper = "ryuk:clients"

// TestClients runs the scripts against one engine, that of TRITON_E2E_HOST; each of their tests is one here.
func TestClients(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	repo, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	set, err := images.Build(ctx, filepath.Join(repo, ".cache"))
	if err != nil {
		t.Fatal(err)
	}
	target, err := engine.StartTarget(ctx, os.Getenv("TRITON_E2E_HOST"), engine.BinDir(repo), repo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && target.Tritond != nil {
			t.Logf("daemon:\n%s", target.Tritond.Log())
		}
		if err := target.Stop(); err != nil {
			t.Error(err)
		}
	})
	reg, err := registry.Start(ctx, filepath.Join(repo, ".cache", "bin"), registry.Options{NetNS: target.NetNS})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close() })
	cli := engine.CLI{Host: target.Host, ConfigDir: t.TempDir()}
	if err := errors.Join(cli.Load(ctx, set.Busybox), importReaper(ctx, t, cli)); err != nil {
		t.Fatal(err)
	}

	args := []string{"node", "--test-reporter", "tap", "--test", "dockerode.test.mjs", "testcontainers.test.mjs", "ryuk.test.mjs"}
	if target.NetNS != "" {
		args = append([]string{"nsenter", "--net=" + target.NetNS}, args...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = slices.Concat(cli.Command(ctx).Env, []string{"CLIENTS_TRUE_TAR=" + set.True, "CLIENTS_REGISTRY=" + reg.Addr, "RYUK_CONTAINER_IMAGE=" + reaper})
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if n, about := tap.Report(t, out); err != nil || n < 30 {
		t.Errorf("%d tests, %v (make test/clients/node_modules?):\n%s", n, err, about)
	}
}

// importReaper builds the stand-in and makes an image of it.
func importReaper(ctx context.Context, t *testing.T, cli engine.CLI) error {
	dir := t.TempDir()
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "ryuk"), "./ryuk")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the reaper: %w\n%s", err, out)
	}
	archive, err := exec.CommandContext(ctx, "tar", "-C", dir, "-c", "ryuk").Output()
	if err != nil {
		return fmt.Errorf("pack the reaper: %w", err)
	}
	res, err := cli.Run(ctx, bytes.NewReader(archive), "import", "--change", `ENTRYPOINT ["/ryuk"]`, "--change", "EXPOSE 8080",
		"--change", "LABEL org.testcontainers.ryuk=true", "-", reaper)
	if err == nil && res.Code != 0 {
		err = fmt.Errorf("import the reaper: %s", res.Stderr)
	}
	return err
}
