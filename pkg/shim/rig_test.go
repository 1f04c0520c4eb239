package shim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/shim/jsonlog"
	"github.com/tritond/triton/pkg/triton"
)

// rig is one container's surroundings: what a daemon prepares before it asks a shim for the container.
type rig struct {
	t      *testing.T
	dir    string
	key    triton.ContainerKey
	cgroup string
	req    CreateRequest
	spec   specs.Spec

	program    string     // the shim
	extra      []*os.File // what it has open beside its own
	keeperPath string
	shim       *exec.Cmd
	client     *Client
	created    bool
	clients    []*Client
	daemons    []*exec.Cmd
}

// testIDs is far above what others on this machine use.
var testIDs = triton.IDRange{Base: 0x7a000000, Size: 65536}

// newRig prepares a container that runs argv in a pinned pair of namespaces. After the test nothing of it may be left.
func newRig(t *testing.T, argv ...string) *rig {
	t.Helper()
	r := &rig{t: t, program: testShim, dir: t.TempDir(), key: triton.ContainerKey{Tenant: "test", ID: triton.NewID()}}
	for d := r.dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o711))
	}
	nodes := deviceNodes(t)
	t.Cleanup(func() {
		if got := deviceNodes(t); got != nodes {
			t.Errorf("host device nodes changed:\n%s\nwere\n%s", got, nodes)
		}
	})
	r.cgroup = "/triton-t" + r.key.ID[:8] + "/" + r.key.ID
	must(t, os.MkdirAll(cgroup2Dir(r.cgroup), 0o755))
	t.Cleanup(r.close)
	for _, d := range []string{"upper", "work", "exit", "run", "ns"} {
		must(t, os.Mkdir(filepath.Join(r.dir, d), 0o711))
	}
	must(t, os.Chmod(filepath.Join(r.dir, "upper"), 0o755))
	userNS, netNS := r.pinPair()
	r.spec = testSpec(argv)
	r.req = CreateRequest{
		Key: r.key, Run: 1, CgroupPath: r.cgroup, UserNS: userNS, NetNS: netNS, IDs: testIDs,
		Rootfs:  Rootfs{Lower: []string{testLayer}, Upper: filepath.Join(r.dir, "upper"), Work: filepath.Join(r.dir, "work")},
		RunDir:  filepath.Join(r.dir, "run", "c"),
		ExitDir: filepath.Join(r.dir, "exit"),
		LogPath: filepath.Join(r.dir, "json.log"),
		Log:     triton.LogConfig{Driver: triton.LogJSONFile},
	}
	return r
}

func cgroup2Dir(path string) string {
	if _, err := os.Stat("/sys/fs/cgroup/unified"); err == nil {
		return "/sys/fs/cgroup/unified" + path
	}
	return "/sys/fs/cgroup" + path
}

// close deletes the container, which must leave nothing, and ends the processes of the rig.
func (r *rig) close() {
	if r.created {
		r.remove()
	}
	for _, c := range r.clients {
		c.Close()
	}
	for _, d := range r.daemons {
		d.Process.Kill()
		d.Wait()
		if out := d.Stderr.(*bytes.Buffer); r.t.Failed() && out.Len() > 0 {
			r.t.Logf("%s said:\n%s", d.Args[1], out)
		}
	}
	unix.Unmount(filepath.Join(r.req.RunDir, RootfsDir), unix.MNT_DETACH) // of a test that failed
	r.removeCgroups()
}

// removeCgroups removes the parents, and reports a container's cgroup that is still there.
func (r *rig) removeCgroups() {
	for _, pattern := range []string{"/sys/fs/cgroup/*" + r.cgroup, "/sys/fs/cgroup" + r.cgroup} {
		left, _ := filepath.Glob(pattern)
		for _, dir := range left {
			os.Remove(dir) // made by the rig, and by no container
		}
	}
	parent := filepath.Dir(r.cgroup)
	for _, pattern := range []string{"/sys/fs/cgroup/*" + parent, "/sys/fs/cgroup" + parent} {
		left, _ := filepath.Glob(pattern)
		for _, dir := range left {
			if err := os.Remove(dir); err != nil {
				r.t.Errorf("remove cgroup: %v", err)
			}
		}
	}
}

