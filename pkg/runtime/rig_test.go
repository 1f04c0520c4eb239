package runtime

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/cgroup"
	"github.com/tritond/triton/pkg/shim"
	"github.com/tritond/triton/pkg/triton"
)

// rig is a daemon's surroundings in a test: roots of its own, an instance name of its own, and Runtimes one after the
// other on them. After the test nothing of it may be left.
type rig struct {
	*testing.T
	dir, instance string
	cg            *cgroup.FS
	generation    uint64
	parents       parents

	rt   *Runtime
	stop func()
}

// testIDs are host ids that no container of a daemon has: theirs end below, or begin with a whole block above.
func testIDs(slot int) triton.IDRange {
	return triton.IDRange{Base: 0x8000000 + uint32(slot)<<16, Size: 1 << 16}
}

// parents records what the exit program would know.
type parents struct {
	mu  sync.Mutex
	set map[int]uint64
}

func (p *parents) register(pid int, cgroupID uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set[pid] = cgroupID
	return nil
}

func (p *parents) forget(pid int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.set, pid)
	return nil
}

func (p *parents) of(pid int) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.set[pid]
}

func (p *parents) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.set)
}

func newRig(t *testing.T) *rig {
	t.Helper()
	cg, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "rt") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &rig{T: t, dir: dir, instance: "t" + triton.NewID()[:8], cg: cg, parents: parents{set: map[int]uint64{}}}
	for d := r.dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		r.must(os.Chmod(d, 0o711))
	}
	r.Cleanup(r.nothingLeft)
	r.open(defaultPool)
	return r
}

// open starts a Runtime on the rig's roots, as a daemon does at its start.
func (r *rig) open(pool int) {
	r.Helper()
	r.generation++
	rt, err := Open(r.Context(), Config{
		Instance: r.instance, ShimPath: testShim, RunRoot: filepath.Join(r.dir, "run"), DataRoot: filepath.Join(r.dir, "data"),
		Version: "test", Generation: r.generation, BootID: "boot", PoolSize: pool,
		Log:            slog.New(slog.NewTextHandler(testWriter{r.T}, nil)),
		RegisterParent: r.parents.register, ForgetParent: r.parents.forget,
	})
	r.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- rt.Run(ctx) }()
	var once sync.Once
	r.rt, r.stop = rt, func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				r.Errorf("run: %v", err)
			}
			if err := rt.Close(); err != nil {
				r.Errorf("close: %v", err)
			}
		})
	}
	r.Cleanup(r.stop)
}

// restart ends the Runtime and opens another on the same roots.
func (r *rig) restart() {
	r.Helper()
	r.stop()
	r.open(defaultPool)
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// nothingLeft is the last check of each test.
func (r *rig) nothingLeft() {
	top := "/triton-" + r.instance
	if kids, err := r.cg.Children(top); err != nil || len(kids) > 0 {
		r.Errorf("control groups left: %v %v", kids, err)
	}
	if err := errors.Join(r.cg.Kill(top), r.cg.Remove(top)); err != nil {
		r.Error(err)
	}
	for _, sub := range []string{"c/*", "shims/*", "keeper.*"} {
		if left, _ := filepath.Glob(filepath.Join(r.dir, "run", sub)); len(left) > 0 {
			r.Errorf("files left: %v", left)
		}
	}
	if b, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(b), r.dir+"/run") {
		r.Errorf("mounts left below %s", r.dir)
	}
	if left := processesOf(filepath.Join(r.dir, "run")); len(left) > 0 {
		r.Errorf("processes left: %v", left)
	}
	if n := r.parents.count(); n > 0 {
		r.Errorf("%d parents left with the exit program", n)
	}
}

// processesOf lists processes whose arguments name the run root. Zombies have none.
func processesOf(root string) []string {
	var out []string
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), root) {
			out = append(out, strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return out
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	r.Cleanup(cancel)
	return ctx
}

// eventually waits for a condition, with a deadline.
func (r *rig) eventually(what string, cond func() bool) {
	r.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.Fatalf("timed out waiting for %s", what)
		}
	}
}

