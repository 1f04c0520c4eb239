package e2e

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

// What a test left that was killed is purged by the next one, though the programs that it ran are gone.
func TestSweepDoesWithoutTheProgramsOfAnotherCheckout(t *testing.T) {
	tritonOnly(t)
	t.Parallel()
	bin := t.TempDir()
	if err := os.CopyFS(bin, os.DirFS(all.bin)); err != nil {
		t.Fatal(err)
	}
	d, err := engine.NewTritond(bin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Bin = all.bin // looks that nothing is left, whatever became of the sweep
		if err := d.CloseWithin(time.Minute); err != nil {
			t.Error(err)
		}
	})
	u := startOwn(t, d)
	u.ok(t, "run", "-d", images.Busybox, "sleep", "1000")
	if err := d.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(bin); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := engine.SweepRoot(ctx, d.Root, all.bin); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(d.Root); !os.IsNotExist(err) {
		t.Errorf("%s is there after the sweep: %v", d.Root, err)
	}
}
