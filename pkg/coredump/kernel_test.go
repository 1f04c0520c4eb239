package coredump

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/shim"
	"github.com/tritond/triton/pkg/triton"
)

// helper returns the program that the kernel starts: from PATH, or built.
func helper(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("triton-core"); err == nil {
		return path
	}
	path := filepath.Join(t.TempDir(), "triton-core")
	if out, err := exec.Command("go", "build", "-o", path, "../../cmd/triton-core").CombinedOutput(); err != nil {
		t.Fatalf("build the helper: %v\n%s", err, out)
	}
	return path
}

// tried is a service with a keeper, in a folder of its own.
type tried struct {
	*Service
	policy atomic.Value // of every process on the machine; "foreign": it is in no container
	saved  chan Record
	asked  sync.Mutex
	window func() // called when the time is asked, at least before each window of a body; nil: nothing
}

func newTried(t *testing.T, form string) *tried {
	t.Helper()
	program := helper(t) // before the keeper, which changes the umask while it makes its socket
	for _, setting := range []string{patternFile, pipeLimitFile} {
		before, err := readSysctl(setting)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if now, err := readSysctl(setting); err != nil || now != before {
				t.Errorf("%s is %q after the test, was %q (%v)", setting, now, before, err)
				if err := writeSysctl(setting, before); err != nil {
					t.Error(err)
				}
			}
		})
	}
	dir, err := os.MkdirTemp("", "core") // the kernel takes 127 characters, and t.TempDir is long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- shim.RunKeeper(ctx, shim.KeeperConfig{Socket: filepath.Join(dir, "keeper"), Version: "test", Logger: log})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("keeper: %v", err)
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if k, _, err := shim.DialKeeper(ctx, filepath.Join(dir, "keeper"), shim.Hello{}); err == nil {
			k.Close()
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	p := &tried{saved: make(chan Record, 8)}
	keep := DefaultKeep
	keep.Bytes = 1 << 30
	p.Service, err = New(Config{
		Dir: filepath.Join(dir, "store"), Socket: filepath.Join(dir, "core.sock"), Form: form, Helper: program,
		Keeper: func(ctx context.Context) (*shim.Keeper, error) {
			k, _, err := shim.DialKeeper(ctx, filepath.Join(dir, "keeper"), shim.Hello{})
			return k, err
		},
		Find: func(uint64, string) (Subject, bool) {
			policy := p.policy.Load().(string)
			key := triton.ContainerKey{Tenant: triton.DefaultTenant, ID: "c"}
			return Subject{Key: key, Labels: map[string]string{PolicyLabel: policy}}, policy != "foreign"
		},
		Log:        func(context.Context, triton.ContainerKey, int) ([]string, error) { return nil, nil },
		LastMinute: func(triton.ContainerKey) []triton.Sample { return nil },
		LastCalls:  func(triton.ContainerKey, int) ([]triton.Recording, error) { return nil, nil },
		Saved:      func(r Record) { p.saved <- r },
		Quota:      1 << 30, MaxHold: time.Minute, Keep: keep, Logger: log,
		Now: func() time.Time {
			p.asked.Lock()
			defer p.asked.Unlock()
			if p.window != nil {
				p.window()
			}
			return time.Now()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// crash starts a program that ends itself in dir by a SIGSEGV.
func crash(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "ulimit -c unlimited; kill -SEGV $$")
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// ends waits for a program that crash started, and checks that it was its signal that ended it.
func ends(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGSEGV {
		t.Errorf("the program ended with %v, not by SIGSEGV", err)
	}
}

func (p *tried) wait(t *testing.T) Record {
	t.Helper()
	select {
	case r := <-p.saved:
		return r
	case <-time.After(time.Minute):
		t.Fatal("no dump within a minute")
	}
	return Record{}
}

// TestKernelPipeHandsCoresOver: the kernel's helper brings a core as a socket would: a process is held until somebody
// serves, its dump is a core with its thread, the policy decides how much is kept, and other crashes make the file that
// the pattern named before.
func TestKernelPipeHandsCoresOver(t *testing.T) {
	p := newTried(t, FormPipe)
	p.policy.Store("full")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pattern, err := p.Take(ctx)
	if err != nil {
		t.Fatal(err)
	}
	early := crash(t, t.TempDir()) // nobody serves yet
	ran := make(chan error, 1)
	go func() { ran <- p.Run(ctx) }()
	r := p.wait(t)
	ends(t, early)
	if r.Pid != early.Process.Pid || r.Signal != "SIGSEGV" || r.Body != BodyFull || len(r.Threads) != 1 || len(r.Missing) > 0 {
		t.Errorf("pid %d (want %d), %s, body %s, %d threads, missing %q", r.Pid, early.Process.Pid, r.Signal, r.Body, len(r.Threads), r.Missing)
	}
	core, err := p.Store().OpenCore(&r)
	if err != nil {
		t.Fatal(err)
	}
	defer core.Close()
	h, err := ReadHead(core)
	if err != nil || len(h.Threads) != 1 || h.Threads[0].Regs.PC != r.Threads[0].PC {
		t.Errorf("core %+v of %+v: %v", h, r.Threads, err)
	}
	if n, err := io.Copy(io.Discard, core); err != nil || n == 0 {
		t.Errorf("%d bytes of memory: %v", n, err)
	}

	p.policy.Store("mini")
	ends(t, crash(t, t.TempDir()))
	if r := p.wait(t); r.Body != BodyMini || r.Cut != "" {
		t.Errorf("policy mini leaves a body %s, cut %q", r.Body, r.Cut)
	}
	p.policy.Store("off")
	ends(t, crash(t, t.TempDir()))
	p.policy.Store("foreign")
	if strings.HasPrefix(pattern.Previous, "core") {
		dir := t.TempDir()
		ends(t, crash(t, dir))
		if files, err := filepath.Glob(dir + "/core*"); err != nil || len(files) != 1 {
			t.Errorf("files %q of a crash in no container: %v", files, err)
		}
	}
	cancel()
	if err := <-ran; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if ids := dumpsOf(t, p.Store(), triton.DefaultTenant); len(ids) != 2 {
		t.Errorf("dumps %q, the full one and the mini one are meant", ids)
	}
}

// TestKernelCoreOfNoContainerByItsPath: a previous pattern with a whole path is honoured as the process: its own rights,
// its own groups, no links, and nothing that is there already.
func TestKernelCoreOfNoContainerByItsPath(t *testing.T) {
	for _, setting := range []string{patternFile} {
		before, err := readSysctl(setting)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := writeSysctl(setting, before); err != nil {
				t.Error(err)
			}
		})
	}
	dir, err := os.MkdirTemp("/tmp", "p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	const nobody = 65534
	for name, mode := range map[string]os.FileMode{"": 0o755, "open": 0o777, "group": 0o770, "linked": 0o777} {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, name), 0o700), os.Chmod(filepath.Join(dir, name), mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "open", "elsewhere"), filepath.Join(dir, "linked", "core")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		pattern string
		made    bool
	}{{"open/core", true}, {"open/core", true}, {"group/core", false}, {"linked/core", false}} {
		if err := writeSysctl(patternFile, filepath.Join(dir, c.pattern)); err != nil {
			t.Fatal(err)
		}
		t.Run(c.pattern, func(t *testing.T) {
			p := newTried(t, FormSocket)
			p.serving(t)
			p.policy.Store("foreign")
			cmd := exec.Command("/bin/sh", "-c", "ulimit -c unlimited; kill -SEGV $$")
			cmd.Dir = "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ends(t, cmd)
			st, err := os.Lstat(filepath.Join(dir, c.pattern))
			if made := err == nil && st.Mode().IsRegular(); made != c.made {
				t.Fatalf("a core is made: %t, want %t (%v)", made, c.made, err)
			}
			if !c.made {
				return
			}
			if owner := st.Sys().(*syscall.Stat_t).Uid; owner != nobody || st.Mode().Perm() != 0o600 {
				t.Errorf("uid %d, mode %s", owner, st.Mode())
			}
			f, err := os.Open(filepath.Join(dir, c.pattern))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if h, err := ReadHead(f); err != nil || len(h.Threads) != 1 {
				t.Errorf("%+v, %v", h, err)
			}
		})
	}
	if _, err := os.Lstat(filepath.Join(dir, "open", "elsewhere")); err == nil {
		t.Error("a link was followed")
	}
}

// TestKernelSocketBeforeIsNamed: what cannot be honoured is said.
func TestKernelSocketBeforeIsNamed(t *testing.T) {
	before, err := readSysctl(patternFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := writeSysctl(patternFile, before); err != nil {
			t.Error(err)
		}
	})
	if err := writeSysctl(patternFile, "@/run/another.sock"); err != nil {
		t.Fatal(err)
	}
	p := newTried(t, FormSocket)
	var said bytes.Buffer
	p.log = slog.New(slog.NewTextHandler(&said, nil))
	p.serving(t)
	if !strings.Contains(said.String(), "crashes of no container end without a core") || !strings.Contains(said.String(), "@/run/another.sock") {
		t.Errorf("it says %q", said.String())
	}
}