// pinPair makes a user namespace and a network namespace that it owns, held by bind mounts.
func (r *rig) pinPair() (userNS, netNS string) {
	r.t.Helper()
	maps := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(testIDs.Base), Size: int(testIDs.Size)}}
	holder := exec.Command("/bin/sleep", "60")
	holder.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, UidMappings: maps, GidMappings: maps, GidMappingsEnableSetgroups: true,
		Pdeathsig: syscall.SIGKILL,
	}
	must(r.t, holder.Start())
	defer func() {
		holder.Process.Kill()
		holder.Wait()
	}()
	pin := func(kind string) string {
		at := filepath.Join(r.dir, "ns", kind)
		must(r.t, os.WriteFile(at, nil, 0o600))
		must(r.t, unix.Mount(fmt.Sprintf("/proc/%d/ns/%s", holder.Process.Pid, kind), at, "", unix.MS_BIND, ""))
		r.t.Cleanup(func() { must(r.t, unix.Unmount(at, unix.MNT_DETACH)) })
		return at
	}
	return pin("user"), pin("net")
}

// deviceNodes describes the host's nodes that containers bind.
func deviceNodes(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		var st unix.Stat_t
		must(t, unix.Stat("/dev/"+name, &st))
		fmt.Fprintf(&b, "%s %o %d:%d %x\n", name, st.Mode, st.Uid, st.Gid, st.Rdev)
	}
	return b.String()
}

func testSpec(argv []string) specs.Spec {
	caps := []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_NET_BIND_SERVICE"}
	var s specs.Spec
	s.Version = "1.2.0"
	s.Hostname = "rig"
	s.Process = &specs.Process{
		Args: argv, Cwd: "/", Env: []string{"PATH=/bin", "HOME=/root"},
		Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
	}
	s.Root = &specs.Root{}
	s.Mounts = []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc"},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
	}
	s.Linux = &specs.Linux{
		Namespaces: []specs.LinuxNamespace{
			{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
			{Type: specs.CgroupNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.UserNamespace},
		},
		Resources:     &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
		MaskedPaths:   []string{"/proc/kcore", "/proc/keys", "/sys/firmware"},
		ReadonlyPaths: []string{"/proc/sys", "/proc/sysrq-trigger"},
	}
	return s
}

// startShim starts a shim process and connects to it.
func (r *rig) startShim(generation uint64) (*exec.Cmd, *Client) {
	r.t.Helper()
	path := filepath.Join(r.dir, "s"+triton.NewID()[:6])
	cmd := r.daemon("serve", path)
	return cmd, r.dial(path, generation)
}

func (r *rig) dial(path string, generation uint64) *Client {
	r.t.Helper()
	var c *Client
	await(r.t, "shim answers", func() (err error) {
		c, _, err = Dial(r.ctx(), path, Hello{Protocol: ProtocolVersion, Generation: generation, Instance: "test"})
		return err
	})
	r.clients = append(r.clients, c)
	return c
}

// daemon starts the shim binary in one of its modes, detached as users start it.
func (r *rig) daemon(mode, path string) *exec.Cmd {
	r.t.Helper()
	cmd := exec.Command(r.program, mode, "--socket", path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.ExtraFiles = r.extra
	cmd.Stderr = new(bytes.Buffer)
	must(r.t, cmd.Start())
	r.daemons = append(r.daemons, cmd)
	return cmd
}

func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	r.t.Cleanup(cancel)
	return ctx
}

// create makes the container with a shim of its own; at the end of the test it is deleted, and must be deletable.
func (r *rig) create() {
	r.t.Helper()
	_, err := r.tryCreate()
	must(r.t, err)
	r.created = true
}

func (r *rig) tryCreate() (ProcessReply, error) {
	r.t.Helper()
	oci, err := json.Marshal(&r.spec)
	must(r.t, err)
	r.req.OCI = oci
	r.shim, r.client = r.startShim(1)
	return r.client.Create(r.ctx(), r.req)
}

// remove deletes the container and checks that nothing is left of it.
func (r *rig) remove() {
	r.t.Helper()
	r.created = false
	if err := r.client.Delete(r.ctx(), true); err != nil {
		r.t.Errorf("delete: %v", err)
	}
	r.nothingLeft()
}