// pair pins a user namespace and a network namespace that it owns.
func (r *rig) pair(ids triton.IDRange) (userNS, netNS string) {
	r.Helper()
	maps := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(ids.Base), Size: int(ids.Size)}}
	holder := exec.Command("/bin/sleep", "60")
	holder.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, UidMappings: maps, GidMappings: maps,
		GidMappingsEnableSetgroups: true, Pdeathsig: syscall.SIGKILL,
	}
	r.must(holder.Start())
	defer func() {
		holder.Process.Kill()
		holder.Wait()
	}()
	dir := r.TempDir()
	pin := func(kind string) string {
		at := filepath.Join(dir, kind)
		r.must(os.WriteFile(at, nil, 0o600))
		r.must(unix.Mount(fmt.Sprintf("/proc/%d/ns/%s", holder.Process.Pid, kind), at, "", unix.MS_BIND, ""))
		r.Cleanup(func() { r.must(unix.Unmount(at, unix.MNT_DETACH)) })
		return at
	}
	return pin("user"), pin("net")
}

// bundle prepares a run: what node, image and network do in the daemon. change edits the wish, slot selects the ids.
func (r *rig) bundle(slot int, change func(*triton.Spec), script string) Bundle {
	r.Helper()
	spec := &triton.Spec{Cmd: []string{"sh", "-c", script}, NetworkMode: triton.ModeNone, Log: triton.LogConfig{Driver: triton.LogJSONFile}}
	if change != nil {
		change(spec)
	}
	key := triton.ContainerKey{Tenant: "default", ID: triton.NewID()}
	data := filepath.Join(r.dir, "data", "tenants", "default", "containers", key.ID)
	rootfs := shim.Rootfs{Lower: []string{testLayer}, Upper: filepath.Join(data, "upper"), Work: filepath.Join(data, "work")}
	for _, d := range []string{data, rootfs.Upper, rootfs.Work} {
		r.must(os.MkdirAll(d, 0o755))
	}
	in := Input{Key: key, Spec: spec, Rootfs: Layers{rootfs.Upper, testLayer}, CgroupPath: "/triton-" + r.instance + "/" + key.ID}
	var ep triton.Endpoint
	if spec.UserNamespace() {
		ids := testIDs(slot)
		user, net := r.pair(ids)
		ep = triton.Endpoint{UserNS: user, NetNS: net, IDs: ids}
		in.IDs, in.UserNS, in.NetNS = ids, user, net
	}
	in.Files.Hosts = filepath.Join(data, "hosts")
	r.must(os.WriteFile(in.Files.Hosts, []byte("127.0.0.1 localhost\n"), 0o644))
	r.must(os.Chown(in.Files.Hosts, int(in.IDs.Base), int(in.IDs.Base)))
	ids, err := r.cg.Make(in.CgroupPath)
	r.must(err)
	r.Cleanup(func() { r.must(errors.Join(r.cg.Kill(in.CgroupPath), r.cg.Remove(in.CgroupPath))) })
	in.Limits, err = DetectLimits(r.cg, in.CgroupPath)
	r.must(err)
	oci, warnings, err := Spec(in)
	r.must(err)
	for _, w := range warnings {
		r.Logf("warning: %s", w)
	}
	return Bundle{
		Key: key, Run: 1, Spec: spec, OCI: oci, Rootfs: rootfs, Endpoint: ep, CgroupPath: in.CgroupPath, CgroupID: ids.V2, DataDir: data,
	}
}

// create makes a task that is deleted at the end of the test, unless another Runtime has taken over by then.
func (r *rig) create(b Bundle) *Task {
	r.Helper()
	t, err := r.rt.Create(r.ctx(), b)
	r.must(err)
	r.Cleanup(func() {
		if t.r == r.rt {
			r.must(t.Delete(r.ctx(), true))
		}
	})
	return t
}

// run runs a container to its end.
func (r *rig) run(change func(*triton.Spec), script string) (triton.ExitRecord, string) {
	r.Helper()
	b := r.bundle(0, change, script)
	t := r.create(b)
	r.must(t.Start(r.ctx()))
	rec, err := t.Wait(r.ctx())
	r.must(err)
	return rec, r.log(b)
}

// log returns what is in the container's log.
func (r *rig) log(b Bundle) string {
	r.Helper()
	f, err := os.Open(filepath.Join(b.DataDir, b.Key.ID+"-json.log"))
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	r.must(err)
	defer f.Close()
	var text strings.Builder
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		var line struct{ Log string }
		r.must(json.Unmarshal(scan.Bytes(), &line))
		text.WriteString(line.Log)
	}
	return text.String()
}

// shimPid is the pid of the shim that holds a task now.
func shimPid(t *Task) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.claim.ShimPid
}
