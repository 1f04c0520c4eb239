package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

func TestTwoDaemonsDoNotKnowEachOther(t *testing.T) {
	t.Parallel()
	a, b := own(t), own(t)
	for i, u := range []*under{a, b} {
		u.ok(t, "run", "-d", "--name", "same", "--hostname", fmt.Sprintf("host%d", i), images.Programs, "httpd80")
		equal(t, "ps", u.ok(t, "ps", "--format", "{{.Names}}"), "same")
	}
	equal(t, "first", a.get(t, a.address(t, "same")), "host0")
	equal(t, "second", b.get(t, b.address(t, "same")), "host1")
	// The end of one, with all that is purged, must not touch the other.
	pid := b.pid(t, "same")
	a.ok(t, "rm", "-f", "same")
	a.kill(t)
	a.restart(t)
	if now := b.pid(t, "same"); now != pid {
		t.Errorf("pid was %d, is %d", pid, now)
	}
	equal(t, "second", b.get(t, b.address(t, "same")), "host1")
	b.ok(t, "rm", "-f", "same")
}

func TestSecondDaemonOnTheSameRootIsRefused(t *testing.T) {
	t.Parallel()
	u := own(t)
	twin := *u.tritond
	twin.Host = "unix://" + filepath.Join(twin.Root, "twin.sock")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := twin.Start(ctx); err == nil || !strings.Contains(err.Error(), "ended before it was ready") {
		t.Errorf("got %v, want a refusal", err)
	}
	equal(t, "the first still serves", u.ok(t, "run", "--rm", images.Busybox, "echo", "yes"), "yes")
}

// TestFullVolumeRefusesNewThingsOnly runs a daemon on a tmpfs of 512 MiB and fills it.
func TestFullVolumeRefusesNewThingsOnly(t *testing.T) {
	tritonOnly(t)
	t.Parallel()
	d, err := engine.NewTritond(all.bin, "--min-free", fmt.Sprint(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	volume := filepath.Join(d.Root, "volume")
	d.DataRoot = filepath.Join(volume, "data")
	if err := os.Mkdir(volume, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tevolume", volume, "tmpfs", 0, "size=512m,mode=711"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("end of the log:\n%s", d.Log())
		}
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
		if err := d.Purge(context.Background()); err != nil {
			t.Error(err)
		}
		if err := syscall.Unmount(volume, 0); err != nil {
			t.Errorf("unmount the volume: %v", err)
		}
		if err := d.CloseWithin(time.Minute); err != nil {
			t.Error(err)
		}
	})
	u := startOwn(t, d)
	u.ok(t, "run", "-d", "--name", "before", images.Programs, "lines", "0", "10", "0")
	u.ok(t, "run", "-d", "--name", "victim", images.Busybox, "sleep", "1000")
	fill := filepath.Join(d.DataRoot, "fill")
	fillVolume(t, fill)

	u.fails(t, 1, "(?i)space|full", "create", "--name", "new", images.True)
	u.fails(t, 1, "(?i)space|full", "load", "-i", all.images.Programs)
	equal(t, "ps still answers", u.ok(t, "ps", "--filter", "name=before", "--format", "{{.Names}}"), "before")
	u.ok(t, "rm", "-f", "victim")
	u.ok(t, "stop", "before")
	equal(t, "exit code", u.inspect(t, "before", "{{.State.ExitCode}}"), "77")

	// A daemon that starts on a full volume must still come up and delete.
	u.kill(t)
	u.restart(t)
	u.ok(t, "rm", "before")
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "runs work again", func() bool { return u.docker(t, "run", "--rm", images.True).Code == 0 })
	u.ok(t, "load", "-i", all.images.Programs)
}

// fillVolume writes a file until there is no space left.
func fillVolume(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for range 1 << 12 {
		if _, err := f.Write(block); err != nil {
			return
		}
	}
	t.Fatal("the volume cannot be filled")
}

func TestDamagedFilesAreSurvived(t *testing.T) {
	t.Parallel()
	u := own(t)
	record := u.detached(t, images.Programs, "lines", "50", "0", "5")
	log := u.detached(t, images.Programs, "lines", "50", "0", "6")
	running := u.detached(t, images.Programs, "lines", "0", "20", "0")
	u.ok(t, "wait", record, log)
	recordID, logPath := u.inspect(t, record, "{{.Id}}"), u.inspect(t, log, "{{.LogPath}}")
	runningID, pid := u.inspect(t, running, "{{.Id}}"), u.pid(t, running)
	u.kill(t)

	for _, id := range []string{recordID, runningID} {
		state := filepath.Join(u.tritond.DataRoot, "tenants", "default", "containers", id, "state.json")
		if _, err := os.Stat(state); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(state, []byte("{\"status\":\"exi\x00\x00\x00"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(logPath)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(logPath, info.Size()-20); err != nil {
		t.Fatal(err)
	}

	u.restart(t)
	matches(t, "all are listed", u.ok(t, "ps", "-a", "--format", "{{.Names}}"), record)
	if now := u.pid(t, running); now != pid {
		t.Errorf("the running one had pid %d, now %d", pid, now)
	}
	res := u.docker(t, "logs", log)
	if got := strings.Count(res.Stdout, "\n") + strings.Count(res.Stderr, "\n"); got != 99 {
		t.Errorf("torn log: got %d lines, want the 99 whole ones", got)
	}
	u.ok(t, "start", log)
	u.ok(t, "wait", log)
	res = u.docker(t, "logs", log)
	if got := strings.Count(res.Stdout, "\n") + strings.Count(res.Stderr, "\n"); got != 199 {
		t.Errorf("torn log, run again: got %d lines, want 99 old and 100 new ones", got)
	}
	u.ok(t, "stop", running)
	u.complete(t, running, 0)
	u.ok(t, "rm", record, log, running)
}

// TestPurgeEndsWhatStillRuns leaves containers running, also under a shim that was adopted: own checks that the purge
// at its end leaves nothing of them, the keeper that held their output included.
func TestPurgeEndsWhatStillRuns(t *testing.T) {
	t.Parallel()
	u := own(t)
	u.ok(t, "run", "-d", "--name", "left", images.Programs, "lines", "0", "20", "0")
	u.ok(t, "run", "-d", "--name", "adopted", images.Programs, "lines", "0", "20", "0")
	u.ok(t, "run", "-d", "--privileged", "--network", "host", images.Busybox, "sleep", "1000")
	if err := syscall.Kill(u.shimOf(t, "adopted"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "adopted", func() bool { return u.docker(t, "exec", "adopted", "true").Code == 0 })
}
