package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/shim"
	"github.com/tritond/triton/pkg/triton"
)

func TestKernelRunReportsExitCodeAndLogs(t *testing.T) {
	r := newRig(t)
	rec, out := r.run(nil, "echo hello; exit 42")
	got := triton.ExitRecord{Run: rec.Run, Code: rec.Code, Source: rec.Source}
	if d := cmp.Diff(triton.ExitRecord{Run: 1, Code: 42, Source: triton.ExitByWait}, got); d != "" {
		t.Errorf("exit (-want +got):\n%s", d)
	}
	if out != "hello\n" {
		t.Errorf("log = %q, want hello", out)
	}
}

// TestKernelContainerLooksLikeDockers checks inside what the configuration promised.
func TestKernelContainerLooksLikeDockers(t *testing.T) {
	r := newRig(t)
	data := t.TempDir()
	r.must(os.Chmod(data, 0o755))
	r.must(os.WriteFile(filepath.Join(data, "of-root"), []byte("x"), 0o644))
	_, out := r.run(func(s *triton.Spec) {
		s.Hostname = "web"
		s.Env = []string{"A=1"}
		s.User = "user"
		s.Ulimits = []triton.Ulimit{{Name: "nofile", Soft: 100, Hard: 1048576}}
		s.Mounts = []triton.Mount{
			{Type: triton.MountBind, Source: data, Target: "/data"},
			{Type: triton.MountBind, Source: data, Target: "/ro", ReadOnly: true},
			{Type: triton.MountTmpfs, Target: "/t", Options: []string{"size=64k"}},
		}
		s.Resources = triton.Resources{Memory: 64 << 20, NanoCPUs: 5e8, PidsLimit: 50}
	}, `
id; hostname; echo "$A $HOME $HOSTNAME $PATH"; ulimit -n
stat -c '%u:%g' /bin /data/of-root /etc/hosts
grep -E '^(CapEff|CapBnd|Seccomp|NoNewPrivs)' /proc/self/status
cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range
touch /ro/x 2>&1; touch /bin/x 2>&1; head -c1 /proc/kcore 2>&1 | head -c1
mount | grep -E ' on /(t|data|dev/shm) ' | sed 's/^.* on //'
cat /proc/self/cgroup | head -1
`)
	for _, want := range []string{
		"uid=1000(user) gid=1000 groups=1000,1002(logs)\n", "web\n",
		"1 /home/user web /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n", "\n100\n",
		"0:0\n0:0\n0:0\n",
		"CapEff:\t0000000000000000\n", "CapBnd:\t00000000a80425fb\n", "NoNewPrivs:\t0\n", "Seccomp:\t2\n",
		"\n0\n0\t65535\n",
		"touch: /ro/x: Read-only file system", "touch: /bin/x: Permission denied",
		"/t type tmpfs (rw,nosuid,nodev,noexec", "/dev/shm type tmpfs (rw,nosuid,nodev,noexec,relatime,size=65536k",
		":/\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q", want)
		}
	}
	if t.Failed() {
		t.Logf("inside:\n%s", out)
	}
}

func TestKernelRootWritesBindsAsItself(t *testing.T) {
	r := newRig(t)
	data := t.TempDir()
	r.must(os.Chmod(data, 0o755))
	_, out := r.run(func(s *triton.Spec) {
		s.Mounts = []triton.Mount{{Type: triton.MountBind, Source: data, Target: "/data"}}
	}, "touch /data/x && stat -c %u /data/x; echo 1 >> /etc/hosts && echo hosts; echo 1 > /bin/new && stat -c %u /bin/new")
	if d := cmp.Diff("0\nhosts\n0\n", out); d != "" {
		t.Errorf("inside (-want +got):\n%s", d)
	}
	st, err := os.Stat(filepath.Join(data, "x"))
	r.must(err)
	if uid := uidOf(st); uid != 0 {
		t.Errorf("file belongs to %d on the host, want 0: binds map one to one", uid)
	}
}

func TestKernelLimitsAreSet(t *testing.T) {
	r := newRig(t)
	b := r.bundle(0, func(s *triton.Spec) {
		s.Resources = triton.Resources{Memory: 64 << 20, NanoCPUs: 5e8, CPUShares: 512, PidsLimit: 50}
		s.OomScoreAdj = 300
	}, "cat /proc/self/oom_score_adj; sleep 60")
	task := r.create(b)
	r.must(task.Start(r.ctx()))
	r.eventually("output", func() bool { return r.log(b) != "" })
	if got := r.log(b); got != "300\n" {
		t.Errorf("oom_score_adj = %q, want 300", got)
	}
	u, err := r.cg.Usage(b.CgroupPath)
	r.must(err)
	if u.MemoryLimit != 64<<20 || u.PidsLimit != 50 || u.Pids == 0 {
		t.Errorf("use = %+v, want limits of 64 MiB and 50 pids", u)
	}
	res, _, err := Resources(triton.Resources{Memory: 32 << 20, MemorySwap: 64 << 20, PidsLimit: -1}, Limits{SwapLimit: true})
	r.must(err)
	r.must(task.Update(r.ctx(), res))
	if u, err = r.cg.Usage(b.CgroupPath); err != nil || u.MemoryLimit != 32<<20 || u.PidsLimit != 0 {
		t.Errorf("after update: %d bytes, %d pids (%v), want 32 MiB and none", u.MemoryLimit, u.PidsLimit, err)
	}
}

