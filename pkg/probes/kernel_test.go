package probes

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/triton"
	"golang.org/x/sys/unix"
)

// deadline bounds every wait of a test; the machine may be busy.
const deadline = 20 * time.Second

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !cond(); {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", deadline, what)
		}
		time.Sleep(2 * time.Millisecond) // the interval of a condition, not a guess
	}
}

// bpffs mounts a bpffs of the test's own and returns a pin directory in it.
func bpffs(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatalf("mount bpffs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount bpffs: %v", err)
		}
	})
	return filepath.Join(dir, "v1")
}

// open opens probes that end, pins included, with the test.
func open(t testing.TB, cfg Config) *Probes {
	t.Helper()
	if cfg.PinDir == "" {
		cfg.PinDir = bpffs(t)
	}
	if cfg.MaxContainers == 0 {
		cfg.MaxContainers = 8
	}
	p, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatalf("open probes: %v", err)
	}
	for _, m := range p.kernel.missing {
		t.Errorf("program %s is missing: %v", m.Program, m.Reason)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close probes: %v", err)
		}
		if err := p.Unpin(); err != nil {
			t.Errorf("unpin probes: %v", err)
		}
	})
	return p
}

// run runs p until the test ends.
func run(t testing.TB, p *Probes) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run probes: %v", err)
		}
	})
}

// cgroup is a cgroup2 directory of the test's own.
type cgroup struct {
	dir string
	id  uint64
}

// cgroup2Root is the mount point of cgroup2 on hybrid and pure v2 hosts.
func cgroup2Root() string {
	if _, err := os.Stat("/sys/fs/cgroup/unified/cgroup.procs"); err == nil {
		return "/sys/fs/cgroup/unified"
	}
	return "/sys/fs/cgroup"
}

func randomHex() string {
	b := make([]byte, 6)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// newCgroup makes /t<random>/<random>, as deep as Triton's containers are.
func newCgroup(t testing.TB) cgroup {
	t.Helper()
	return childCgroup(t, childCgroup(t, cgroup{dir: cgroup2Root()}))
}

func childCgroup(t testing.TB, parent cgroup) cgroup {
	t.Helper()
	dir := filepath.Join(parent.dir, "t"+randomHex())
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, "cgroup removed", func() bool {
			err := os.Remove(dir)
			return err == nil || os.IsNotExist(err)
		})
	})
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	return cgroup{dir: dir, id: st.Ino}
}

func newKey() triton.ContainerKey {
	return triton.ContainerKey{Tenant: triton.DefaultTenant, ID: triton.NewID()}
}

// watch makes a cgroup and watches it.
func watch(t testing.TB, p *Probes) (triton.ContainerKey, cgroup) {
	t.Helper()
	cg, key := newCgroup(t), newKey()
	if _, err := p.Watch(key, CgroupIDs{V2: cg.id}); err != nil {
		t.Fatal(err)
	}
	return key, cg
}

// buildActor compiles testdata/actor.c; actorBinary says where it is, once it was needed.
var buildActor = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "actor")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "actor")
	return bin, compile("actor", bin)
})

// compile makes a program of testdata.
func compile(name, bin string) error {
	out, err := exec.Command("clang", "-static", "-pthread", "-O1", "-Wall", "-Werror", "-o", bin, "testdata/"+name+".c").CombinedOutput()
	if err != nil {
		return fmt.Errorf("compile %s: %w: %s", name, err, out)
	}
	return nil
}

// compiled is a program of testdata, for one test.
func compiled(t testing.TB, name string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), name)
	if err := compile(name, bin); err != nil {
		t.Fatal(err)
	}
	return bin
}

func actorBinary(t testing.TB) string {
	t.Helper()
	bin, err := buildActor()
	if err != nil {
		t.Fatal(err)
	}
	actorBuilt.Store(true)
	return bin
}

var actorBuilt atomic.Bool

func TestMain(m *testing.M) {
	libcontainerInit()
	networkMain()
	askerMain()
	acceptorMain()
	if dir := os.Getenv(loaderEnv); dir != "" {
		loaderMain(dir)
	}
	code := m.Run()
	if actorBuilt.Load() {
		bin, _ := buildActor()
		os.RemoveAll(filepath.Dir(bin))
	}
	os.Exit(code)
}

// process is a child in a cgroup, whose stdin and stdout the test holds.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// start starts argv as the first task of its own in cg, born there.
func start(t testing.TB, cg cgroup, argv ...string) *process {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = []string{}
	if cg.dir != "" {
		f, err := os.Open(cg.dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %v: %v", argv, err)
	}
	p := &process{cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return p
}

// paused waits until the process stands in its pause_here.
func (p *process) paused(t testing.TB) {
	t.Helper()
	if c, err := p.out.ReadByte(); err != nil || c != 'r' {
		t.Fatalf("actor said %q, %v", c, err)
	}
	eventually(t, "actor waits", func() bool { return procState(p.cmd.Process.Pid) == "S" })
}

func (p *process) release(t testing.TB) {
	t.Helper()
	if _, err := p.in.Write([]byte{'g'}); err != nil {
		t.Fatal(err)
	}
}

// wait reaps the process and returns its wait status.
func (p *process) wait(t testing.TB) uint32 {
	t.Helper()
	p.cmd.Wait()
	return uint32(p.cmd.ProcessState.Sys().(syscall.WaitStatus))
}

// procState is the state letter of a process, "" when there is none.
func procState(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return rest[:1]
}

func snapshot(t testing.TB, p *Probes, key triton.ContainerKey) Totals {
	t.Helper()
	s, err := p.Snapshot(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// counts gives the number of calls and of errors by call between two snapshots.
func counts(before, after Totals) map[int][2]uint64 {
	m := map[int][2]uint64{}
	for nr, a := range after.Syscalls {
		b := before.Syscalls[nr]
		if d := [2]uint64{a.Count - b.Count, a.Errors - b.Errors}; d != [2]uint64{} {
			m[nr] = d
		}
	}
	return m
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