func (r *rig) nothingLeft() {
	r.t.Helper()
	if _, err := os.Stat(r.req.RunDir); !errors.Is(err, os.ErrNotExist) {
		r.t.Errorf("run directory is left: %v", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(r.t, err)
	if bytes.Contains(mounts, []byte(r.req.RunDir)) {
		r.t.Errorf("mounts are left below %s", r.req.RunDir)
	}
	for _, pattern := range []string{"/sys/fs/cgroup/*" + r.cgroup, "/sys/fs/cgroup" + r.cgroup} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			r.t.Errorf("cgroups are left: %v", left)
		}
	}
}

// run creates and starts the container and returns how it ended.
func (r *rig) run() triton.ExitRecord {
	r.t.Helper()
	r.create()
	must(r.t, r.client.Start(r.ctx()))
	return r.wait("")
}

func (r *rig) wait(exec string) triton.ExitRecord {
	r.t.Helper()
	rec, err := r.client.Wait(r.ctx(), exec)
	must(r.t, err)
	return rec
}

// attach opens a stream and collects its output.
func (r *rig) attach(req AttachRequest) (*Stream, *gathered) {
	r.t.Helper()
	s, err := r.client.Attach(r.ctx(), req)
	must(r.t, err)
	g := &gathered{done: make(chan struct{})}
	go g.read(s.Output)
	r.t.Cleanup(func() { s.Close() })
	return s, g
}

// logText returns the log's text, both streams in order.
func (r *rig) logText() string {
	r.t.Helper()
	return logText(r.t, r.req.LogPath)
}

// logText reads one log through the reader, which must find nothing wrong with it.
func logText(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path) // a copy under another name: the rotated files beside it are read by themselves
	must(t, err)
	defer f.Close()
	var text strings.Builder
	opts := triton.LogOptions{Stdout: true, Stderr: true, Tail: -1}
	stats, err := jsonlog.Read(context.Background(), fmt.Sprintf("/proc/self/fd/%d", f.Fd()), opts, nil, func(rec triton.LogRecord) error {
		text.Write(rec.Line)
		return nil
	})
	must(t, err)
	if stats.Corrupt > 0 || stats.Missed > 0 {
		t.Errorf("log %s: %+v", path, stats)
	}
	return text.String()
}

// gathered is what came out of a stream so far.
type gathered struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	done chan struct{}
}

func (g *gathered) read(from io.Reader) {
	defer close(g.done)
	p := make([]byte, 32<<10)
	for {
		n, err := from.Read(p)
		g.mu.Lock()
		g.buf.Write(p[:n])
		g.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (g *gathered) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.buf.String()
}

// await waits until check gives no error.
func await(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// awaitText waits until the stream's output holds text.
func (g *gathered) await(t *testing.T, text string) {
	t.Helper()
	await(t, fmt.Sprintf("output holds %q", text), func() error {
		if got := g.String(); !strings.Contains(got, text) {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
}

// end waits for the stream's end and returns all of it.
func (g *gathered) end(t *testing.T) string {
	t.Helper()
	select {
	case <-g.done:
	case <-time.After(30 * time.Second):
		t.Fatalf("stream does not end; so far %q", g.String())
	}
	return g.String()
}

// unframe splits docker's stream frames into the two outputs.
func unframe(t *testing.T, data string) (stdout, stderr string) {
	t.Helper()
	for len(data) > 0 {
		if len(data) < 8 {
			t.Fatalf("torn stream frame: %q", data)
		}
		n := int(data[4])<<24 | int(data[5])<<16 | int(data[6])<<8 | int(data[7])
		if len(data) < 8+n {
			t.Fatalf("torn stream frame of %d bytes: %.40q", n, data)
		}
		if data[0] == 1 {
			stdout += data[8 : 8+n]
		} else {
			stderr += data[8 : 8+n]
		}
		data = data[8+n:]
	}
	return stdout, stderr
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func contains(s, part string) bool { return strings.Contains(s, part) }

func sameTime(a, b time.Time) bool { return a.Equal(b) }

func itoa(n int) string { return fmt.Sprint(n) }