func TestKernelPrivilegedRunsWithoutUserNamespace(t *testing.T) {
	r := newRig(t)
	rec, out := r.run(func(s *triton.Spec) { s.Privileged = true },
		"cat /proc/self/uid_map | sed 's/ \\+/ /g'; grep Seccomp: /proc/self/status; mount | grep -c ' on /sys .*rw'")
	if d := cmp.Diff(" 0 0 4294967295\nSeccomp:\t0\n1\n", out); d != "" || rec.Code != 0 {
		t.Errorf("inside, exit %d (-want +got):\n%s", rec.Code, d)
	}
}

func TestKernelMissingProgramIs127AndLeavesNothing(t *testing.T) {
	r := newRig(t)
	b := r.bundle(0, func(s *triton.Spec) { s.Cmd = []string{"/no/such"} }, "")
	task, err := r.rt.Create(r.ctx(), b)
	if err == nil {
		r.Cleanup(func() { r.must(task.Delete(r.ctx(), true)) })
		err = task.Start(r.ctx())
	}
	var se *shim.Error
	if !errors.As(err, &se) || se.Kind != shim.KindExecNotFound || !errdefs.IsInvalidArgument(err) {
		t.Errorf("error = %v, want not found", err)
	}
}

func TestKernelFailedCreateLeavesNothing(t *testing.T) {
	r := newRig(t)
	b := r.bundle(0, nil, "true")
	b.Rootfs.Lower = []string{filepath.Join(r.dir, "no such layer")}
	if _, err := r.rt.Create(r.ctx(), b); err == nil {
		t.Fatal("created without a layer")
	}
	if _, err := os.Stat(r.rt.runDir(b.Key.ID)); !os.IsNotExist(err) {
		t.Errorf("run directory: %v, want none", err)
	}
	if n := r.parents.count(); n != 0 {
		t.Errorf("%d parents registered, want none", n)
	}
}

func TestKernelSecondCreateDoesNotTouchTheFirst(t *testing.T) {
	r := newRig(t)
	b := r.bundle(0, nil, "sleep 60")
	task := r.create(b)
	r.must(task.Start(r.ctx()))
	if _, err := r.rt.Create(r.ctx(), b); err == nil {
		t.Fatal("created twice")
	}
	s, err := task.State(r.ctx())
	if err != nil || s.Status != triton.StatusRunning {
		t.Errorf("state = %s (%v), want running", s.Status, err)
	}
}

func TestKernelParentIsRegisteredBeforeTheFirstProcess(t *testing.T) {
	r := newRig(t)
	b := r.bundle(0, nil, "sleep 60")
	task := r.create(b)
	if got := r.parents.of(shimPid(task)); got != b.CgroupID {
		t.Errorf("exit program knows %d of the shim, want control group %d", got, b.CgroupID)
	}
	r.must(task.Delete(r.ctx(), true))
	if n := r.parents.count(); n != 0 {
		t.Errorf("%d parents after delete, want none", n)
	}
}

func TestKernelExec(t *testing.T) {
	r := newRig(t)
	b := r.bundle(0, nil, "sleep 60")
	task := r.create(b)
	r.must(task.Start(r.ctx()))
	in := Input{Key: b.Key, Spec: b.Spec, Rootfs: Layers{testLayer}, IDs: b.Endpoint.IDs}
	process, err := ExecProcess(in, triton.ExecSpec{Argv: []string{"sh", "-c", "id -u; exit 5"}, User: "user"})
	r.must(err)
	r.must(task.Exec(r.ctx(), "e1", process, shim.Stdio{}))
	stream, err := task.Attach(r.ctx(), "e1", triton.AttachOptions{Stdout: true})
	r.must(err)
	defer stream.Close()
	if _, err := task.ExecStart(r.ctx(), "e1"); err != nil {
		t.Fatal(err)
	}
	rec, err := task.ExecWait(r.ctx(), "e1")
	if err != nil || rec.Code != 5 || rec.ExecID != "e1" {
		t.Errorf("exec ended with %+v (%v), want code 5", rec, err)
	}
	buf := make([]byte, 64)
	n, err := stream.Output.Read(buf)
	if got := string(buf[:n]); !strings.HasSuffix(got, "1000\n") {
		t.Errorf("output = %q (%v), want 1000", got, err)
	}
}

func TestKernelSignalPauseAndDeleteRefusal(t *testing.T) {
	r := newRig(t)
	b := r.bundle(0, nil, "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done")
	task := r.create(b)
	r.must(task.Start(r.ctx()))
	r.eventually("the trap", func() bool { return r.log(b) != "" })
	if err := task.Delete(r.ctx(), false); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("delete of a running container: %v, want a refusal", err)
	}
	r.must(task.Pause(r.ctx()))
	if s, err := task.State(r.ctx()); err != nil || s.Status != triton.StatusPaused {
		t.Errorf("state = %s (%v), want paused", s.Status, err)
	}
	r.must(task.Resume(r.ctx()))
	r.must(task.Signal(r.ctx(), "", 15, false))
	if rec, err := task.Wait(r.ctx()); err != nil || rec.Code != 9 {
		t.Errorf("exit = %+v (%v), want 9", rec, err)
	}
	r.must(task.Delete(r.ctx(), false))
	r.must(task.Delete(r.ctx(), false))
	if rec, err := task.Wait(r.ctx()); err != nil || rec.Code != 9 {
		t.Errorf("exit after delete = %+v (%v), want the record", rec, err)
	}
}
